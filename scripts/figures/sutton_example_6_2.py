"""TD learns the values of a random walk faster than Monte Carlo.

Sutton & Barto (2018), Reinforcement learning, example 6.2: five states, the right end pays 1. Monte Carlo is n-step TD
with n above the length of every episode.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs.chains import random_walk
from gridzero.figures.figure import Figure, Row, claim, compare, panels
from gridzero.figures.repetitions import FloatArray, Repetitions, errors_by_episode, record

WALK = random_walk(5)
EXACT = np.array([np.nan, *np.arange(1, 6) / 6, np.nan])
EPISODES, RUNS = 100, 100
STEP_SIZES = {"TD": ("0.05", "0.1", "0.15"), "MC": ("0.01", "0.02", "0.03", "0.04")}
LENGTH = {"TD": 1, "MC": 2000}


def make(seed: int) -> Figure:
    """Estimates of one run on the left, errors averaged over 100 runs on the right."""
    picture, (left, right) = panels(2)
    shown = {0: np.full(5, 0.5)} | {episodes: estimates(episodes, seed) for episodes in (1, 10, 100)}
    for episodes, values in shown.items():
        left.plot(list("ABCDE"), values, "o-", ms=4, label=f"after {episodes}")
    left.plot(list("ABCDE"), EXACT[1:-1], "k--", lw=1, label="true values")
    left.set(xlabel="state", ylabel="estimated value", title="TD(0), step size 0.1, one run", ylim=(0, 1))
    left.legend(title="episodes", fontsize=8)
    curves: dict[str, dict[str, FloatArray]] = {name: {} for name in STEP_SIZES}
    colors = {"TD": "tab:blue", "MC": "tab:red"}
    for name, sizes in STEP_SIZES.items():
        for size, style in zip(sizes, ("-", "--", "-.", ":"), strict=False):
            curve = curves[name][size] = errors(name, size, seed)
            right.plot(range(1, EPISODES + 1), curve, style, color=colors[name], lw=1.2, label=f"{name}, α = {size}")
    right.set(xlabel="episodes", ylabel="RMS error", title=f"averaged over states and {RUNS} runs", ylim=(0, None))
    right.legend(fontsize=7, ncols=2)
    best = {name: np.min(list(family.values()), axis=0) for name, family in curves.items()}
    below = int((best["TD"] < best["MC"]).sum())
    changed = np.abs(shown[1] - shown[0])
    final = {size: float(curve[-1]) for size, curve in curves["TD"].items()}
    rows: list[Row] = [
        claim(
            "one episode at α = 0.1 changes",
            "one estimate, an end's, by 0.05",
            f"{int((changed > 0).sum())}, by {changed.max():.3f}",
            bool(changed[1:4].max() == 0) and abs(changed.sum() - 0.05) < 1e-12,
        ),
        claim("best TD curve below best MC curve", "consistently", f"at {below} of 100 episodes", below >= 95),
        compare("TD, α = 0.05, RMS error after 100 episodes", 0.05, final["0.05"], 0.02),
        claim(
            "TD: a larger step size errs more in the end",
            "yes",
            ", ".join(f"{error:.3f}" for error in final.values()),
            final["0.05"] < final["0.1"] < final["0.15"],
        ),
    ]
    return Figure(picture, rows, "Sutton & Barto, example 6.2: random walk, TD(0) and constant-α Monte Carlo")


def estimates(episodes: int, seed: int) -> FloatArray:
    """(5,) values of one run after so many episodes."""
    env = Repetitions(WALK, 1, episodes)
    agent: Any = make_agent("td0", env, gamma=1.0, step_size="0.1", initial_value=0.5, steps_per_update=1, seed=seed)
    record(agent, env)
    return np.asarray(agent.state_values()[1:-1])


def errors(name: str, step_size: str, seed: int, runs: int = RUNS) -> FloatArray:
    """(E,) mean error of the runs after each episode."""
    env = Repetitions(WALK, runs, EPISODES)
    agent: Any = make_agent(
        "td-n-step",
        env,
        n=LENGTH[name],
        gamma=1.0,
        step_size=step_size,
        initial_value=0.5,
        steps_per_update=1,
        seed=seed,
    )
    return np.asarray(errors_by_episode(agent, env, EXACT).mean(axis=0))
