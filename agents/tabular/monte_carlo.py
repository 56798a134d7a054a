"""Monte Carlo: action values as averages of the returns of whole episodes (Zhao, ch. 5; Sutton & Barto, ch. 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.config_checks import check_at_least, check_choice
from gridzero.agents.learner import Update
from gridzero.agents.tabular.monte_carlo_basic import MCBasic, MonteCarloConfig
from gridzero.agents.tabular.monte_carlo_kernels import (
    ON_POLICY,
    ORDINARY,
    WEIGHTED,
    Lanes,
    Rule,
    Table,
    absorb,
    choose_action,
    choose_actions,
    learn_from_episode,
)
from gridzero.agents.tabular.schedules import SLOW_DECAY, parse_step_size
from gridzero.agents.tabular.simulation import StartAnywhere, as_environment
from gridzero.agents.tabular.tabular import FloatArray, PredictionAgent, as_policy_table, epsilon_greedy_policy

__all__ = ["MCBasic", "MCEpsilonGreedy", "MCExploringStarts", "MCOffPolicy", "MonteCarlo"]

_GREEDY = np.zeros((0, 0))
IMPORTANCE_SAMPLING = {"ordinary": ORDINARY, "weighted": WEIGHTED}
"""Codes of the kinds of importance sampling in the compiled functions."""


@dataclass(frozen=True)
class EpisodicConfig(MonteCarloConfig):
    """Settings of the agents that learn after each episode."""

    first_visit: bool = True
    """Whether only the first visit of a pair in an episode counts, or every one."""
    step_size: str = "1/k^0.6"
    """Schedule of step sizes, k counting the returns of a pair: 1/k makes plain averages of all; smaller powers forget
    sooner what earlier, worse policies earned."""
    bootstrap: bool = True
    """Whether the return of an episode that was cut off, not ended, goes on with the present value of its last state.
    Without it such returns are too small, and the estimates biased."""
    episodes_per_update: int = 20
    """Episodes between two reports."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "episodes_per_update")
        parse_step_size(self.step_size)


