"""Ordinary importance sampling need not converge where its variance is infinite.

Sutton & Barto (2018), Reinforcement learning, figure 5.4 (example 5.5): in one state, right ends with nothing, left
ends with 1 in one of ten cases and else leads back. The policy whose value, 1, is estimated always goes left, the one
that acts in half of all cases. The book's runs have 100 million episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs import FiniteMDP
from gridzero.figures.blackjack_hands import led_to
from gridzero.figures.figure import Figure, Row, claim, compare, panels, shown
from gridzero.figures.repetitions import FloatArray

EPISODES, RUNS, COPIES, EVERY = 1_000_000, 10, 1000, 1000
LEFT, RIGHT = 0, 1
STATE, PAYS, END = range(3)


def make(seed: int) -> Figure:
    """Estimates of ten runs over episodes."""
    picture, (axes,) = panels(1, width=6.4, height=4.0)
    runs = [estimates("ordinary", EPISODES, seed + run) for run in range(RUNS)]
    for counts, values in runs:
        axes.semilogx(counts, values, lw=0.9)
    axes.axhline(1, color="k", ls="--", lw=0.8)
    axes.set(
        xlabel="episodes",
        ylabel="estimate of the value, 1",
        ylim=(0, 2),
        title=f"ordinary importance sampling, first visits, {RUNS} runs",
    )
    late = np.array([values[counts > EPISODES / 2] for counts, values in runs], dtype=object)
    off = np.array([float(np.abs(np.asarray(values, dtype=float) - 1).max()) for values in late])
    _, weighted = estimates("weighted", 100 * EVERY, seed)
    rows: list[Row] = [
        compare("value, from the model", 1.0, float(WORLD.policy_values(np.zeros(3, dtype=int), 1.0)[STATE]), 1e-9),
        claim(
            "ordinary: error in the second half of the episodes",
            "fails to converge",
            f"median {np.median(off):.2f}, largest {off.max():.2f}",
            bool(np.median(off) > 0.05),
        ),
        claim(
            f"weighted: estimates after {EVERY:,} episodes and more",
            "1 exactly",
            f"{weighted.min():.6g} to {weighted.max():.6g}",
            bool(np.abs(weighted - 1).max() < 1e-9),
        ),
        shown("episodes of a run", f"{EPISODES:,} (book: 100,000,000)"),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 5.4: infinite variance of ordinary importance sampling")


def world() -> FiniteMDP:
    """The state, one that pays on the way to the end, and the end."""
    successors = np.full((3, 2, 2), END)
    successors[STATE, LEFT] = [STATE, PAYS]
    probabilities = np.zeros((3, 2, 2))
    probabilities[:, :, 0] = 1.0
    probabilities[STATE, LEFT] = [0.9, 0.1]
    rewards = np.zeros((3, 2))
    rewards[PAYS] = 1.0
    return FiniteMDP(successors, probabilities, rewards, np.arange(3) == END, np.eye(3)[STATE])


WORLD = world()


def estimates(kind: str, episodes: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Counts of episodes and the estimates of the value then, of one run."""
    led, _ = led_to(WORLD, STATE)
    agent: Any = make_agent(
        "mc-off-policy",
        SimulatedMDP(led, COPIES),
        importance_sampling=kind,
        gamma=1.0,
        step_size="1/k",
        episode_length=1000,
        episodes_per_update=EVERY,
        seed=seed,
    )
    target = np.eye(2)[[LEFT] * 4]
    behaviour = target.copy()
    behaviour[STATE] = 0.5
    agent.fix_policy(target, behaviour)
    counts, values = [], []
    for update in agent.learn():
        counts.append(update.metrics["episodes_learned"])
        values.append(float(agent.action_values()[3, LEFT]))
        if counts[-1] >= episodes:
            break
    return np.array(counts), np.array(values)
