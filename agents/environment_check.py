"""Check of an environment's reset and step, before anything long begins."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

_ARRAYS = (gym.spaces.Box, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)


def check_interface(env: gym.Env[Any, Any], name: str) -> None:
    """Check that an environment's reset and step return what Gymnasium's do, by one call of each.

    Observations may leave the bounds of their space, and be of another type, as many environments' are; their
    structure, shapes and finiteness count.

    Args:
        env: an environment that nobody else uses.
        name: what messages call it.

    Raises:
        ValueError: for what no agent could learn from; it says what was returned instead.

    Example:
        >>> check_interface(gym.make("CartPole-v1"), "CartPole-v1")
    """
    answer = env.reset()
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
        raise ValueError(f"{name}: reset() must return (observation, info), not {_kind(answer)}")
    _check_observation(answer[0], env.observation_space, f"{name}: reset()")
    answer = _step(env, env.action_space.sample())
    if answer is None:
        return
    if not (isinstance(answer, tuple) and len(answer) == 5 and isinstance(answer[4], Mapping)):
        wanted = "(observation, reward, terminated, truncated, info)"
        raise ValueError(f"{name}: step() must return {wanted}, not {_kind(answer)}")
    _check_observation(answer[0], env.observation_space, f"{name}: step()")
    reward = answer[1]
    if not np.issubdtype(np.asarray(reward).dtype, np.number) or np.size(reward) != 1 or not np.isfinite(reward):
        raise ValueError(f"{name}: step() must return a finite number as reward, not {reward!r:.60}")


def _step(env: gym.Env[Any, Any], action: Any) -> Any:
    """Result of a step; None where it fails, as it may for an action that is not allowed: training will say so."""
    with contextlib.suppress(Exception):
        return env.step(action)
    with contextlib.suppress(Exception):  # wrappers fail at results that are none
        answer = env.unwrapped.step(action)
        return None if isinstance(answer, tuple) and len(answer) == 5 else answer
    return None


def _check_observation(observation: Any, space: gym.Space[Any], where: str) -> None:
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(observation, Mapping) or observation.keys() != space.spaces.keys():
            keys = ", ".join(map(str, space.spaces))
            raise ValueError(f"{where} must return a dictionary with {keys} as observation, not {_kind(observation)}")
        for key, part in space.spaces.items():
            _check_observation(observation[key], part, f"{where}, in {key!r},")
    elif isinstance(space, gym.spaces.Tuple):
        if not isinstance(observation, tuple) or len(observation) != len(space.spaces):
            raise ValueError(
                f"{where} must return a tuple of {len(space.spaces)} as observation, not {_kind(observation)}"
            )
        for number, part in enumerate(space.spaces):
            _check_observation(observation[number], part, f"{where}, in part {number},")
    elif isinstance(space, gym.spaces.Discrete):
        if np.size(observation) != 1 or not np.issubdtype(np.asarray(observation).dtype, np.integer):
            raise ValueError(f"{where} must return an integer as observation, not {_kind(observation)}")
    elif isinstance(space, _ARRAYS):
        array = np.asarray(observation)
        if array.shape != space.shape or (not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_):
            raise ValueError(f"{where} must return numbers {space.shape} as observation, not {_kind(observation)}")
        if not np.isfinite(array).all():
            raise ValueError(f"{where} returned an observation that is not finite")


def _kind(value: Any) -> str:
    """Describe a value in a few words: its type, and its shape or its parts."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(part).__name__ for part in value)})"
    if isinstance(value, Mapping):
        return f"one with {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    return f"a {type(value).__name__}"
