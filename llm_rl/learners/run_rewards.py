"""Reward functions that are runs: reward models and process reward models, by the name of their run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import cast

from gridzero.agents import checkpoint, runs
from gridzero.envs.tasks.reward import RewardFunction


def reward_of_run(name: str) -> RewardFunction | None:
    """The reward model of a run, by name or path; None where there is no such run.

    Raises:
        ValueError: for a run that has no checkpoint yet, cannot be read, or is not one of a reward model.
    """
    try:
        path = runs.find(name)
    except ValueError:
        return None
    last = checkpoint.latest(path / "checkpoints")
    if last is None:
        raise ValueError(f"{path} has no checkpoint yet")
    return _load(path.absolute(), last.name)


@functools.lru_cache(maxsize=8)  # an environment is made several times for one training
def _load(path: Path, step: str) -> RewardFunction:
    agent = runs.load(path, step=int(step))
    if not callable(agent):
        raise ValueError(f"the run {path.name} is of {agent.name}, which judges nothing; a reward-model does")
    return cast(RewardFunction, agent)
