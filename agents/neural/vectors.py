"""Several copies of one environment, stepped as a vector."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from gridzero.agents.autoreset import resets_each
from gridzero.agents.wrappers import specification

NATIVE_ENVS = 64
OTHER_ENVS = 8


def copies(
    env: Any, num_envs: int | None, *, asynchronous: bool = False, seedable: bool = False
) -> VectorEnv[Any, Any, Any]:
    """A vector of environments like ``env``.

    A vector is taken as it is. A single environment is made again from its specification (its id, keywords and
    wrappers): natively, where it has a vector of its own and no wrappers were added; else as Gymnasium's
    ``SyncVectorEnv``, or ``AsyncVectorEnv`` with a process for each. One without a specification, not made by
    ``gymnasium.make``, cannot be copied and learns alone.

    Args:
        env: a ``gym.Env`` or a ``VectorEnv``.
        num_envs: how many; by default what a vector has, else 64 native ones, or 8 others.
        asynchronous: a process for each, where there is no native vector.
        seedable: each environment must take a seed of its own at a reset, which some native vectors do not.

    Raises:
        ValueError: when there cannot be so many, or a vector does not take seeds.
    """
    if isinstance(env, VectorEnv):
        if num_envs not in (None, env.num_envs):
            raise ValueError(f"the environment is a vector of {env.num_envs}; num_envs cannot be {num_envs}")
        if seedable and not resets_each(env):
            raise ValueError(f"{type(env.unwrapped).__name__} takes no seeds of its own for each environment; give one")
        return env
    if num_envs is not None and num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, not {num_envs}")
    spec = specification(env)
    if spec is None:
        if num_envs not in (None, 1):
            raise ValueError(f"an environment that gymnasium.make did not make cannot be copied {num_envs} times")
        return gym.vector.SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.DISABLED)
    spec = copy.deepcopy(spec)
    spec.kwargs.pop("render_mode", None)
    if spec.vector_entry_point is not None and not spec.additional_wrappers:
        vector = gym.make_vec(spec, num_envs or NATIVE_ENVS, vectorization_mode="vector_entry_point")
        if not seedable or resets_each(vector):
            return vector
        vector.close()
    options: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}
    if asynchronous:
        options["shared_memory"] = _fixed_size(env.observation_space)
    mode = "async" if asynchronous else "sync"
    return gym.make_vec(spec, num_envs or OTHER_ENVS, vectorization_mode=mode, vector_kwargs=options)


def _fixed_size(space: gym.Space[Any]) -> bool:
    """Whether memory that processes share can hold observations, which texts do not fit into.

    Example:
        >>> _fixed_size(spaces.Dict(side=spaces.Discrete(4), mission=spaces.Text(5)))
        False
    """
    if isinstance(space, spaces.Dict):
        return all(map(_fixed_size, space.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_fixed_size, space.spaces))
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
