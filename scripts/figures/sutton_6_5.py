"""Q-learning takes the noise of many bad actions for a good one; double Q-learning does not.

Sutton & Barto (2018), Reinforcement learning, figure 6.5 (example 6.7). From A, right ends with nothing, left leads to
B, whose ten actions all end with a reward of mean -0.1 and standard deviation 1. The book does not say how many there
are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import FiniteMDP
from gridzero.figures.figure import Figure, Row, claim, compare, panels
from gridzero.figures.repetitions import FloatArray, Repetitions, record

EPISODES, RUNS, ACTIONS = 300, 10_000, 10
COLORS = {"q-learning": "tab:red", "double-q-learning": "tab:green"}


def make(seed: int) -> Figure:
    """The share of runs that go left, over episodes."""
    shares = {name: left_shares(name, seed) for name in COLORS}
    picture, (axes,) = panels(1, width=6.4, height=4.0)
    for name, color in COLORS.items():
        axes.plot(range(1, EPISODES + 1), 100 * shares[name], color=color, label=name)
    axes.axhline(5, color="0.5", ls="--", lw=0.8, label="the least with ε = 0.1")
    axes.set(
        xlabel="episodes",
        ylabel="% left from A",
        ylim=(0, 100),
        title=f"α = 0.1, ε = 0.1, γ = 1; {RUNS:,} runs",
    )
    axes.legend()
    q, double = shares["q-learning"], shares["double-q-learning"]
    rows: list[Row] = [
        compare("both, first episode: % left", 50, 50 * float(q[0] + double[0]), 2),
        claim("Q-learning at first", "left much more often than right", f"{q.max():.0%} at the most", q.max() > 0.7),
        claim("Q-learning in the end", "significantly above 5 %", f"{q[-20:].mean():.1%}", q[-20:].mean() > 0.06),
        claim(
            "double Q-learning at the most after 20 episodes",
            "not led astray: below a half",
            f"{double[20:].max():.0%}",
            double[20:].max() < 0.5,
        ),
        claim(
            "double Q-learning against Q-learning",
            "less often left, in every episode from the 10th on",
            f"in {int((double[9:] < q[9:]).sum())} of {EPISODES - 9}",
            bool((double[9:] < q[9:]).all()),
        ),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 6.5: maximisation bias")


def left_shares(name: str, seed: int, runs: int = RUNS) -> FloatArray:
    """(E,) share of runs that go left from A in each episode."""
    a, b, end = range(3)
    successors = np.full((3, ACTIONS, 1), end)
    successors[a, 0] = b
    rewards, deviations = np.zeros((3, ACTIONS)), np.zeros((3, ACTIONS))
    rewards[b], deviations[b] = -0.1, 1.0
    allowed = np.ones((3, ACTIONS), dtype=np.bool_)
    allowed[a, 2:] = False
    world = FiniteMDP(successors, np.ones(successors.shape), rewards, np.arange(3) == end, np.eye(3)[a])
    env = Repetitions(world, runs, EPISODES, deviations=deviations, allowed=allowed)
    agent: Any = make_agent(
        name,
        env,
        gamma=1.0,
        step_size="0.1",
        epsilon="0.1",
        action_masks=True,
        steps_per_update=10 * runs,
        seed=seed,
    )
    record(agent, env)
    return np.asarray((env.lengths == 2).mean(axis=0))
