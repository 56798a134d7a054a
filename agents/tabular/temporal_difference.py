"""Temporal-difference learning: one loop, and for each algorithm its target.

Equation, section and figure numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from gridzero.agents.config_checks import check_at_least, check_between, check_choice
from gridzero.agents.learner import Update
from gridzero.agents.tabular import n_step_kernels, trace_kernels
from gridzero.agents.tabular import td_kernels as kernels
from gridzero.agents.tabular.schedules import SLOW_DECAY, Schedule, parse_step_size
from gridzero.agents.tabular.simulation import as_single_environment
from gridzero.agents.tabular.tabular import FloatArray, TabularAgent


def past_steps(envs: int, n: int) -> dict[str, NDArray[Any]]:
    """Room for the last n steps of each environment; the kernels' ``append`` says what is where."""
    return {
        "past_states": np.zeros((envs, n), dtype=np.int64),
        "past_actions": np.zeros((envs, n), dtype=np.int64),
        "past_rewards": np.zeros((envs, n)),
        "held": np.zeros(envs, dtype=np.int64),
    }


@dataclass(frozen=True)
class TemporalDifferenceConfig:
    """Settings of all temporal-difference agents."""

    gamma: float = 0.99
    """Discount of future rewards, from 0 to 1."""
    step_size: str = "10/(k+9)"
    """Step size at the k-th update of a state-action pair: 0.1, 1/k, 0.5/k^0.7, 10/(k+9), …"""
    initial_value: float = 0.0
    """Initial estimate of every value; a high one makes the agent try everything (optimism)."""
    steps_per_update: int = 1000
    """Environment steps between two reports."""

    def __post_init__(self) -> None:
        check_between(self, 0, 1, "gamma")
        if not math.isfinite(self.initial_value):
            raise ValueError(f"initial_value must be a finite number, not {self.initial_value}")
        check_at_least(self, 1, "steps_per_update")
        parse_step_size(self.step_size)


