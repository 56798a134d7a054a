"""Sarsa finds the way through the windy grid world, and goes on exploring.

Sutton & Barto (2018), Reinforcement learning, example 6.5 (figure without a number).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.agents.tabular.solver import solve
from gridzero.agents.tabular.tabular import epsilon_greedy_policy, greedy_policy
from gridzero.envs import GridWorld
from gridzero.figures.figure import Figure, Row, claim, compare, draw_grid, panels, shown
from gridzero.figures.repetitions import Repetitions, greedy_way

STEPS, RUNS, LATE = 8000, 100, 1000


def make(seed: int) -> Figure:
    """Episodes over steps on the left, the greedy policy of the first run on the right."""
    world = GridWorld(layout="windy").mdp
    env = Repetitions(world, RUNS, STEPS // 15 + 1)
    agent: Any = make_agent("sarsa", env, gamma=1.0, step_size="0.5", epsilon="0.1", steps_per_update=RUNS, seed=seed)
    ended = np.array([env.ended.copy() for _, _ in zip(range(STEPS), agent.learn(), strict=False)])
    picture, (left, right) = panels(2)
    left.plot(range(1, STEPS + 1), ended.mean(axis=1), label=f"mean of {RUNS} runs")
    left.plot(range(1, STEPS + 1), ended[:, 0], lw=0.8, label="one run")
    left.set(xlabel="steps", ylabel="episodes", title="Sarsa, ε = 0.1, α = 0.5")
    left.legend()
    q = agent.action_values().reshape(RUNS, *world.rewards.shape)
    start = int(world.start.argmax())
    steps = np.array([len(greedy_way(world, table)) - 1 for table in q])
    one = int((steps == 15).argmax())
    values = np.where(world.terminal, 0.0, q[one].max(axis=1)).reshape(7, 10)
    chosen = np.eye(4)[q[one].argmax(axis=1)].reshape(7, 10, 4)
    target = divmod(int(world.terminal.argmax()), 10)
    draw_grid(right, values, chosen, target=target, title="values and greedy policy of one run", digits=0)
    best = solve(world, 1.0).values
    exploring = epsilon_greedy_policy(greedy_policy(world.action_values(best, 1.0)), 0.1)
    pace = LATE * RUNS / (ended[-1] - ended[-1 - LATE]).sum()
    optimal = int((steps == 15).sum())
    rows: list[Row] = [
        compare("fewest steps, from the model", 15, float(-best[start]), 0.01),
        compare("steps of the best policy with ε = 0.1", 17, float(-world.policy_values(exploring, 1.0)[start]), 0.5),
        claim(
            f"greedy way after {STEPS:,} steps",
            "15 steps, in one run",
            f"15 in {optimal} of {RUNS} runs, median {np.median(steps):g}",
            optimal > 0,
        ),
        compare(f"episodes in {STEPS:,} steps", 170, float(ended[-1].mean()), 25),
        shown(f"steps an episode in the last {LATE:,}", f"{pace:.1f} (in the book's one run about 17)"),
    ]
    return Figure(picture, rows, "Sutton & Barto, example 6.5: Sarsa in the windy grid world")
