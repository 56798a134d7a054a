"""Limits of linear methods, from the exact model: fixed points, and errors that weigh states by their visits.

Equation and section numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]


def _chain(mdp: FiniteMDP, policy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(S, S) transition matrix and (S,) rewards of a policy; all 0 in terminal states."""
    states = mdp.num_states
    weights = np.where(mdp.terminal[:, None], 0.0, policy)
    transitions = np.zeros((states, states))
    rows = np.broadcast_to(np.arange(states)[:, None, None], mdp.successors.shape)
    np.add.at(transitions, (rows, mdp.successors), weights[:, :, None] * mdp.probabilities)
    return transitions, (weights * mdp.rewards).sum(axis=1)


def on_policy_distribution(mdp: FiniteMDP, policy: FloatArray, gamma: float = 1.0) -> FloatArray:
    r"""μ(s): the share of time that episodes spend in each state (eq. 9.2 and 9.3), 0 in terminal states.

    Args:
        mdp: the model, of at most some thousand states.
        policy: (S, A) probabilities.
        gamma: 1 for all visits alike, as TD weighs them; below 1 a visit at time t counts $\gamma^t$.

    Raises:
        ValueError: when gamma is 1 and the policy does not end.

    Example:
        >>> from gridzero.envs.chains import random_walk
        >>> on_policy_distribution(random_walk(3), np.full((5, 2), 0.5)).round(3)
        array([0.  , 0.25, 0.5 , 0.25, 0.  ])
    """
    transitions, _ = _chain(mdp, policy)
    if gamma == 1.0:
        mdp.policy_values(policy, gamma)  # says which state it is from which the policy does not end
    start = np.where(mdp.terminal, 0.0, mdp.start)
    visits = np.linalg.solve(np.eye(mdp.num_states) - gamma * transitions.T, start)
    visits[mdp.terminal] = 0.0
    return np.asarray(visits / visits.sum())


def td_fixed_point(
    mdp: FiniteMDP, policy: FloatArray, features: FloatArray, distribution: FloatArray, gamma: float, decay: float = 0.0
) -> FloatArray:
    r"""Weights that linear TD(λ) converges to: $A^{-1} b$ (eq. 9.11, 9.12; with λ section 12.2).

    $A = X^\top D\,(I - \gamma\lambda P)^{-1} (I - \gamma P)\, X$ and $b = X^\top D\,(I - \gamma\lambda P)^{-1} r$ with
    D the distribution of the states; for λ = 1 it is the best approximation under D.

    Args:
        mdp: the model, of at most some thousand states.
        policy: (S, A) probabilities.
        features: X, (S, d), linearly independent on the states of the distribution.
        distribution: μ, (S,).
        gamma: the discount.
        decay: λ.

    Returns:
        (d,) weights.

    Example:
        >>> from gridzero.envs.chains import random_walk
        >>> walk, policy = random_walk(5), np.full((7, 2), 0.5)
        >>> position = np.arange(7.0)[:, None]  # the true values are position / 6
        >>> td_fixed_point(walk, policy, position, on_policy_distribution(walk, policy), gamma=1.0).round(3)
        array([0.167])
    """
    transitions, rewards = _chain(mdp, policy)
    live = np.where(mdp.terminal[:, None], 0.0, features)
    identity = np.eye(mdp.num_states)
    left = np.linalg.solve((identity - gamma * decay * transitions).T, distribution[:, None] * live).T
    matrix = left @ (live - gamma * transitions @ live)
    return np.asarray(np.linalg.lstsq(matrix, left @ rewards, rcond=None)[0], dtype=np.float64)


def value_error(estimates: FloatArray, exact: FloatArray, distribution: FloatArray) -> float:
    r"""$\overline{VE} = \sum_s \mu(s)\,[\hat v(s) - v_\pi(s)]^2$ (eq. 9.1)."""
    return float(distribution @ (estimates - exact) ** 2)
