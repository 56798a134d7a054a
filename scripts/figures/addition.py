"""Runs of GRPO on the task addition, which figures of training share."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.figures.figure import FloatArray


def run(metrics: tuple[str, ...], episodes: int, seed: int, **settings: Any) -> dict[str, FloatArray]:
    """Metrics of each update, and "step", the completions so far.

    Args:
        metrics: which.
        episodes: to learn from.
        seed: decides everything that is random.
        settings: of GRPO.
    """
    env = gym.make("gridzero/TextGeneration-v0", task="addition")
    agent = make_agent("grpo", env, seed=seed, schedule_steps=episodes, **settings)
    found: dict[str, list[float]] = {name: [] for name in ("step", *metrics)}
    for update in agent.learn():
        for name, numbers in found.items():
            numbers.append(float(update.step) if name == "step" else update.metrics[name])
        if update.step >= episodes:
            break
    return {name: np.array(numbers) for name, numbers in found.items()}
