"""On the cliff Q-learning learns the best way and falls off it, Sarsa learns a safe one.

Sutton & Barto (2018), Reinforcement learning, example 6.6 (figure without a number). The book does not say the step
size; it is 0.5 here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import GridWorld
from gridzero.figures.figure import Figure, Row, claim, compare, draw_grid, panels
from gridzero.figures.repetitions import FloatArray, Repetitions, greedy_way, record

EPISODES, RUNS, LATE = 500, 200, 200
EDGE = 3
"""The row with the cliff."""


def make(seed: int) -> Figure:
    """Returns while learning on the left, a greedy way of each on the right."""
    world = GridWorld(layout="cliff").mdp
    picture, (left, right) = panels(2, width=5.4)
    late, ways = {}, {}
    for name, color in (("sarsa", "tab:blue"), ("q-learning", "tab:red")):
        returns, q = learn(name, seed)
        mean = returns.mean(axis=0)
        smooth = np.convolve(mean, np.ones(10) / 10, mode="valid")
        left.plot(np.arange(10, EPISODES + 1), smooth, color=color, label=name)
        late[name] = float(returns[:, -LATE:].mean())
        ways[name] = [greedy_way(world, table) for table in q]
        shown = next((way for way in ways[name] if world.terminal[way[-1]]), ways[name][0])
        rows, columns = np.divmod(np.array(shown), 12)
        right.plot(columns, rows, "o-", ms=3, color=color, label=name)
    left.set(
        xlabel="episodes",
        ylabel="return of an episode",
        ylim=(-100, 0),
        title=f"ε = 0.1, α = 0.5; mean of {RUNS} runs and 10 episodes",
    )
    left.legend()
    values = np.full((4, 12), np.nan)
    values[:3] = 0.0
    values[EDGE, [0, 11]] = 0.0
    draw_grid(right, values, target=(EDGE, 11), title="greedy ways after 500 episodes", digits=0)
    for text in list(right.texts):
        text.remove()
    right.text(5.5, EDGE, "the cliff", color="white", ha="center", va="center")
    right.legend(loc="center", bbox_to_anchor=(0.5, 0.62), fontsize=8, ncols=2)
    shortest = sum(len(way) - 1 == 13 for way in ways["q-learning"])
    ended = [way for way in ways["sarsa"] if world.terminal[way[-1]]]
    safe = sum(len(way) - 1 > 13 for way in ended)
    table: list[Row] = [
        compare("Sarsa, return while exploring", -25, late["sarsa"], 5),
        compare("Q-learning, return while exploring", -50, late["q-learning"], 6),
        claim("Q-learning's greedy way", "the shortest, 13 steps", f"in {shortest} of {RUNS} runs", shortest == RUNS),
        claim(
            "Sarsa's greedy way",
            "longer, away from the edge",
            f"longer in {safe} of the {len(ended)} runs where it ends",
            safe == len(ended) > RUNS / 2,
        ),
    ]
    return Figure(picture, table, "Sutton & Barto, example 6.6: cliff walking")


def learn(name: str, seed: int, runs: int = RUNS) -> tuple[FloatArray, FloatArray]:
    """Returns (R, E) and the action values (R, S, A) in the end."""
    world = GridWorld(layout="cliff").mdp
    env = Repetitions(world, runs, EPISODES)
    agent: Any = make_agent(
        name, env, gamma=1.0, step_size="0.5", epsilon="0.1", steps_per_update=100 * runs, seed=seed
    )
    record(agent, env)
    return env.returns, agent.action_values().reshape(runs, *world.rewards.shape)
