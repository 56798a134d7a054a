"""Compiled first policy for :func:`gridzero.agents.tabular.solver.solve`, and the order of its evaluation.

The model's arrays are as :class:`~gridzero.envs.mdp.FiniteMDP` holds them, successors and probabilities ``packed``.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.solver_kernels import best_action

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]
Booleans = NDArray[np.bool_]

BUCKETS = 65536
"""Of the queue of the first wave."""


@numba.njit(cache=True, nogil=True, inline="always")
def _hopeful_action(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    gamma: float,
    shift: float,
    values: Floats,
    settled: Booleans,
    s: int,
) -> tuple[float, int]:
    """The best action if successors that are not settled are as good as s; where none is settled, worth 0."""
    apart, row = successors.shape[1] > 1, s if probabilities.shape[0] > 1 else 0
    best, best_action = -np.inf, 0
    for a in range(rewards.shape[1]):
        elsewhere, stays, unknown = 0.0, 0.0, 0.0
        for k in range(successors.shape[2]):
            t = successors[s, a if apart else 0, k]
            if t == s:
                stays += probabilities[row, a, k]
            elif settled[t]:
                elsewhere += probabilities[row, a, k] * values[t]
            else:
                unknown += probabilities[row, a, k]
        if elsewhere > 0:
            stays = min(stays + unknown, 1.0)
        q = (rewards[s, a] - shift + gamma * elsewhere) / (1 - gamma * stays)
        if q > best:
            best, best_action = q, a
    return best, best_action


@numba.njit(cache=True, nogil=True)
def _bucket(value: float, top: float, width: float) -> int:
    if value >= top:
        return 0
    if value <= 1e-300:
        return BUCKETS - 1
    return min(int(np.log(top / value) / width), BUCKETS - 1)


@numba.njit(cache=True, nogil=True, inline="always")
def _append(s: int, b: int, heads: Integers, tails: Integers, following: Integers) -> None:
    following[s] = -1
    if heads[b] < 0:
        heads[b] = s
    else:
        following[tails[b]] = s
    tails[b] = s


@numba.njit(cache=True, nogil=True)
def first_wave(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    terminal: Booleans,
    gamma: float,
    shift: float,
    offsets: Integers,
    sources: Integers,
    values: Floats,
    actions: Integers,
    order: Integers,
) -> None:
    """A first policy, and an order of the states that follows the flow of value.

    Values start at the least that is possible, which ``shift`` makes 0. Where one backup raises them a wave begins. It
    goes backwards through the model and settles one state after the other, from high values to low ones (as in
    McMahan and Gordon 2005, with the queue of Yatziv, Bartesaghi and Sapiro 2006: buckets, first come first served
    within). A state's value supposes that successors not yet settled are as good as itself, so the
    wave crosses any distance that is worth it. Evaluation will tell where it was not.

    ``values``, ``actions`` and ``order``, which has room for the non-terminal states, are written.
    """
    states = values.size
    ahead, back = np.empty(successors.shape[2]), np.empty(successors.shape[2])
    alone = np.zeros(states)
    for s in range(states):
        if not terminal[s]:
            best, actions[s] = best_action(successors, probabilities, rewards, gamma, shift, values, s, ahead, back)
            alone[s] = best if best > 1e-12 * (1.0 + abs(shift)) else 0.0
    top = alone.max()
    # About the loss of value in four steps, so that most states keep the bucket from which they are reached.
    width = max(4 * (1 - gamma), 60 / BUCKETS)
    ends = np.zeros(BUCKETS, dtype=np.int32)
    following = np.empty(states, dtype=np.int32)  # at first the bucket in which a wave begins
    for s in range(states):
        if alone[s] > 0:
            following[s] = _bucket(alone[s], top, width)
            ends[following[s]] += 1
    ends = np.cumsum(ends).astype(np.int32)
    seeds = np.empty(ends[-1], dtype=np.int32)
    place = ends.copy()
    for s in range(states - 1, -1, -1):
        if alone[s] > 0:
            b = following[s]
            place[b] -= 1
            seeds[place[b]] = s
    heads, tails = np.full(BUCKETS, -1, dtype=np.int32), np.empty(BUCKETS, dtype=np.int32)
    reached, settled = terminal.copy(), terminal.copy()
    seed, last = 0, 0
    for b in range(BUCKETS):
        bound = top * np.exp(-width * (b + 1)) if b + 1 < BUCKETS else -np.inf
        while heads[b] >= 0 or seed < ends[b]:
            if seed < ends[b]:
                s = seeds[seed]
                seed += 1
                if reached[s]:
                    continue
                reached[s] = True
            else:
                s = heads[b]
                heads[b] = following[s]
            value, action = _hopeful_action(successors, probabilities, rewards, gamma, shift, values, settled, s)
            if value < bound:
                _append(s, max(_bucket(value, top, width), b + 1), heads, tails, following)
                continue
            values[s], actions[s] = value, action
            settled[s] = True
            order[last] = s
            last += 1
            for j in range(offsets[s], offsets[s + 1]):
                t = sources[j]
                if not reached[t]:
                    reached[t] = True
                    _append(t, b, heads, tails, following)
    for s in range(states):
        if not settled[s]:
            order[last] = s
            last += 1


@numba.njit(cache=True, nogil=True)
def interleave(offsets: Integers, sources: Integers, order: Integers) -> Integers:
    """The states by level: one more than the highest of the successors that are earlier in ``order``.

    Where every move can be undone, as in grids, sweeps in either order compute the same. But now a state hardly ever
    waits for the one just before it, so the processor works on several at once.
    """
    level = np.zeros(offsets.size - 1, dtype=np.int32)
    placed = np.zeros(offsets.size - 1, dtype=np.bool_)
    starts = np.zeros(order.size + 1, dtype=np.int32)
    for s in order:
        placed[s] = True
        starts[level[s] + 1] += 1
        for j in range(offsets[s], offsets[s + 1]):
            t = sources[j]
            if not placed[t]:
                level[t] = max(level[t], level[s] + 1)
    starts = np.cumsum(starts)
    result = np.empty_like(order)
    for s in range(placed.size):
        if placed[s]:
            result[starts[level[s]]] = s
            starts[level[s]] += 1
    return result
