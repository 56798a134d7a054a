"""Compiled Bellman backups over the arrays of a FiniteMDP, packed as its ``packed`` has them."""

from __future__ import annotations

import math
from collections.abc import Sized
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

MANY_STATES = 50_000
MOST_UNROLLED = 64


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


@numba.njit(cache=True, nogil=True, inline="always")
def backup(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    gamma: float,
    values: FloatArray,
    s: int | np.uint64,
    ahead: FloatArray,
    choices: Sized,
    outcomes: Sized,
) -> tuple[float, int]:
    r"""$\max_a r(s, a) + \gamma \sum_{s'} p(s' \mid s, a)\, v(s')$ and the first action that attains it.

    ``ahead`` (K,) is room to work in; for the last two see :func:`loop_lengths`. Nothing depends on a branch.
    """
    row = s * (probabilities.shape[0] > 1)
    best, best_action = -np.inf, 0
    for a in range(len(choices)):
        if a == 0 or successors.shape[1] > 1:
            for k in range(len(outcomes)):
                ahead[k] = values[np.uint32(successors[s, a, k])]  # as it is not negative, nothing looks whether it is
        expected = 0.0
        for k in range(len(outcomes)):
            expected += probabilities[row, a, k] * ahead[k]
        q = rewards[s, a] + gamma * expected
        best_action = a if q > best else best_action
        best = max(best, q)
    return best, best_action


@numba.njit(cache=True, nogil=True)
def optimality_sweep(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: NDArray[np.bool_],
    gamma: float,
    values: FloatArray,
    out: FloatArray,
    actions: NDArray[np.int32],
    backward: bool,
    first: int,
    end: int,
    choices: Sized,
    outcomes: Sized,
) -> tuple[float, int, int]:
    r"""$v(s) \leftarrow \max_a r(s, a) + \gamma \sum_{s'} p(s' \mid s, a)\, v(s')$ of each state in a range.

    Args:
        successors: (S, A, K), or (S, 1, K) where all actions share them.
        probabilities: (S, A, K), or (1, A, K) where all states share them.
        rewards: (S, A).
        terminal: (S,); these get the value 0 and action 0.
        gamma: the discount.
        values: (S,), read.
        out: (S,), written; the same array as ``values`` makes the sweep use each new value at once.
        actions: (S,), the maximising actions, the first of equals; overwritten.
        backward: from the last state to the first.
        first: the first of the states to back up.
        end: the one after the last.
        choices: A long, see :func:`loop_lengths`.
        outcomes: K long.

    Returns:
        The largest change of a value, and in how many states the action and the value changed.
    """
    ahead = np.empty(len(outcomes))
    largest, changes, moved = 0.0, 0, 0
    for i in range(first, end):
        s = np.uint64(first + end - 1 - i if backward else i)
        best, action = backup(successors, probabilities, rewards, gamma, values, s, ahead, choices, outcomes)
        best = 0.0 if terminal[s] else best
        action = 0 if terminal[s] else action
        change = abs(best - values[s])
        largest = max(largest, change)
        moved += change > 0
        changes += actions[s] != action
        actions[s] = action
        out[s] = best
    return largest, changes, moved


def loop_lengths(mdp: FiniteMDP) -> tuple[Sized, Sized]:
    """Something A and something K long, for loops over actions and outcomes.

    The length of a tuple is part of its type: the loops are compiled for it and unrolled, which doubles the speed. In
    a small model that does not repay the compilation, and arrays do.
    """
    lengths = mdp.num_actions, mdp.packed[0].shape[2]
    if mdp.num_states < MANY_STATES or math.prod(lengths) > MOST_UNROLLED:
        return np.arange(lengths[0]), np.arange(lengths[1])
    return tuple(range(lengths[0])), tuple(range(lengths[1]))


@numba.njit(cache=True, nogil=True, inline="always")
def _possible(probabilities: FloatArray, s: int, a: int, k: int, apart: bool) -> bool:
    """Whether outcome k has a probability: of action a, or of any where they are not told ``apart``."""
    row = s if probabilities.shape[0] > 1 else 0
    if apart:
        return bool(probabilities[row, a, k] > 0)
    for other in range(probabilities.shape[1]):  # noqa: SIM110 - a generator is slow when compiled
        if probabilities[row, other, k] > 0:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def predecessors(
    successors: NDArray[np.int32 | np.uint32], probabilities: FloatArray, terminal: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The states from which each non-terminal state can be reached in one step, itself left out.

    Returns:
        (S + 1,) offsets and the states, those of s from ``offsets[s]`` to ``offsets[s + 1]``.
    """
    states, rows, outcomes = successors.shape
    offsets = np.zeros(states + 1, dtype=np.uint32)
    found = np.empty(rows * outcomes, dtype=np.int32)
    sources = np.empty(0, dtype=np.uint32)
    for writing in range(2):
        if writing:
            for s in range(states):
                offsets[s + 1] += offsets[s]
            sources = np.empty(offsets[states], dtype=np.uint32)
            position = offsets[:-1].copy()
        for s in range(states):
            if terminal[s]:
                continue
            count = 0
            for a in range(rows):
                for k in range(outcomes):
                    t = successors[s, a, k]
                    if t == s or terminal[t] or not _possible(probabilities, s, a, k, rows > 1):
                        continue
                    new = True
                    for j in range(count):
                        if found[j] == t:
                            new = False
                            break
                    if new:
                        found[count] = t
                        count += 1
            for j in range(count):
                if writing:
                    sources[position[found[j]]] = s
                    position[found[j]] += 1
                else:
                    offsets[found[j] + 1] += 1
    return offsets, sources
