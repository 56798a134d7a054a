"""What every registered environment promises; registering one is enough to have it held to this."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv

import gridzero  # noqa: F401 - registers the environments

IDS = sorted(spec.id for spec in gym.registry.values() if spec.namespace == "gridzero")
VECTOR_IDS = [name for name in IDS if gym.spec(name).vector_entry_point is not None]


def test_there_are_environments() -> None:
    assert "gridzero/GridWorld-v0" in VECTOR_IDS


def walk(env: Any, steps: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """Random actions, seeded; resets a single environment when an episode ends."""
    env.action_space.seed(seed)
    for _ in range(steps):
        result = env.step(env.action_space.sample())
        yield result
        if not isinstance(env, VectorEnv) and (result[2] or result[3]):
            yield env.reset()


def same(ours: Any, theirs: Any) -> bool:
    return bool(data_equivalence(ours, theirs, exact=True))


def arrays(value: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [array for part in value for array in arrays(part)] if isinstance(value, tuple) else []


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_finds_nothing_to_warn_of(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(name).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", IDS)
def test_the_seed_decides_everything(name: str) -> None:
    first, second = gym.make(name), gym.make(name)
    assert same(first.reset(seed=7), second.reset(seed=7))
    assert same(list(walk(first, 60, 1)), list(walk(second, 60, 1)))


@pytest.mark.parametrize("name", IDS)
def test_the_spec_survives_json(name: str) -> None:
    env = gym.make(name)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert same(env.reset(seed=1), again.reset(seed=1))
    assert same(list(walk(env, 20, 2)), list(walk(again, 20, 2)))


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
@pytest.mark.parametrize(("name", "vector"), [*((n, False) for n in IDS), *((n, True) for n in VECTOR_IDS)])
def test_a_copy_in_mid_episode_goes_on_alike(name: str, vector: bool, way: str) -> None:
    env: Any = gym.make_vec(name, num_envs=3) if vector else gym.make(name)
    env.reset(seed=3)
    for _ in walk(env, 5, 4):
        pass
    other = pickle.loads(pickle.dumps(env)) if way == "pickle" else copy.deepcopy(env)
    assert same(list(walk(env, 40, 5)), list(walk(other, 40, 5)))


@pytest.mark.parametrize(("name", "vector"), [*((n, False) for n in IDS), *((n, True) for n in VECTOR_IDS)])
def test_infos_keep_their_form_and_arrays_are_new(name: str, vector: bool) -> None:
    env: Any = gym.make_vec(name, num_envs=3) if vector else gym.make(name)
    observation, info = env.reset(seed=0)
    form = {key: (type(value), getattr(value, "dtype", None)) for key, value in info.items()}
    kept = arrays((observation, info))
    for result in walk(env, 20, 6):
        assert {key: (type(value), getattr(value, "dtype", None)) for key, value in result[-1].items()} == form
        fresh = arrays(result)
        assert not any(np.shares_memory(new, old) for new in fresh for old in kept)
        kept += fresh


@pytest.mark.parametrize("name", VECTOR_IDS)
def test_the_vector_is_made_as_gymnasium_expects(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec(name, num_envs=4)
    assert VectorEnv in type(envs).__bases__
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.single_observation_space == gym.make(name).observation_space
    assert envs.single_action_space == gym.make(name).action_space
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space
    for result in walk(envs, 10, 1):
        assert result[0] in envs.observation_space


@pytest.mark.parametrize("name", VECTOR_IDS)
def test_an_environment_does_not_depend_on_how_many_there_are(name: str) -> None:
    few, many, single = gym.make_vec(name, num_envs=1), gym.make_vec(name, num_envs=4), gym.make(name)
    ours, theirs, alone = few.reset(seed=11)[0], many.reset(seed=11)[0], single.reset(seed=11)[0]
    many.action_space.seed(0)
    ended = False
    for _ in range(60):
        first = next(iter(gym.vector.utils.iterate(many.observation_space, theirs)))
        assert same(next(iter(gym.vector.utils.iterate(few.observation_space, ours))), first)
        assert same(np.asarray(alone), np.asarray(first))
        actions = many.action_space.sample()
        ours, theirs = few.step(actions[:1])[0], many.step(actions)[0]
        if ended:
            (alone, _), ended = single.reset(), False
        else:
            alone, _, terminated, truncated, _ = single.step(actions[0])
            ended = bool(terminated or truncated)
