"""Progress of a sweep, and its result: intervals over seeds, and the picture."""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.learner import Update
from gridzero.agents.registry import agent_class
from gridzero.agents.runs import read_evaluation
from gridzero.agents.training import Budget
from gridzero.commands import report
from gridzero.commands.engines import Job, label
from gridzero.commands.plot import METRICS
from gridzero.envs.suggestions import closest
from gridzero.plotting import groups
from gridzero.plotting.curves import average, column, intervals
from gridzero.plotting.figure import canvas, caption, draw_curve, finish, save
from gridzero.plotting.groups import LoggedRun

if TYPE_CHECKING:
    import optuna

LOOK_EVERY = 1.0
POINTS = 200
POINTS_ON_THE_WAY = 20
"""Points of a run at which trials are compared with each other."""
ENOUGH_TRIALS = 6
"""Finished trials from which the importance of settings can be told."""


class Watch:
    """A bar over all runs of a sweep, from what they have written: it does not matter who trains them.

    Args:
        jobs: all runs, finished ones too.
        budget: of each.
    """

    def __init__(self, jobs: Sequence[Job], budget: Budget) -> None:
        self.jobs = jobs
        self.each = budget.steps
        total = None if self.each is None else self.each * len(jobs)
        self._progress = report.Progress(total, None)
        self._next = 0.0

    def __enter__(self) -> Watch:
        self._progress.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.__exit__(*exception)

    def look(self) -> None:
        """Redraw, once a second."""
        now = time.monotonic()
        if now < self._next or not self._progress.visible:
            return
        self._next = now + LOOK_EVERY
        steps, finished, running = 0, 0, 0
        for job in self.jobs:
            if job.finished:
                finished += 1
                steps += self.each or last_step(job.path)
            elif job.path.is_dir():
                running += 1
                steps += last_step(job.path)
        self._progress.show(Update(steps, {"finished": finished, "running": running, "of": len(self.jobs)}))


