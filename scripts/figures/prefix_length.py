"""Prefix tuning over the length of the prefix, beside the other ways to train few weights, each at its best rate.

Source: Li and Liang (2021), Prefix-tuning, section 7.2 and figure 4: better with the length, up to a threshold.
"""

from __future__ import annotations

from typing import Any

from gridzero.figures.adaptation import Adaptation, lora
from gridzero.figures.figure import Figure, Row, add_legend, claim, panels, shown

LENGTHS = (1, 4, 16)
STEPS = 60
RATES = (1e-2, 1e-1)
OTHERS: dict[str, dict[str, Any]] = {
    "bottleneck of 2": {"peft": "bottleneck", "peft_rank": 2},
    "lora of rank 2": lora(2),
    "ia3": {"peft": "ia3"},
}


def make(seed: int) -> Figure:
    """Accuracy over the number of weights that are trained, of prefixes and prompts by the number of their tokens."""
    task = Adaptation("form", seed, STEPS)
    picture, (axes,) = panels(1, width=5.4, height=3.8)
    rows: list[Row] = []
    reached: dict[str, list[float]] = {}
    for kind in ("prefix", "prompt"):
        sizes = []
        reached[kind] = []
        for length in LENGTHS:
            rate, [accuracy], weights = task.best({"peft": kind, "peft_tokens": length}, RATES, [seed])
            reached[kind].append(accuracy)
            sizes.append(weights)
            rows.append(_row(f"{kind} of {length}", accuracy, weights, rate))
            axes.annotate(f" {length}", (weights, accuracy), fontsize=8, va="top")
        axes.plot(sizes, reached[kind], "o-", label=f"{kind} of so many tokens")
    for (name, options), mark in zip(OTHERS.items(), "sD^", strict=True):
        rate, [accuracy], weights = task.best(options, RATES, [seed])
        axes.plot(weights, accuracy, mark, ms=7, mfc="none", color="black", label=name)
        rows.append(_row(name, accuracy, weights, rate))
    axes.set(xlabel="weights that are trained", ylabel="accuracy on held-out problems", ylim=(-0.06, 1.06))
    axes.set(xscale="log", title="addition, always with its work")
    add_legend(axes, fontsize=8)
    shortest, *longer = reached["prefix"]
    gain = max(longer) - shortest
    rows.append(claim("prefix: the best length beside the shortest", "better", f"{gain:+.3f}", gain > 0))
    return Figure(picture, rows, "Li and Liang (2021), figure 4: the length of a prefix")


def _row(name: str, accuracy: float, weights: int, rate: float) -> Row:
    return shown(name, f"{accuracy:.3f} with {weights:,} weights, learning rate {rate:g}")
