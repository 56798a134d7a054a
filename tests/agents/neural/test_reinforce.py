"""REINFORCE: its gradient is the exact one in expectation, with every baseline, and it learns."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import gridzero
from gridzero.agents.neural.networks.mlp_policy import MLPPolicy
from gridzero.envs import FiniteMDP, GridWorld

UPDATES = 30


def exact_gradient(network: Any, mdp: FiniteMDP, gamma: float) -> np.ndarray:
    """Of the expected discounted return, by solving Bellman's equation with torch and differentiating the solution."""
    states = np.arange(mdp.num_states)
    reader = network.read(states)
    policy = torch.softmax(network.outputs(network.actor(reader), reader).double(), -1)
    transitions = torch.zeros(mdp.num_states, mdp.num_actions, mdp.num_states, dtype=torch.float64)
    probabilities = torch.tensor(mdp.probabilities)
    transitions.scatter_add_(2, torch.from_numpy(mdp.successors.astype(np.int64)), probabilities)
    alive = torch.from_numpy(~mdp.terminal).double()
    transitions = transitions * alive[:, None, None]
    rewards = torch.from_numpy(np.array(mdp.rewards)) * alive[:, None]
    moves, earned = torch.einsum("sa,sat->st", policy, transitions), (policy * rewards).sum(1)
    values = torch.linalg.solve(torch.eye(mdp.num_states, dtype=torch.float64) - gamma * moves, earned)
    parameters = [*network.actor.parameters(), *network.action_head.parameters()]
    gradients = torch.autograd.grad(values @ torch.from_numpy(np.array(mdp.start)), parameters)
    return torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy()


def sampled_gradients(gamma: float, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of so many updates, and the exact one, all of one policy that does not change."""
    env = gym.make("gridzero/GridWorld-v0", layout="aima-4x3")
    still = {"learning_rate": 1e-30, "learning_rate_schedule": "constant", "max_gradient_norm": 0.0}
    agent = gridzero.agents.make("reinforce", env, gamma=gamma, hidden=(3,), **still, **fields)
    assert isinstance(agent.network, MLPPolicy)
    with torch.no_grad():  # far from uniform, so that states matter
        agent.network.action_head.weight.mul_(60)
    exact = exact_gradient(agent.network, GridWorld(layout="aima-4x3").mdp, gamma)
    parameters = [*agent.network.actor.parameters(), *agent.network.action_head.parameters()]
    found = []
    for _, _update in zip(range(UPDATES), agent.learn(), strict=False):
        found.append(torch.cat([-parameter.grad.reshape(-1) for parameter in parameters]).numpy())
    return np.array(found, dtype=np.float64), exact


def largest_deviation(gradients: np.ndarray, exact: np.ndarray) -> float:
    """Standard errors that the mean is from the exact gradient, where it is furthest; 4.5 or more has p < 0.001."""
    moves = gradients.std(axis=0) > 0
    errors = gradients.std(axis=0, ddof=1)[moves] / np.sqrt(len(gradients))
    np.testing.assert_allclose(exact[~moves], 0, atol=1e-12)
    return float((np.abs(gradients.mean(axis=0) - exact)[moves] / errors).max())


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
def test_the_gradient_is_exact_in_expectation(baseline: str) -> None:
    gradients, exact = sampled_gradients(0.9, baseline=baseline, discount_states=True)
    assert np.abs(exact).max() > 0.01
    assert largest_deviation(gradients, exact) < 4.5


def test_without_the_weights_of_states_it_is_another_gradient() -> None:
    gradients, exact = sampled_gradients(0.9, baseline="mean")
    assert largest_deviation(gradients, exact) > 6


def test_baselines_lower_the_variance() -> None:
    spread = {
        name: float(sampled_gradients(0.9, baseline=name, discount_states=True)[0].var(axis=0).sum())
        for name in ("none", "mean")
    }
    assert spread["mean"] < 0.7 * spread["none"]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"baseline": "median"}, "baseline must be one of none, mean, value"),
        ({"baseline": "mean", "num_envs": 1}, "num_envs must be at least 2"),
        ({"episode_limit": 0}, "episode_limit must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        gridzero.agents.make("reinforce", "FrozenLake-v1", **fields)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["mean", "value"])
def test_it_learns_to_balance(baseline: str) -> None:
    agent = gridzero.agents.make("reinforce", "CartPole-v1", seed=1, baseline=baseline, learning_rate=1e-2)
    gridzero.agents.train(agent, steps=100_000, evaluation_episodes=1)
    assert gridzero.agents.evaluate(agent, episodes=20).mean > 400
