"""Q-learning that plans with a model learnt on the way: Dyna-Q, Dyna-Q+ and prioritized sweeping.

Equation, section and figure numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.config_checks import check_above_zero, check_at_least
from gridzero.agents.tabular import planning_kernels as kernels
from gridzero.agents.tabular.temporal_difference import ControlConfig, TemporalDifference


@dataclass(frozen=True)
class DynaConfig(ControlConfig):
    """Settings of Dyna-Q."""

    planning_steps: int = 10
    """Updates from the learnt model after each real step; 0 is Q-learning."""
    model_outcomes: int = 8
    """Different outcomes (next state and reward) that the model counts for each state-action pair, the rarest
    forgotten first; 1 is the deterministic model of Sutton & Barto."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "planning_steps")
        check_at_least(self, 1, "model_outcomes")


class LearntModel(TemporalDifference):
    """Base of the agents that count which outcomes have followed each state-action pair, and learn from that too."""

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        shape = (self._action_values.size, self.config.model_outcomes)
        return {
            "outcomes": np.zeros(shape, dtype=np.int32),
            "outcome_rewards": np.zeros(shape),
            "counts": np.zeros(shape, dtype=np.int32),
        }

    def _model(self) -> tuple[NDArray[Any], ...]:
        return self.memory["outcomes"], self.memory["outcome_rewards"], self.memory["counts"]


class DynaQ(LearntModel):
    """Dyna-Q: Q-learning that also learns from what its model of the world draws (section 8.2).

    The model counts outcomes, so it is right for random worlds too. Planning draws a pair seen before, and an outcome
    as often as it has followed the pair. In a world that changes, what no longer happens is believed until as much of
    the new has been counted: there, set model_outcomes to 1.
    """

    Config = DynaConfig

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        pairs = self._action_values.size
        return super()._create_memory() | {
            "known": np.zeros(2, dtype=np.int64),
            "listed": np.zeros(pairs, dtype=np.int64),
            "tried_at": np.zeros(pairs, dtype=np.int64),
        }

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        steps, bonus = self.config.planning_steps, float(getattr(self.config, "bonus", 0.0))
        memory = (self.memory[name] for name in ("known", "listed", "tried_at"))
        return float(kernels.dyna(self._table, batch, settings, self._waits, steps, bonus, self._model(), *memory))


@dataclass(frozen=True)
class DynaQPlusConfig(DynaConfig):
    """Settings of Dyna-Q+."""

    bonus: float = 0.001
    """κ: in planning, an action untried for τ steps pays κ √τ more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "bonus")


class DynaQPlus(DynaQ):
    r"""Dyna-Q+: planning pays $\kappa \sqrt{\tau}$ more for an action untried for τ steps (section 8.3).

    So it tries everything again from time to time, and finds out when the world has changed for the better. Planning
    knows the untried actions of visited states, too: they lead back without reward, until they are tried.
    """

    Config = DynaQPlusConfig


@dataclass(frozen=True)
class PrioritizedSweepingConfig(ControlConfig):
    """Settings of prioritized sweeping."""

    step_size: str = "1"
    """Share of the way to its target that an update goes, at the k-th visit of the pair: 1, 0.5, 1/k^0.7, … Targets are
    means over what the model has counted, so they have no noise for a smaller one to average."""
    planning_steps: int = 10
    """Updates after each real step, at most."""
    threshold: float = 1e-4
    """A value that is off by no more is not updated."""
    model_outcomes: int = 8
    """Different outcomes (next state and reward) that the model counts for each state-action pair, the rarest
    forgotten first; 1 is the deterministic model of Sutton & Barto."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "planning_steps", "model_outcomes")
        check_above_zero(self, "threshold")


class PrioritizedSweeping(LearntModel):
    """Prioritized sweeping: updates from a learnt model where values are furthest off, and then backwards from there.

    Section 8.4, and Moore & Atkeson (1993) for random worlds: an update is the mean over the counted outcomes.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("prioritized-sweeping", "CliffWalking-v1", gamma=1.0, initial_value=-1.0)
        >>> update = next(agent.learn())
        >>> float(agent.state_values()[36])
        -13.0
    """

    Config = PrioritizedSweepingConfig

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        pairs, places = self._action_values.size, self.config.model_outcomes
        return super()._create_memory() | {
            "first_edges": np.full(self.states.n, -1, dtype=np.int64),
            "next_edges": np.full(pairs * places, -1, dtype=np.int64),
            "heap": np.zeros(pairs, dtype=np.int64),
            "priorities": np.zeros(pairs),
            "places": np.full(pairs, -1, dtype=np.int64),
            "queued": np.zeros(1, dtype=np.int64),
            "backups": np.zeros(1, dtype=np.int64),
        }

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        memory, config = self.memory, self.config
        return float(
            kernels.sweep(
                self._table,
                batch,
                settings,
                self._waits,
                config.planning_steps,
                float(config.threshold),
                self._model(),
                (memory["first_edges"], memory["next_edges"]),
                tuple(memory[name] for name in ("heap", "priorities", "places", "queued")),
                memory["backups"],
            )
        )
