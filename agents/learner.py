"""Learner interface: what a run trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Update:
    """Report of one improvement step.

    Attributes:
        step: environment steps taken so far; sweeps, for agents that plan.
        metrics: named numbers to log.
        samples: things to read, such as completions of a language model, as JSON holds them.
        completions: all that a language model wrote, where it is to be kept.
    """

    step: int
    metrics: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]] = ()
    completions: Sequence[Mapping[str, Any]] = ()


class Learner(ABC):
    """The subject of a training run: has settings, a seed and a state, and learns in updates from its environment.

    A subclass has a frozen dataclass ``Config``; its fields are the keywords of :func:`make` and the flags of the
    command line, the docstring under each field its help. Fields that do nothing with the others it may name in a
    method ``unused`` (see ``agents/config_checks.py``), those that do nothing in the environment the learner's own
    method; the command line refuses them.

    Attributes:
        name: the registered name.
        config: the settings, an instance of ``Config``.
        env: the environment (or, for planners, perhaps the :class:`~gridzero.envs.FiniteMDP`) as it was given.
        seed: the one seed that decides everything.
        resumable: whether a checkpoint holds all that training needs to go on.
        default_steps: the budget of the command line when none is given; None for agents that end by themselves.
        planned_steps: how long it will be trained, which schedules may span: training says so; infinite where it is
            limited by seconds alone, None where nobody has said.
    """

    Config: ClassVar[type[Any]]
    resumable: ClassVar[bool] = True
    default_steps: int | None = 100_000
    planned_steps: float | None = None
    name: str = ""

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        self.env = env
        self.config = config
        self.seed = seed

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults of ``Config`` that are others for this environment, given the fields that are set."""
        return {}

    def __repr__(self) -> str:
        spec = getattr(self.env, "spec", None)
        where = repr(getattr(self.env, "unwrapped", self.env)) if spec is None else spec.id
        return f"<{self.name or type(self).__name__} on {where}, seed {self.seed}>"

    def setup(self) -> None:  # noqa: B027  (most have nothing to set up)
        """Set up what only learning needs: data, an expert, a library.

        It is called before a run is begun, so that no folder is left where something cannot be had.

        Raises:
            ValueError: when something cannot be had.
        """

    def unused(self) -> Mapping[str, str]:
        """Fields of the settings that do nothing in this environment, each with what makes it so."""
        return {}

    @abstractmethod
    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per improvement step; ends when converged, else never.

        Calling it again, or after :meth:`load_state_dict`, continues from where the agent is.
        """

    def metric_names(self) -> frozenset[str] | None:
        """Names that metrics of updates can have with these settings, * for any end; None where that is not known.

        A subclass that logs more than its base extends it.
        """
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """State that resuming needs, random state included: nested dicts of arrays, numbers, strings, lists."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, as if this agent had taken the steps that led there."""

    def decide_together(self, decision: bool) -> bool:
        """The first process's decision, where several train this learner together."""
        return decision

    def save_artifacts(self, folder: Path) -> None:  # noqa: B027  (most have none)
        """Write what has a file format of its own, such as a language model, into a checkpoint's folder."""

    def load_artifacts(self, folder: Path) -> None:  # noqa: B027  (most have none)
        """Continue from the files that :meth:`save_artifacts` wrote into ``folder``."""
