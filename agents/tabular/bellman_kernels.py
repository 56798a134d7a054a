"""Compiled sweeps of the Bellman equations over the arrays of a FiniteMDP.

Each takes the arrays as :class:`~gridzero.envs.mdp.FiniteMDP` holds them, successors and probabilities ``packed``;
terminal states are left at their value, 0.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@numba.njit(cache=True)
def evaluation_sweep(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: NDArray[np.bool_],
    gamma: float,
    values: FloatArray,
    out: FloatArray,
    actions: NDArray[np.int32],
    backward: bool,
) -> float:
    """Sweep of the values of the policy that takes ``actions``, which are only read; returns the largest change."""
    states, outcomes = successors.shape[0], successors.shape[2]
    apart, varying = successors.shape[1] > 1, probabilities.shape[0] > 1
    largest = 0.0
    for i in range(states):
        s = states - 1 - i if backward else i
        if terminal[s]:
            continue
        a = actions[s]
        expected = 0.0
        for k in range(outcomes):
            successor = successors[s, a if apart else 0, k]
            expected += probabilities[s if varying else 0, a, k] * values[successor]
        q = rewards[s, a] + gamma * expected
        largest = max(largest, abs(q - values[s]))
        out[s] = q
    return largest


@numba.njit(cache=True)
def improve_policy(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: NDArray[np.bool_],
    gamma: float,
    values: FloatArray,
    actions: NDArray[np.int32],
    margin: float,
) -> tuple[float, int]:
    r"""Change ``actions`` where another one is better by more than rounding explains, so that ties change nothing.

    The gain must exceed ``margin`` times the largest $|r(s, a)| + \gamma \sum_{s'} p(s' \mid s, a)\, |v(s')|$ of the
    state's own actions: large rewards elsewhere do not hide it.

    Returns:
        The largest gain of one step, and in how many states the action changed.
    """
    states, choices = rewards.shape
    apart, varying = successors.shape[1] > 1, probabilities.shape[0] > 1
    ahead = np.empty(successors.shape[2])
    largest = 0.0
    changes = 0
    for s in range(states):
        if terminal[s]:
            continue
        best = -np.inf
        best_action = 0
        present = -np.inf
        scale = 0.0
        for a in range(choices):
            if a == 0 or apart:
                for k in range(ahead.size):
                    ahead[k] = values[successors[s, a, k]]
            expected, size = 0.0, 0.0
            for k in range(ahead.size):
                term = probabilities[s if varying else 0, a, k] * ahead[k]
                expected += term
                size += abs(term)
            q = rewards[s, a] + gamma * expected
            scale = max(scale, abs(rewards[s, a]) + gamma * size)
            if q > best:
                best = q
                best_action = a
            if a == actions[s]:
                present = q
        gain = best - present
        largest = max(largest, gain)
        if gain > margin * scale:
            changes += 1
            actions[s] = best_action
    return largest, changes


@numba.njit(cache=True)
def reward_extremes(rewards: FloatArray, terminal: NDArray[np.bool_]) -> tuple[float, float]:
    """The largest absolute reward, and the least of the states' best rewards; of states that are not terminal.

    Args:
        rewards: (S, A).
        terminal: (S,); if all are, 0 and infinity are returned.

    >>> reward_extremes(np.array([[1.0, -3.0], [0.0, 2.0], [9.0, 9.0]]), np.array([False, False, True]))
    (3.0, 1.0)
    """
    largest, least = 0.0, np.inf
    for s in range(terminal.size):
        if terminal[s]:
            continue
        best = -np.inf
        for a in range(rewards.shape[1]):
            best = max(best, rewards[s, a])
            largest = max(largest, abs(rewards[s, a]))
        least = min(least, best)
    return largest, least
