"""Wrappers around environments as data: applied by name, and described again."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any, TypedDict

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from gridzero.envs import plugins

MADE_BY_GYMNASIUM = (gym.wrappers.PassiveEnvChecker, gym.wrappers.OrderEnforcing)


class Wrapper(TypedDict):
    """A wrapper, ``module:Class``, and its keywords."""

    entry_point: str
    kwargs: dict[str, Any]


class Specified(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose specification has the keywords of its wrappers, recorded by themselves or not."""

    def __init__(self, env: gym.Env[Any, Any], wrappers: Sequence[Wrapper]) -> None:
        super().__init__(env)
        self.wrappers = tuple(wrappers)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The environment's specification, with wrappers that ``gymnasium.make`` can apply again."""
        inner = self.env.spec
        if inner is None:
            return None
        spec = copy.deepcopy(inner)
        recorded = len(spec.additional_wrappers) - len(self.wrappers)
        specs = [
            WrapperSpec(wrapper["entry_point"].partition(":")[2], wrapper["entry_point"], dict(wrapper["kwargs"]))
            for wrapper in self.wrappers
        ]
        spec.additional_wrappers = (*spec.additional_wrappers[:recorded], *specs)
        return spec


def wrapped(env: gym.Env[Any, Any], wrappers: Sequence[Wrapper]) -> gym.Env[Any, Any]:
    """The environment with wrappers around it, the first one innermost."""
    if not wrappers:
        return env
    for wrapper in wrappers:
        try:
            env = wrapper_class(wrapper["entry_point"])(env, **wrapper["kwargs"])
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{wrapper['entry_point']} does not wrap this environment: {text}") from error
    return Specified(env, wrappers)


def wrapper_class(entry_point: str) -> type[gym.Wrapper[Any, Any, Any, Any]]:
    """The wrapper that ``module:Class`` names.

    Raises:
        ValueError: for another form, a module that cannot be imported, or something that is not such a class.
    """
    wrapper = plugins.load(entry_point)
    if not inspect.isclass(wrapper) or not issubclass(wrapper, gym.Wrapper):
        raise ValueError(f"{entry_point} is not a gymnasium.Wrapper")
    return wrapper


def wrapper_parameters(entry_point: str) -> dict[str, inspect.Parameter]:
    """The keywords that a wrapper's constructor takes besides the environment."""
    return _keywords(wrapper_class(entry_point))


def _keywords(kind: type) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(kind.__init__, eval_str=True)  # type: ignore[misc]
    except NameError:
        signature = inspect.signature(kind.__init__)  # type: ignore[misc]
    known = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: each for name, each in list(signature.parameters.items())[2:] if each.kind in known}


def specification(env: gym.Env[Any, Any]) -> EnvSpec | None:
    """The specification of an environment with the keywords of its wrappers where they are known.

    They are, of wrappers that record their arguments, of those that take none, and of those that
    :func:`make_environment` put around it.
    """
    spec = env.spec
    if spec is None or not spec.additional_wrappers:
        return spec
    wrappers: list[Any] = []
    inner: Any = env
    while isinstance(inner, gym.Wrapper) and not isinstance(inner, Specified):
        if not isinstance(inner, gym.wrappers.TimeLimit):
            wrappers.append(inner)
        inner = inner.env
    spec = copy.deepcopy(spec)
    outermost_first = list(reversed(spec.additional_wrappers))
    for i, wrapper in enumerate(each for each in wrappers if not isinstance(each, MADE_BY_GYMNASIUM)):
        recorded = outermost_first[i]
        if recorded.kwargs is None and not _keywords(type(wrapper)):
            outermost_first[i] = WrapperSpec(recorded.name, recorded.entry_point, {})
    spec.additional_wrappers = tuple(reversed(outermost_first))
    return spec


def added_wrappers(env: gym.Env[Any, Any], spec: EnvSpec) -> list[Wrapper] | None:
    """Wrappers around the registered environment, the innermost first; None where that cannot be told.

    What an environment's own constructor wraps around it lies below what ``gymnasium.make`` does.
    """
    own, inner = 0, env
    while isinstance(inner, gym.Wrapper):
        if isinstance(inner, MADE_BY_GYMNASIUM):
            own = len(inner.spec.additional_wrappers) if inner.spec is not None else 0
        inner = inner.env
    added = spec.additional_wrappers[own:]
    if any(each.kwargs is None or "<locals>" in each.entry_point for each in added):
        return None
    return [{"entry_point": each.entry_point, "kwargs": dict(each.kwargs or {})} for each in added]
