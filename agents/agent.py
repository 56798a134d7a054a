"""The one interface of every learner, and the registry that finds them by name."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Update:
    """What one improvement step did.

    Attributes:
        step: environment steps taken so far; sweeps, for agents that plan.
        metrics: named numbers to log.
        samples: things to read, such as completions of a language model, as JSON holds them.
    """

    step: int
    metrics: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]] = ()


class Agent(ABC):
    """A learner bound to one environment.

    A subclass has a frozen dataclass ``Config``; its fields are the keywords of :func:`make` and the flags of the
    command line, the docstring under each field its help.

    Attributes:
        name: the registered name.
        config: the settings, an instance of ``Config``.
        env: the environment (or, for planners, perhaps the :class:`~gridzero.envs.FiniteMDP`) as it was given.
        seed: the one seed that decides everything.
        default_steps: the budget of the command line when none is given; None for agents that end by themselves.
        planned_steps: how long it will be trained, which schedules may span: training says so; infinite where it is
            limited by seconds alone, None where nobody has said.
    """

    Config: ClassVar[type[Any]]
    default_steps: int | None = 100_000
    planned_steps: float | None = None
    name: str = ""

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        self.env = env
        self.config = config
        self.seed = seed

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of ``Config`` whose defaults are others for this environment, given those that are set."""
        return {}

    def prepare(self) -> None:  # noqa: B027  (most have nothing to prepare)
        """Fetch what learning begins with; called before a run is begun, so that nothing is left if it cannot be had.

        Raises:
            ValueError: when it cannot be had.
        """

    @abstractmethod
    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per improvement step; ends when converged, else never.

        Calling it again, or after :meth:`load_state_dict`, continues from where the agent is.
        """

    @abstractmethod
    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """A batch of observations in, a batch of actions out; greedy unless asked to explore."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, random state included: nested dicts of arrays, numbers, strings, lists."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, as if this agent had taken the steps that led there."""

    def agree(self, decision: bool) -> bool:
        """What is decided by all the processes that train this agent together, if there are several."""
        return decision

    def files(self) -> dict[str, bytes]:
        """What a checkpoint keeps besides the state, as files in formats of their own, by path."""
        return {}

    def load_files(self, folder: Path) -> None:  # noqa: B027  (most have none)
        """Continue from :meth:`files`, found in ``folder``."""


@dataclass(frozen=True)
class Registration:
    """One line of the registry: where an agent's class is, and what it is in a few words."""

    name: str
    entry_point: str
    summary: str

    def load(self) -> type[Agent]:
        """Import the class; only now is its module's code run."""
        agent_class: type[Agent] = imported(self.entry_point)
        return agent_class


REGISTRY: dict[str, Registration] = {}
POLICIES: dict[str, str] = {}


def register_policy(space: str, entry_point: str) -> None:
    """Say which policy neural agents train where observations are of this kind.

    Args:
        space: name of a class of Gymnasium's spaces.
        entry_point: ``"package.module:Class"``, imported only when such an agent is made.
    """
    POLICIES[space] = entry_point


def imported(entry_point: str) -> Any:
    """What ``"package.module:name"`` names."""
    module, _, attribute = entry_point.partition(":")
    return getattr(importlib.import_module(module), attribute)


def register(name: str, entry_point: str, summary: str) -> None:
    """Make an agent known by name.

    Args:
        name: lower case, words joined by hyphens.
        entry_point: ``"package.module:Class"``, imported only when the agent is made.
        summary: a few words for ``gridzero list``.
    """
    REGISTRY[name] = Registration(name, entry_point, summary)


def closest(name: str, names: Any) -> str:
    """A hint for a wrong name: the closest right ones, else all of them.

    >>> closest("q-lerning", ["q-learning", "sarsa"])
    'did you mean q-learning?'
    """
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"


def agent_class(name: str) -> type[Agent]:
    """The class registered under ``name``.

    Raises:
        ValueError: for an unknown name; the message has the closest right ones.
    """
    if name not in REGISTRY:
        raise ValueError(f"no agent is called {name!r}; {closest(name, REGISTRY)}")
    return REGISTRY[name].load()


def make(name: str, env: Any, *, seed: int = 0, **fields: Any) -> Agent:
    """An agent, by name, for an environment.

    Args:
        name: a registered name (``gridzero list`` shows them).
        env: a ``gym.Env``, a ``VectorEnv``, the id of a registered environment, or, for planners, a ``FiniteMDP``.
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
    found = agent_class(name)
    known = [field.name for field in dataclasses.fields(found.Config)]
    for field in fields:
        if field not in known:
            raise ValueError(f"{name} has no field {field!r}; {closest(field, known)}")
    if isinstance(env, str):
        import gymnasium

        env = gymnasium.make(env)
    config = found.Config(**{**found.defaults(env, fields), **fields})
    agent = found(env, config, seed=seed)
    agent.name = name
    return agent