class MonteCarlo(PredictionAgent):
    """Base of the agents that learn after each episode, from one environment or from N at once.

    An update reports some episodes. In a vector of environments a cut episode is followed by another that begins where
    it was cut; a single environment is reset.

    Args:
        env: an environment, a vector of them, or a ``FiniteMDP``.
        config: see the agents' own.
        seed: decides everything.

    Attributes:
        kind: how returns are weighted: ON_POLICY, ORDINARY or WEIGHTED importance sampling.
        visits: (S, A), how many returns each pair has had.
        starts: what puts the environment into any state, where episodes begin so.
    """

    Config: ClassVar[type[Any]] = EpisodicConfig
    kind: int = ON_POLICY

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(as_environment(env), config, seed=seed)
        self.env = env
        self._step_size = parse_step_size(config.step_size)
        self.starts: StartAnywhere | None = None
        shape, copies = self._action_values.shape, self.interaction.num_envs
        self.visits = np.zeros(shape, dtype=np.int64)
        self._weights = np.zeros(shape)
        self._table = Table(
            self._action_values, self.visits, self._weights, np.zeros(self.visits.size + 1, dtype=np.int64)
        )
        # Pages that no episode reaches are never touched, so long caps cost nothing.
        self._lanes = Lanes(
            np.zeros((copies, config.episode_length), dtype=np.int32),
            np.zeros((copies, config.episode_length), dtype=np.int32),
            np.zeros((copies, config.episode_length)),
            np.zeros((copies, config.episode_length)),
            np.zeros(copies, dtype=np.int64),
            np.ones(copies, dtype=np.bool_),
        )
        self._episodes = 0

    def _behaviour(self) -> tuple[FloatArray, float]:
        """The policy that acts while learning (no rows: greedy), and the weight of the uniform one mixed in."""
        if self.fixed_policy is not None:
            return self.fixed_policy, 0.0
        return _GREEDY, self.epsilon

    @property
    def epsilon(self) -> float:
        """The probability of a random action in the episode under way, cut ones being counted too."""
        return self._epsilon(self._episodes + 1)

    def exploring_policy_table(self) -> FloatArray:
        """(S, A) probabilities of what the agent does while it learns."""
        policy, epsilon = self._behaviour()
        if not len(policy):
            return epsilon_greedy_policy(self._action_values, epsilon)
        return np.asarray(epsilon_greedy_policy(self._action_values, 1.0) * epsilon + (1 - epsilon) * policy)

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` for each ``episodes_per_update`` episodes, cut ones included."""
        self.interaction.start()
        rule = Rule(
            self.kind,
            bool(self.config.first_visit),
            bool(self.config.bootstrap),
            self.starts is not None,
            float(self.config.gamma),
            self._step_size.scale,
            self._step_size.shift,
            self._step_size.power,
        )
        advance = self._step_all if self.interaction.vector else self._play_episode
        while True:
            ended, error, updates = 0, 0.0, 0
            while ended < self.config.episodes_per_update:
                found = advance(rule)
                ended, error, updates = ended + found[0], error + found[1], updates + found[2]
            metrics = {
                "episodes_learned": float(self._episodes),
                "epsilon": self._behaviour()[1],
                "error": error / max(updates, 1),
                "visited": float((self.visits > 0).mean()),
                **self.interaction.metrics(),
                **self.error_metrics(),
            }
            yield Update(self.interaction.steps, metrics)

    def metric_names(self) -> frozenset[str]:
        """Those of episodes, and how much was learnt from them."""
        return self.interaction.METRICS | {"episodes_learned", "epsilon", "error", "visited", "rms_error"}

    def _begin_elsewhere(self, starts: StartAnywhere) -> tuple[Any, Any]:
        """Begin episodes in states drawn uniformly (N,), with actions drawn uniformly (N,)."""
        copies = self.interaction.num_envs
        states = self.rng.choice(starts.states, size=copies)
        starts.place(states)
        return states, self.rng.integers(self.actions.n, size=copies)

    def _observe_masks(self) -> None:
        if self.masked:
            self._apply_masks(self._action_values, fresh=0.0)

    def _play_episode(self, rule: Rule) -> tuple[int, float, int]:
        """A whole episode of a single environment."""
        interaction, q, draw = self.interaction, self._action_values, self.rng.random
        policy, epsilon = self._behaviour()
        target = _GREEDY if self.fixed_policy is None else self.fixed_policy
        if self.starts is None:
            self._observe_masks()
            state = self.states.number(interaction.observations[0])
            action, probability = choose_action(q, policy, epsilon, state, draw())
        else:
            state, action = (int(drawn[0]) for drawn in self._begin_elsewhere(self.starts))
            probability = 1.0
        states, actions, rewards, probabilities = [], [], [], []
        for _ in range(self.config.episode_length):
            transition = interaction.step([self.actions.element(action)])
            states.append(state)
            actions.append(action)
            rewards.append(transition.rewards[0])
            probabilities.append(probability)
            state = self.states.number(transition.next_observations[0])
            if transition.done[0]:
                break
            self._observe_masks()
            action, probability = choose_action(q, policy, epsilon, state, draw())
        else:
            interaction.reset()
        self._episodes += 1
        error, updates = learn_from_episode(
            self._table,
            rule,
            target,
            np.array(states, dtype=np.int32),
            np.array(actions, dtype=np.int32),
            np.array(rewards),
            np.array(probabilities),
            state if rule.bootstrap and not transition.terminated[0] else -1,
            epsilon if self.kind == ON_POLICY else 0.0,
        )
        return 1, error, updates

    def _step_all(self, rule: Rule) -> tuple[int, float, int]:
        """One step of N environments."""
        interaction, lanes = self.interaction, self._lanes
        target = _GREEDY if self.fixed_policy is None else self.fixed_policy
        policy, epsilon = self._behaviour()
        if self.starts is not None and not lanes.active.any():
            states, actions = self._begin_elsewhere(self.starts)
            probabilities = np.ones(len(states))
            lanes.active[:] = True
        else:
            self._observe_masks()
            states = self.states.numbers(interaction.observations)
            draws = self.rng.random(len(states))
            actions, probabilities = choose_actions(self._action_values, policy, epsilon, states, draws)
        transition = interaction.step(self.actions.elements(actions))
        found: tuple[int, float, int] = absorb(
            self._table,
            rule,
            lanes,
            target,
            epsilon if self.kind == ON_POLICY else 0.0,
            states,
            actions,
            probabilities,
            transition.rewards,
            self.states.numbers(transition.next_observations),
            transition.terminated,
            transition.truncated,
            transition.valid,
        )
        self._episodes += found[0]
        return found

    def tried(self) -> NDArray[np.bool_]:
        """(S, A) whether an action was ever learnt from in a state; the values of the others are only guesses."""
        return np.asarray(self.visits > 0)

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes, episodes under way included."""
        lanes = self._lanes
        recorded = np.arange(lanes.lengths.max()) < lanes.lengths[:, None]
        return {
            **super().state_dict(),
            "visits": self.visits.copy(),
            "weights": self._weights.copy(),
            "episodes": self._episodes,
            "lanes": {
                "lengths": lanes.lengths.copy(),
                "active": lanes.active.copy(),
                **{name: getattr(lanes, name)[:, : recorded.shape[1]] * recorded for name in Lanes._fields[:4]},
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.visits[:] = state["visits"]
        self._weights[:] = state["weights"]
        self._episodes = int(state["episodes"])
        lanes, saved = self._lanes, state["lanes"]
        lanes.lengths[:] = saved["lengths"]
        lanes.active[:] = saved["active"]
        for name in Lanes._fields[:4]:
            getattr(lanes, name)[:, : saved[name].shape[1]] = saved[name]
        if not self.interaction.restored:
            lanes.lengths[:] = 0
            lanes.active[:] = self.starts is None


class MCExploringStarts(MonteCarlo):
    """Monte Carlo control with exploring starts (Sutton & Barto, section 5.3; Zhao, Algorithm 5.2).

    Each episode begins with a state and an action drawn uniformly, and follows the greedy policy, or the fixed one.

    Args:
        env: an environment that can be put into any state, or a ``FiniteMDP``.
        config: see :class:`EpisodicConfig`.
        seed: decides everything.

    Raises:
        ValueError: for an environment that cannot be put into a given state.
    """

    default_steps = 1_000_000

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self.starts = StartAnywhere(self.interaction, self.states, self.actions, "mc-exploring-starts")
        self._lanes.active[:] = False


@dataclass(frozen=True)
class MCEpsilonGreedyConfig(EpisodicConfig):
    """Settings of ε-greedy Monte Carlo."""

    epsilon: str = SLOW_DECAY
    """Schedule of the exploration rate, k counting episodes. It falls slowly: rewards that are rare are not found with
    a constant 0.1."""
    action_masks: bool = False
    """Choose, and count on, only the actions that env.unwrapped.action_masks() or info["action_mask"] allows."""


class MCEpsilonGreedy(MonteCarlo):
    """On-policy Monte Carlo control (Sutton & Barto, section 5.4; Zhao, Algorithm 5.3).

    It follows the epsilon-greedy policy; with epsilon 1 it evaluates the uniform one, with a fixed policy that one.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("mc-epsilon-greedy", "Blackjack-v1", gamma=1.0)
        >>> update = next(agent.learn())
        >>> update.metrics["episodes_learned"], update.metrics["episode_return"] < 1
        (20.0, True)
    """

    Config = MCEpsilonGreedyConfig


@dataclass(frozen=True)
class MCOffPolicyConfig(MCEpsilonGreedyConfig):
    """Settings of off-policy Monte Carlo."""

    importance_sampling: Literal["ordinary", "weighted"] = "weighted"
    """Returns times their ratios, averaged plainly (unbiased, of a variance that may be infinite); or averaged with the
    ratios as weights (biased but consistent, of far less variance)."""
    epsilon: str = "0.05"
    """Schedule of the exploration rate of the policy that acts, k counting episodes. What came before an action that
    the greedy policy would not have taken teaches nothing: the more of them, the less is learnt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "importance_sampling", IMPORTANCE_SAMPLING)


class MCOffPolicy(MonteCarlo):
    """Off-policy Monte Carlo by importance sampling (Sutton & Barto, sections 5.5 to 5.7).

    It learns the values of the greedy policy, or of a fixed one, from episodes of another: the same mixed with epsilon
    of the uniform one, unless :meth:`fix_policy` gives it.
    """

    Config = MCOffPolicyConfig

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self.kind = IMPORTANCE_SAMPLING[config.importance_sampling]
        self.behaviour_policy: FloatArray | None = None

    def fix_policy(self, policy: ArrayLike, behaviour: ArrayLike | None = None) -> None:
        """Fix the policy whose action values are estimated.

        Args:
            policy: (S, A) probabilities, or (S,) action numbers.
            behaviour: the policy that acts, likewise; None: the same, mixed with epsilon of the uniform one.

        Raises:
            ValueError: for another shape, rows that are not distributions, or a behaviour that never does what the
                policy does.
        """
        super().fix_policy(policy)
        self.behaviour_policy = None
        if behaviour is not None:
            acting = as_policy_table(behaviour, self.states.n, self.actions.n)
            uncovered = np.argwhere((acting == 0) & (self.policy_table() > 0))
            if len(uncovered):
                s, a = uncovered[0]
                raise ValueError(f"in state {s} the policy may take action {a} and the behaviour never does")
            self.behaviour_policy = acting

    def _behaviour(self) -> tuple[FloatArray, float]:
        if self.behaviour_policy is not None:
            return self.behaviour_policy, 0.0
        policy = _GREEDY if self.fixed_policy is None else self.fixed_policy
        return policy, self.epsilon

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes."""
        return {**super().state_dict(), "behaviour_policy": self.behaviour_policy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        if self.fixed_policy is not None:
            self.fix_policy(self.fixed_policy, state["behaviour_policy"])
