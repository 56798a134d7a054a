"""Linear learners equal the tabular ones on one-hot features, and find the fixed points that theory gives."""

import itertools
from typing import Any

import numpy as np
import pytest

import gridzero


def learn(agent: Any, updates: int) -> Any:
    return list(itertools.islice(agent.learn(), updates))[-1]


@pytest.mark.parametrize(
    ("linear", "tabular", "fields"),
    [
        ("td-linear", "td0", {}),
        ("sarsa-linear", "sarsa", {}),
        ("q-linear", "q-learning", {}),
    ],
)
@pytest.mark.parametrize("env", ["FrozenLake-v1", "CliffWalking-v1"])
def test_one_hot_features_make_the_tabular_agent(linear: str, tabular: str, fields: Any, env: str) -> None:
    """Bit for bit: the same draws, the same sums."""
    common = {"step_size": "0.1", "initial_value": 0.5, "seed": 3}
    one = gridzero.agents.make(linear, env, features="tabular", **common)
    other = gridzero.agents.make(tabular, env, **common)
    assert learn(one, 4).metrics["td_error"] == learn(other, 4).metrics["td_error"]
    np.testing.assert_array_equal(one.action_values(), other.action_values())
    np.testing.assert_array_equal(one.state_values(), other.state_values())


@pytest.mark.parametrize(
    ("linear", "tabular", "fields"),
    [
        ("sarsa-linear", "n-step-sarsa", {"n": 5}),
        ("sarsa-linear", "sarsa-lambda", {"trace_decay": 0.7, "trace": "accumulating"}),
        ("sarsa-linear", "sarsa-lambda", {"trace_decay": 0.7, "trace": "replacing"}),
        ("sarsa-linear", "sarsa-lambda", {"trace_decay": 0.7, "trace": "dutch"}),
    ],
)
def test_n_steps_and_traces_are_the_tabular_ones(linear: str, tabular: str, fields: Any) -> None:
    common = {"step_size": "0.1", "seed": 3} | fields
    one = gridzero.agents.make(linear, "CliffWalking-v1", features="tabular", **common)
    other = gridzero.agents.make(tabular, "CliffWalking-v1", **common)
    learn(one, 3), learn(other, 3)
    np.testing.assert_allclose(one.action_values(), other.action_values(), rtol=1e-9)
