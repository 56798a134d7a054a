"""Compiled first policy and improvement for :func:`gridzero.agents.tabular.solver.solve`.

The model's arrays are as :class:`~gridzero.envs.mdp.FiniteMDP` holds them.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]
Booleans = NDArray[np.bool_]

BUCKETS = 65536
"""Of the queue of the first wave."""


@numba.njit(cache=True, nogil=True)
def predecessors(successors: Integers, probabilities: Floats, terminal: Booleans) -> tuple[Integers, Integers]:
    """The states from which each non-terminal state can be reached in one step, itself left out.

    Returns:
        (S + 1,) offsets and the states, those of s from ``offsets[s]`` to ``offsets[s + 1]``.
    """
    states, choices, outcomes = successors.shape
    offsets = np.zeros(states + 1, dtype=np.int32)
    found = np.empty(choices * outcomes, dtype=np.int32)
    sources = np.empty(0, dtype=np.int32)
    for writing in range(2):
        if writing:
            for s in range(states):
                offsets[s + 1] += offsets[s]
            sources = np.empty(offsets[states], dtype=np.int32)
            position = offsets[:-1].copy()
        for s in range(states):
            if terminal[s]:
                continue
            count = 0
            for a in range(choices):
                for k in range(outcomes):
                    t = successors[s, a, k]
                    if t == s or probabilities[s, a, k] == 0.0 or terminal[t]:
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


@numba.njit(cache=True, nogil=True, inline="always")
def _best_action(
    successors: Integers, probabilities: Floats, rewards: Floats, gamma: float, shift: float, values: Floats, s: int
) -> tuple[float, int]:
    """The best action's value if it were repeated as long as it leads back to s, and the action."""
    _, choices, outcomes = successors.shape
    best, best_action = -np.inf, 0
    for a in range(choices):
        elsewhere, stays = 0.0, 0.0
        for k in range(outcomes):
            t = successors[s, a, k]
            if t == s:
                stays += probabilities[s, a, k]
            else:
                elsewhere += probabilities[s, a, k] * values[t]
        q = (rewards[s, a] - shift + gamma * elsewhere) / (1 - gamma * stays)
        if q > best:
            best, best_action = q, a
    return best, best_action


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
    _, choices, outcomes = successors.shape
    best, best_action = -np.inf, 0
    for a in range(choices):
        elsewhere, stays, unknown = 0.0, 0.0, 0.0
        for k in range(outcomes):
            t = successors[s, a, k]
            if t == s:
                stays += probabilities[s, a, k]
            elif settled[t]:
                elsewhere += probabilities[s, a, k] * values[t]
            else:
                unknown += probabilities[s, a, k]
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
    alone = np.zeros(states)
    for s in range(states):
        if not terminal[s]:
            best, actions[s] = _best_action(successors, probabilities, rewards, gamma, shift, values, s)
            alone[s] = best if best > 1e-12 * (1.0 + abs(shift)) else 0.0
    top = alone.max()
    # About the loss of value in four steps, so that most states keep the bucket from which they are reached.
    width = max(4 * (1 - gamma), 60 / BUCKETS)
    ends = np.zeros(BUCKETS, dtype=np.int32)
    for s in range(states):
        if alone[s] > 0:
            ends[_bucket(alone[s], top, width)] += 1
    ends = np.cumsum(ends).astype(np.int32)
    seeds = np.empty(ends[-1], dtype=np.int32)
    place = ends.copy()
    for s in range(states - 1, -1, -1):
        if alone[s] > 0:
            b = _bucket(alone[s], top, width)
            place[b] -= 1
            seeds[place[b]] = s
    heads, tails = np.full(BUCKETS, -1, dtype=np.int32), np.empty(BUCKETS, dtype=np.int32)
    following = np.empty(states, dtype=np.int32)
    reached, settled = terminal.copy(), terminal.copy()
    seed, last = 0, 0
    for b in range(BUCKETS):
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
            later = _bucket(value, top, width)
            if later > b:
                _append(s, later, heads, tails, following)
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


