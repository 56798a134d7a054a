"""The 19-state random walk of Sutton & Barto's example 7.1: errors of learners over step size and λ or n."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.features import Features
from gridzero.envs.chains import random_walk
from gridzero.figures.figure import add_legend
from gridzero.figures.walks import Task, draw_walks

EPISODES, RUNS = 10, 100
DECAYS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STEP_SIZES = np.array([0.01, 0.02, 0.05, *np.arange(1, 11) / 10])

Curves = dict[float, NDArray[np.float64]]


def task(seed: int, runs: int = RUNS) -> Task:
    """Ten episodes in each run, a feature for each state, all values 0 at first."""
    walk = random_walk(19, left=-1.0)
    policy = np.full((21, 2), 0.5)
    features = Features(np.arange(21)[:, None], np.ones((21, 1)))
    exact = walk.policy_values(policy, gamma=1.0)
    walks = draw_walks(walk, policy, runs * EPISODES, seed)
    return Task(walks, runs, features, np.zeros(21), exact, ~walk.terminal / 19)


def curves(errors: Callable[[Any, float], NDArray[np.float64]], values: tuple[float, ...]) -> Curves:
    """For each value of λ or n the mean error over the runs and their episodes, at each step size."""
    return {value: np.array([errors(value, size).mean() for size in STEP_SIZES]) for value in values}


def lowest(found: Mapping[float, NDArray[np.float64]]) -> tuple[float, float]:
    """The value of λ or n with the lowest error, and that error."""
    best = min(found, key=lambda value: found[value].min())
    return best, float(found[best].min())


def draw_curves(axes: Any, found: Mapping[float, NDArray[np.float64]], letter: str, title: str) -> None:
    """Draw errors over step sizes, one curve for each value."""
    for value, errors in found.items():
        axes.plot(STEP_SIZES, errors, "o-", ms=2.5, lw=1.2, label=f"{letter} = {value:g}")
    axes.set(xlabel="step size α", ylabel="RMS error", ylim=(0.22, 0.64), xlim=(0, 1), title=title)
    add_legend(axes, fontsize=6.5, ncols=4, loc="upper center", columnspacing=1.0)
