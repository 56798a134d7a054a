"""Sarsa, n-step Sarsa and Q-learning, on policy and off policy with good and bad behaviour, on Zhao's 5x5 grid.

Zhao (2025), Mathematical foundations of reinforcement learning, figures 7.2 to 7.5.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.agents.tabular.td_kernels import draw as draw_action
from gridzero.agents.tabular.temporal_difference import QLearning
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, compare, panels
from gridzero.figures.zhao_grid import (
    GAMMA,
    SHORTEST,
    draw,
    epsilon_greedy,
    model,
    moves_to_target,
    optimal_values,
    policy_of,
)

EPISODES = 500
STEPS = 100_000
WAYS: dict[str, dict[str, Any]] = {"sarsa": {}, "n-step-sarsa": {"n": 3}, "q-learning": {}}
INITIAL = {0.0: 7.9, 10.0: 2.6, 100.0: 92.0}
"""First guess of all action values: root mean square error that figures 7.4f to 7.4h begin with."""
BEHAVIOUR = {  # ε, greedy moves, root mean square error at the end, as read from the figure
    "7.5a: ε 0.5": (0.5, "rrrrr " * 5, 5.6),
    "7.5b: ε 0.1": (0.1, "rrrrr " * 5, 7.9),
    "7.5c: ε 0.1": (0.1, "uolrr rrlul rllrd ollod luuld", 7.8),
}


def make(seed: int) -> Figure:
    """Returns of the episodes on the way, and errors of the values off policy."""
    picture, (returns, grid, initial, behaviour) = panels(4)
    rows = _on_policy(returns, grid, seed)
    rows += _off_policy(initial, behaviour, seed)
    return Figure(picture, rows, "Zhao, chapter 7: temporal-difference methods on the 5x5 grid")


def _on_policy(axes: Any, grid: Any, seed: int) -> list[Row]:
    """Episodes from the top left, until the target is reached; α and ε are 0.1."""
    costs: dict[str, Any] = {"reward_target": 0, "reward_step": -1, "reward_boundary": -10, "reward_forbidden": -10}
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5", start=0, target_terminal=True, **costs)
    rows = []
    for name, settings in WAYS.items():
        schedules = {"step_size": "0.1", "epsilon": "0.1", "steps_per_update": 1}
        agent: Any = make_agent(name, env, gamma=GAMMA, seed=seed, **schedules, **settings)
        found: list[float] = []
        for update in agent.learn():
            if "episode_return" in update.metrics:
                found.append(update.metrics["episode_return"])
            if len(found) == EPISODES:
                break
        axes.plot(np.convolve(found, np.ones(20) / 20, mode="valid"), label=f"{name}, mean of 20")
        before, after = np.mean(found[:20]), np.mean(found[-100:])
        rows.append(claim(f"{name}: sums of rewards grow", "yes", f"{before:.0f} to {after:.0f}", bool(after > before)))
        moves = moves_to_target(agent.policy_table())
        rows.append(
            claim(f"{name}: moves to the target", f"{SHORTEST} or little more", f"{moves}", moves <= SHORTEST + 2)
        )
    rows.append(
        claim("7.3: Q-learning's way is optimal", "yes", "yes" if moves == SHORTEST else "no", moves == SHORTEST)
    )
    draw(grid, agent.state_values(), agent.policy_table(), "7.3: Q-learning's greedy policy and values")
    axes.set(xlabel="episode", ylabel="sum of rewards", title="7.2 and 7.3: while learning")
    add_legend(axes, fontsize=8)
    return rows


class Behaving(QLearning):
    """Q-learning that follows a given policy, whatever it has learnt."""

    def behave(self, policy: FloatArray) -> None:
        """Follow this policy (S, A) from now on."""
        self.cumulative = policy.cumsum(axis=1)

    def _learn_from(self, batch: tuple[Any, ...], settings: tuple[float, ...]) -> float:
        error = super()._learn_from(batch, settings)
        self._choose_first()
        return error

    def _choose_first(self) -> None:
        _, _, streams, states, actions = self._table
        for i, state in enumerate(states):
            actions[i] = draw_action(self.cumulative, state, streams, i)


def errors(policy: FloatArray, first: float, seed: int) -> FloatArray:
    """Root mean square errors of the state values after each 1,000 steps of one episode of a behaviour policy."""
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5", start=0, max_episode_steps=2 * STEPS)
    config = Behaving.Config(gamma=GAMMA, step_size="0.1", initial_value=first)
    agent, best = Behaving(env, config, seed=seed), optimal_values(model())
    agent.behave(policy)
    found = [abs(first - best)]
    for update in agent.learn():
        found.append(agent.state_values() - best)
        if update.step >= STEPS:
            break
    return np.asarray(np.sqrt(np.square(found).mean(axis=1)))


def _off_policy(initial: Any, behaviour: Any, seed: int) -> list[Row]:
    rows, steps = [], np.arange(STEPS // 1000 + 1) * 1000
    uniform = epsilon_greedy(policy_of("rrrrr" * 5), 1.0)
    for first, printed in INITIAL.items():
        found = errors(uniform, first, seed)
        initial.semilogy(steps, np.maximum(found, 1e-6), label=f"from q = {first:g}")
        rows += [
            compare(f"7.4: first error from q = {first:g}", printed, float(found[0]), 0.05 * printed),
            claim(f"7.4: last error from q = {first:g}", "near 0", f"{found[-1]:.1g}", bool(found[-1] < 0.1)),
        ]
    for name, (epsilon, moves, printed) in BEHAVIOUR.items():
        found = errors(epsilon_greedy(policy_of(moves), epsilon), 0.0, seed)
        behaviour.plot(steps, found, label=name)
        agrees = bool(abs(found[-1] - printed) < 1)
        rows.append(claim(f"{name}: error after 100,000 steps", f"about {printed:g}", f"{found[-1]:.2f}", agrees))
    for axes, title in ((initial, "7.4: Q-learning, uniform behaviour"), (behaviour, "7.5: by behaviour, from q = 0")):
        axes.set(xlabel="step in the episode", ylabel="error of the values", title=title)
        add_legend(axes, fontsize=8)
    return rows
