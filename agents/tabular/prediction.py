"""Temporal-difference prediction: the values of a given policy.

Equation, section and figure numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.config_checks import check_at_least, check_choice
from gridzero.agents.learner import Update
from gridzero.agents.tabular import n_step_kernels, td_kernels
from gridzero.agents.tabular.dynamic_programming import optimal_policy
from gridzero.agents.tabular.tabular import FloatArray, PredictionAgent
from gridzero.agents.tabular.temporal_difference import TemporalDifference, TemporalDifferenceConfig, past_steps


@dataclass(frozen=True)
class PredictionConfig(TemporalDifferenceConfig):
    """Settings of TD(0)."""

    policy: Literal["uniform", "optimal"] = "uniform"
    """The policy whose values are estimated: uniform (all actions alike), or optimal (solved from the environment's
    model). Any other one through `agent.fix_policy`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "policy", ("uniform", "optimal"))


class TD0(TemporalDifference, PredictionAgent):
    r"""TD(0): $v(s) \leftarrow v(s) + \alpha\,[r + \gamma v(s') - v(s)]$ (eq. 6.2; Zhao, eq. 7.1).

    It estimates the values of a given policy and never improves it. Action values average the same targets by pair.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("td0", "FrozenLake-v1", gamma=0.9, policy="optimal")
        >>> for update in agent.learn():
        ...     if update.step >= 50_000:
        ...         break
        >>> abs(float(agent.state_values()[0]) - 0.0689) < 0.01
        True
    """

    Config = PredictionConfig

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        if config.policy == "optimal":
            self.fix_policy(optimal_policy(env, config.gamma, self.states.n))
        else:
            self.fix_policy(np.full((self.states.n, self.actions.n), 1 / self.actions.n))

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        return past_steps(self.interaction.num_envs, getattr(self.config, "n", 1)) | {
            "values": np.full((self.states.n, 1), self.config.initial_value, dtype=np.float64),
            "state_visits": np.zeros((self.states.n, 1), dtype=np.int64),
        }

    def learn(self) -> Iterator[Update]:
        """Learn without end, with the error of the estimates among the metrics where the exact values are known."""
        for update in super().learn():
            yield replace(update, metrics={**update.metrics, **self.error_metrics()})

    def metric_names(self) -> frozenset[str]:
        """Those of all such agents, and the error of the estimates."""
        return super().metric_names() | {"rms_error"}

    def fix_policy(self, policy: ArrayLike) -> None:
        """Fix the policy that is followed and evaluated: (S, A) probabilities or (S,) action numbers."""
        super().fix_policy(policy)
        self._cumulative = self.policy_table().cumsum(axis=1)

    def state_values(self) -> FloatArray:
        """(S,) estimated values of the policy."""
        return self.memory["values"][:, 0].copy()

    def exploring_policy_table(self) -> FloatArray:
        """(S, A) probabilities of the policy itself."""
        return self.policy_table()

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """Actions (N,) drawn from the policy; exploring is no different."""
        return super().act(observations, explore=True)

    def _choose_first(self) -> None:
        _, _, streams, states, actions = self._table
        for i, state in enumerate(states):
            actions[i] = td_kernels.draw(self._cumulative, state, streams, i)

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        past, values, visits = self._past(), self.memory["values"], self.memory["state_visits"]
        return float(
            n_step_kernels.predict(self._table, batch, settings, self._waits, past, values, visits, self._cumulative)
        )


@dataclass(frozen=True)
class NStepTDConfig(PredictionConfig):
    """Settings of n-step TD."""

    n: int = 4
    """Rewards in each target before the estimate takes over; 1 is TD(0), more than an episode's steps Monte Carlo with
    the step sizes of `step_size`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "n")


class NStepTD(TD0):
    r"""n-step TD: $v(s) \leftarrow v(s) + \alpha\,[r_1 + \gamma r_2 + \dots + \gamma^n v(s_n) - v(s)]$ (eq. 7.2).

    It estimates the values of a given policy and never improves it. What an episode has left when it ends is learnt
    from then.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("td-n-step", "CliffWalking-v1", gamma=0.9, step_size="1", policy="optimal")
        >>> update = next(agent.learn())
        >>> float(agent.state_values()[36].round(3)) == round(-(1 - 0.9**13) / 0.1, 3)
        True
    """

    Config = NStepTDConfig
