"""``gridzero plot``: learning curves of runs as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from gridzero.agents import runs
from gridzero.commands.arguments import parse

FloatArray = NDArray[np.float64]

METRICS = ("evaluation_return", "episode_return", "residual", "accuracy")
"""What is drawn if nothing is said: the first that every run has."""


@dataclass(frozen=True)
class Options:
    """Draw the learning curves of runs as a PNG.

    Runs that differ in their seed alone become one curve: their mean, with its 95 % confidence interval (Student's t).

    Example: gridzero plot lake-0 lake-1 lake-2 --output lake.png
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Names of runs, or their paths."""
    metric: str | None = None
    """To draw: evaluation_return, episode_return, residual or accuracy, the first there is, or any other metric."""
    output: Path = Path("curves.png")
    """The file to write."""
    points: int = 100
    """Points of each curve; what lies between two is averaged."""

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points must be at least 2, not {self.points}")
        if self.output.suffix.lower() != ".png":
            raise ValueError(f"output must end in .png, not {self.output.suffix or 'in nothing'!r}")


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of the picture.

    Attributes:
        label: its name.
        steps: (P,).
        mean: (P,) over the runs.
        low: (P,) of the 95 % interval; NaN for a single run.
        high: (P,).
        optimum: what the metric could be, where that is known.
    """

    label: str
    steps: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    optimum: float | None


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "plot")
    if not options.runs:
        raise ValueError("which run? `gridzero plot RUN`")
    paths = [runs.find(name) for name in options.runs]
    logged = [list(runs.read_metrics(path)) for path in paths]
    metric = _metric(options.metric, paths, logged)
    groups: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        config = runs.read_config(path)
        key = json.dumps([config["agent"], config["config"], config["environment"]])
        groups.setdefault(key, []).append(i)
    curves = []
    for group in groups.values():
        chosen = [paths[i] for i in group]
        columns = [_column(logged[i], metric) for i in group]
        curves.append(average(_label(chosen), columns, options.points, _optimum(chosen[0], metric)))
    draw(curves, metric, options.output)
    print(f"{metric} of {len(paths)} run{'s' * (len(paths) > 1)} drawn in {options.output}")
    return 0


def _metric(asked: str | None, paths: Sequence[Path], logged: Sequence[list[dict[str, Any]]]) -> str:
    from gridzero.agents.agent import closest

    named = [{name for row in rows for name in row} - {"step"} for rows in logged]
    for path, names in zip(paths, named, strict=True):
        if not names:
            raise ValueError(f"{path} has logged nothing yet")
        if asked is not None and asked not in names:
            raise ValueError(f"{path} has no metric {asked!r}; {closest(asked, sorted(names))}")
    if asked is not None:
        return asked
    common = set.intersection(*named)
    for name in METRICS:
        if name in common:
            return name
    raise ValueError(
        f"the runs have none of {', '.join(METRICS)} in common; --metric takes {', '.join(sorted(common))}"
    )


def _column(rows: list[dict[str, Any]], metric: str) -> tuple[FloatArray, FloatArray]:
    found = _points(rows, metric)
    if not found[0].size:
        raise ValueError(f"no finite {metric} was logged")
    return found


def _points(rows: list[dict[str, Any]], metric: str) -> tuple[FloatArray, FloatArray]:
    """Steps and values, where there is a finite one."""
    pairs = [(row["step"], row[metric]) for row in rows if row.get(metric) is not None]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def learning_curve(label: str, paths: Sequence[Path], metric: str, points: int) -> Curve | None:
    """The mean curve of runs, with its interval; None where they did not log the metric."""
    columns = [found for path in paths if (found := _points(list(runs.read_metrics(path)), metric))[0].size]
    return average(label, columns, points, _optimum(paths[0], metric)) if columns else None


