"""Pictures of learning curves with Matplotlib, as PNG, SVG or PDF."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gridzero.plotting.curves import CONFIDENCE, Average, Curve
from gridzero.plotting.groups import thousands

SUFFIXES = (".png", ".svg", ".pdf")
PANEL = (6.4, 4.2)
"""Inches of a panel where there is one; smaller where there are several."""
COLUMNS = 3
LOGARITHMIC = ("residual", "error_bound", "value_change")
SHARES = ("accuracy", "form", "success_rate", "evaluation_success_rate", "clip_fraction", "explained_variance")
NAMES = {
    "evaluation_return": "return without exploring",
    "evaluation_success_rate": "success rate without exploring",
    "evaluation_gap": "gap to the optimum",
    "evaluation_value_gap": "value gap to the optimum",
    "episode_return": "return while exploring",
    "episode_length": "steps per episode, while exploring",
    "success_rate": "success rate while exploring",
    "residual": "residual of the Bellman equation",
    "accuracy": "right answers",
    "form": "well-formed answers",
    "thought_length": "tokens in a thought",
    "completion_length": "tokens in a completion",
    "entropy": "entropy of the policy (nats)",
    "kl": "KL divergence (nats)",
}
"""Metrics in words, with their units."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        metrics: what is drawn; the second one dashed.
        curves: for each metric the curve of each group.
        colors: for each group the number of its colour.
        x: name of the horizontal axis.
        smooth: points of the running mean that the curves are smoothed by; 1 for none.
    """

    title: str
    metrics: Sequence[str]
    curves: Sequence[Sequence[Curve]]
    colors: Sequence[int]
    x: str
    smooth: int = 1


def canvas(width: float, height: float) -> Any:
    """An empty figure, in inches, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw(panels: Sequence[Panel], caption: str, columns: int | None = None) -> Any:
    """A figure of panels, a legend where there are several curves, and a caption below."""
    columns = columns or min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    width, height = PANEL if len(panels) == 1 else (4.6, 3.5)
    figure = canvas(width * columns + 0.8 * (len(panels) == 1), height * rows + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    labels: dict[str, Any] = {}
    for axes, panel in zip(grid, panels, strict=False):
        labels |= draw_panel(axes, panel)
        axes.set_title(textwrap.fill(panel.title, int(10 * width)), fontsize=11)
    if len(labels) > 1:
        letters = int(13 * width * columns)  # in a line, at this size
        across = max(1, min(len(labels), letters // (6 + max(map(len, labels)))))
        figure.legend(
            list(labels.values()), list(labels), loc="outside upper center", ncols=across, frameon=False, fontsize=9
        )
    figure.supxlabel(caption, fontsize=8, color="0.4")
    return figure


def draw_panel(axes: Any, panel: Panel) -> dict[str, Any]:
    """Draw the curves of one panel; gives its lines by label."""
    handles: dict[str, Any] = {}
    kinds = []
    for curves, style in zip(panel.curves, ("-", "--", ":"), strict=False):
        lines = [draw_curve(axes, curve, color, style) for curve, color in zip(curves, panel.colors, strict=True)]
        handles |= {curve.label: line for curve, line in zip(curves, lines, strict=True) if curve.label not in handles}
        kinds.append(lines[0])
    every = [curve for curves in panel.curves for curve in curves]
    for optimum in {curve.optimum for curve in every if curve.optimum is not None}:
        draw_optimum(axes, optimum)
    finish(axes, panel.metrics, every, panel.smooth)
    if len(panel.metrics) > 1:
        axes.legend(kinds, [NAMES.get(metric, metric) for metric in panel.metrics], frameon=False, fontsize=9)
    axes.set_xlabel(panel.x)
    return handles


def draw_curve(axes: Any, curve: Curve, color: int, style: str = "-") -> Any:
    """A line, its interval as a band."""
    marker = "o" if len(curve.x) <= 25 else ""
    name = f"C{color % 10}"
    (line,) = axes.plot(
        curve.x, curve.middle, style, color=name, label=curve.label, linewidth=1.6, marker=marker, markersize=3
    )
    axes.fill_between(curve.x, curve.low, curve.high, color=name, alpha=0.2, linewidth=0)
    return line


def draw_optimum(axes: Any, optimum: float) -> None:
    """A dashed line with its value."""
    axes.axhline(optimum, color="0.35", linestyle=(0, (5, 3)), linewidth=1, zorder=1)
    axes.annotate(
        f"optimum {optimum:.4g}", (0.0, optimum), xycoords=("axes fraction", "data"), xytext=(4, 3),
        textcoords="offset points", ha="left", color="0.35", fontsize=8,
    )  # fmt: skip


def finish(axes: Any, metrics: Sequence[str], curves: Sequence[Curve], smooth: int = 1) -> None:
    """Scales, units and labels."""
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    values = np.concatenate([curve.middle for curve in curves]) if curves else np.zeros(0)
    short = FuncFormatter(lambda number, _: thousands(number))
    axes.xaxis.set_major_formatter(short)
    if metrics[0] in LOGARITHMIC and (values > 0).sum() > 1:
        _scale_logarithmically(axes, values)
    elif set(metrics) <= set(SHARES):
        axes.set_ylim(min(0.0, float(values.min(initial=0.0))), 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        axes.yaxis.set_major_formatter(short)
        axes.margins(y=0.08)
    name = NAMES.get(metrics[0], metrics[0].replace("_", " "))
    name = "share of completions" if len(metrics) > 1 else name
    axes.set_ylabel(name if smooth == 1 else f"{name}\nrunning mean over {smooth} points")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _scale_logarithmically(axes: Any, values: np.ndarray) -> None:
    """A logarithmic axis; where a value is 0, as at the end of policy iteration, 0 is a tick below the others."""
    if (values != 0).all():
        axes.set_yscale("log", nonpositive="mask")
        return
    smallest = 10.0 ** math.floor(math.log10(values[values > 0].min()))
    axes.set_yscale("symlog", linthresh=smallest, linscale=0.5)
    axes.set_ylim(bottom=-0.1 * smallest)


def caption(curves: Sequence[Curve], statistic: Average, unit: str) -> str:
    """The sentence below a picture: averaging, intervals and bins."""
    seeds = sorted({curve.seeds for curve in curves})
    parts = []
    if seeds[-1] > 1:
        name = {"mean": "mean", "iqm": "interquartile mean"}[statistic]
        number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        parts.append(f"{name} over {number} seeds with {CONFIDENCE:.0%} bootstrap interval")
    else:
        parts.append("one seed")
    widths = sorted({float(f"{curve.bin:.2g}") for curve in curves} - {0.0})
    if widths:
        span = " to ".join(dict.fromkeys(thousands(width) for width in (widths[0], widths[-1])))
        parts.append(f"each point the mean over {span} {unit}")
    return "; ".join(parts)


def save(figure: Any, output: Path) -> None:
    """Write a figure in the format that its suffix says.

    Raises:
        ValueError: when it cannot be written.
    """
    try:
        figure.savefig(output)
    except OSError as error:
        raise ValueError(f"{output} cannot be written: {error.strerror or error}") from None
