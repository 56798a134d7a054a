"""The optimum where straying from a reference policy costs: exact, by soft value iteration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]


class SoftSolution(NamedTuple):
    """Values (S,), 0 in terminal states, and the policy (S, A) that has them."""

    values: FloatArray
    policy: FloatArray


def soft_value_iteration(
    mdp: FiniteMDP,
    reference: ArrayLike | None = None,
    beta: float = 1.0,
    gamma: float = 1.0,
    *,
    tolerance: float = 1e-10,
    max_sweeps: int = 100_000,
) -> SoftSolution:
    r"""Maximise reward less divergence from a reference: $\sum_t \gamma^t (r_t - \beta \log \frac{\pi}{\mu})$.

    $$q(s, a) = r(s, a) + \gamma \sum_{s'} p(s' \mid s, a)\, v(s'), \quad
    v(s) = \beta \log \sum_a \mu(a \mid s)\, e^{q(s, a) / \beta}, \quad
    \pi(a \mid s) = \mu(a \mid s)\, e^{(q(s, a) - v(s)) / \beta}$$

    (Todorov 2007; Levine 2018, section 2.3.) Where transitions are certain and nothing is discounted, as where actions
    are tokens, this is $\pi(\tau) \propto \mu(\tau)\, e^{r(\tau) / \beta}$ over whole episodes: what reinforcement
    learning from a reference model tends to. As beta tends to 0 it becomes value iteration, as beta grows the
    reference. A uniform reference regularises by entropy, but for a constant.

    Args:
        mdp: the model.
        reference: $\mu$: (S,) actions or (S, A) probabilities; None: uniform.
        beta: what a nat of divergence costs, greater than 0.
        gamma: the discount, in [0, 1]; of future divergence too.
        tolerance: sweeps end when no value changes by more.
        max_sweeps: no more than these.

    Raises:
        ValueError: for a beta, discount, tolerance or reference that is not allowed, or when ``max_sweeps`` are not
            enough, as with gamma = 1 where episodes need not end.

    Example:
        One state, where action 1 pays 1 more and the reference takes it one time in four.

        >>> bandit = FiniteMDP(
        ...     successors=[[[1], [1]], [[1], [1]]],
        ...     probabilities=np.ones((2, 2, 1)),
        ...     rewards=[[0, 1], [0, 0]],
        ...     terminal=[False, True],
        ...     start=[1, 0],
        ... )
        >>> values, policy = soft_value_iteration(bandit, [[0.75, 0.25], [0.5, 0.5]], beta=1 / np.log(3))
        >>> policy[0].round(6)  # 3/4 · 1 to 1/4 · 3
        array([0.5, 0.5])
        >>> values[0].round(6) == np.round(np.log(1.5) / np.log(3), 6)
        np.True_
    """
    if not 0 < beta < np.inf:
        raise ValueError(f"beta must be greater than 0 and finite, not {beta}")
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be between 0 and 1, not {gamma}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be greater than 0, not {tolerance}")
    if reference is None:
        prior = np.full((mdp.num_states, mdp.num_actions), 1 / mdp.num_actions)
    else:
        prior = mdp.policy_matrix(reference)
    values = np.zeros(mdp.num_states)
    for _ in range(max_sweeps):
        before = values
        values, policy = _backup(mdp.action_values(values, gamma), prior, beta)
        values[mdp.terminal] = 0.0
        # Values as large as these cannot be told apart any closer.
        if np.abs(values - before).max() <= max(tolerance, 4 * np.finfo(np.float64).eps * np.abs(values).max()):
            return SoftSolution(values, policy)
    raise ValueError(f"the values still change after {max_sweeps:,} sweeps; with gamma = 1 episodes must end")


def _backup(q: FloatArray, prior: FloatArray, beta: float) -> tuple[FloatArray, FloatArray]:
    """The soft maximum (S,) of action values (S, A), and its policy (S, A)."""
    best = np.where(prior > 0, q, -np.inf).max(axis=1)
    with np.errstate(over="ignore"):
        behind = np.where(prior > 0, (q - best[:, None]) / beta, 0.0)
    weights = prior * np.exp(behind)
    total = weights.sum(axis=1)
    # log(total), precisely also where beta is so large that total is almost 1.
    nearly_one = np.log1p(np.maximum((prior * np.expm1(behind)).sum(axis=1), -0.5))
    return best + beta * np.where(total > 0.5, nearly_one, np.log(total)), weights / total[:, None]
