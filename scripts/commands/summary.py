"""Progress of a sweep, and its result: intervals over seeds."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.learner import Update
from gridzero.agents.runs import read_evaluation
from gridzero.agents.training import Budget
from gridzero.commands import report
from gridzero.commands.engines import Job, label
from gridzero.plotting import groups
from gridzero.plotting.curves import intervals, last_value

LOOK_EVERY = 1.0


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
        returns = np.array([last_value(run, metric) for run in groups.read(job.path for job in jobs)])
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


def best_is_low(metric: str | None) -> bool:
    """Whether less of a metric is better.

    >>> best_is_low("value_loss"), best_is_low("evaluation_gap"), best_is_low("episode_return"), best_is_low(None)
    (True, True, False, False)
    """
    return metric is not None and metric.endswith(("loss", "gap", "residual", "error", "error_bound", "value_change"))
