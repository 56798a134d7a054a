"""The 1000-state random walk of Sutton & Barto's example 9.1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents import make as make_agent
from gridzero.agents.tabular.features import Aggregation, FeatureMap
from gridzero.agents.tabular.linear_theory import on_policy_distribution, td_fixed_point
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs.chains import random_walk
from gridzero.figures.figure import add_legend

FloatArray = NDArray[np.float64]

STATES = 1000
WALK = random_walk(STATES, reach=100, left=-1.0)
POLICY = np.full((STATES + 2, 200), 1 / 200)
INSIDE = slice(1, STATES + 1)
POINTS = (np.arange(STATES + 2) / (STATES + 1))[:, None]
"""The states as points of the unit interval, as the agents have them."""
COPIES = 500
LONGEST = 3000
"""Steps that no episode reaches."""


def exact() -> tuple[FloatArray, FloatArray]:
    """(S,) true values, and μ, the share of time spent in each state."""
    return WALK.policy_values(POLICY, gamma=1.0), on_policy_distribution(WALK, POLICY)


def fixed_point(features: FeatureMap, decay: float = 0.0) -> FloatArray:
    """(S,) the values that TD(λ) converges to; λ = 1, Monte Carlo: the least value error."""
    matrix = features.dense(POINTS)
    return np.asarray(matrix @ td_fixed_point(WALK, POLICY, matrix, exact()[1], 1.0, decay))


def groups(count: int) -> FeatureMap:
    """State aggregation into equally many states."""
    return Aggregation(1, count)


def learned(episodes: int, seed: int, **fields: Any) -> FloatArray:
    """(S,) values after so many episodes of td-linear on 500 walks at once."""
    env = SimulatedMDP(WALK, COPIES)
    fields = {"gamma": 1.0, "features": "aggregation", "steps_per_update": 100_000, **fields}
    agent: Any = make_agent("td-linear", env, seed=seed, **fields)
    for _ in agent.learn():
        if agent.interaction.episodes >= episodes:
            break
    return np.asarray(agent.state_values())


def draw_values(axes: Any, values: dict[str, FloatArray], title: str) -> None:
    """Draw values over the states, the first ones dashed."""
    states = np.arange(1, STATES + 1)
    for i, (label, v) in enumerate(values.items()):
        axes.plot(states, v[INSIDE], "--" if i == 0 else "-", color="k" if i == 0 else None, lw=1.2, label=label)
    axes.set(xlabel="state", ylabel="value", title=title, xlim=(0, STATES + 1), ylim=(-1.05, 1.05))
    add_legend(axes, fontsize=8, loc="upper left")


def draw_errors(axes: Any, curves: dict[str, FloatArray], title: str) -> None:
    """Draw errors over episodes."""
    for label, errors in curves.items():
        axes.plot(np.arange(1, len(errors) + 1), errors, lw=1.1, label=label)
    axes.set(xlabel="episode", ylabel="root of the value error, √VE", title=f"mean of {title}", ylim=(0, 0.5))
    add_legend(axes, fontsize=8)