@numba.njit(cache=True, nogil=True)
def spread(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    gamma: float,
    offsets: Integers,
    sources: Integers,
    values: Floats,
    actions: Integers,
    changed: Integers,
    margin: float,
    threshold: float,
    limit: int,
) -> bool:
    """Carry changes on to where they matter.

    The ``changed`` states and their predecessors are backed up, and where that changes the action for a gain of more
    than ``margin``, or the value by more than ``threshold``, their predecessors in turn. Returns whether this came to
    an end within ``limit`` backups.
    """
    states = values.size
    queue = np.empty(states, dtype=np.int32)
    queued = np.zeros(states, dtype=np.bool_)
    first, size, backups = 0, 0, 0
    for s in changed:
        if not queued[s]:
            queued[s] = True
            queue[size] = s
            size += 1
    for s in changed:
        for j in range(offsets[s], offsets[s + 1]):
            t = sources[j]
            if not queued[t]:
                queued[t] = True
                queue[size] = t
                size += 1
    while size > 0 and backups < limit:
        s = queue[first]
        first = first + 1 if first + 1 < states else 0
        size -= 1
        queued[s] = False
        backups += 1
        best, action = _best_action(successors, probabilities, rewards, gamma, 0.0, values, s)
        change = best - values[s]
        large = abs(change) > threshold
        if change <= margin and not large:
            continue
        values[s] = best
        if actions[s] == action and not large:
            continue
        actions[s] = action
        for j in range(offsets[s], offsets[s + 1]):
            t = sources[j]
            if not queued[t]:
                queued[t] = True
                last = first + size
                queue[last if last < states else last - states] = t
                size += 1
    return size == 0


@numba.njit(cache=True, nogil=True)
def sweep(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    terminal: Booleans,
    gamma: float,
    values: Floats,
    actions: Integers,
    margin: float,
    backward: bool,
) -> None:
    """Back up all states in place, by index; an action gives way to one better by more than ``margin``."""
    states = values.size
    for i in range(states):
        s = states - 1 - i if backward else i
        if terminal[s]:
            continue
        best, action = _best_action(successors, probabilities, rewards, gamma, 0.0, values, s)
        if best - values[s] > margin:
            actions[s] = action
        values[s] = best


@numba.njit(cache=True, nogil=True)
def improve(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    terminal: Booleans,
    gamma: float,
    values: Floats,
    actions: Integers,
    residuals: Floats,
    due: Booleans,
    changed: Integers,
    noise: float,
    margin: float,
    threshold: float,
) -> tuple[float, int]:
    """The greedy policy in states where a backup is ``due``.

    There, ``residuals`` (S,) become $max_a q(s, a) - v(s)$. An action gives way only to one better by more than
    ``noise``, the error of the values: less might be no gain, and do harm for 1/(1 - gamma) steps. States where the
    gain is more than ``margin``, or the residual than ``threshold``, are listed in ``changed``.

    Returns:
        The largest absolute residual, and how many states are in ``changed``.
    """
    _, choices, outcomes = successors.shape
    largest = 0.0
    listed = 0
    for s in range(values.size):
        if terminal[s]:
            continue
        if due[s]:
            best, best_action, present = -np.inf, 0, -np.inf
            for a in range(choices):
                expected = 0.0
                for k in range(outcomes):
                    expected += probabilities[s, a, k] * values[successors[s, a, k]]
                q = rewards[s, a] + gamma * expected
                if q > best:
                    best, best_action = q, a
                if a == actions[s]:
                    present = q
            residuals[s] = best - values[s]
            if best - present > noise:
                actions[s] = best_action
            if best - present > margin or abs(residuals[s]) > threshold:
                changed[listed] = s
                listed += 1
        largest = max(largest, abs(residuals[s]))
    return largest, listed


@numba.njit(cache=True, nogil=True)
def mark_due(
    offsets: Integers,
    sources: Integers,
    before: Floats,
    after: Floats,
    residuals: Floats,
    threshold: float,
    due: Booleans,
) -> None:
    """A backup is due where the residual was, or the state or a successor changed by, more than ``threshold``."""
    due[:] = False
    for s in range(before.size):
        if abs(residuals[s]) > threshold:
            due[s] = True
        if abs(after[s] - before[s]) > threshold:
            due[s] = True
            for j in range(offsets[s], offsets[s + 1]):
                due[sources[j]] = True
