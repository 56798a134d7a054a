"""Retention of a run's checkpoints: the last ones, and the best by the evaluations on the way."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from gridzero.agents import checkpoint
from gridzero.agents.checkpoint import Best


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
