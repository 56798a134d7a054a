"""Soft value iteration against sums over all episodes, against the hard optimum, and against other policies."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gridzero
from gridzero.agents import soft_value_iteration
from gridzero.envs import FiniteMDP

from ...models import random_mdp

FloatArray = NDArray[np.float64]


def regularised_values(
    mdp: FiniteMDP, policy: FloatArray, reference: FloatArray, beta: float, gamma: float
) -> FloatArray:
    """The policy's values where each step also pays -beta · log(policy/reference), by a direct solve."""
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(policy > 0, np.log(policy / reference), 0.0)
    return dataclasses.replace(mdp, rewards=mdp.rewards - beta * divergence).policy_values(policy, gamma)


def episodes(env: Any, state: int) -> list[tuple[list[int], float]]:
    """Every way an episode can go on, played: the actions and what they pay."""
    found = []
    for action in range(env.action_space.n):
        env.set_state(state)
        after, reward, terminated, _, _ = env.step(action)
        if terminated:
            found.append(([action], reward))
        else:
            found += [([action, *rest], reward + more) for rest, more in episodes(env, after)]
    return found


@pytest.mark.parametrize("beta", [0.05, 0.3, 2.0])
def test_over_whole_episodes_it_is_the_reference_times_the_exponential_of_the_reward(beta: float) -> None:
    env: Any = gym.make(
        "gridzero/TokenGeneration-v0",
        digits=1,
        template="plain",
        max_tokens=2,
        writable="123456789",
        distinct=5,
        observation="index",
    ).unwrapped
    mdp = env.mdp
    rng = np.random.default_rng(0)
    reference = rng.dirichlet(np.ones(mdp.num_actions), size=mdp.num_states)
    values, policy = soft_value_iteration(mdp, reference, beta)
    starts = np.flatnonzero(mdp.start)
    assert len(starts) == 5
    for start in starts.tolist():
        ways = episodes(env, start)
        assert len(ways) == 1 + 9 * 10
        weights, ours = [], []
        for actions, reward in ways:
            state, own, theirs = start, 1.0, 1.0
            for action in actions:
                own *= policy[state, action]
                theirs *= reference[state, action]
                state = int(mdp.successors[state, action, 0])
            weights.append(theirs * np.exp(reward / beta))
            ours.append(own)
        np.testing.assert_allclose(ours, np.array(weights) / sum(weights), rtol=1e-9)
        assert values[start] == pytest.approx(beta * np.log(sum(weights)), rel=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.05, 5.0), st.floats(0.0, 0.95))
def test_no_other_policy_is_worth_more_and_this_one_is_worth_what_it_says(seed: int, beta: float, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng)
    reference = rng.dirichlet(np.ones(mdp.num_actions), size=mdp.num_states)
    values, policy = soft_value_iteration(mdp, reference, beta, gamma)
    np.testing.assert_allclose(policy.sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(regularised_values(mdp, policy, reference, beta, gamma), values, atol=1e-7)
    for amount in (0.01, 0.3, 1.0):
        other = (1 - amount) * policy + amount * rng.dirichlet(np.ones(mdp.num_actions), size=mdp.num_states)
        other /= other.sum(axis=1, keepdims=True)
        assert (regularised_values(mdp, other, reference, beta, gamma) <= values + 1e-7).all()


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_as_beta_tends_to_nothing_it_is_value_iteration(seed: int) -> None:
    mdp, gamma = random_mdp(np.random.default_rng(seed)), 0.9
    best = gridzero.agents.solve(mdp, gamma, tolerance=1e-12).values
    for beta in (1e-2, 1e-4, 1e-8):
        values, policy = soft_value_iteration(mdp, None, beta, gamma)
        # A deterministic policy diverges from the uniform one by log A at each step.
        bound = beta * np.log(mdp.num_actions) / (1 - gamma)
        assert (values <= best + 1e-8).all()
        assert (values >= best - bound - 1e-7).all()
        assert (mdp.policy_values(policy, gamma) >= best - bound - 1e-6).all()


def test_as_beta_grows_it_is_the_reference() -> None:
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng)
    reference = rng.dirichlet(np.ones(mdp.num_actions), size=mdp.num_states)
    values, policy = soft_value_iteration(mdp, reference, 1e7, 0.9)
    np.testing.assert_allclose(policy, reference, atol=1e-5)
    np.testing.assert_allclose(values, mdp.policy_values(reference, 0.9), atol=1e-4)


def test_a_uniform_reference_regularises_by_entropy() -> None:
    mdp, beta, gamma = random_mdp(np.random.default_rng(1)), 0.4, 0.8
    endless = dataclasses.replace(mdp, terminal=np.zeros(mdp.num_states, dtype=np.bool_))
    values, policy = soft_value_iteration(endless, None, beta, gamma)
    entropy = -(policy * np.log(policy)).sum(axis=1, keepdims=True)
    with_bonus = dataclasses.replace(endless, rewards=endless.rewards + beta * entropy)
    constant = beta * np.log(mdp.num_actions) / (1 - gamma)
    np.testing.assert_allclose(with_bonus.policy_values(policy, gamma) - constant, values, atol=1e-8)


def test_what_the_reference_never_does_is_never_done() -> None:
    mdp = random_mdp(np.random.default_rng(2))
    only = np.zeros(mdp.num_states, dtype=np.int64)
    values, policy = soft_value_iteration(mdp, only, 0.1, 0.9)
    assert (policy.argmax(axis=1) == 0).all()
    assert policy.max() == 1
    np.testing.assert_allclose(values, mdp.policy_values(only, 0.9), atol=1e-8)


def test_nothing_overflows_where_rewards_are_huge() -> None:
    mdp = random_mdp(np.random.default_rng(3))
    large = dataclasses.replace(mdp, rewards=1e6 * mdp.rewards)
    values, policy = soft_value_iteration(large, None, 1e-3, 0.9)
    assert np.isfinite(values).all()
    assert np.isfinite(policy).all()
    np.testing.assert_allclose(values, gridzero.agents.solve(large, 0.9, tolerance=1e-6).values, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0.0}, "beta must be greater than 0 and finite, not 0.0"),
        ({"beta": np.inf}, "beta must be greater than 0"),
        ({"gamma": 1.5}, "gamma must be between 0 and 1, not 1.5"),
        ({"tolerance": 0.0}, "tolerance must be greater than 0, not 0.0"),
        ({"reference": [[0.5, 0.5]]}, "a policy is"),
        ({"gamma": 1.0, "max_sweeps": 50}, "the values still change after 50 sweeps"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    states = 3
    loop = FiniteMDP(
        successors=np.arange(states)[:, None, None],
        probabilities=np.ones((states, 1, 1)),
        rewards=np.ones((states, 1)),
        terminal=np.zeros(states, dtype=np.bool_),
        start=np.full(states, 1 / states),
    )
    with pytest.raises(ValueError, match=message):
        soft_value_iteration(loop, **{"gamma": 0.9, **arguments})
