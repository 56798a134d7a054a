"""Pictures of sweeps and studies: learning curves and final returns, trials and what matters in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gridzero.agents.registry import agent_class
from gridzero.commands.plot import METRICS, with_end
from gridzero.commands.summary import Row, best_is_low
from gridzero.plotting import groups
from gridzero.plotting.curves import FloatArray, average, column
from gridzero.plotting.figure import canvas, caption, draw_curve, finish, save
from gridzero.plotting.groups import LoggedRun

if TYPE_CHECKING:
    import optuna

POINTS = 200
ENOUGH_TRIALS = 6
"""Finished trials from which the importance of settings can be told."""


def draw(rows: Sequence[Row], output: Path, asked: str | None = None) -> None:
    """Learning curves, where the runs logged one, and the final returns: each seed, the mean, the interval."""
    logged = [groups.read(job.path for job in row.jobs) for row in rows]
    metric = asked or _metric([run for runs in logged for run in runs])
    figure = canvas(7 + 6 * (metric is not None), max(4.0, 1.5 + 0.35 * len(rows)))
    panels = figure.subplots(1, 1 + (metric is not None), squeeze=False)[0]
    if metric is not None:
        curves = [
            average(row.label, [_column(run, metric) for run in runs], points=POINTS)
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
    panels[0].xaxis.get_major_locator().set_params(integer=True)
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


def _column(run: LoggedRun, metric: str) -> tuple[FloatArray, FloatArray]:
    """Steps and values of a metric; of returns also the one at the end."""
    found = column(run, metric, "step")
    return with_end(run, *found, "step") if metric == "evaluation_return" else found


def _metric(logged: Sequence[LoggedRun]) -> str | None:
    """The first of the usual metrics that every run has logged."""
    return next((name for name in METRICS if all(name in run.metrics for run in logged)), None)
