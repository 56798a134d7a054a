"""Every registered agent keeps the agent contract; a new one is covered by registering it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.agents import REGISTRY, agent_class
from gridzero.agents.checkpoint import flatten, make_config, unflatten
from gridzero.agents.tabular.dynamic_programming import Planner
from gridzero.envs import FiniteMDP

from .states import assert_same_state

# What makes an update small, where an agent has such a field.
SMALL: dict[str, Any] = {
    "steps_per_update": 100,
    "episodes_per_update": 3,
    "rollout_steps": 16,
    "groups": 2,
    "group_size": 4,
    "minibatch_size": 32,
    "num_envs": 8,
    "simulations": 32,
    "hidden": (8,),
}
SMALL_SB3 = {"n_steps": 64, "batch_size": 32, "n_epochs": 1, "buffer_size": 2000, "learning_starts": 10}
SMALL_SB3 |= {"train_freq": 50, "hidden": (8,)}
CONTINUOUS = ("sac", "td3", "ddpg", "tqc", "crossq", "ars")


# Learners of texts have worlds of their own, and tests beside them.
AGENTS = [
    pytest.param(name, marks=[pytest.mark.slow] if name.startswith("sb3-") else [])
    for name, entry in REGISTRY.items()
    if not entry.entry_point.startswith("gridzero.llm_rl.")
]
every_agent = pytest.mark.parametrize("name", AGENTS)


def make(name: str, seed: int = 0, vector: bool = False, **fields: Any) -> Any:
    known = {field.name for field in dataclasses.fields(agent_class(name).Config)}
    small = {key: value for key, value in SMALL.items() if key in known}
    env: Any = gym.make("FrozenLake-v1")
    if name.startswith("sb3-"):
        small = {key: value for key, value in SMALL_SB3.items() if key in known}
        if name.endswith(CONTINUOUS):
            env = gym.make("Pendulum-v1", max_episode_steps=20)
    if vector:
        small.pop("num_envs", None)
        env = gym.make_vec("gridzero/GridWorld-v0", 8, layout="frozen-lake-4x4")
    return gridzero.agents.make(name, env, seed=seed, **(small | fields))


@pytest.mark.parametrize("name", [name for name, entry in REGISTRY.items() if entry.config and name != "trl-grpo"])
def test_settings_in_a_module_of_their_own_are_those_of_the_agent(name: str) -> None:
    assert REGISTRY[name].config_class() is agent_class(name).Config


def learn(agent: Any, updates: int) -> list[Any]:
    return list(itertools.islice(agent.learn(), updates))


def through_json(state: Any) -> Any:
    tree, arrays = flatten(state)
    return unflatten(json.loads(json.dumps(tree)), arrays)


@every_agent
def test_updates_count_up_and_say_finite_things(name: str) -> None:
    agent = make(name)
    updates = learn(agent, 4)
    assert set(agent.unused()) <= {field.name for field in dataclasses.fields(agent.config)}
    names = agent.metric_names()
    assert names is not None or name.startswith("sb3-")
    steps = [update.step for update in updates]
    assert steps[0] > 0
    assert all(later > earlier for earlier, later in itertools.pairwise(steps))
    for update in updates:
        assert all(isinstance(key, str) and math.isfinite(value) for key, value in update.metrics.items())
        assert names is None or names.issuperset(update.metrics)


@every_agent
def test_learning_can_be_left_and_taken_up_again(name: str) -> None:
    agent, other = make(name), make(name)
    assert learn(agent, 1) + learn(agent, 2) == learn(other, 3)


@every_agent
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    agents = [make(name, seed=7), make(name, seed=7)]
    assert learn(agents[0], 3) == learn(agents[1], 3)
    assert_same_state(agents[0].state_dict(), agents[1].state_dict())


@every_agent
def test_another_seed_gives_other_numbers(name: str) -> None:
    if issubclass(agent_class(name), Planner):
        pytest.skip("planning draws nothing")
    agents = [make(name, seed=1), make(name, seed=2)]
    assert learn(agents[0], 3) != learn(agents[1], 3)


@every_agent
@pytest.mark.parametrize("updates", [0, 2])
def test_a_restored_agent_goes_on_exactly(name: str, updates: int) -> None:
    original, restored = make(name, seed=3), make(name, seed=3)
    learn(original, updates)
    restored.load_state_dict(through_json(original.state_dict()))
    assert_same_state(restored.state_dict(), original.state_dict())
    assert learn(restored, 2) == learn(original, 2)
    assert_same_state(restored.state_dict(), original.state_dict())


@every_agent
def test_a_saved_state_does_not_change_with_the_agent(name: str) -> None:
    agent = make(name)
    learn(agent, 1)
    state = agent.state_dict()
    before = through_json(state)
    learn(agent, 1)
    assert_same_state(state, before)


@every_agent
def test_acting_greedily_does_not_disturb_learning(name: str) -> None:
    watched, alone = make(name), make(name)
    space = watched.env.observation_space
    for _ in range(3):
        watched.act(batch_of(space, 4))
        assert learn(watched, 1) == learn(alone, 1)


def batch_of(space: gym.Space[Any], count: int) -> Any:
    space.seed(0)
    return np.array([space.sample() for _ in range(count)])


@every_agent
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("explore", [False, True])
def test_acts_on_batches(name: str, count: int, explore: bool) -> None:
    agent = make(name)
    learn(agent, 1)
    actions = agent.act(batch_of(agent.env.observation_space, count), explore=explore)
    assert len(actions) == count
    space = agent.env.action_space
    assert all(space.contains(np.asarray(action, dtype=space.dtype).reshape(space.shape)[()]) for action in actions)


@every_agent
def test_learns_from_a_vector_and_acts_in_it(name: str) -> None:
    if name.endswith(CONTINUOUS):
        pytest.skip("continuous actions")
    agent = make(name, vector=True)
    assert len(learn(agent, 2)) == 2
    observations, _ = agent.env.reset(seed=0)
    assert agent.env.action_space.contains(np.asarray(agent.act(observations)))


@every_agent
def test_values_and_policy_are_tables(name: str) -> None:
    if name.endswith(CONTINUOUS):
        pytest.skip("no table of actions")
    agent = make(name)
    learn(agent, 2)
    if name.startswith("sb3-") and not hasattr(agent, "policy"):
        pytest.skip("no tables")
    policy = agent.policy_table()
    states, actions = policy.shape
    # The model from a table of transitions may have one more state, where episodes end.
    assert states in (16, 17)
    assert actions == 4
    assert (policy >= 0).all()
    np.testing.assert_allclose(policy.sum(axis=1), 1.0, atol=1e-6)
    # Not every neural agent estimates values; what it has is as long as the policy.
    for table, shape in (("state_values", (states,)), ("action_values", (states, actions))):
        try:
            values = getattr(agent, table)()
        except ValueError:
            assert not hasattr(agent, "states")
            continue
        assert values.shape == shape
        assert np.isfinite(values).all()


@every_agent
def test_the_config_survives_json(name: str) -> None:
    config = make(name).config
    written = json.loads(json.dumps(dataclasses.asdict(config)))
    assert make_config(name, written) == config


@every_agent
def test_a_field_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"has no field 'gama'"):
        make(name, gama=0.9)


@every_agent
def test_settings_out_of_range_are_refused(name: str) -> None:
    for gamma in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="gamma"):
            make(name, gamma=gamma)


@every_agent
def test_the_registry_says_what_it_is(name: str) -> None:
    assert name == name.lower()
    assert 10 < len(REGISTRY[name].summary) < 90
    assert make(name).name == name


def test_a_name_that_is_not_there_gets_the_closest() -> None:
    with pytest.raises(ValueError, match=r"no agent is called 'q-lerning'; did you mean .*q-learning"):
        gridzero.agents.make("q-lerning", "FrozenLake-v1")


@pytest.mark.parametrize("name", [name for name, entry in REGISTRY.items() if ".tabular." in entry.entry_point])
def test_every_tabular_agent_learns_from_a_bare_model_and_is_evaluated_on_it(name: str) -> None:
    """Three cells in a row, the last one ends the episode and pays 1; to start again costs nothing."""
    model = FiniteMDP(
        [[[0], [1]], [[0], [2]], [[2], [2]]],
        np.ones((3, 2, 1)),
        [[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]],
        terminal=[False, False, True],
        start=[1.0, 0.0, 0.0],
    )
    known = {field.name for field in dataclasses.fields(agent_class(name).Config)}
    small = {key: value for key, value in SMALL.items() if key in known}
    agent, restored = (gridzero.agents.make(name, model, seed=1, **small) for _ in range(2))
    learn(agent, 3)
    restored.load_state_dict(through_json(agent.state_dict()))
    assert learn(restored, 2) == learn(agent, 2)
    result = gridzero.agents.evaluate(agent, episodes=4)
    assert result.optimum == 1
    assert result.expected_return is not None
    assert result.expected_return <= 1
