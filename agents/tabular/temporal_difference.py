"""Temporal-difference learning: one loop, and for each algorithm its target.

Equation, section and figure numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from gridzero.agents.agent import Update
from gridzero.agents.tabular import td_kernels as kernels
from gridzero.agents.tabular.schedules import Schedule
from gridzero.agents.tabular.tabular import FloatArray, TabularAgent, epsilon_greedy_policy


@dataclass(frozen=True)
class TemporalDifferenceConfig:
    """What all temporal-difference agents share."""

    gamma: float = 0.99
    """Discount of future rewards, from 0 to 1."""
    step_size: str = "1/k^0.6"
    """Step size at the k-th update of a state-action pair: 0.1, 1/k, 0.5/k^0.7, 10/(k+9), …"""
    initial_value: float = 0.0
    """What every value starts from; a high one makes the agent try everything (optimism)."""
    steps_per_update: int = 1000
    """Environment steps between two reports."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be between 0 and 1, not {self.gamma}")
        if not math.isfinite(self.initial_value):
            raise ValueError(f"initial_value must be a finite number, not {self.initial_value}")
        _check_at_least(self, "steps_per_update", 1)
        Schedule.parse(self.step_size, "step_size", maximum=1)


@dataclass(frozen=True)
class ControlConfig(TemporalDifferenceConfig):
    """Settings of agents that improve their own policy."""

    epsilon: str = "0.1"
    """Probability of a random action in the k-th episode: 0.1, 1/k, 10/(k+9), …"""

    def __post_init__(self) -> None:
        super().__post_init__()
        Schedule.parse(self.epsilon, "epsilon", maximum=1)


class TemporalDifference(TabularAgent):
    """The one learning loop of temporal-difference control.

    With N environments each step gives N transitions, learnt from one after the other. A successor that ends the
    episode is worth 0; one where the episode was merely cut off is worth what it is worth.

    Attributes:
        memory: all that it has learnt and drawn besides the action values, as named arrays.
    """

    Config: ClassVar[type[ControlConfig]] = ControlConfig
    config: ControlConfig

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self._step_size = Schedule.parse(config.step_size)
        self._epsilon = Schedule.parse(getattr(config, "epsilon", 0.0))
        self._action_values[:] = config.initial_value
        self._waits = self.interaction.mode is AutoresetMode.NEXT_STEP
        count = self.interaction.num_envs
        self.memory: dict[str, NDArray[Any]] = {
            "visits": np.zeros(self._action_values.shape, dtype=np.int64),
            "streams": np.random.SeedSequence((seed, 1)).generate_state(count, np.uint64),
            "states": np.zeros(count, dtype=np.int64),
            "actions": np.zeros(count, dtype=np.int64),
        }
        self.memory |= self._create_memory()
        self._table = (self._action_values, *(self.memory[name] for name in ("visits", "streams", "states", "actions")))

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        """The arrays that an algorithm needs beyond those that all have."""
        return {}

    @abstractmethod
    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        """Learn from one step of all N environments and choose the next actions; the sum of absolute errors."""

    def _forget_episodes(self) -> None:
        """Drop what is remembered of episodes under way: they were abandoned."""

    @property
    def epsilon(self) -> float:
        """The probability of a random action now."""
        return self._epsilon(self.interaction.episodes + 1)

    def exploring_policy(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it explores."""
        return epsilon_greedy_policy(self._action_values, self.epsilon)

    def learn(self) -> Iterator[Update]:
        """Without end: an update each ``steps_per_update`` steps, with the mean absolute error of the predictions."""
        interaction = self.interaction
        if not interaction.started:
            interaction.start()
            self._begin()
        rounds = math.ceil(self.config.steps_per_update / interaction.num_envs)
        schedule = self._step_size
        while True:
            errors, before, episodes = 0.0, interaction.steps, -1
            for _ in range(rounds):
                transition = interaction.step(self.actions.elements(self.memory["actions"]))
                next_states = observed = self.states.numbers(transition.next_observations)
                if interaction.observations is not transition.next_observations:
                    observed = self.states.numbers(interaction.observations)
                if interaction.episodes != episodes:
                    episodes = interaction.episodes
                    settings = (self.config.gamma, self.epsilon, schedule.scale, schedule.shift, schedule.power)
                batch = (
                    next_states,
                    observed,
                    transition.rewards,
                    transition.terminated,
                    transition.truncated,
                    transition.valid,
                )
                errors += self._learn_from(batch, settings)
            metrics = {"td_error": errors / max(interaction.steps - before, 1), "epsilon": self.epsilon}
            yield Update(interaction.steps, interaction.metrics() | metrics)

    def _begin(self) -> None:
        self._forget_episodes()
        self.memory["states"][:] = self.states.numbers(self.interaction.observations)
        kernels.begin(self._table, self.epsilon)

    def state_dict(self) -> dict[str, Any]:
        """Everything it knows, and where its episodes are."""
        return super().state_dict() | {"memory": {name: array.copy() for name, array in self.memory.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when it is of another agent or another environment.
        """
        saved = {name: np.asarray(array) for name, array in state["memory"].items()}
        shapes = {name: array.shape for name, array in self.memory.items()}
        if (found := {name: array.shape for name, array in saved.items()}) != shapes:
            raise ValueError(f"the state has {found}; this agent and environment need {shapes}")
        super().load_state_dict(state)
        for name, array in saved.items():
            self.memory[name][...] = array
        if not self.interaction.restored:
            self._begin()


class Sarsa(TemporalDifference):
    r"""Sarsa: $q(s,a) \leftarrow q(s,a) + \alpha\,[r + \gamma q(s',a') - q(s,a)]$ (eq. 6.7; Zhao, alg. 7.1)."""

    kind: ClassVar[int] = kernels.SARSA

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        return float(kernels.one_step(self._table, batch, settings, self._waits, self.kind))


class ExpectedSarsa(Sarsa):
    r"""Expected Sarsa: the target is $r + \gamma \sum_{a'} \pi(a' \mid s') q(s',a')$ (eq. 6.9)."""

    kind = kernels.EXPECTED_SARSA


class QLearning(Sarsa):
    r"""Q-learning: the target is $r + \gamma \max_{a'} q(s',a')$ (eq. 6.8; Watkins 1989; Zhao, alg. 7.2).

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("q-learning", "CliffWalking-v1", gamma=1.0, seed=1)
        >>> for update in agent.learn():
        ...     if update.step >= 50_000:
        ...         break
        >>> round(agent.state_values()[36])
        -13
    """

    kind = kernels.Q_LEARNING


def _check_at_least(config: Any, name: str, least: int) -> None:
    value = getattr(config, name)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
