"""Environments as data: made from an id and keywords, and described by them again."""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import (
    AutoresetMode,
    SyncVectorEnv,
    VectorActionWrapper,
    VectorEnv,
    VectorObservationWrapper,
    VectorRewardWrapper,
)

from gridzero.agents.files import Positive
from gridzero.agents.wrappers import Wrapper, added_wrappers, specification, wrapped
from gridzero.envs import plugins
from gridzero.envs.grid.layouts.named_maps import LIBRARY
from gridzero.envs.suggestions import closest
from gridzero.envs.tasks import TASKS

# Matters of the caller.
_SYNC_MODE = AutoresetMode.DISABLED
_NOT_OF_THE_WORLD = ("render_mode", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers")
_OF_VECTORS = (VectorObservationWrapper, VectorActionWrapper, VectorRewardWrapper)


class Description(TypedDict):
    """An environment as data, from which :func:`remake` makes another one like it.

    Attributes:
        id: its registered id.
        kwargs: keywords of its constructor.
        num_envs: how many; None for a single one.
        wrappers: around each, the innermost first.
    """

    id: str
    kwargs: dict[str, Any]
    num_envs: NotRequired[Positive | None]
    wrappers: NotRequired[list[Wrapper]]


def find_spec(env_id: str) -> EnvSpec:
    """The registered specification, by ``id`` or ``module:id``; installed plug-ins are loaded for an unknown id.

    Raises:
        ValueError: for an unknown id, with the closest right ones, or a module that cannot be imported.
    """
    env_id = plugins.resolve(env_id)
    if env_id not in gym.registry:
        plugins.load_installed()
    spec = gym.registry.get(env_id)
    if spec is None:
        raise ValueError(f"no environment is called {env_id!r}; {_closest_ids(env_id)}")
    return spec


def _closest_ids(env_id: str) -> str:
    """Hint of the closest ids, compared without their namespace and without regard to case."""
    if env_id in LIBRARY:
        return f"it is a map: gridzero/GridWorld-v0 --env.layout {env_id}"
    if env_id in TASKS:
        return f"it is a task: gridzero/TextGeneration-v0 --env.task {env_id}"
    names: dict[str, str] = {}
    for name in gym.registry:  # Gymnasium's CartPole-v1 comes before its phys2d/CartPole-v1
        names.setdefault(name.rpartition("/")[2].lower(), name)
    hint = (
        "`gridzero list` shows ours, gymnasium.pprint_registry() all; "
        f"one of another package is given with the package before it, as package:{env_id}"
    )
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
    keywords = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name != "self"
        and name not in _NOT_OF_THE_WORLD
    }
    further = getattr(creator, "further_parameters", None)  # what its **keywords can be
    if further is not None:
        keywords |= {name: parameter for name, parameter in further(given or {}).items() if name not in keywords}
    limit = inspect.Parameter("max_episode_steps", inspect.Parameter.KEYWORD_ONLY, annotation=int)
    return {**keywords, "max_episode_steps": keywords.get("max_episode_steps", limit)}


def make_environment(
    env_id: str,
    kwargs: Mapping[str, Any] | None = None,
    num_envs: int | None = None,
    wrappers: Sequence[Wrapper] = (),
) -> gym.Env[Any, Any] | VectorEnv[Any, Any, Any]:
    """An environment by id: one, or a vector of ``num_envs``.

    A vector is native where the environment has one of its own and nothing is wrapped around it; else Gymnasium's
    ``SyncVectorEnv`` with autoreset disabled, so that each episode has a seed of its own.

    Args:
        env_id: a registered id, or ``module:id``.
        kwargs: keywords of its constructor; ``max_episode_steps`` replaces the registered time limit, and of vectors
            ``autoreset_mode`` (its value, "NextStep" say) the mode; None is the usual one.
        num_envs: None for a single environment.
        wrappers: around each environment, the innermost first: ``entry_point`` ("module:Class") and ``kwargs``.

    Raises:
        ValueError: for an unknown id, keyword or wrapper, or a value that the environment does not allow.
    """
    env_id = find_spec(env_id).id
    around: Any = functools.partial(wrapped, wrappers=wrappers)
    given = dict(kwargs or {})
    mode = given.pop("autoreset_mode", None) if num_envs is not None else None
    known = parameters(env_id, given)
    for name in given:
        if name not in known:
            raise ValueError(f"{env_id} has no option {name!r}; {closest(name, known)}")
    creator = find_spec(env_id).entry_point
    longer = getattr(load_env_creator(creator) if isinstance(creator, str) else creator, "time_limit", None)
    if "max_episode_steps" not in given and longer is not None:
        needed = longer(given)  # what an environment needs where the registered limit does not suffice
        given |= {} if needed is None else {"max_episode_steps": needed}
    limit = given.get("max_episode_steps")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"max_episode_steps must be at least 1, not {limit!r}")
    if num_envs is not None and num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, not {num_envs}")
    try:
        if num_envs is None:
            return wrapped(gym.make(env_id, **given), wrappers)
        if find_spec(env_id).vector_entry_point is not None and not wrappers:
            if mode is not None:
                given["autoreset_mode"] = AutoresetMode(mode)
            return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **given)
        vectorizer = {"autoreset_mode": AutoresetMode(mode or _SYNC_MODE)}
        return gym.make_vec(
            env_id,
            num_envs=num_envs,
            vectorization_mode="sync",
            vector_kwargs=vectorizer,
            wrappers=[around] if wrappers else None,
            **given,
        )
    except (gym.error.Error, TypeError, KeyError, AssertionError, IndexError) as error:
        raise ValueError(f"{env_id} does not take {given or 'no options'}: {error!r}") from error


