"""Values of Zhao's 5x5 grid from a few features, and Sarsa and Q-learning with linear function approximation.

Zhao (2025), Mathematical foundations of reinforcement learning, figures 8.6 to 8.10.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.agents.tabular.features import FeatureMap, Fourier, Polynomial
from gridzero.agents.tabular.linear_theory import td_fixed_point
from gridzero.agents.tabular.value_errors import rms_error
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, compare_all, panels
from gridzero.figures.walks import Task, draw_walks
from gridzero.figures.zhao_grid import GAMMA, SHORTEST, draw, model, moves_to_target, numbers

TRUE = (
    "-3.8 -3.8 -3.6 -3.1 -3.2 -3.8 -3.8 -3.8 -3.1 -2.9 -3.6 -3.9 -3.4 -3.2 -2.9 "
    "-3.9 -3.6 -3.4 -2.9 -3.2 -4.5 -4.2 -3.4 -3.4 -3.5"
)
"""Figure 8.6b: state values of the uniform policy."""
POINTS = np.stack(np.divmod(np.arange(25), 5), axis=1) / 4
"""Row and column of each state, from 0 to 1."""
POLICY = np.full((25, 5), 0.2)
EVENLY = np.full(25, 1 / 25)
EPISODES, STEPS, RUNS = 500, 500, 5
STEP_SIZE = 0.0005
CONTROL = {"8.9: Sarsa": ("sarsa-linear", 0.003), "8.10: Q-learning": ("q-linear", 0.02)}
"""Learner, and step size for the features of a state, one weight vector for each action."""


def make(seed: int, runs: int = RUNS) -> Figure:
    """True values; errors of TD with two kinds of features; episodes of Sarsa and Q-learning, and a policy."""
    picture, axes = panels(8, columns=4, width=4.2)
    rows = _prediction(axes[:4], seed, runs)
    for i, (title, (name, step_size)) in enumerate(CONTROL.items()):
        rows += _control(axes[4 + 2 * i], axes[5 + 2 * i], title, name, step_size, seed)
    return Figure(picture, rows, "Zhao, chapter 8: linear function approximation on the 5x5 grid")


def _prediction(axes: Any, seed: int, runs: int) -> list[Row]:
    """Episodes of 500 steps from random states, weights drawn from a standard normal distribution at first."""
    mdp = model()
    exact = mdp.policy_values(POLICY, GAMMA)
    draw(axes[0], exact, title="8.6b: values of the uniform policy")
    walks = draw_walks(mdp, POLICY, runs * EPISODES, seed, limit=STEPS, start=EVENLY)
    rng = np.random.default_rng(seed)
    rows = [compare_all("8.6b, true state values", numbers(TRUE), exact, 0.051)]
    kinds: dict[str, tuple[type[Polynomial] | type[Fourier], Any]] = {
        "8.7: polynomial": (Polynomial, axes[1]),
        "8.8: Fourier": (Fourier, axes[2]),
    }
    for title, (kind, panel) in kinds.items():
        ends, limits = [], []
        for order in (1, 2, 3):
            features = kind(2, order)
            initial = rng.normal(size=(runs, features.size))
            task = Task(walks, runs, features(POINTS), initial, exact, EVENLY, GAMMA)
            errors = task.n_step_errors(1, STEP_SIZE).mean(axis=0)
            panel.plot(errors, lw=1.2, label=f"order {order}, {features.size} features")
            ends.append(float(errors[-50:].mean()))
            limit = _limit(features)
            limits.append(rms_error(limit, exact))
        _decorate(panel, f"{title} features, α = {STEP_SIZE}")
        falling = ends[0] > ends[1] > ends[2] > 0.02
        text = ", ".join(f"{end:.3f}" for end in ends)
        rows.append(claim(f"{title}, error at the end", "smaller with more features, not 0", text, falling))
        text = ", ".join(f"{limit:.3f}" for limit in limits)
        near = bool((np.abs(np.subtract(ends, limits)) < 0.1).all())
        rows.append(claim("errors of the fixed points A⁻¹b", "where TD comes near", text, near))
    draw(axes[3], limit, title="limit of TD with 16 Fourier features")
    return rows


def _limit(features: FeatureMap) -> FloatArray:
    """(S,) values that TD converges to; the uniform policy is in all cells alike often."""
    matrix = features.dense(POINTS)
    return np.asarray(matrix @ td_fixed_point(model(), POLICY, matrix, EVENLY, GAMMA))


def _decorate(panel: Any, title: str) -> None:
    panel.set(xlabel="episode", ylabel="RMS error of the state values", title=title, yscale="log", ylim=(0.05, 6))
    add_legend(panel, fontsize=8)


def _control(panel: Any, grid: Any, title: str, name: str, step_size: float, seed: int) -> list[Row]:
    """Episodes from the top left until the target is reached; Fourier features of order 5, ε = 0.1."""
    costs: dict[str, Any] = {"reward_target": 1, "reward_step": 0, "reward_boundary": -10, "reward_forbidden": -10}
    costs |= {"target_terminal": True, "start": 0, "max_episode_steps": 1_000_000}
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5", **costs)
    settings = {"features": "fourier", "order": 5, "epsilon": "0.1", "steps_per_update": 1, "gamma": GAMMA}
    agent: Any = make_agent(name, env, seed=seed, step_size=str(step_size), **settings)
    returns: list[float] = []
    lengths: list[float] = []
    for update in agent.learn():
        if "episode_return" in update.metrics:
            returns.append(update.metrics["episode_return"])
            lengths.append(update.metrics["episode_length"])
        if len(returns) == EPISODES:
            break
    for label, found in (("steps", lengths), ("sum of rewards", returns)):
        panel.plot(np.convolve(found, np.ones(20) / 20, mode="valid"), lw=1.2, label=f"{label}, mean of 20")
    panel.set(xlabel="episode", title=f"{title}, α = {step_size}")
    panel.set_yscale("symlog", linthresh=10)
    add_legend(panel, fontsize=8)
    draw(grid, agent.state_values(), agent.policy_table(), f"values and greedy policy of {name}")
    way = moves_to_target(agent.policy_table())
    before, after = float(np.mean(returns[:20])), float(np.mean(returns[-100:]))
    first, last = float(np.mean(lengths[:20])), float(np.mean(lengths[-100:]))
    return [
        claim(f"{title}, sums of rewards", "grow towards 0", f"{before:.0f} to {after:.1f}", max(before, -12) < after),
        claim("steps of an episode", "fall", f"{first:.0f} to {last:.0f}", last < min(40, first / 2)),
        claim("greedy way to the target", "found", f"{way} moves", SHORTEST <= way <= SHORTEST + 4),
        Row("step size, with features of the action too", "0.001", f"{step_size:g}, without", None),
    ]
