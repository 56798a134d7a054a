"""Linear learners equal the tabular ones on one-hot features, and find the fixed points that theory gives."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.envs.chains import random_walk


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
    common = {"step_size": "0.1", "epsilon": "0.1", "seed": 3} | fields
    one = gridzero.agents.make(linear, "CliffWalking-v1", features="tabular", **common)
    other = gridzero.agents.make(tabular, "CliffWalking-v1", **common)
    learn(one, 3), learn(other, 3)
    np.testing.assert_allclose(one.action_values(), other.action_values(), rtol=1e-9)


@pytest.mark.parametrize(
    ("env", "name", "fields", "steps", "least"),
    [
        ("MountainCar-v0", "sarsa-linear", {"gamma": 1.0, "epsilon": "0", "trace_decay": 0.9}, 16_000, -170),
        ("CartPole-v1", "q-linear", {"clip": 3.0}, 16_000, 150),
    ],
)
def test_classic_control_is_learnt(env: str, name: str, fields: Any, steps: int, least: float) -> None:
    """Far from what doing nothing or acting at random brings: -200 and 22."""
    agent = gridzero.agents.make(name, env, seed=0, **fields)
    for update in agent.learn():
        if update.step >= steps:
            break
    assert gridzero.agents.evaluate(agent, episodes=16).mean > least


def test_divergence_is_said() -> None:
    """A step of 1 along a vector of 100 cosines goes much too far."""
    agent = gridzero.agents.make("q-linear", "MountainCar-v0", features="fourier", order=9, step_size="1")
    with pytest.raises(ValueError, match=r"diverged at step .* a smaller step_size than 1 may help"):
        learn(agent, 20)


def test_traces_of_td_are_those_of_the_book() -> None:
    """True online TD(λ) written out for dense vectors (Sutton & Barto, section 12.5), on one long trajectory."""
    walk = random_walk(5)
    agent = gridzero.agents.make(
        "td-linear", walk, features="polynomial", order=2, trace_decay=0.8, step_size="0.05", gamma=0.9, seed=2
    )
    twin = gridzero.agents.make("td-linear", walk, features="polynomial", order=2, step_size="0.05", gamma=0.9, seed=2)
    features = agent.features
    seen: list[tuple[int, float, int, bool]] = []
    step = twin.interaction.step

    def recorded(actions: Any) -> Any:
        before = int(twin.interaction.observations[0])
        transition = step(actions)
        seen.append(
            (before, float(transition.rewards[0]), int(transition.next_observations[0]), bool(transition.done[0]))
        )
        return transition

    twin.interaction.step = recorded
    learn(agent, 1), learn(twin, 1)  # a given policy draws the same trajectory, whatever is learnt on it
    x = np.array([features.map.dense(np.array([[s / 6]]))[0] for s in range(7)])
    w, trace, old = np.zeros(3), np.zeros(3), 0.0
    for s, reward, following, done in seen:
        v, v_next = w @ x[s], 0.0 if done else w @ x[following]
        trace = 0.9 * 0.8 * trace + (1 - 0.05 * 0.9 * 0.8 * trace @ x[s]) * x[s]
        w = w + 0.05 * (reward + 0.9 * v_next - v + v - old) * trace - 0.05 * (v - old) * x[s]
        old = v_next
        if done:
            trace, old = np.zeros(3), 0.0
    np.testing.assert_allclose(agent.weights[0], w, rtol=1e-8)


@pytest.mark.parametrize("fields", [{"n": 5}, {"trace_decay": 0.8}, {"trace_decay": 0.8, "trace": "replacing"}])
@pytest.mark.parametrize("name", ["sarsa-linear", "td-linear"])
@pytest.mark.parametrize("vector", [False, True])
def test_what_is_remembered_of_an_episode_is_restored(name: str, fields: Any, vector: bool) -> None:
    def make() -> Any:
        env: Any = "FrozenLake-v1"
        if vector:
            env = gym.make_vec("gridzero/GridWorld-v0", 4, layout="frozen-lake-4x4")
        small = {"features": "tiles", "tiles": 2, "initial_value": 0.5, "steps_per_update": 52}
        return gridzero.agents.make(name, env, seed=1, **small, **fields)

    agent, restored = make(), make()
    learn(agent, 3)
    restored.load_state_dict(agent.state_dict())
    assert learn(agent, 3) == learn(restored, 3)
    np.testing.assert_array_equal(agent.weights, restored.weights)
    assert len(np.unique(agent.weights)) > 2


def test_a_state_of_other_features_is_refused() -> None:
    one = gridzero.agents.make("q-linear", "MountainCar-v0", tiles=4)
    other = gridzero.agents.make("q-linear", "MountainCar-v0", tiles=5)
    with pytest.raises(ValueError, match="this agent and environment need"):
        other.load_state_dict(one.state_dict())