def remake(
    described: Description, num_envs: int | None = None, **changed: Any
) -> gym.Env[Any, Any] | VectorEnv[Any, Any, Any]:
    """An environment like the one described, but for its number and the keywords that change."""
    kwargs = {**described["kwargs"], **changed}
    return make_environment(described["id"], kwargs, num_envs, described.get("wrappers", ()))


def remake_single(env: Any, **changed: Any) -> Any:
    """A single environment like the one given, or like those of a vector, but for the keywords that change.

    Raises:
        ValueError: when it cannot be made from its specification.

    Example:
        >>> remake_single(gym.make_vec("FrozenLake-v1", 2, "sync"), is_slippery=False).observation_space
        Discrete(16)
    """
    described = describe(env)
    if described is None:
        raise ValueError(f"no second {type(env.unwrapped).__name__} can be made from its specification")
    kwargs = {name: value for name, value in described["kwargs"].items() if name != "autoreset_mode"}
    return remake({**described, "kwargs": kwargs}, **changed)


def second(env: Any, num_envs: int, limit: int | None = None) -> VectorEnv[Any, Any, Any]:
    """A vector of environments like one that cannot be described: copies of it.

    Args:
        env: an environment or a vector.
        num_envs: number of copies.
        limit: steps after which their episodes are truncated; None: as the environment says.

    Raises:
        ValueError: when it cannot be copied.
    """
    single = env.envs[0] if isinstance(env.unwrapped, SyncVectorEnv) and env is env.unwrapped else env
    name = type(env.unwrapped).__name__
    if isinstance(single, VectorEnv):
        raise ValueError(f"evaluation needs a second {name}, which cannot be made from its specification; give an id")
    try:
        copies = [copy.deepcopy(single) for _ in range(num_envs)]
    except Exception as error:
        raise ValueError(
            f"evaluation needs a second {name}, which can neither be made from its specification nor copied "
            f"({type(error).__name__}): register it with Gymnasium"
        ) from error
    if limit is not None:
        copies = [gym.wrappers.TimeLimit(each, limit) for each in copies]
    return SyncVectorEnv([functools.partial(_itself, each) for each in copies], autoreset_mode=_SYNC_MODE)


def _itself(env: Any) -> Any:
    return env


def describe(env: Any) -> Description | None:
    """Description from which :func:`remake` makes another environment like this one.

    None where that cannot be told: a ``FiniteMDP``, an environment without a specification, one in wrappers whose
    arguments are not known, or keywords that JSON cannot hold.

    Example:
        >>> describe(gym.make("FrozenLake-v1", is_slippery=False, max_episode_steps=50))["kwargs"]
        {'map_name': '4x4', 'is_slippery': False, 'max_episode_steps': 50}
    """
    spec = getattr(env, "spec", None)
    if spec is None or spec.id not in gym.registry or isinstance(env, _OF_VECTORS):
        return None
    wrappers = _wrappers_of(env, spec)
    if wrappers is None:
        return None
    num_envs = env.num_envs if isinstance(env, VectorEnv) else None
    described = Description(id=spec.id, kwargs=_keywords_of(env, spec), num_envs=num_envs, wrappers=wrappers)
    try:
        return described if json.loads(json.dumps(described)) == described else None
    except (TypeError, ValueError):
        return None


def _wrappers_of(env: Any, spec: EnvSpec) -> list[Wrapper] | None:
    """Wrappers around an environment, or around each of a vector's; None where that cannot be told."""
    if isinstance(env, gym.Env):
        return added_wrappers(env, specification(env) or spec)
    if isinstance(env.unwrapped, SyncVectorEnv):
        single = env.unwrapped.envs[0]
        return added_wrappers(single, specification(single) or spec)
    return None if spec.additional_wrappers or "wrappers" in spec.kwargs else []


def _keywords_of(env: Any, spec: EnvSpec) -> dict[str, Any]:
    """Keywords of an environment's constructor, a map as text; its time limit and mode where they are not the usual."""
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in _NOT_OF_THE_WORLD}
    if isinstance(env, VectorEnv):
        # Before Gymnasium 1.3 all vectors of a class share their metadata; the attribute is each one's own.
        mode = getattr(env.unwrapped, "autoreset_mode", None) or env.metadata.get("autoreset_mode")
        usual = AutoresetMode.NEXT_STEP if spec.kwargs.get("vectorization_mode") == "vector_entry_point" else _SYNC_MODE
        kwargs.pop("autoreset_mode", None)
        if isinstance(mode, AutoresetMode) and mode is not usual:
            kwargs["autoreset_mode"] = mode.value
    if spec.max_episode_steps != gym.registry[spec.id].max_episode_steps:
        kwargs["max_episode_steps"] = spec.max_episode_steps
    layout = kwargs.get("layout")
    if layout is not None and not isinstance(layout, str):
        kwargs["layout"] = layout.text() if hasattr(layout, "text") else str(layout)
    if isinstance(kwargs.get("layout"), str) and _is_file(kwargs["layout"]):
        kwargs["layout"] = env.unwrapped.layout.text()  # the file may change or move
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kwargs.items()}


def _is_file(text: str) -> bool:
    try:
        return "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):
        return False
