"""Actor-critic: its critics are right about the policy, on and off policy, and it learns what is best."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.envs import GridWorld

GAMMA = 0.9


def worlds() -> Any:
    return gym.make_vec("gridzero/GridWorld-v0", 16, layout="aima-4x3", max_episode_steps=1000)


def learned(steps: int, **fields: Any) -> Any:
    agent = gridzero.agents.make("actor-critic", worlds(), gamma=GAMMA, seed=3, **fields)
    for update in agent.learn():
        if update.step >= steps:
            break
    return agent


@pytest.mark.parametrize(
    "fields", [{"critic": "states"}, {"critic": "actions"}, {"critic": "states", "behaviour": "uniform"}]
)
def test_the_critic_knows_the_values_of_a_policy_that_hardly_changes(fields: dict[str, Any]) -> None:
    agent = gridzero.agents.make(
        "actor-critic", worlds(), gamma=GAMMA, seed=3, step_size="10/(k+9)", actor_step_size=1e-12, **fields
    )
    preferences = np.random.default_rng(5).normal(size=agent.memory["preferences"].shape)
    agent.memory["preferences"][:] = preferences
    for update in agent.learn():
        if update.step >= 200_000:
            break
    mdp = GridWorld(layout="aima-4x3").mdp
    powers = np.exp(preferences)
    exact = mdp.policy_values(powers / powers.sum(axis=1, keepdims=True), GAMMA)
    visited = ~mdp.terminal & agent.tried().any(axis=1)
    assert visited.sum() == 9
    # 20,000 visits of a state or so with steps 10/k: standard errors of about a hundredth.
    np.testing.assert_allclose(agent.state_values()[visited], exact[visited], atol=0.05)


@pytest.mark.parametrize("fields", [{}, {"critic": "actions", "actor_step_size": 0.02}, {"behaviour": "uniform"}])
def test_it_learns_nearly_the_best(fields: dict[str, Any]) -> None:
    agent = learned(300_000, step_size="0.05", **fields)
    mdp = GridWorld(layout="aima-4x3").mdp
    best = gridzero.agents.solve(mdp, GAMMA).values @ mdp.start
    found = mdp.policy_values(agent.policy_table(), GAMMA) @ mdp.start
    assert found > best - 0.02


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"critic": "v"}, "critic must be one of states, actions"),
        ({"actor_step_size": 0}, "actor_step_size must be above 0"),
        ({"critic": "actions", "behaviour": "uniform"}, "behaviour uniform needs critic states"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        gridzero.agents.make("actor-critic", "FrozenLake-v1", **fields)
