"""``gridzero plot``: learning curves of runs as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from gridzero.agents import runs
from gridzero.agents.config_checks import check_at_least
from gridzero.agents.registry import REGISTRY, agent_class
from gridzero.commands.arguments import parse
from gridzero.envs.folders import check_folder
from gridzero.envs.suggestions import closest
from gridzero.plotting import figure, groups
from gridzero.plotting.curves import Average, Curve, average, column
from gridzero.plotting.groups import Group, LoggedRun

METRICS = ("evaluation_return", "episode_return", "residual", "accuracy")
"""Drawn if nothing is said: the first that every run of the environment has."""
ENOUGH = 5
"""Evaluations on the way that make a curve, if nothing is said."""
SHARES = ("accuracy", "form")
LENGTHS = ("thought_length", "completion_length")
"""Drawn of language models, beside each other: both shares, and the first of the lengths."""
AXES = {"steps": "step", "episodes": "episodes", "seconds": "seconds"}


@dataclass(frozen=True)
class Options:
    """Draw the learning curves of runs as PNG, SVG or PDF.

    Each environment has a panel. Runs that differ in their seed alone become one curve: their mean, with its 95 % bootstrap interval. Curves are evaluations on the way where the runs have them, else the returns while exploring. Of language models: the shares of right and well-formed completions, and the length of the thoughts.

    Example: gridzero plot lake-0 lake-1 lake-2 --output lake.svg
    """  # noqa: E501  (the terminal wraps it)

    runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[RUN ...]")]]
    """Names of runs, sweeps or recipes, or their paths."""
    metric: str | None = None
    """To draw: any metric that was logged; evaluation_return, episode_return, residual or accuracy if not given, of the
    runs that have it."""
    x: Literal["steps", "episodes", "seconds"] = "steps"
    """The horizontal axis: environment steps (sweeps of a planner), episodes, or seconds of training."""
    average: Average = "mean"
    """Over the seeds: the mean, or the interquartile mean (iqm), which a single bad seed hardly moves."""
    smooth: int = 1
    """Draw a running mean over so many points of each curve."""
    points: int = 200
    """Points of each curve; what lies between two is averaged."""
    output: Path = Path("curves.png")
    """The file to write: .png, .svg or .pdf."""

    def __post_init__(self) -> None:
        check_at_least(self, 2, "points")
        check_at_least(self, 1, "smooth")
        if self.output.suffix.lower() not in figure.SUFFIXES:
            suffix = self.output.suffix or "in nothing"
            raise ValueError(f"output must end in {', '.join(figure.SUFFIXES)}, not {suffix!r}")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "plot")
    check_folder(options.output.parent)
    if not options.runs:
        raise ValueError("which run? `gridzero plot RUN`")
    logged = groups.read(groups.find_runs(options.runs))
    environments, notes = groups.group(logged)
    if options.metric is None:
        environments, left_out = comparable(environments)
        notes += left_out
    panels, columns = make_panels(environments, options)
    curves = [curve for panel in panels for row in panel.curves for curve in row]
    units = {panel.x for panel in panels}
    unit = units.pop().removeprefix("environment ") if options.x == "steps" and len(units) == 1 else options.x
    text = figure.caption(curves, options.average, unit)
    figure.save(figure.draw(panels, text, columns), options.output)
    for note in notes:
        print(note)
    names = ", ".join(dict.fromkeys(metric for panel in panels for metric in panel.metrics))
    seeds = sum(len(group.runs) for found in environments for group in found)
    print(f"{names} of {seeds} run{'s' * (seeds > 1)} drawn in {options.output}")
    return 0


def comparable(environments: Sequence[list[Group]]) -> tuple[list[list[Group]], list[str]]:
    """The groups that have a usual metric in common, and a sentence for each that is left out for it.

    Stages of a recipe may have none: then those are drawn that have the one which most have.
    """
    kept: list[list[Group]] = []
    notes = []
    for found in environments:
        having = {name: [g for g in found if all(name in run.metrics for run in g.runs)] for name in METRICS}
        name = max(METRICS, key=lambda metric: len(having[metric]))
        kept.append(having[name] or found)
        notes += [f"{g.runs[0].path} is left out: it has no {name}" for g in found if g not in kept[-1]]
    return kept, notes


def make_panels(environments: Sequence[Sequence[Group]], options: Options) -> tuple[list[figure.Panel], int | None]:
    """The panels of a picture, and how many stand beside each other where that is not free."""
    labels = groups.labels([[group.setting for group in found] for found in environments])
    names = list(dict.fromkeys(label for within in labels for label in within))
    titles = groups.titles([found[0].runs[0].environment for found in environments])
    panels, most = [], 1
    for found, within, title in zip(environments, labels, titles, strict=True):
        shown = _metrics([run for group in found for run in group.runs], options.metric)
        most = max(most, len(shown))
        for metrics in shown:
            curves = [
                [_curve(group, label, metric, options) for group, label in zip(found, within, strict=True)]
                for metric in metrics
            ]
            whole = f"{names[0]} on {title}" if len(names) == 1 else title
            colors = [names.index(label) for label in within]
            panels.append(figure.Panel(whole, metrics, curves, colors, _axis(found, options.x), options.smooth))
    return panels, most if most > 1 else None


def _axis(found: Sequence[Group], x: str) -> str:
    """The horizontal axis in words."""
    if x != "steps":
        return "seconds of training" if x == "seconds" else x
    names = {
        "sweeps" if name in REGISTRY and agent_class(name).default_steps is None else "environment steps"
        for name in {group.setting["agent"] for group in found}
    }
    run = found[0].runs[0]
    if SHARES[0] in run.metrics and names == {"environment steps"}:
        return "completions"
    return " or ".join(sorted(names))


def _metrics(logged: Sequence[LoggedRun], asked: str | None) -> list[tuple[str, ...]]:
    """The metrics of each panel of an environment: two panels for language models, one for others."""
    common = set.intersection(*(run.metrics for run in logged))
    if asked is not None:
        for run in logged:
            if asked not in run.metrics:
                raise ValueError(f"{run.path} has no metric {asked!r}; {closest(asked, sorted(run.metrics))}")
        return [(asked,)]
    lengths = [name for name in LENGTHS if name in common]
    if common.issuperset(SHARES) and lengths:
        return [SHARES, (lengths[0],)]
    for name in METRICS:
        few = name == "evaluation_return" and any(len(column(run, name, "step")[0]) < ENOUGH for run in logged)
        if name in common and not (few and "episode_return" in common):
            return [(name,)]
    raise ValueError(
        f"the runs have none of {', '.join(METRICS)} in common; --metric takes {', '.join(sorted(common))}"
    )


def _curve(group: Group, label: str, metric: str, options: Options) -> Curve:
    columns = [column(run, metric, AXES[options.x]) for run in group.runs]
    if metric == "evaluation_return":
        columns = [with_end(run, *found, AXES[options.x]) for run, found in zip(group.runs, columns, strict=True)]
    for run, (x, _) in zip(group.runs, columns, strict=True):
        if not x.size:
            raise ValueError(f"{run.path} has no {options.x} logged with {metric}; --x takes steps or seconds")
    if options.x == "seconds":  # a run that has ended stays where it is
        end = max(x[-1] for x, _ in columns)
        columns = [(np.append(x, end), np.append(values, values[-1])) for x, values in columns]
    return average(
        label,
        columns,
        points=options.points,
        smooth=options.smooth,
        statistic=options.average,
        optimum=_optimum(group.runs[0].path, metric),
    )


def with_end(run: LoggedRun, x: Any, values: Any, axis: str) -> tuple[Any, Any]:
    """The evaluations on the way, and the one at the end where the run has ended without one in its last step."""
    end, mean = run.rows[-1].get(axis), runs.read_evaluation(run.path).get("mean")
    if end is None or mean is None or (x.size and end <= x[-1]):
        return x, values
    return np.append(x, float(end)), np.append(values, float(mean))


def _optimum(path: Path, metric: str) -> float | None:
    optimum = runs.read_evaluation(path).get("optimum") if metric.endswith("return") else None
    return None if optimum is None else float(optimum)
