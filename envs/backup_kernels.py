"""Compiled Bellman backups over the arrays of a FiniteMDP, packed as its ``packed`` has them."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def action_values(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: NDArray[np.bool_],
    gamma: float,
    values: FloatArray,
    out: FloatArray,
) -> None:
    r"""$q(s, a) = r(s, a) + \gamma \sum_{s'} p(s' \mid s, a)\, v(s')$, 0 in terminal states.

    Args:
        successors: (S, A, K), or (S, 1, K) where all actions share them.
        probabilities: (S, A, K), or (1, A, K) where all states share them.
        rewards: (S, A).
        terminal: (S,); ``values`` there count as 0.
        gamma: the discount.
        values: (S,).
        out: (S, A), overwritten.
    """
    states, choices = rewards.shape
    apart, varying = successors.shape[1] > 1, probabilities.shape[0] > 1
    ahead = np.empty(successors.shape[2])
    for s in range(states):
        if terminal[s]:
            out[s, :] = 0.0
            continue
        for a in range(choices):
            if a == 0 or apart:
                for k in range(ahead.size):
                    t = successors[s, a, k]
                    ahead[k] = 0.0 if terminal[t] else values[t]
            expected = 0.0
            for k in range(ahead.size):
                expected += probabilities[s if varying else 0, a, k] * ahead[k]
            out[s, a] = rewards[s, a] + gamma * expected


@numba.njit(cache=True, nogil=True)
def optimal_backup(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: NDArray[np.bool_],
    gamma: float,
    before: FloatArray,
    after: FloatArray,
    due: NDArray[np.bool_],
    changed: NDArray[np.bool_],
) -> None:
    """Values with one more step to go, from those ``before`` (S,), which are 0 in terminal states.

    States are in blocks of equal length, the last one may be shorter. Those of blocks that are not ``due`` (B,) keep
    their values. ``changed`` (B,) is overwritten: some value of the block is another now.
    """
    states, choices = rewards.shape
    apart, varying = successors.shape[1] > 1, probabilities.shape[0] > 1
    ahead = np.empty(successors.shape[2])
    length = -(-states // due.size)
    for b in range(due.size):
        first, end = b * length, min((b + 1) * length, states)
        changed[b] = False
        if not due[b]:
            after[first:end] = before[first:end]
            continue
        for s in range(first, end):
            if terminal[s]:
                after[s] = 0.0
                continue
            best = -np.inf
            for a in range(choices):
                if a == 0 or apart:
                    for k in range(ahead.size):
                        ahead[k] = before[successors[s, a, k]]
                expected = 0.0
                for k in range(ahead.size):
                    expected += probabilities[s if varying else 0, a, k] * ahead[k]
                best = max(best, rewards[s, a] + gamma * expected)
            after[s] = best
            changed[b] |= best != before[s]


@numba.njit(cache=True, nogil=True)
def dependencies(successors: NDArray[np.int32], blocks: int) -> NDArray[np.bool_]:
    """(B, B) whether some state of the first block has a successor in the second."""
    states, rows, outcomes = successors.shape
    length = -(-states // blocks)
    depends = np.zeros((blocks, blocks), dtype=np.bool_)
    for s in range(states):
        for a in range(rows):
            for k in range(outcomes):
                depends[s // length, successors[s, a, k] // length] = True
    return depends
