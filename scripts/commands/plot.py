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

SHARES = ("accuracy", "form")
LENGTHS = ("thought_length", "completion_length")
"""What is drawn of language models, beside each other: both shares, and the first of the lengths."""
_WORDS = {
    "accuracy": "right answers",
    "form": "well-formed",
    "thought_length": "tokens in a thought",
    "completion_length": "tokens in a completion",
}


@dataclass(frozen=True)
class Options:
    """Draw the learning curves of runs as a PNG.

    Runs that differ in their seed alone become one curve: their mean, with its 95 % confidence interval (Student's t).
    Of language models: the shares of right and well-formed completions, and the length of the thoughts.

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
    if not options.output.parent.is_dir():
        raise ValueError(f"there is no folder {options.output.parent} to draw into")
    if not options.runs:
        raise ValueError("which run? `gridzero plot RUN`")
    paths = [runs.find(name) for name in options.runs]
    logged = [list(runs.read_metrics(path)) for path in paths]
    panels = _panels(options.metric, paths, logged)
    groups: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        config = runs.read_config(path)
        key = json.dumps([config["agent"], config["config"], config["environment"]])
        groups.setdefault(key, []).append(i)
    drawn = []
    for metrics in panels:
        curves = []
        for group in groups.values():
            chosen = [paths[i] for i in group]
            for metric in metrics:
                columns = [_column(logged[i], metric) for i in group]
                curve = average(_label(chosen), columns, options.points, _optimum(chosen[0], metric))
                curves.append(curve)
        drawn.append((metrics, curves))
    draw(drawn, options.output)
    names = ", ".join(metric for metrics in panels for metric in metrics)
    print(f"{names} of {len(paths)} run{'s' * (len(paths) > 1)} drawn in {options.output}")
    return 0


def _panels(asked: str | None, paths: Sequence[Path], logged: Sequence[list[dict[str, Any]]]) -> list[tuple[str, ...]]:
    """The metrics of each panel: two panels for language models, one for others."""
    common = set.intersection(*({name for row in rows for name in row} for rows in logged))
    lengths = [name for name in LENGTHS if name in common]
    if asked is None and common.issuperset(SHARES) and lengths:
        return [SHARES, (lengths[0],)]
    return [(_metric(asked, paths, logged),)]


def _metric(asked: str | None, paths: Sequence[Path], logged: Sequence[list[dict[str, Any]]]) -> str:
    from gridzero.envs.suggestions import closest

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
    task = (config["environment"] or {"kwargs": {}})["kwargs"].get("task")
    if task is None and environment.endswith(("TextGeneration-v0", "TokenGeneration-v0")):
        task = "addition"
    label = f"{config['agent']} on {task or environment.rpartition('/')[2]}"
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


def draw(panels: Sequence[tuple[Sequence[str], Sequence[Curve]]], output: Path) -> None:
    """Write the picture: of each panel the metrics, and for each group of runs a curve for each of them."""
    figure = picture(8, 5 if len(panels) == 1 else 3.8)
    for axes, (metrics, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if len(panels) == 1:
            draw_curves(axes, curves, metrics[0])
        else:
            _draw_writing(axes, curves, metrics)
    if len(panels) > 1:
        labels = [*dict.fromkeys(curve.label for _, curves in panels for curve in curves)]
        band = ", mean and 95 % interval" if "seeds" in labels[0] else ""
        if len(labels) == 1:
            figure.suptitle(labels[0] + band)
        else:
            handles = figure.axes[-1].get_legend_handles_labels()[0]
            figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(output)


def _draw_writing(axes: Any, curves: Sequence[Curve], metrics: Sequence[str]) -> None:
    """What a language model learns: each group a colour, each metric a kind of line."""
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    for number, curve in enumerate(curves):
        place, kind = divmod(number, len(metrics))
        colour, style = f"C{place % 10}", ("-", "--")[kind]
        label = _WORDS[metrics[kind]] if not place or len(metrics) == 1 else None
        marker = "o" if len(curve.steps) == 1 else ""
        axes.plot(curve.steps, curve.mean, style, color=colour, label=label, linewidth=1.8, marker=marker)
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
    axes.set_ylim(0)
    if len(metrics) > 1:
        axes.set_ylim(0, 1.02)  # an interval may reach beyond what a share can be
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(frameon=False, loc="lower right")
        axes.set_ylabel("share of completions")
    else:
        axes.set_ylabel(_WORDS[metrics[0]])
    axes.set_xlim(0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("completions")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


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