def average(
    label: str,
    columns: Sequence[tuple[FloatArray, FloatArray]],
    points: int,
    optimum: float | None,
) -> Curve:
    """Average over bins of steps, then over the runs.

    Args:
        label: of the curve.
        columns: steps and values of each run.
        points: of the curve.
        optimum: what the metric could be, where that is known.
    """
    last = max(steps[-1] for steps, _ in columns)
    points = min(points, max(len(steps) for steps, _ in columns))
    edges = np.linspace(0, last, points + 1)
    table = np.stack([bin_means(steps, values, edges) for steps, values in columns])
    known = ~np.isnan(table)
    keep = known.any(axis=0)
    table, count = table[:, keep], known[:, keep].sum(axis=0)
    mean = np.nanmean(table, axis=0)
    half = np.full_like(mean, math.nan)
    several = count > 1
    if several.any():
        from scipy.stats import t

        spread = np.nanstd(table[:, several], axis=0, ddof=1)
        half[several] = t.ppf(0.975, count[several] - 1) * spread / np.sqrt(count[several])
    return Curve(label, edges[1:][keep], mean, mean - half, mean + half, optimum)


def _label(paths: Sequence[Path]) -> str:
    config = runs.read_config(paths[0])
    environment = (config["environment"] or {"id": "its environment"})["id"]
    label = f"{config['agent']} on {environment.rpartition('/')[2]}"
    return label + (f" ({len(paths)} seeds)" if len(paths) > 1 else f" ({paths[0].name})")


def bin_means(steps: FloatArray, values: FloatArray, edges: FloatArray) -> FloatArray:
    """The mean of the values in each bin (edge, next edge]; NaN where there is none.

    >>> bin_means(np.array([1.0, 2.0, 6.0]), np.array([1.0, 3.0, 5.0]), np.array([0.0, 2.0, 4.0, 6.0]))
    array([ 2., nan,  5.])
    """
    index = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, len(edges) - 2)
    count = np.bincount(index, minlength=len(edges) - 1)
    total = np.bincount(index, weights=values, minlength=len(edges) - 1)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _optimum(path: Path, metric: str) -> float | None:
    if not metric.endswith("return") or not (path / "evaluation.json").is_file():
        return None
    try:
        optimum = json.loads((path / "evaluation.json").read_text()).get("optimum")
    except (ValueError, AttributeError):
        raise ValueError(f"{path / 'evaluation.json'} is damaged") from None
    return None if optimum is None else float(optimum)


def draw(curves: Sequence[Curve], metric: str, output: Path) -> None:
    """Write the picture."""
    figure = picture(8, 5)
    draw_curves(figure.add_subplot(), curves, metric)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)


def picture(width: float, height: float) -> Any:
    """An empty figure, in inches, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_curves(axes: Any, curves: Sequence[Curve], metric: str) -> None:
    """Curves with their intervals and the optimum."""
    drawn: set[float] = set()
    for curve in curves:
        marker = "o" if len(curve.steps) == 1 else ""
        (line,) = axes.plot(curve.steps, curve.mean, label=curve.label, linewidth=1.8, marker=marker)
        axes.fill_between(curve.steps, curve.low, curve.high, color=line.get_color(), alpha=0.2, linewidth=0)
        if curve.optimum is not None and curve.optimum not in drawn:
            drawn.add(curve.optimum)
            axes.axhline(curve.optimum, color="0.4", linestyle="--", linewidth=1)
            where = (1.0, curve.optimum)
            axes.annotate(
                f"optimum {curve.optimum:.4g}", where, xycoords=("axes fraction", "data"), xytext=(-4, 3),
                textcoords="offset points", ha="right", color="0.4", fontsize=9,
            )  # fmt: skip
    if metric in ("residual", "error_bound") and all((curve.mean > 0).all() for curve in curves):
        axes.set_yscale("log")
    axes.set_xlabel("sweeps" if metric == "residual" else "steps")
    axes.set_ylabel(metric.replace("_", " "))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
