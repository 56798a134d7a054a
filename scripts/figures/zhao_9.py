"""REINFORCE on Zhao's 5x5 grid, and what its two metrics have to do with each other.

Zhao (2025), Mathematical foundations of reinforcement learning, lemma 9.1 and algorithm 9.1; the chapter has no figure.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import FiniteMDP
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, panels
from gridzero.figures.zhao_grid import GAMMA, draw, model, optimal_values

BASELINES = ("none", "mean", "value")
UPDATES = 200
EPISODE = 50
"""Moves; what comes later counts γ^50, half a per cent."""


def make(seed: int) -> Figure:
    """Mean state values while learning with each baseline, and what was learnt."""
    mdp = model()
    best = optimal_values(mdp)
    picture, (curves, entropies, first, last) = panels(4)
    rows = [_lemma(mdp, seed)]
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5", max_episode_steps=EPISODE)
    for name in BASELINES:
        settings: dict[str, Any] = {"num_envs": 64, "learning_rate": 0.01, "schedule_steps": UPDATES * 64 * EPISODE}
        agent: Any = make_agent("reinforce", env, gamma=GAMMA, baseline=name, seed=seed, **settings)
        begin = agent.state_values()
        values, entropy = [begin.mean()], []
        for _, update in zip(range(UPDATES), agent.learn(), strict=False):
            values.append(agent.state_values().mean())
            entropy.append(update.metrics["entropy"])
        curves.plot(values, label=f"baseline {name}")
        entropies.plot(entropy, label=f"baseline {name}")
        gap = float(best.mean() - agent.state_values().mean())
        rows.append(
            claim(
                f"9.1, baseline {name}: mean value short of v*", "little", f"{gap:.2f} of {best.mean():.2f}", gap < 0.4
            )
        )
        policy = agent.policy_table()
    curves.axhline(best.mean(), color="0.3", lw=0.8, label="optimal")
    curves.set(xlabel="updates of 64 episodes", ylabel="mean state value, exact", title="9.1: REINFORCE")
    entropies.set(xlabel="updates of 64 episodes", ylabel="nats", title="entropy of the policy")
    for axes in (curves, entropies):
        add_legend(axes, fontsize=8)
    draw(first, best, None, "optimal values")
    draw(last, mdp.policy_values(policy, GAMMA), policy, f"the greedy policy learnt, baseline {BASELINES[-1]}")
    return Figure(picture, rows, "Zhao, chapter 9: policy gradients on the 5x5 grid")


def _lemma(mdp: FiniteMDP, seed: int) -> Row:
    """The average reward is (1 - γ) times the mean value, both by the stationary distribution (lemma 9.1)."""
    rng, off = np.random.default_rng(seed), 0.0
    for _ in range(20):
        policy = rng.dirichlet(np.ones(5), size=25)
        stationary = _stationary(mdp, policy)
        reward = stationary @ (policy * mdp.rewards).sum(axis=1)
        off = max(off, abs(reward - (1 - GAMMA) * stationary @ mdp.policy_values(policy, GAMMA)))
    return claim("lemma 9.1: average reward less (1 - γ) mean value", "0", f"{off:.1g} at most", bool(off < 1e-10))


def _stationary(mdp: FiniteMDP, policy: FloatArray) -> FloatArray:
    """(S,) the distribution that a policy's moves leave as it is."""
    moves = np.zeros((25, 25))
    np.add.at(moves, (np.arange(25)[:, None], mdp.successors[:, :, 0]), policy)
    equations = np.vstack([moves.T - np.eye(25), np.ones(25)])
    return np.asarray(np.linalg.lstsq(equations, np.eye(26)[25], rcond=None)[0])
