"""Actor-critic on Zhao's 5x5 grid: QAC, advantage actor-critic, off policy; baselines and importance sampling.

Zhao (2025), Mathematical foundations of reinforcement learning, figure 10.2, section 10.2.1, algorithms 10.1 to 10.3.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, compare, panels
from gridzero.figures.zhao_grid import GAMMA, model, optimal_values

STEPS = 400_000
TABLES: dict[str, dict[str, Any]] = {
    "10.1, QAC": {"critic": "actions", "actor_step_size": 0.01},
    "10.2, advantage": {"critic": "states", "actor_step_size": 0.05},
    "10.3, off policy": {"critic": "states", "actor_step_size": 0.02, "behaviour": "uniform"},
}
NETWORKS: dict[str, Any] = {  # advantage actor-critic is PPO with one pass over each batch (Huang et al., 2022)
    "epochs": 1,
    "minibatch_size": 10**9,
    "normalise_advantages": "none",
    "normalise_rewards": False,
    "gae_lambda": 0.95,
    "rollout_steps": 16,
    "entropy_coefficient": 0.05,
    "learning_rate": 1e-2,
}
SAMPLES, RUNS = 200, 2000


def make(seed: int) -> Figure:
    """Learning curves by exact values, variances by baseline, and importance sampling."""
    picture, (curves, ratios, importance) = panels(3, columns=3, width=4.2)
    rows = [*_importance(importance, seed), *_baselines(ratios, seed), *_learning(curves, seed)]
    return Figure(picture, rows, "Zhao, chapter 10: actor-critic methods")


def _learning(axes: Any, seed: int) -> list[Row]:
    mdp = model()
    best = optimal_values(mdp).mean()
    worlds = gym.make_vec("gridzero/GridWorld-v0", 64, layout="zhao-5x5", max_episode_steps=100)
    agents: dict[str, Any] = {
        name: make_agent("actor-critic", worlds, gamma=GAMMA, seed=seed, steps_per_update=6400, **settings)
        for name, settings in TABLES.items()
    }
    agents["PPO as advantage actor-critic"] = make_agent(
        "ppo", worlds, gamma=GAMMA, seed=seed, schedule_steps=STEPS, **NETWORKS
    )
    rows = []
    for name, agent in agents.items():
        steps, values = [0], []
        values.append(mdp.policy_values(agent.exploring_policy_table(), GAMMA).mean())
        for update in agent.learn():
            if update.step >= steps[-1] + 5000:
                steps.append(update.step)
                values.append(mdp.policy_values(agent.exploring_policy_table(), GAMMA).mean())
            if update.step >= STEPS:
                break
        axes.plot(steps, values, label=name)
        gap = float(best - mdp.policy_values(agent.policy_table(), GAMMA).mean())
        rows.append(claim(f"{name}: greedy policy short of v*", "little", f"{gap:.2f} of {best:.2f}", gap < 0.4))
    axes.axhline(best, color="0.3", lw=0.8, label="optimal")
    axes.set(xlabel="steps", ylabel="mean state value, exact", title="learning")
    add_legend(axes, fontsize=7)
    return rows


def _baselines(axes: Any, seed: int) -> list[Row]:
    """Variance of an actor's step in each state, by baseline, exactly, for random softmax policies (section 10.2.1)."""
    rng, mdp = np.random.default_rng(seed), model()
    policy = rng.dirichlet(np.ones(5), size=25)
    values = mdp.policy_values(policy, GAMMA)
    q = mdp.action_values(values, GAMMA)
    # ∇ log π(a|s) with respect to the preferences of s is the unit vector of a less π(s).
    lengths = ((np.eye(5)[None] - policy[:, None]) ** 2).sum(axis=2)
    optimal = (policy * lengths * q).sum(axis=1) / (policy * lengths).sum(axis=1)

    def variance(baseline: FloatArray) -> FloatArray:
        advantages = q - baseline[:, None]
        mean = policy * (q - values[:, None])  # of the step; the same with every baseline
        return np.asarray((policy * lengths * advantages**2).sum(axis=1) - (mean**2).sum(axis=1))

    found = {name: variance(b) for name, b in (("0", np.zeros(25)), ("v", values), ("optimal", optimal))}
    for name, numbers in found.items():
        axes.semilogy(np.sort(numbers)[::-1], ".-", label=f"baseline {name}")
    axes.set(xlabel="states, the largest first", ylabel="variance of a step", title="10.2.1: baselines")
    add_legend(axes, fontsize=8)
    least = bool((found["optimal"] <= found["v"] + 1e-12).all() and (found["optimal"] <= found["0"] + 1e-12).all())
    share = float(found["v"].mean() / found["0"].mean())
    return [
        claim("10.2.1: optimal baseline's variance is least", "in all states", "in all" if least else "not", least),
        claim("10.2.1: variance with v, of that without", "less", f"{share:.2f}", share < 1),
    ]


def _importance(axes: Any, seed: int) -> list[Row]:
    """Means of 200 draws of ±1 with 0.8 for +1, plain and weighted to be those of a fair coin (figure 10.2)."""
    rng = np.random.default_rng(seed)
    draws = np.where(rng.random((RUNS, SAMPLES)) < 0.8, 1.0, -1.0)
    weighted = draws * np.where(draws > 0, 0.5 / 0.8, 0.5 / 0.2)
    count = np.arange(1, SAMPLES + 1)
    for numbers, label in ((draws, "average"), (weighted, "importance sampling")):
        axes.plot(count, numbers[0].cumsum() / count, label=label)
    axes.plot(count, draws[0], ".", color="0.7", ms=3, label="samples")
    axes.set(xlabel="samples", ylim=(-2, 2), title="10.2: importance sampling")
    add_legend(axes, fontsize=8)
    return [
        compare("10.2: mean of the averages", 0.6, float(draws.mean()), 0.01),
        compare("10.2: mean of the weighted averages", 0.0, float(weighted.mean()), 0.01),
    ]