@dataclass(frozen=True)
class ControlConfig(TemporalDifferenceConfig):
    """Settings of agents that improve their own policy."""

    epsilon: str = "0.1"
    """Probability of a random action in the k-th episode: 0.1, 1/k, 10/(k+9), …"""
    action_masks: bool = False
    """Choose, and count on, only the actions that env.unwrapped.action_masks() or info["action_mask"] allows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Schedule.parse(self.epsilon, "epsilon", maximum=1)


class TemporalDifference(TabularAgent):
    """The one learning loop of temporal-difference control.

    With N environments each step gives N transitions, learnt from one after the other. A successor that ends the
    episode is worth 0; one where the episode was merely cut off is worth what it is worth.

    Args:
        env: an environment, a vector of them, or a ``FiniteMDP``, from which episodes of at most
            :data:`~gridzero.agents.tabular.simulation.MODEL_STEP_LIMIT` steps are drawn.
        config: the settings.
        seed: decides everything that is random.

    Attributes:
        memory: all that it has learnt and drawn besides the action values, as named arrays; ``held`` (N,), where there
            is one, counts what is remembered of each episode under way.
    """

    Config: ClassVar[type[Any]] = ControlConfig

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(as_single_environment(env), config, seed=seed)
        self._step_size = Schedule.parse(config.step_size)
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

    def tried(self) -> NDArray[np.bool_]:
        """(S, A) whether an action was ever learnt from in a state; the values of the others are only guesses."""
        return np.asarray(self.memory["visits"] > 0)

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        """The arrays that an algorithm needs beyond those that all have."""
        return {}

    def _tables(self) -> tuple[FloatArray, ...]:
        """Action values (S, A) that a choice or a target is made of."""
        return (self._action_values,)

    @abstractmethod
    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        """Learn from one step of all N environments and choose the next actions; the sum of absolute errors."""

    def learn(self) -> Iterator[Update]:
        """Learn without end: an update every ``steps_per_update`` steps, with the mean error of the predictions."""
        interaction = self.interaction
        if not interaction.started:
            interaction.start()
            self._begin()
        rounds = math.ceil(self.config.steps_per_update / interaction.num_envs)
        while True:
            before = interaction.steps
            errors = self._take_steps(rounds)
            metrics = {"td_error": errors / max(interaction.steps - before, 1), "epsilon": self.epsilon}
            yield Update(interaction.steps, interaction.metrics() | metrics)

    def metric_names(self) -> frozenset[str]:
        """Those of episodes, the mean error of predictions and the rate of exploration."""
        return self.interaction.METRICS | {"td_error", "epsilon"}

    def _take_steps(self, rounds: int) -> float:
        """Take so many steps in each environment and learn from them; the sum of absolute errors."""
        interaction, actions = self.interaction, self.memory["actions"]
        take = self.actions.elements if interaction.vector else self._take_one
        errors, episodes = 0.0, -1
        for _ in range(rounds):
            transition = interaction.step(take(actions))
            next_states = observed = self.states.numbers(transition.next_observations)
            if interaction.observations is not transition.next_observations:
                observed = self.states.numbers(interaction.observations)
            if self.masked:
                self._apply_masks(*self._tables(), fresh=self.config.initial_value)
            if interaction.episodes != episodes:
                episodes = interaction.episodes
                settings = self._settings()
            batch = (
                next_states,
                observed,
                transition.rewards,
                transition.terminated,
                transition.truncated,
                transition.valid,
            )
            errors += self._learn_from(batch, settings)
        return errors

    def _settings(self) -> tuple[float, ...]:
        """The settings of a kernel in the episode under way."""
        schedule = self._step_size
        return self.config.gamma, self.epsilon, schedule.scale, schedule.shift, schedule.power

    def _past(self) -> tuple[NDArray[Any], ...]:
        return tuple(self.memory[name] for name in ("past_states", "past_actions", "past_rewards", "held"))

    def _take_one(self, actions: NDArray[np.int64]) -> list[Any]:
        return [self.actions.element(actions[0])]

    def _begin(self) -> None:
        if "held" in self.memory:
            self.memory["held"][:] = 0
        self.memory["states"][:] = self.states.numbers(self.interaction.observations)
        if self.masked:
            self._apply_masks(*self._tables(), fresh=self.config.initial_value)
        self._choose_first()

    def _choose_first(self) -> None:
        kernels.begin(self._table, self.epsilon)

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes, with the episodes under way."""
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

    kernel: ClassVar[Any] = staticmethod(kernels.sarsa)

    def _take_steps(self, rounds: int) -> float:
        """Take the steps in one kernel with the environments' own, where they have one: the same, in half the time.

        With masks, or an exploration rate that goes by the episodes which end in the step, the environments come first.
        """
        worlds = self.interaction.worlds
        if worlds is None or self.masked or self._epsilon.power > 0:
            return super()._take_steps(rounds)
        settings, errors = self._settings(), 0.0
        while rounds:
            arguments = (*worlds, (0,) * self.actions.n, rounds)
            errors += self.kernel(self._table, None, arguments, settings, self._waits)
            rounds -= self.interaction.advance(worlds)
        self.interaction.arrive(self.memory["states"].copy(), worlds[0]["done"].copy())
        return errors

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        return float(self.kernel(self._table, batch, None, settings, self._waits))


class ExpectedSarsa(Sarsa):
    r"""Expected Sarsa: the target is $r + \gamma \sum_{a'} \pi(a' \mid s') q(s',a')$ (eq. 6.9)."""

    kernel = staticmethod(kernels.expected_sarsa)


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

    kernel = staticmethod(kernels.q_learning)


