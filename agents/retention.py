"""Retention of a run's checkpoints: the last ones, and the best by the evaluations on the way."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gridzero.agents import checkpoint
from gridzero.agents.checkpoint import Best

BEST: Literal["best"] = "best"
EVALUATION = "evaluation.json"
Which = int | Literal["best"] | None
"""A checkpoint of a run: by its step, the best one, or the last."""


class Retention:
    """Decides which checkpoints of a run stay.

    Args:
        folder: of the checkpoints.
        keep: so many, the last; None for all but those that were the best only for a while. The best one stays besides.
        best: what :attr:`best` was, on resuming.

    Attributes:
        best: the best evaluation so far; None before there was one.
    """

    def __init__(self, folder: Path, keep: int | None, best: Best | None = None) -> None:
        self.folder, self.keep, self.best = folder, keep, best
        self._superseded: int | None = None

    def is_best(self, step: int, metrics: Mapping[str, float], extra: bool) -> bool:
        """Take in the metrics of a step; whether there is an evaluation among them that is better than all before.

        Args:
            step: of the update.
            metrics: that were logged; the evaluation's is ``evaluation_return``.
            extra: whether a checkpoint at this step would be made for this reason alone.
        """
        found = metrics.get("evaluation_return", math.nan)
        if not found > (-math.inf if self.best is None else self.best["mean_return"]):
            return False
        self.best, before = Best(step=step, mean_return=float(found), extra=extra), self.best
        self._superseded = before["step"] if before is not None and before["extra"] else None
        return True

    def prune(self) -> None:
        """Delete the checkpoints that do not stay; called when a new one was saved."""
        if self._superseded is not None:
            _delete(self.folder / str(self._superseded))
            self._superseded = None
        if self.keep is not None:
            best = None if self.best is None else self.best["step"]
            for step in checkpoint.steps(self.folder)[: -self.keep]:
                if step != best:
                    _delete(self.folder / str(step))


def best_of(run: Path) -> tuple[int, float] | None:
    """Step and mean return of a run's best checkpoint: by the evaluations on the way, and the one at the end.

    None where there was none on the way.
    """
    last = checkpoint.latest(run / "checkpoints")
    best = None if last is None else checkpoint.read_manifest(last)["training"].get("best")
    if last is None or best is None:
        return None
    ended = _mean(run / EVALUATION)
    return (int(last.name), ended) if ended >= best["mean_return"] else (best["step"], best["mean_return"])


def _mean(evaluation: Path) -> float:
    """The mean return in the evaluation at the end; minus infinity before it, or where it cannot be read."""
    try:
        return float(json.loads(evaluation.read_text())["mean"])
    except (OSError, ValueError, TypeError, KeyError):
        return -math.inf


def chosen(run: Path, step: Which) -> int | None:
    """The step of a run's checkpoint that is asked for: a number, the "best" as evaluations say, or none: the last.

    Raises:
        ValueError: for the best one where there was no evaluation on the way.
    """
    if step != BEST:
        return step
    best = best_of(run)
    if best is None:
        raise ValueError(f"{run} has no best checkpoint: it was not evaluated on the way")
    return best[0]


def set_aside(folder: Path, step: int) -> None:
    """Rename the checkpoints after ``step``, so that training can go on from there."""
    for later in checkpoint.steps(folder):
        if later > step:
            target, number = folder / f"{later}.set-aside", 2
            while target.exists():
                target, number = folder / f"{later}.set-aside-{number}", number + 1
            (folder / str(later)).rename(target)


def _delete(folder: Path) -> None:
    """Delete a checkpoint: at once for readers, who see all of it or nothing."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    folder.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)