def last_step(path: Path) -> int:
    """The step of the last whole line of a run's metrics; 0 before there is one."""
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        with open(path / "metrics.jsonl", "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            lines = file.read().split(b"\n")
        return int(json.loads(lines[-2])["step"])
    return 0


@dataclass(frozen=True, eq=False)
class Row:
    """One combination of settings.

    Attributes:
        setting: name → value.
        jobs: its runs, one a seed.
        returns: of each run, undiscounted, without exploring: exact where the model is known, else the mean over
            episodes; or the last value of the metric that was asked for.
        low: of the 95 % bootstrap interval of their mean; NaN for a single run.
        high: of it.
        success: the mean success rate; None where the environment does not say.
        optimum: the best expected return, exact; None where the model is not known, or differs between runs.
        gap: mean of the gaps to the optimum that the evaluations of the runs report; None where one reports none.
    """

    setting: Mapping[str, Any]
    jobs: Sequence[Job]
    returns: NDArray[np.float64]
    low: float
    high: float
    success: float | None
    optimum: float | None
    gap: float | None

    @property
    def mean(self) -> float:
        """Mean of the returns."""
        return float(self.returns.mean())

    @property
    def label(self) -> str:
        """The setting in words."""
        return label(self.setting)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON, with the paths of the runs; None for an interval that one run does not give."""
        return {
            "setting": dict(self.setting),
            "mean": self.mean,
            "low": None if math.isnan(self.low) else self.low,
            "high": None if math.isnan(self.high) else self.high,
            "optimum": self.optimum,
            "gap": self.gap,
            "success": self.success,
            "returns": self.returns.tolist(),
            "runs": ["/".join(job.path.parts[-2:] if self.setting else job.path.parts[-1:]) for job in self.jobs],
        }


def summarise(setting: Mapping[str, Any], jobs: Sequence[Job], metric: str | None = None) -> Row:
    """Result of one combination.

    Args:
        setting: name → value.
        jobs: its runs, all finished.
        metric: to compare by its last value in training; the final return if not given.

    Raises:
        ValueError: for a metric that a run has not logged.
    """
    results = [read_evaluation(job.path) for job in jobs]
    if metric is None:
        returns = np.array([r["mean"] if r["expected_return"] is None else r["expected_return"] for r in results])
    else:
        returns = np.array([_last(run, metric) for run in groups.read(job.path for job in jobs)])
    optima = {r["optimum"] for r in results}
    optimum = optima.pop() if len(optima) == 1 else None
    low, high = (float(end[0]) for end in intervals(returns[:, None]))
    successes, gaps = [r["success"] for r in results], [r["gap"] for r in results]
    return Row(
        setting,
        jobs,
        returns,
        low,
        high,
        None if None in successes else float(np.mean(successes)),
        optimum,
        None if None in gaps else float(np.mean(gaps)),
    )


def _last(run: LoggedRun, metric: str) -> float:
    values = column(run, metric, "step")[1]
    if not values.size:
        raise ValueError(f"{run.path} has no metric {metric!r}; {closest(metric, sorted(run.metrics))}")
    return float(values[-1])


def best_is_low(metric: str | None) -> bool:
    """Whether less of a metric is better.

    >>> best_is_low("value_loss"), best_is_low("evaluation_gap"), best_is_low("episode_return"), best_is_low(None)
    (True, True, False, False)
    """
    return metric is not None and metric.endswith(("loss", "gap", "residual", "error", "error_bound", "value_change"))


def draw(rows: Sequence[Row], output: Path, asked: str | None = None) -> None:
    """Learning curves, where the runs logged one, and the final returns: each seed, the mean, the interval."""
    logged = [groups.read(job.path for job in row.jobs) for row in rows]
    metric = asked or _metric([run for runs in logged for run in runs])
    figure = canvas(7 + 6 * (metric is not None), max(4.0, 1.5 + 0.35 * len(rows)))
    panels = figure.subplots(1, 1 + (metric is not None), squeeze=False)[0]
    if metric is not None:
        curves = [
            average(row.label, [column(run, metric, "step") for run in runs], points=POINTS)
            for row, runs in zip(rows, logged, strict=True)
        ]
        for place, curve in enumerate(curves):
            draw_curve(panels[0], curve, place)
        finish(panels[0], (metric,), curves)
        planned = agent_class(rows[0].jobs[0].agent).default_steps is None
        unit = "sweeps" if planned else "steps"
        panels[0].set_xlabel(unit if planned else "environment steps")
        panels[0].legend(frameon=False, fontsize=9)
        figure.supxlabel(caption(curves, "mean", unit), fontsize=8, color="0.4")
    axes = panels[-1]
    for place, row in enumerate(rows):
        colour = f"C{place % 10}"
        axes.plot(row.returns, np.full(len(row.returns), place), ".", color=colour, alpha=0.4)
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2)
        axes.plot(row.mean, place, "o", color=colour)
    for optimum in {row.optimum for row in rows if asked is None} - {None}:
        axes.axvline(optimum, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(
            f"optimum {optimum:.4g}", (optimum, 1.0), xycoords=("data", "axes fraction"), xytext=(-4, 4),
            textcoords="offset points", ha="right", color="0.4", fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.label or "all seeds" for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"final {asked or 'return'}: each seed, mean, 95 % bootstrap interval")
    axes.grid(alpha=0.25, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, output)


def draw_study(study: optuna.Study, metric: str | None, output: Path) -> None:
    """Values of trials in their order with the best so far, and how much each setting matters (PED-ANOVA)."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    numbers, values = [trial.number for trial in complete], np.array([float(trial.value or 0.0) for trial in complete])
    importances = _importances(study, len(complete))
    figure = canvas(7 + 5 * bool(importances), 4.2)
    panels = figure.subplots(1, 1 + bool(importances), squeeze=False)[0]
    best = np.minimum.accumulate(values) if best_is_low(metric) else np.maximum.accumulate(values)
    panels[0].plot(numbers, values, "o", color="C0", label="trials")
    panels[0].step(numbers, best, where="post", color="C1", label="best so far")
    for state, name in ((TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed")):
        ended = [trial.number for trial in trials if trial.state == state]
        if ended:
            panels[0].plot(ended, np.full(len(ended), values.min()), "x", color="0.6", label=name)
    panels[0].set(xlabel="trial", ylabel=metric or "final return, mean over seeds")
    panels[0].legend(frameon=False, fontsize=9)
    if importances:
        names = list(importances)[::-1]
        panels[1].barh(names, [importances[name] for name in names], color="C0")
        panels[1].set_xlabel("importance for being among the best tenth (PED-ANOVA)")
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, output)


def _importances(study: optuna.Study, complete: int) -> dict[str, float]:
    """Shares of settings in what makes a trial good; none where there are too few trials to say, or one setting."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if complete < ENOUGH_TRIALS or len(study.best_params) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator calls itself experimental
        try:
            return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
        except (RuntimeError, ValueError):  # all trials are equally good
            return {}


def _metric(logged: Sequence[LoggedRun]) -> str | None:
    """The first of the usual metrics that every run has logged."""
    return next((name for name in METRICS if all(name in run.metrics for run in logged)), None)