class DoubleQLearning(TemporalDifference):
    r"""Double Q-learning: the target is $r + \gamma q_2(s', \arg\max_{a'} q_1(s',a'))$ (eq. 6.10; van Hasselt 2010).

    Which table is 1, the one that learns, is drawn at each step; equals are told apart by the mean of both. The step
    size goes by the updates of the pair in the one table; the agent acts on the mean of the two.

    Its estimates err downwards where Q-learning's err upwards. Where each step costs and a mistake costs much more
    (CliffWalking), set gamma to 1: with a discount, going round in circles is worth at least -1 / (1 - gamma), and
    may look better than the way out for very long.
    """

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        shape = (2, *self._action_values.shape)
        return {"tables": np.full(shape, self.config.initial_value), "table_visits": np.zeros(shape, dtype=np.int64)}

    def _tables(self) -> tuple[FloatArray, ...]:
        return (self._action_values, *self.memory["tables"])

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        tables, visits = self.memory["tables"], self.memory["table_visits"]
        return float(kernels.double(self._table, batch, settings, self._waits, tables, visits))


@dataclass(frozen=True)
class NStepConfig(ControlConfig):
    """Settings of n-step Sarsa."""

    n: int = 4
    """Rewards in each target before the estimate takes over; 1 is Sarsa, very many Monte Carlo."""
    epsilon: str = SLOW_DECAY
    """Probability of a random action in the k-th episode. It falls slowly: where rewards are rare, a long return often
    has a bad random action in it, which a constant 0.1 seldom gets past."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "n")


class NStepSarsa(TemporalDifference):
    r"""n-step Sarsa: the target is $r_1 + \gamma r_2 + \dots + \gamma^{n-1} r_n + \gamma^n q(s_n, a_n)$ (eq. 7.4)."""

    Config = NStepConfig

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        return past_steps(self.interaction.num_envs, self.config.n)

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        return float(n_step_kernels.n_step(self._table, batch, settings, self._waits, self._past()))


Trace = Literal["accumulating", "replacing", "dutch"]
TRACES = {
    "accumulating": trace_kernels.ACCUMULATING,
    "replacing": trace_kernels.REPLACING,
    "dutch": trace_kernels.DUTCH,
}
"""Codes of the kinds of traces in the compiled functions."""


@dataclass(frozen=True)
class LambdaConfig(ControlConfig):
    """Settings of Sarsa(lambda)."""

    trace_decay: float = 0.8
    """Lambda, from 0 (Sarsa) to 1 (Monte Carlo)."""
    epsilon: str = SLOW_DECAY
    """Probability of a random action in the k-th episode; it falls slowly, as of n-step Sarsa."""
    trace: Trace = "dutch"
    """Change of a pair's trace by a visit. accumulating: adds to it. replacing: sets it. dutch: true online
    Sarsa(lambda), which learns exactly what the lambda-returns say."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0, 1, "trace_decay")
        check_choice(self, "trace", TRACES)

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        return {} if self.trace_decay else {"trace": "trace_decay 0"}


class SarsaLambda(TemporalDifference):
    r"""Sarsa(λ): each error reaches back along the traces of the pairs before it (sections 12.7 and 12.5).

    Each visit's step size is kept in its trace, as in van Seijen & Sutton, *True online TD(lambda)* (ICML 2014). Traces
    below 1e-12 are dropped.
    """

    Config = LambdaConfig

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        count, capacity = self.interaction.num_envs, self._action_values.size
        decay = self.config.gamma * self.config.trace_decay
        if 0 < decay < 1:
            lifetime = math.log(trace_kernels.NEGLIGIBLE_TRACE * (1 - decay)) / math.log(decay)
            capacity = min(capacity, math.ceil(lifetime) + 2)
        return {
            "pairs": np.zeros((count, capacity), dtype=np.int64),
            "traces": np.zeros((count, capacity)),
            "held": np.zeros(count, dtype=np.int64),
            "drifts": np.zeros(count),
        }

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        kind, decay = TRACES[self.config.trace], self.config.gamma * self.config.trace_decay
        past = (self.memory[name] for name in ("pairs", "traces", "held", "drifts"))
        return float(trace_kernels.traced(self._table, batch, settings, self._waits, kind, decay, *past))
