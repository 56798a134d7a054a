"""Base of the tabular agents: values and a policy as arrays, and acting on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.interaction import Interaction
from gridzero.agents.seeds import spawn_seeds
from gridzero.agents.spaces import Numbering, spaces_of
from gridzero.agents.tabular.schedules import Schedule
from gridzero.agents.tabular.value_errors import ExactValues

FloatArray = NDArray[np.float64]

FORBIDDEN = float(np.finfo(np.float64).min)
"""Value of an action that is not allowed: less than any other, so that no maximum is ever its value."""


def greedy_policy(action_values: ArrayLike) -> FloatArray:
    """All probability on the best action, the first of equals.

    Args:
        action_values: (S, A).

    Returns:
        (S, A) probabilities.

    >>> greedy_policy([[1.0, 2.0], [3.0, 3.0]])
    array([[0., 1.], [1., 0.]])
    """
    q = np.asarray(action_values)
    return np.asarray(np.arange(q.shape[1]) == q.argmax(axis=1)[:, None], dtype=np.float64)


def epsilon_greedy_policy(action_values: ArrayLike, epsilon: float) -> FloatArray:
    """The greedy policy mixed with the uniform one: epsilon/A everywhere, 1 - epsilon more on the best (Zhao, 5.4).

    Equally good actions share what the best one gets. Forbidden ones get nothing.

    >>> epsilon_greedy_policy([[1.0, 2.0], [3.0, 3.0]], epsilon=0.5)
    array([[0.25, 0.75], [0.5 , 0.5 ]])
    """
    q = np.asarray(action_values)
    best = q == q.max(axis=1, keepdims=True)
    allowed = q > FORBIDDEN
    uniform = allowed / allowed.sum(axis=1, keepdims=True)
    return np.asarray(epsilon * uniform + (1 - epsilon) * best / best.sum(axis=1, keepdims=True))


def draw_choices(probabilities: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """(N,) a column drawn from each row of (N, K) probabilities."""
    cumulative = probabilities.cumsum(axis=1)
    drawn = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
    return np.asarray((drawn >= cumulative).sum(axis=1))


class TabularAgent(Agent):
    """An agent whose knowledge is a table of action values.

    Attributes:
        states: numbers the observations 0 … S-1.
        actions: numbers the actions 0 … A-1.
        rng: the generator of everything the learner itself draws.
        masked: whether only actions that the environment allows are chosen and counted on.
    """

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        observation_space, action_space = spaces_of(env)
        self.states = Numbering(observation_space, "observation space")
        self.actions = Numbering(action_space, "action space")
        environment_seed, own_seed = spawn_seeds(seed, 2)
        self.interaction = Interaction(env, environment_seed)
        self.rng = np.random.default_rng(own_seed)
        self._action_values = np.zeros((self.states.n, self.actions.n))
        self.masked = bool(getattr(config, "action_masks", False))
        self._epsilon = Schedule.parse(getattr(config, "epsilon", 0.0), "epsilon", maximum=1)

    @property
    def epsilon(self) -> float:
        """The probability of a random action in the episode under way."""
        return self._epsilon(self.interaction.episodes + 1)

    def action_values(self) -> FloatArray:
        """(S, A) current estimates of q; -inf for actions that are known not to be allowed."""
        return np.where(self._action_values > FORBIDDEN, self._action_values, -np.inf)

    def state_values(self) -> FloatArray:
        """(S,) values of :meth:`policy` under the current action values."""
        return np.asarray((self.policy_table() * self._action_values).sum(axis=1))

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it does not explore."""
        return greedy_policy(self._action_values)

    def exploring_policy_table(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it explores."""
        return epsilon_greedy_policy(self._action_values, self.epsilon)

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """Actions (N,) for observations (N,), each as the environment's own space has it."""
        states = self.states.numbers(observations)
        if not explore:
            return self.actions.elements(self.policy_table()[states].argmax(axis=1))
        return self.actions.elements(draw_choices(self.exploring_policy_table()[states], self.rng))

    def _apply_masks(self, *tables: FloatArray, fresh: float) -> None:
        """Forbid the actions that are not allowed in the present observations.

        Args:
            tables: (S, A) action values.
            fresh: what actions count as that were forbidden and are allowed now.
        """
        states = self.states.numbers(self.interaction.observations)
        allowed = self.interaction.action_masks(self.actions.n)
        for table in tables:
            values = table[states]
            table[states] = np.where(allowed, np.where(values > FORBIDDEN, values, fresh), FORBIDDEN)

    def state_dict(self) -> dict[str, Any]:
        """The table, the generator, and where the episodes under way are."""
        return {
            "action_values": self._action_values.copy(),
            "rng": self.rng.bit_generator.state,
            "interaction": self.interaction.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        values = np.asarray(state["action_values"], dtype=np.float64)
        if values.shape != self._action_values.shape:
            raise ValueError(
                f"the state has action values {values.shape}; this environment needs {self._action_values.shape}"
            )
        self._action_values[:] = values
        self.rng.bit_generator.state = state["rng"]
        self.interaction.load_state_dict(state["interaction"])


class PredictionAgent(TabularAgent):
    """A tabular agent that can estimate the values of a given policy instead of improving its own.

    Attributes:
        fixed_policy: (S, A) probabilities of the policy whose values are estimated; None where it improves its own.
    """

    fixed_policy: FloatArray | None = None
    _exact_values: ExactValues | None = None

    def fix_policy(self, policy: ArrayLike) -> None:
        """Fix the policy whose action values are estimated.

        Args:
            policy: (S, A) probabilities, or (S,) action numbers.

        Raises:
            ValueError: for another shape, or rows that are not distributions.
        """
        self.fixed_policy = as_policy_table(policy, self.states.n, self.actions.n)
        self._exact_values = None

    def error_metrics(self) -> dict[str, float]:
        """``rms_error`` of the state values of a fixed policy where the exact ones are known, else nothing."""
        if self.fixed_policy is None:
            return {}
        if self._exact_values is None:
            self._exact_values = ExactValues(self.env, self.fixed_policy, self.config.gamma)
        error = self._exact_values.rms_error(self.state_values())
        return {} if error is None else {"rms_error": error}

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities: the fixed policy, else the greedy one."""
        return super().policy_table() if self.fixed_policy is None else self.fixed_policy.copy()

    def state_dict(self) -> dict[str, Any]:
        """State of the table, and the fixed policy."""
        fixed = None if self.fixed_policy is None else self.fixed_policy.copy()
        return {**super().state_dict(), "fixed_policy": fixed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.fixed_policy = None
        if state["fixed_policy"] is not None:
            self.fix_policy(state["fixed_policy"])


def as_policy_table(policy: ArrayLike, states: int, actions: int) -> FloatArray:
    """A policy as (S, A) probabilities.

    Args:
        policy: (S, A) probabilities, or (S,) action numbers.
        states: S.
        actions: A.

    Raises:
        ValueError: for another shape, an action out of range, or rows that are not distributions.

    >>> as_policy_table([1, 0], states=2, actions=2)
    array([[0., 1.], [1., 0.]])
    """
    given = np.asarray(policy)
    if given.shape == (states,) and given.dtype.kind in "iu":
        if given.min() < 0 or given.max() >= actions:
            raise ValueError(f"actions go from 0 to {actions - 1}; the policy has {given.min()}..{given.max()}")
        return np.asarray(np.eye(actions)[given])
    if given.shape != (states, actions):
        raise ValueError(
            f"a policy is ({states},) action numbers or ({states}, {actions}) probabilities, not {given.shape}"
        )
    table = given.astype(np.float64)
    if not (table >= 0).all() or np.abs(table.sum(axis=1) - 1).max() > 1e-9:
        raise ValueError("each row of a policy must be a distribution over the actions")
    return table
