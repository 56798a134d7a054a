"""The error of estimates is measured against exact values, over the states that the policy can come to."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.agents.tabular.simulation import known_model
from gridzero.agents.tabular.value_errors import ExactValues, reachable, rms_error
from gridzero.envs import FiniteMDP, GridWorld
from gridzero.envs.chains import random_walk


def test_equation_9_1() -> None:
    assert rms_error([[3.0, 0.0], [0.0, 0.0]], [0.0, 4.0]) == pytest.approx((np.sqrt(12.5) + np.sqrt(8)) / 2)


def test_only_states_that_the_policy_comes_to_count() -> None:
    walk = random_walk(5)
    right = np.tile([0.0, 1.0], (7, 1))
    np.testing.assert_array_equal(reachable(walk, right), [False, False, False, True, True, True, False])
    exact = ExactValues(walk, right, 1.0)
    assert exact.rms_error(np.array([9.0, 9.0, 9.0, 1.0, 1.0, 0.0, 9.0])) == pytest.approx(np.sqrt(1 / 3))


@pytest.mark.parametrize("name", ["td0", "mc-epsilon-greedy", "robbins-monro"])
def test_agents_report_the_error_of_a_fixed_policy(name: str) -> None:
    agent = gridzero.agents.make(name, random_walk(5), gamma=1.0)
    agent.fix_policy(np.full((7, 2), 0.5))
    errors = [update.metrics["rms_error"] for update in itertools.islice(agent.learn(), 40)]
    exact = np.arange(1, 6) / 6
    assert errors[-1] == pytest.approx(rms_error(agent.state_values()[1:-1], exact))
    assert errors[-1] < 0.1


def test_no_error_without_exact_values() -> None:
    for env in (gym.make("Blackjack-v1"), GridWorld(layout="maze:5x5", regenerate=True)):
        assert known_model(env) is None
        agent = gridzero.agents.make("td0", env, steps_per_update=10)
        assert "rms_error" not in next(iter(agent.learn())).metrics
    assert "rms_error" not in next(iter(gridzero.agents.make("q-learning", random_walk(5)).learn())).metrics


def test_gamma_1_and_a_policy_that_never_ends() -> None:
    loop = FiniteMDP([[[0], [1]], [[1], [1]]], np.ones((2, 2, 1)), np.zeros((2, 2)), [False, True], [1, 0])
    exact = ExactValues(loop, np.array([[1.0, 0.0], [1.0, 0.0]]), 1.0)
    assert exact.values is None
    assert exact.rms_error(np.zeros(2)) is None


def test_an_edited_map_has_other_values() -> None:
    env = GridWorld(layout="zhao-5x5")
    exact = ExactValues(env, np.full((25, 5), 0.2), 0.9)
    assert exact.values is not None
    before = exact.values.copy()
    assert exact.rms_error(before) == pytest.approx(0)
    env.edit(0, 0, "#")
    assert exact.rms_error(before) > 0
