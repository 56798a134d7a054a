"""Registry that finds learners and policies by name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from gridzero.agents.agent import Agent
from gridzero.agents.environments import make_environment
from gridzero.envs import plugins
from gridzero.envs.suggestions import closest

EXAMPLE = "--env FrozenLake-v1 --env.is_slippery False --run lake"
"""The environment in the example of most agents' help."""

SpacePredicate = Callable[[gym.Space[Any], gym.Space[Any]], bool]


@dataclass(frozen=True)
class Registration:
    """One line of the registry: where an agent's class and its ``Config`` are, and what the help says of it."""

    name: str
    entry_point: str
    summary: str
    config: str | None = None
    example: str = EXAMPLE

    def load(self) -> type[Agent]:
        """Import the class; only now is its module's code run."""
        agent_class: type[Agent] = import_object(self.entry_point)
        return agent_class

    def config_class(self) -> type[Any]:
        """Import the class's ``Config``, without the class where it has a module of its own."""
        config_class: type[Any] = self.load().Config if self.config is None else import_object(self.config)
        return config_class


REGISTRY: dict[str, Registration] = {}


@dataclass(frozen=True)
class PolicyRegistration:
    """Entry of a policy: the spaces it is for, and where the policy and its collector are."""

    entry_point: str
    accepts: SpacePredicate
    collector: str

    def policy_class(self) -> type[Any]:
        """Import the policy's class."""
        kind: type[Any] = import_object(self.entry_point)
        return kind

    def collector_class(self) -> type[Any]:
        """Import the class of the collector that plays its episodes."""
        kind: type[Any] = import_object(self.collector)
        return kind


POLICIES: list[PolicyRegistration] = []


def register_policy(
    entry_point: str,
    accepts: SpacePredicate,
    *,
    collector: str = "gridzero.agents.neural.collector:EnvironmentCollector",
) -> None:
    """Make a policy the one that neural agents train in environments with such spaces.

    Args:
        entry_point: ``"package.module:Class"``, imported only when such an agent is made.
        accepts: of the observation space and the action space of one environment; the last policy registered that
            accepts them is taken.
        collector: ``"package.module:Class"`` of the collector that plays its episodes.
    """
    registration = PolicyRegistration(entry_point, accepts, collector)
    if all(registration.entry_point != known.entry_point for known in POLICIES):
        POLICIES.append(registration)


def find_policy(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> PolicyRegistration:
    """The policy registered for such spaces.

    Raises:
        ValueError: when there is none.
    """
    for registration in reversed(POLICIES):
        if registration.accepts(observation_space, action_space):
            return registration
    raise ValueError(f"no policy is registered for observations in {observation_space} and actions in {action_space}")


def import_object(entry_point: str) -> Any:
    """Import the object that ``"package.module:name"`` names."""
    module, _, attribute = entry_point.partition(":")
    return getattr(importlib.import_module(module), attribute)


def register(name: str, entry_point: str, summary: str, *, config: str | None = None, example: str = EXAMPLE) -> None:
    """Make an agent known by name.

    Args:
        name: lower case, words joined by hyphens.
        entry_point: ``"package.module:Class"``, imported only when the agent is made.
        summary: a few words for ``gridzero list``.
        config: ``"package.module:Config"`` of the class's ``Config``, for help that comes before a class with slow
            imports; by default it is read off the class.
        example: options of ``gridzero train`` that the help shows.
    """
    REGISTRY[name] = Registration(name, entry_point, summary, config, example)


def registration(name: str) -> Registration:
    """The registration of an agent, by ``name`` or ``module:name``; installed plug-ins are loaded for an unknown name.

    Raises:
        ValueError: for an unknown name, with the closest right ones, or a module that cannot be imported.
    """
    name = plugins.resolve(name)
    if name not in REGISTRY:
        plugins.load_installed()
    if name not in REGISTRY:
        raise ValueError(f"no agent is called {name!r}; {closest(name, REGISTRY)}")
    return REGISTRY[name]


def agent_class(name: str) -> type[Agent]:
    """The class registered under ``name``, which may be ``module:name``.

    Raises:
        ValueError: for an unknown name; the message has the closest right ones.
    """
    return registration(name).load()


def config_class(name: str) -> type[Any]:
    """The ``Config`` of the agent registered under ``name``, which may be ``module:name``.

    Raises:
        ValueError: for an unknown name; the message has the closest right ones.
    """
    return registration(name).config_class()


def make(name: str, env: Any, *, seed: int = 0, **fields: Any) -> Agent:
    """An agent, by name, for an environment.

    Args:
        name: a registered name (``gridzero list`` shows them), or ``module:name``.
        env: a ``gym.Env``, a ``VectorEnv``, the id of a registered environment, or, for planners and tabular agents, a
            ``FiniteMDP``.
        seed: decides everything that is random.
        fields: fields of the agent's ``Config``.

    Raises:
        ValueError: for an unknown agent or field, a value that is not allowed, or an environment the agent cannot use.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("value-iteration", "FrozenLake-v1", gamma=0.9)
        >>> for update in agent.learn():
        ...     pass
        >>> float(agent.state_values()[0].round(6))
        0.068891
    """
    entry = registration(name)
    kind = entry.load()
    known = [field.name for field in dataclasses.fields(kind.Config)]
    for field in fields:
        if field not in known:
            raise ValueError(f"{entry.name} has no field {field!r}; {closest(field, known)}")
    if isinstance(env, str):
        env = make_environment(env)
    return build(entry.name, env, default_config(entry.name, env, fields), seed=seed)


def default_config(name: str, env: Any, fields: Mapping[str, Any]) -> Any:
    """``Config`` of an agent with some fields set, the others at their defaults for an environment."""
    kind = agent_class(name)
    return kind.Config(**{**kind.defaults(env, fields), **fields})


def build(name: str, env: Any, config: Any, *, seed: int = 0) -> Agent:
    """An agent, by name, from a whole ``Config``."""
    entry = registration(name)
    agent = entry.load()(env, config, seed=seed)
    agent.name = entry.name
    return agent
