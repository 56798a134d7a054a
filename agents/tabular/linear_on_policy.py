"""On-policy learning with linear function approximation, towards n-step returns or λ-returns: Sarsa and TD.

Equation, section and figure numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.config_checks import check_at_least, check_between, check_choice
from gridzero.agents.tabular import linear_kernels as kernels
from gridzero.agents.tabular.dynamic_programming import optimal_policy
from gridzero.agents.tabular.linear import LinearAgent, LinearConfig, LinearControlConfig
from gridzero.agents.tabular.tabular import FloatArray, as_policy_table
from gridzero.agents.tabular.temporal_difference import TRACES, Trace
from gridzero.agents.tabular.value_errors import ExactValues


@dataclass(frozen=True)
class TargetConfig:
    """Settings of what is learnt towards: n-step returns or λ-returns."""

    n: int = 1
    """Rewards in each target before the estimate takes over; at least the length of an episode: Monte Carlo."""
    trace_decay: float = 0.0
    """Lambda, from 0 (no traces) to 1 (Monte Carlo); needs n = 1."""
    trace: Trace = "dutch"
    """Change of the traces by a visit. accumulating: adds to them. replacing: sets them (tabular, aggregation and tiles
    only). dutch: true online TD(lambda), which learns exactly what the lambda-returns say."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "n")
        check_between(self, 0, 1, "trace_decay")
        check_choice(self, "trace", TRACES)
        if self.n > 1 and self.trace_decay > 0:
            raise ValueError(f"n = {self.n} or trace_decay = {self.trace_decay:g}: one of them, not both")

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        return {} if self.trace_decay else {"trace": "trace_decay 0"}


@dataclass(frozen=True)
class LinearSarsaConfig(TargetConfig, LinearControlConfig):
    """Settings of Sarsa with linear function approximation."""

    def __post_init__(self) -> None:
        LinearControlConfig.__post_init__(self)
        TargetConfig.__post_init__(self)

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        return TargetConfig.unused(self) | LinearControlConfig.unused(self)


@dataclass(frozen=True)
class LinearPredictionConfig(TargetConfig, LinearConfig):
    """Settings of TD with linear function approximation."""

    policy: Literal["uniform", "optimal"] = "uniform"
    """The policy whose values are estimated: uniform (all actions alike), or optimal (solved from the environment's
    model). Any other one through `agent.fix_policy`."""

    def __post_init__(self) -> None:
        LinearConfig.__post_init__(self)
        TargetConfig.__post_init__(self)
        check_choice(self, "policy", ("uniform", "optimal"))

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        return TargetConfig.unused(self) | LinearConfig.unused(self)


class _OnPolicy(LinearAgent):
    """Base of Sarsa and TD: n-step returns, or traces."""

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        count, active, n = self.interaction.num_envs, self.features.map.active, self.config.n
        held = np.zeros(count, dtype=np.int64)
        if self.config.trace_decay > 0:
            if self.config.trace == "replacing" and self.features.map.size == active:
                raise ValueError(f"replacing traces need features that are 0 or 1, which {self.features.kind} has not")
            shape = (count, self.memory["weights"].size)
            return {
                "traces": np.zeros(shape),
                "traced": np.zeros(shape, dtype=np.int64),
                "held": held,
                "drifts": np.zeros(count),
            }
        return {
            "past_indices": np.zeros((count, n, active), dtype=np.int64),
            "past_entries": np.zeros((count, n, active)),
            "past_rows": np.zeros((count, n), dtype=np.int64),
            "past_rewards": np.zeros((count, n)),
            "first": np.zeros(count, dtype=np.int64),
            "held": held,
        }

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        common = (self._knowledge, batch, self._policy, settings, self._waits)
        if self.config.trace_decay > 0:
            kind, decay = TRACES[self.config.trace], self.config.gamma * self.config.trace_decay
            return float(kernels.traced(*common, kind, decay, self._past))
        return float(kernels.n_step(*common, self._past))

    @functools.cached_property
    def _past(self) -> tuple[NDArray[Any], ...]:
        """The arrays of the memory that hold traces or past steps, as the kernels take them."""
        names: tuple[str, ...] = ("past_indices", "past_entries", "past_rows", "past_rewards", "first", "held")
        if self.config.trace_decay > 0:
            names = ("traces", "traced", "held", "drifts")
        return tuple(self.memory[name] for name in names)


