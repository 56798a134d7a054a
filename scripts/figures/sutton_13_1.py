"""REINFORCE on the corridor of three cells that look alike, where the best policy is a random one.

Sutton and Barto (2018), Reinforcement learning, 2nd edition, example 13.1 and figures 13.1 and 13.2.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from gridzero.agents import make as make_agent
from gridzero.envs import FiniteMDP
from gridzero.figures.figure import Figure, FloatArray, Row, claim, compare, panels

LEFT, RIGHT = 0, 1
SUCCESSORS = ((0, 1), (2, 0), (1, 3))
"""Of the three cells, to the left and to the right; in the second one the two are reversed."""
FIRST = 0.05
RUNS, UPDATES, EPISODES = 6, 125, 8


class Corridor(gym.Env[np.int64, np.int64]):
    """Four cells in a row, all looking alike; the last one ends the episode, and each move costs 1."""

    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin in the first cell."""
        super().reset(seed=seed)
        self.cell = 0
        return np.int64(0), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Move."""
        self.cell = SUCCESSORS[self.cell][int(action)]
        return np.int64(0), -1.0, self.cell == 3, False, {}


def value(right: float) -> float:
    """The exact value of the first cell, where every cell goes right with this probability."""
    rewards = np.full((4, 2), -1.0)
    successors = np.array([*SUCCESSORS, (3, 3)])[:, :, None]
    mdp = FiniteMDP(successors, np.ones((4, 2, 1)), rewards, np.arange(4) == 3, np.eye(4)[0])
    return float(mdp.policy_values(np.tile([1 - right, right], (4, 1)), 1.0)[0])


def learn(baseline: str, seed: int) -> tuple[FloatArray, float]:
    """(UPDATES,) exact values of the policy on the way, and its last probability of going right."""
    env = gym.vector.SyncVectorEnv([Corridor] * EPISODES, autoreset_mode=gym.vector.AutoresetMode.DISABLED)
    settings: dict[str, Any] = {"learning_rate": 0.01, "hidden": (8,), "max_gradient_norm": 0.0}
    agent: Any = make_agent("reinforce", env, gamma=1.0, baseline=baseline, seed=seed, schedule_steps=10**9, **settings)
    with torch.no_grad():  # as in the book, it begins with few moves to the right
        agent.network.action_head.bias.copy_(torch.tensor([1 - FIRST, FIRST]).log())
    values, right = [], 0.0
    for _, _update in zip(range(UPDATES), agent.learn(), strict=False):
        right = float(agent.action_probabilities(np.zeros(1, dtype=np.int64))[0, RIGHT])
        values.append(value(right))
    return np.array(values), right


def make(seed: int) -> Figure:
    """The value of each mixture, and the way of REINFORCE to the best."""
    picture, (mixtures, curves) = panels(2)
    grid = np.linspace(0.02, 0.98, 961)
    values = np.array([value(right) for right in grid])
    best = int(values.argmax())
    mixtures.plot(grid, values)
    mixtures.plot(grid[best], values[best], "o")
    mixtures.set(xlabel="probability of going right", ylabel="value of the start", ylim=(-100, 0), title="example 13.1")
    final: dict[str, list[float]] = {}
    early: dict[str, float] = {}
    for baseline in ("none", "mean"):
        runs = [learn(baseline, seed * RUNS + run) for run in range(RUNS)]
        curve = np.mean([path for path, _ in runs], axis=0)
        curves.plot(np.arange(1, UPDATES + 1) * EPISODES, curve, label=f"baseline {baseline}")
        final[baseline], early[baseline] = [right for _, right in runs], float(curve[: UPDATES // 5].mean())
    curves.axhline(values[best], color="0.3", lw=0.8, label="best")
    curves.set(xlabel="episodes", ylabel=f"value of the start, mean of {RUNS} runs", title="figures 13.1 and 13.2")
    for axes in (mixtures, curves):
        axes.grid(alpha=0.3)
    curves.legend()
    rows: list[Row] = [
        compare("best value of the start", -11.6, float(values[best]), 0.1),
        compare("best probability of going right", 0.59, float(grid[best]), 0.01),
        compare("value, nearly always right", -44.0, value(0.95), 1.0),
        compare("value, nearly always left", -82.0, value(0.05), 1.0),
        *(
            compare(f"REINFORCE's last probability, baseline {baseline}", 0.59, float(np.mean(found)), 0.05)
            for baseline, found in final.items()
        ),
        claim(
            "mean value in the first 200 episodes, without and with baseline",
            "better with",
            f"{early['none']:.1f} and {early['mean']:.1f}",
            early["mean"] > early["none"],
        ),
    ]
    return Figure(picture, rows, "Sutton & Barto, figures 13.1 and 13.2: the corridor of cells that look alike")
