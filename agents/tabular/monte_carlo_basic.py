"""MC Basic: policy iteration that learns the values of its policies from episodes (Zhao, section 5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridzero.agents.config_checks import check_at_least, check_between
from gridzero.agents.learner import Update
from gridzero.agents.tabular.simulation import StartAnywhere, as_environment
from gridzero.agents.tabular.tabular import FloatArray, PredictionAgent


@dataclass(frozen=True)
class MonteCarloConfig:
    """Settings of all Monte Carlo agents."""

    gamma: float = 0.99
    """Discount of rewards, from 0 to 1."""
    episode_length: int = 30
    """Episodes are cut off after this many steps, if the environment does not end them before. The policy improves
    between episodes: long ones make it slow to leave a place where it goes in circles."""

    def __post_init__(self) -> None:
        check_between(self, 0, 1, "gamma")
        check_at_least(self, 1, "episode_length")


@dataclass(frozen=True)
class MCBasicConfig(MonteCarloConfig):
    """Settings of MC Basic."""

    episode_length: int = 100
    """Steps of each episode: only rewards this near are seen. In a deterministic world q is then what this many sweeps
    of value iteration give (Zhao, Fig. 5.4)."""
    episodes: int = 1
    """Episodes from each state-action pair; one is enough where nothing is random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "episodes")


class MCBasic(PredictionAgent):
    """Policy iteration whose evaluation averages the returns of episodes from every pair (Zhao, Algorithm 5.1).

    One update is one iteration. It ends when an iteration has changed no action value, as in a deterministic world it
    will; where chance has a say it never does. With a fixed policy it evaluates that one instead.

    Args:
        env: an environment that can be put into any state, or a ``FiniteMDP``.
        config: see :class:`MCBasicConfig`.
        seed: decides everything.

    Raises:
        ValueError: for an environment that cannot be put into a given state.
    """

    Config = MCBasicConfig
    default_steps = 1_000_000

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(as_environment(env), config, seed=seed)
        self.env = env
        self.starts = StartAnywhere(self.interaction, self.states, self.actions, "mc-basic")
        self._iterations = 0

    def exploring_policy_table(self) -> FloatArray:
        """The policy itself: exploration is left to where the episodes start."""
        return self.policy_table()

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` for each iteration."""
        while True:
            before = self._action_values.copy()
            policy_before = self.policy_table().argmax(axis=1)
            self._action_values[self.starts.states] = self._estimate()
            self._iterations += 1
            change = float(np.abs(self._action_values - before).max())
            metrics = {
                "iterations": float(self._iterations),
                "value_change": change,
                "policy_changes": float((self.policy_table().argmax(axis=1) != policy_before).sum()),
                **self.interaction.metrics(),
                **self.error_metrics(),
            }
            yield Update(self.interaction.steps, metrics)
            if change == 0.0:
                return

    def metric_names(self) -> frozenset[str]:
        """Those of episodes, iterations and what they change."""
        return self.interaction.METRICS | {"iterations", "value_change", "policy_changes", "rms_error"}

    def _estimate(self) -> FloatArray:
        """Mean returns (M, A) of the episodes from each of the M states worth beginning in."""
        copies, actions = self.interaction.num_envs, self.actions.n
        pairs = np.repeat(np.arange(len(self.starts.states) * actions), self.config.episodes)
        returns = np.zeros(len(pairs))
        cumulative = self.policy_table().cumsum(axis=1)
        for begin in range(0, len(pairs), copies):
            chunk = np.resize(pairs[begin : begin + copies], copies)
            size = min(copies, len(pairs) - begin)
            returns[begin : begin + size] = self._returns(chunk, cumulative)[:size]
        return np.asarray(returns.reshape(len(self.starts.states), actions, -1).mean(axis=2))

    def _returns(self, pairs: Any, cumulative: FloatArray) -> FloatArray:
        """One return from each pair: the pair's action first, then the policy's."""
        self.starts.place(self.starts.states[pairs // self.actions.n])
        actions = pairs % self.actions.n
        returns, discount, under_way = np.zeros(len(pairs)), 1.0, np.ones(len(pairs), dtype=np.bool_)
        for _ in range(self.config.episode_length):
            transition = self.interaction.step(self.actions.elements(actions))
            returns += discount * transition.rewards * under_way
            under_way &= ~transition.done
            if not under_way.any():
                break
            discount *= self.config.gamma
            rows = cumulative[self.states.numbers(transition.next_observations)]
            actions = (self.rng.random((len(pairs), 1)) >= rows).sum(axis=1).clip(max=self.actions.n - 1)
        return returns

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes."""
        return {**super().state_dict(), "iterations": self._iterations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self._iterations = int(state["iterations"])
