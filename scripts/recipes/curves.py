"""Stages of a recipe at equal cost: accuracy over tokens and over CPU seconds, by the checkpoints of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gridzero.agents import checkpoint, runs

COSTS = {"tokens": "tokens", "seconds": "CPU seconds"}
"""Costs of training: name in a run's spending, and words for it."""
PARTS = (0.25, 0.5)
"""Parts of the common budget at which the most likely tokens are reported too."""
SHOWN = 1.3
"""End of the horizontal axes of the picture, in units of the common budget."""
DRAWS = 2
"""Completions of each problem that are drawn of a checkpoint."""


def spending(run: Path) -> dict[int, dict[str, float]]:
    """Cost of a training up to each of its updates, by step: tokens written, or read, and CPU seconds."""
    found: dict[int, dict[str, float]] = {0: {"tokens": 0, "seconds": 0.0}}
    tokens, step = 0.0, 0
    for row in runs.read_metrics(run):
        tokens += (row["step"] - step) * (row.get("completion_length") or 0.0)
        step = row["step"]
        found[step] = {"tokens": round(tokens), "seconds": row.get("cpu_seconds", row["seconds"])}
    return found


def curve(run: Path, measure: Any) -> list[dict[str, Any]]:
    """Measures and cost at each checkpoint of a run, as JSON holds them; its ``tokens`` are those of the cost.

    Args:
        run: of a stage.
        measure: gives the :class:`Measures` of a policy.
    """
    spent = spending(run)
    return [
        {**asdict(measure(runs.load(run, step=step).network)), "step": step, **spent[step]}  # type: ignore[attr-defined]
        for step in checkpoint.steps(run / "checkpoints")
    ]


def common_budget(rows: Sequence[Mapping[str, Any]], cost: str) -> float:
    """The most that every stage has spent."""
    return float(min(row["curve"][-1][cost] for row in rows))


def within(row: Mapping[str, Any], cost: str, budget: float) -> Mapping[str, Any]:
    """The last point of a stage's curve within a budget.

    >>> row = {"curve": [{"tokens": 0, "form": 0.5}, {"tokens": 100, "form": 0.9}, {"tokens": 210, "form": 1.0}]}
    >>> within(row, "tokens", 200)["form"]
    0.9
    """
    return next(point for point in reversed(row["curve"]) if point[cost] <= budget)


def equal_cost(rows: Sequence[Mapping[str, Any]], cost: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of stages at an equal cost, as texts.

    Args:
        rows: of the stages that are compared, each with its ``curve``.
        cost: a name in :data:`COSTS`.
    """
    budget = common_budget(rows, cost)
    columns = ["stage", *(f"greedy at {part:.0%}" for part in PARTS), "greedy", "sampled", "form", "KL to base"]
    columns += ["trained", *COSTS.values()]
    table = []
    for row in rows:
        last = within(row, cost, budget)
        table.append(
            [
                row["stage"],
                *(f"{within(row, cost, part * budget)['greedy']['value']:.3f}" for part in PARTS),
                *(share(last[name]) for name in ("greedy", "sampled")),
                f"{last['form']:.3f}",
                divergence(last["kl"]),
                f"{row['parameters']:,}",
                *(amount(last[name]) for name in COSTS),
            ]
        )
    return columns, table


def amount(spent: float) -> str:
    """Tokens or seconds, as text.

    >>> amount(351446), amount(2.34)
    ('351,446', '2.3')
    """
    return f"{spent:,.0f}" if spent >= 1000 else f"{spent:.1f}".removesuffix(".0")


def share(one: Mapping[str, float]) -> str:
    """A share with its interval, as text."""
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def divergence(kl: Sequence[float] | None) -> str:
    """A divergence with its standard error, as text."""
    return "" if kl is None else f"{kl[0]:.2f} ± {kl[1]:.2f}"


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw greedy and sampled accuracy over each cost, a line a stage, and the common budget."""
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    from gridzero.plotting.figure import canvas
    from gridzero.plotting.groups import thousands

    picture = canvas(9.6, 6.4)
    grid = picture.subplots(2, len(COSTS), sharex="col", sharey=True)
    for name, line in zip(("greedy", "sampled"), grid, strict=True):
        line[0].set_ylabel(f"right answers, {name}")
        for cost, axes in zip(COSTS, line, strict=True):
            for number, row in enumerate(rows):
                x = [point[cost] for point in row["curve"]]
                values = [[point[name][key] for point in row["curve"]] for key in ("value", "low", "high")]
                color = f"C{number}"
                axes.plot(x, values[0], label=row["stage"], color=color, marker="o", ms=3, lw=1.6)
                axes.fill_between(x, *values[1:], color=color, alpha=0.12, linewidth=0)
            budget = common_budget(rows, cost)
            axes.axvline(budget, color="0.35", ls=(0, (5, 3)), lw=1, zorder=1)
            axes.set_xlim(0, SHOWN * budget or None)
            axes.set_ylim(0, 1.02)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: thousands(number)))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for unit, axes in zip(COSTS.values(), grid[-1], strict=True):
        axes.set_xlabel(f"{unit} in training")
    handles, labels = grid[0][0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 7), frameon=False, fontsize=9)
    picture.supxlabel(
        "dashed: what all of them have spent; bands: 95 % intervals over problems", fontsize=8, color="0.4"
    )
    picture.savefig(path)
