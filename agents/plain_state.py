"""The state of environments that have no ``get_state`` but keep everything in plain attributes.

Gymnasium's own native vectors (``CartPoleVectorEnv``) are such: arrays, numbers and a generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

_GENERATOR = "_np_random"
_CONSTANT = (str, gym.Space, EnvSpec, type(None))


def plain_state(env: Any) -> dict[str, Any] | None:
    """The arrays, numbers and random state among the attributes of ``env``; None if it has attributes of other kinds.

    Args:
        env: the environment itself, without wrappers, once it has been reset.
    """
    state: dict[str, Any] = {}
    for name, value in vars(env).items():
        if name == _GENERATOR and isinstance(value, np.random.Generator):
            state[name] = value.bit_generator.state
        elif isinstance(value, np.ndarray) and value.dtype != object:
            state[name] = value.copy()
        elif isinstance(value, bool | int | float):
            state[name] = value
        elif not isinstance(value, _CONSTANT):
            return None
    return state


def restore_plain_state(env: Any, state: Mapping[str, Any]) -> None:
    """Put back what :func:`plain_state` took, into an environment that has been reset."""
    for name, value in state.items():
        if name == _GENERATOR:
            env.np_random.bit_generator.state = value
        else:
            setattr(env, name, np.array(value) if isinstance(value, np.ndarray) else value)
