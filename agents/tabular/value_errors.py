"""Errors of estimated state values, where the exact ones of the policy are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.tabular.simulation import known_model
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

MOST_STATES = 20_000
"""Above this, solving for the exact values would take longer than an update."""


def rms_error(estimates: ArrayLike, exact: ArrayLike, weights: ArrayLike | None = None) -> float:
    r"""Root mean square error $\sqrt{\sum_s \mu(s)\,[\hat v(s) - v_\pi(s)]^2}$ (Sutton & Barto, 2nd ed., eq. 9.1).

    Args:
        estimates: (…, S).
        exact: (S,) true values.
        weights: (S,) how much each state counts, not all 0; they are made to sum to 1. All alike if not given.

    Returns:
        The error; the mean of them over leading dimensions.

    Example:
        >>> rms_error([1.0, 2.0, 9.0], [1.0, 4.0, 0.0], weights=[1, 1, 0])
        1.4142135623730951
    """
    squared = (np.asarray(estimates, dtype=np.float64) - np.asarray(exact)) ** 2
    weights = np.ones(squared.shape[-1]) if weights is None else np.asarray(weights, dtype=np.float64)
    return float(np.sqrt(squared @ (weights / weights.sum())).mean())


def reachable(mdp: FiniteMDP, policy: FloatArray) -> NDArray[np.bool_]:
    """(S,) the states, terminal ones apart, that a policy (S, A) can come to from the start."""
    reached: NDArray[np.bool_] = (mdp.start > 0) & ~mdp.terminal
    frontier: NDArray[Any] = np.flatnonzero(reached)
    possible = (policy[:, :, None] * mdp.probabilities) > 0
    while frontier.size:
        found = np.unique(mdp.successors[frontier][possible[frontier]])
        frontier = found[~reached[found] & ~mdp.terminal[found]]
        reached[frontier] = True
    return reached


class ExactValues:
    """The exact values of a policy in an environment, and how far estimates are from them.

    Args:
        env: the environment, or a ``FiniteMDP``.
        policy: (S, A) probabilities.
        gamma: the discount.

    Attributes:
        values: (S,) of the model, 0 in terminal states; None where they are not known: without a model, with more than
            :data:`MOST_STATES` states, or where gamma is 1 and the policy does not end.
        weights: (S,) 1 for the states that the policy can come to, terminal ones apart, else 0.
    """

    def __init__(self, env: Any, policy: FloatArray, gamma: float) -> None:
        self._env, self._policy, self._gamma = env, policy, gamma
        self._solve(known_model(env) if len(policy) <= MOST_STATES else None)

    def _solve(self, mdp: FiniteMDP | None) -> None:
        self._model = mdp
        self.values: FloatArray | None = None
        self.weights = np.zeros(len(self._policy))
        if mdp is None:
            return
        # The model from a table of transitions may have one more state, where episodes end.
        extra = mdp.num_states - len(self._policy)
        if extra not in (0, 1) or self._policy.shape[1] != mdp.num_actions:
            return
        policy = np.vstack([self._policy, np.full((extra, mdp.num_actions), 1 / mdp.num_actions)])
        self.weights = reachable(mdp, policy)[: len(self._policy)].astype(np.float64)
        try:
            self.values = mdp.policy_values(policy, self._gamma)[: len(self._policy)]
        except ValueError:  # gamma is 1, and the policy does not end
            return

    def rms_error(self, estimates: FloatArray) -> float | None:
        """Root mean square error of (S,) estimates over the states that the policy can come to, all alike.

        None where the exact values are not known. After an edit of a grid world they are those of the new map.
        """
        if self._model is not None and not isinstance(self._env, FiniteMDP):
            present = getattr(self._env.unwrapped, "mdp", self._model)
            if present is not self._model:
                self._solve(present)
        if self.values is None or not self.weights.any():
            return None
        return rms_error(estimates, self.values, self.weights)
