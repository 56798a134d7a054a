"""Compiled first policy for :func:`gridzero.agents.tabular.solver.solve`, and the order of its evaluation.

The model's arrays are as :class:`~gridzero.envs.mdp.FiniteMDP` holds them, successors and probabilities ``packed``.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.prefetch import AHEAD, prefetch
from gridzero.agents.tabular.solver_kernels import best_action

Floats = NDArray[np.float64]
Integers = NDArray[np.int32 | np.uint32]
Booleans = NDArray[np.bool_]
Flags = NDArray[np.uint8]

UNREACHED, REACHED, SETTLED = np.uint8(0), np.uint8(1), np.uint8(2)
"""Status of a state in the wave: not found yet, in the queue, with a value."""
BUCKETS = 65536
"""Of the queue of the first wave."""
HALF = 0.5
"""Of the usual drop in value along the wave: how much worse than a state its successors are that are not settled.

Some lie beside it, others one step behind.
"""
MEMORY = 1000
"""The latest states, about so many, tell what the usual drop is."""


@numba.njit(cache=True, nogil=True, inline="always")
def _look_ahead(
    successors: Integers, values: Floats, status: Flags, behind: float, s: int, a: int, ahead: Floats, along: Floats
) -> None:
    """Values of the settled successors, else 0; and what the others are worth in units of s, which is 1 for s itself.

    That is as ``values`` say, or ``behind`` where they do not make them worse than s.
    """
    for k in range(ahead.size):
        t = successors[s, a, k]
        if t == s:
            ahead[k], along[k] = 0.0, 1.0
        elif status[t] == SETTLED:
            ahead[k], along[k] = values[t], 0.0
        else:
            ahead[k], along[k] = 0.0, values[t] / values[s] if 0 <= values[t] < values[s] else behind


@numba.njit(cache=True, nogil=True, inline="always")
def _hopeful_action(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    gamma: float,
    shift: float,
    values: Floats,
    status: Flags,
    behind: float,
    s: int,
    ahead: Floats,
    along: Floats,
) -> tuple[float, int]:
    """The best action if successors that are not settled are worth about as much as s, as :func:`_look_ahead` has it.

    With an action none of whose successors is settled, they are worth 0; where that goes for all actions, what
    ``values`` say. ``ahead`` and ``along`` (K,) are room to work in.
    """
    apart, row = successors.shape[1] > 1, s if probabilities.shape[0] > 1 else 0
    best, action, alone = -np.inf, 0, True
    for a in range(rewards.shape[1]):
        if a == 0 or apart:
            _look_ahead(successors, values, status, behind, s, a, ahead, along)
        elsewhere, stays = 0.0, 0.0
        for k in range(ahead.size):
            elsewhere += probabilities[row, a, k] * ahead[k]
            stays += probabilities[row, a, k] * along[k]
        if elsewhere > 0:
            alone = False
        else:
            stays = 0.0
            for k in range(ahead.size):
                if successors[s, a if apart else 0, k] == s:
                    stays += probabilities[row, a, k]
        q = (rewards[s, a] - shift + gamma * elsewhere) / (1 - gamma * stays)
        if q > best:
            best, action = q, a
    if alone:
        return best_action(successors, probabilities, rewards, gamma, shift, values, s, ahead, along)
    return best, action


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
    within). A state's value supposes that successors not yet settled are nearly as good as itself, so the wave crosses
    any distance that is worth it. Evaluation will tell where it was not.

    ``values``, ``actions`` and ``order``, which has room for the non-terminal states, are written.
    """
    states = values.size
    ahead, back = np.empty((2, successors.shape[2]))
    alone = np.zeros(states)
    for s in range(states):
        if not terminal[s]:
            best, actions[s] = best_action(successors, probabilities, rewards, gamma, shift, values, s, ahead, back)
            alone[s] = best if best > 1e-12 * (1.0 + abs(shift)) else 0.0
    top = alone.max()
    # About the loss of value in one step.
    width = max(1 - gamma, 60 / BUCKETS)
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
    status = np.where(terminal, SETTLED, UNREACHED)
    seed, last, drop = 0, 0, 0.0
    for b in range(BUCKETS):
        bound = top * np.exp(-width * (b + 1)) if b + 1 < BUCKETS else -np.inf
        while heads[b] >= 0 or seed < ends[b]:
            if seed < ends[b]:
                s = seeds[seed]
                seed += 1
                if status[s] != UNREACHED:
                    continue
                status[s] = REACHED
            else:
                s = heads[b]
                heads[b] = following[s]
                then = heads[b]
                if then >= 0:
                    prefetch(successors, then)
                    prefetch(rewards, then)
                    prefetch(following, then)
                    prefetch(offsets, then)
            prefetch(sources, offsets[s])
            value, action = _hopeful_action(
                successors,
                probabilities,
                rewards,
                gamma,
                shift,
                values,
                status,
                1 - HALF * drop,
                s,
                ahead,
                back,
            )
            if value < bound:
                _append(s, max(_bucket(value, top, width), b + 1), heads, tails, following)
                continue
            values[s], actions[s] = value, action
            status[s] = SETTLED
            order[last] = s
            last += 1
            # Predecessors wait where they will be settled if value drops as usual, which most often spares a backup.
            highest = ahead.max()
            if highest > 0:
                drop += (max(1 - value / highest, 0.0) - drop) / MEMORY
            later = max(b, _bucket(value * (1 - drop), top, width))
            for j in range(offsets[s], offsets[s + 1]):
                t = sources[j]
                if status[t] == UNREACHED:
                    status[t] = REACHED
                    _append(t, later, heads, tails, following)
    for s in range(states):
        if status[s] != SETTLED:
            order[last] = s
            last += 1


@numba.njit(cache=True, nogil=True)
def mean_residual(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    gamma: float,
    shift: float,
    values: Floats,
    sample: Integers,
) -> float:
    """The mean absolute Bellman residual over the states in ``sample`` (n,), with rewards lowered by ``shift``."""
    ahead, back = np.empty((2, successors.shape[2]))
    total = 0.0
    for s in sample:
        best, _ = best_action(successors, probabilities, rewards, gamma, shift, values, s, ahead, back)
        total += abs(best - values[s])
    return total / max(sample.size, 1)


@numba.njit(cache=True, nogil=True)
def follow_wave(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    terminal: Booleans,
    gamma: float,
    shift: float,
    values: Floats,
    actions: Integers,
    order: Integers,
) -> None:
    """Back up all states in the order of the wave, now that it is known how value drops from each to those behind it.

    A state's value supposes that later ones are worth the same share of it as before. So one pass corrects what the
    wave supposed over any distance, where backups by the values themselves would move a correction by few steps.
    """
    ahead, along = np.empty((2, successors.shape[2]))
    status = np.where(terminal, SETTLED, UNREACHED)
    for i in range(order.size):
        s = order[i]
        if i + AHEAD < order.size:
            t = order[i + AHEAD]
            prefetch(successors, t)
            prefetch(rewards, t)
            prefetch(values, t)
        values[s], actions[s] = _hopeful_action(
            successors, probabilities, rewards, gamma, shift, values, status, 1.0, s, ahead, along
        )
        status[s] = SETTLED


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
