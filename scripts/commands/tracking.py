"""Metrics of a run for an experiment tracker beside TensorBoard: Weights & Biases, or trackio with its interface."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

Tracker = Literal["wandb", "trackio"]
PROJECT = "gridzero"


@contextlib.contextmanager
def tracking(
    tracker: Tracker | None, run: Path, config: Mapping[str, Any]
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A run of the tracker with the name of ours; gives a function that logs the metrics of a step.

    Args:
        tracker: None for none.
        run: the run's folder; one that is resumed goes on under its name.
        config: what ``config.json`` holds.
    """
    if tracker is None:
        yield lambda step, metrics: None
        return
    module: Any = importlib.import_module(tracker)
    settings = {key: config[key] for key in ("agent", "environment", "seed", "config", "training")}
    identity = {"id": run.name} if tracker == "wandb" else {}
    session = module.init(project=PROJECT, name=run.name, config=settings, resume="allow", **identity)
    try:
        yield lambda step, metrics: session.log(dict(metrics), step=step)
    finally:
        session.finish()
