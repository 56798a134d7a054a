"""The rank of LoRA: one is enough to adapt what a model knows, a new skill needs more than any low rank gives.

Source: Hu et al. (2021), LoRA, section 7.2 and table 6.
"""

from __future__ import annotations

from gridzero.figures.adaptation import Adaptation, lora
from gridzero.figures.figure import Figure, Row, add_legend, claim, panels, shown

RANKS = (1, 2, 8)
RATES, FULL_RATES = (1e-2, 3e-2), (1e-3, 3e-3)
STEPS = {"form": 60, "subtraction": 400}


def make(seed: int) -> Figure:
    """Accuracy over the rank, for another form of addition and for subtraction, each at its best learning rate."""
    picture, axes = panels(2, width=4.8, height=3.6)
    rows: list[Row] = []
    for panel, (skill, steps) in zip(axes, STEPS.items(), strict=True):
        task = Adaptation(skill, seed, steps)  # type: ignore[arg-type]  # the two skills there are
        _, [full], size = task.best({}, FULL_RATES, [seed])
        reached: dict[int, float] = {}
        for rank in RANKS:
            rate, [reached[rank]], weights = task.best(lora(rank), RATES, [seed])
            share = f"{weights / size:.1%} of the weights, learning rate {rate:g}"
            rows.append(shown(f"{skill}, rank {rank}", f"{reached[rank]:.3f} with {share}"))
        panel.plot(range(len(RANKS)), [reached[rank] for rank in RANKS], "o-", label="LoRA on queries and values")
        panel.axhline(full, color="black", ls="--", label="all weights")
        panel.set_xticks(range(len(RANKS)), [str(rank) for rank in RANKS])
        panel.set(
            xlabel="rank", ylabel="accuracy on held-out problems", ylim=(-0.03, 1.03), title=f"{skill}, {steps} steps"
        )
        add_legend(panel, fontsize=8)
        rows.append(shown(f"{skill}, all weights", f"{full:.3f}"))
        if skill == "form":
            good = reached[2] >= full - 0.03
            rows.append(claim("form: rank 2 beside all weights", "within 0.03", f"{reached[2] - full:+.3f}", good))
        else:
            less = max(reached.values()) < full - 0.1
            rows.append(claim("subtraction: the best rank", "far below", f"{max(reached.values()) - full:+.3f}", less))
    return Figure(picture, rows, "Hu et al. (2021), table 6: how much rank an adaptation needs")
