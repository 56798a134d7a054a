"""Environments as data: made from an id and keywords, and described by them again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from gridzero.envs.suggestions import closest

# Matters of the caller.
_SYNC_MODE = AutoresetMode.DISABLED
_NOT_OF_THE_WORLD = ("render_mode", "num_envs", "vectorization_mode", "vector_kwargs")


def find_spec(env_id: str) -> EnvSpec:
    """The registered specification.

    Raises:
        ValueError: for an unknown id; the message has the closest right ones.
    """
    spec = gym.registry.get(env_id)
    if spec is None:
        raise ValueError(f"no environment is called {env_id!r}; {_closest_ids(env_id)}")
    return spec


def _closest_ids(env_id: str) -> str:
    """Names are compared without their namespace, and without regard to case."""
    names = {name.rpartition("/")[2].lower(): name for name in gym.registry}
    hint = "`gridzero list` shows ours, gymnasium.pprint_registry() all"
    return closest(env_id.rpartition("/")[2].lower(), names, hint, shown=names, cutoff=0.6)


def parameters(env_id: str, given: Mapping[str, Any] | None = None) -> dict[str, inspect.Parameter]:
    """The keywords that the environment's constructor takes, by name, and ``max_episode_steps``.

    Args:
        env_id: a registered id.
        given: keywords that are decided; others may depend on them, as the options of a task on which task it is.

    Raises:
        ValueError: for an unknown id, or one whose module cannot be imported.
    """
    spec = find_spec(env_id)
    try:
        creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{env_id} cannot be imported: {error}") from error
    if creator is None:
        raise ValueError(f"{env_id} comes only as a vector; it needs num_envs")
    target = creator.__init__ if inspect.isclass(creator) else creator
    try:
        signature = inspect.signature(target, eval_str=True)
    except NameError:  # an annotation that only type checkers can see
        signature = inspect.signature(target)
    found = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name != "self"
        and name not in _NOT_OF_THE_WORLD
    }
    further = getattr(creator, "further_parameters", None)  # what its **keywords can be
    if further is not None:
        found |= {name: parameter for name, parameter in further(given or {}).items() if name not in found}
    limit = inspect.Parameter("max_episode_steps", inspect.Parameter.KEYWORD_ONLY, annotation=int)
    return {**found, "max_episode_steps": found.get("max_episode_steps", limit)}


def make_environment(
    env_id: str, kwargs: Mapping[str, Any] | None = None, num_envs: int | None = None
) -> gym.Env[Any, Any] | VectorEnv[Any, Any, Any]:
    """An environment by id: one, or a vector of ``num_envs``.

    A vector is native where the environment has one of its own; else Gymnasium's ``SyncVectorEnv`` with autoreset
    disabled, so that each episode has a seed of its own.

    Args:
        env_id: a registered id.
        kwargs: keywords of its constructor; ``max_episode_steps`` replaces the registered time limit, and of vectors
            ``autoreset_mode`` (its value, "NextStep" say) the mode.
        num_envs: None for a single environment.

    Raises:
        ValueError: for an unknown id or keyword, or a value that the environment does not allow.
    """
    given = dict(kwargs or {})
    mode = given.pop("autoreset_mode", None) if num_envs is not None else None
    known = parameters(env_id, given)
    for name in given:
        if name not in known:
            raise ValueError(f"{env_id} has no option {name!r}; {closest(name, known)}")
    limit = given.get("max_episode_steps")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"max_episode_steps must be at least 1, not {limit!r}")
    if num_envs is not None and num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, not {num_envs}")
    try:
        if num_envs is None:
            return gym.make(env_id, **given)
        if find_spec(env_id).vector_entry_point is not None:
            if mode is not None:
                given["autoreset_mode"] = AutoresetMode(mode)
            return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **given)
        vectorizer = {"autoreset_mode": AutoresetMode(mode or _SYNC_MODE)}
        return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="sync", vector_kwargs=vectorizer, **given)
    except (gym.error.Error, TypeError, KeyError, AssertionError, IndexError) as error:
        raise ValueError(f"{env_id} does not take {given or 'no options'}: {error!r}") from error


def describe(env: Any) -> dict[str, Any] | None:
    """What :func:`make_environment` needs to make another one like it: ``id``, ``kwargs`` and ``num_envs``.

    None where that cannot be told: a ``FiniteMDP``, an environment without a specification, one with wrappers of its
    own, or keywords that JSON cannot hold.

    Example:
        >>> describe(gym.make("FrozenLake-v1", is_slippery=False, max_episode_steps=50))["kwargs"]
        {'map_name': '4x4', 'is_slippery': False, 'max_episode_steps': 50}
    """
    spec = getattr(env, "spec", None)
    if spec is None or spec.additional_wrappers or spec.id not in gym.registry:
        return None
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in _NOT_OF_THE_WORLD}
    if isinstance(env, VectorEnv):
        mode = env.metadata.get("autoreset_mode")
        usual = AutoresetMode.NEXT_STEP if spec.kwargs.get("vectorization_mode") == "vector_entry_point" else _SYNC_MODE
        kwargs.pop("autoreset_mode", None)
        if isinstance(mode, AutoresetMode) and mode is not usual:
            kwargs["autoreset_mode"] = mode.value
    registered = gym.registry[spec.id].max_episode_steps
    if spec.max_episode_steps != registered:
        kwargs["max_episode_steps"] = spec.max_episode_steps
    layout = kwargs.get("layout")
    if layout is not None and not isinstance(layout, str):
        kwargs["layout"] = layout.text() if hasattr(layout, "text") else str(layout)
    if isinstance(kwargs.get("layout"), str) and _is_file(kwargs["layout"]):
        kwargs["layout"] = env.unwrapped.layout.text()  # the file may change or move
    kwargs = {name: list(value) if isinstance(value, tuple) else value for name, value in kwargs.items()}
    try:
        if json.loads(json.dumps(kwargs)) != kwargs:
            return None
    except (TypeError, ValueError):
        return None
    return {"id": spec.id, "kwargs": kwargs, "num_envs": env.num_envs if isinstance(env, VectorEnv) else None}


def _is_file(text: str) -> bool:
    try:
        return "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):
        return False