class LinearSarsa(_OnPolicy):
    """Episodic semi-gradient Sarsa, of one step, n steps or λ (sections 10.1, 10.2, 12.7)."""

    Config = LinearSarsaConfig


class LinearTD(_OnPolicy):
    r"""Linear TD: $w \leftarrow w + \alpha\,[r + \gamma \hat v(s') - \hat v(s)]\, x(s)$ (section 9.3; Zhao, 8.2).

    It estimates the state values of a given policy and never improves it. ``n`` gives n-step TD (eq. 9.15) and, where
    it is as long as an episode, gradient Monte Carlo; ``trace_decay`` gives TD(λ) (section 12.2; true online: 12.5).
    Action values are learnt beside them, towards $r + \gamma \hat v(s')$.

    Example:
        Ten groups of 100 states for the walk of 1000 (example 9.2):

        >>> import gridzero
        >>> from gridzero.envs.chains import random_walk
        >>> walk = random_walk(1000, reach=100, left=-1.0)
        >>> agent = gridzero.agents.make("td-linear", walk, gamma=1.0, features="aggregation", step_size="0.02")
        >>> for update in agent.learn():
        ...     if update.step >= 50_000:
        ...         break
        >>> update.metrics["rms_error"] < 0.2
        True
    """

    Config = LinearPredictionConfig

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        states = 1 if self.features.numbering is None else self.features.numbering.n
        self.fixed_policy = np.full((states, self.actions.n), 1 / self.actions.n)
        if config.policy == "optimal":
            self.features.of_all_states()  # refuses observations that cannot be counted
            self.fixed_policy = optimal_policy(env, config.gamma, states)
        self.fix_policy(self.fixed_policy)

    def _rows(self) -> int:
        return 1

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        weights = np.tile(self.features.map.constant(self.config.initial_value), (self.actions.n, 1))
        return super()._create_memory() | {"action_weights": weights}

    def fix_policy(self, policy: ArrayLike) -> None:
        """Fix the policy that is followed, and whose values are estimated.

        Args:
            policy: (S, A) probabilities, or (S,) action numbers; (1, A) where the observations cannot be counted.

        Raises:
            ValueError: for another shape, or rows that are not distributions.
        """
        self.fixed_policy = as_policy_table(policy, len(self.fixed_policy), self.actions.n)
        self._policy = self.fixed_policy.cumsum(axis=1)
        self._exact_values: ExactValues | None = None

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        kernels.average_targets(self._knowledge, batch, settings, self.memory["action_weights"])
        return super()._learn_from(batch, settings)

    def metric_names(self) -> frozenset[str]:
        """Those of episodes, the mean error of predictions and that of the estimates."""
        return self.interaction.METRICS | {"td_error", "rms_error"}

    def _further_metrics(self) -> dict[str, float]:
        """``rms_error`` of the state values where the exact ones are known."""
        if self.features.numbering is None:
            return {}
        if self._exact_values is None:
            self._exact_values = ExactValues(self.env, self.fixed_policy, self.config.gamma)
        error = self._exact_values.rms_error(self.state_values())
        return {} if error is None else {"rms_error": error}

    def action_values(self) -> FloatArray:
        """(S, A) estimates of the policy's action values for every state."""
        return self._products(self.memory["action_weights"], self.features.of_all_states())

    def state_values(self) -> FloatArray:
        """(S,) estimates of the policy's values for every state."""
        return self._products(self.weights, self.features.of_all_states())[:, 0]

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities of the policy."""
        self.features.of_all_states()
        return self.fixed_policy.copy()

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """Actions (N,) drawn from the policy; exploring is no different."""
        one = self.features.numbering is None
        rows = np.zeros(len(observations), dtype=np.int64) if one else self.features.numbers(observations)
        return self._draw(self.fixed_policy[rows], explore=True)

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes, with the policy."""
        return super().state_dict() | {"fixed_policy": self.fixed_policy.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.fix_policy(state["fixed_policy"])
        super().load_state_dict(state)
