"""Compiled improvement of a policy for :func:`gridzero.agents.tabular.solver.solve`.

The model's arrays are as :class:`~gridzero.envs.mdp.FiniteMDP` holds them, successors and probabilities ``packed``.
"""

from __future__ import annotations

from collections.abc import Sized

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.prefetch import AHEAD, prefetch

Floats = NDArray[np.float64]
Integers = NDArray[np.int32 | np.uint32]
Booleans = NDArray[np.bool_]

FAR = 3.0
"""Times the mean: values that change more are looked at one by one."""


@numba.njit(cache=True, nogil=True, inline="always")
def look_ahead(successors: Integers, values: Floats, s: int, a: int, ahead: Floats, back: Floats) -> None:
    """Values of the successors, 0 in place of s itself; and 1 where that is, else 0."""
    for k in range(ahead.size):
        t = successors[s, a, k]
        ahead[k] = 0.0 if t == s else values[t]
        back[k] = 1.0 if t == s else 0.0


@numba.njit(cache=True, nogil=True, inline="always")
def best_action(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    gamma: float,
    shift: float,
    values: Floats,
    s: int,
    ahead: Floats,
    back: Floats,
) -> tuple[float, int]:
    """The best action's value if it were repeated as long as it leads back to s, and the action.

    ``ahead`` and ``back`` (K,) are room to work in.
    """
    apart, row = successors.shape[1] > 1, s if probabilities.shape[0] > 1 else 0
    best, best_action = -np.inf, 0
    for a in range(rewards.shape[1]):
        if a == 0 or apart:
            look_ahead(successors, values, s, a, ahead, back)
        elsewhere, stays = 0.0, 0.0
        for k in range(ahead.size):
            elsewhere += probabilities[row, a, k] * ahead[k]
            stays += probabilities[row, a, k] * back[k]
        q = (rewards[s, a] - shift + gamma * elsewhere) / (1 - gamma * stays)
        if q > best:
            best, best_action = q, a
    return best, best_action


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
    an end: it is given up after ``limit`` backups more than five for each action that they changed.
    """
    states = values.size
    ahead, back = np.empty(successors.shape[2]), np.empty(successors.shape[2])
    queue = np.empty(states, dtype=np.int32)
    queued = np.zeros(states, dtype=np.bool_)
    first, size, left = 0, 0, limit
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
    for _ in range(4 * states):
        if size == 0 or left <= 0:
            break
        s = queue[first]
        then = queue[min(first + AHEAD, states - 1)]
        prefetch(successors, then)
        prefetch(rewards, then)
        prefetch(offsets, then)
        first = first + 1 if first + 1 < states else 0
        size -= 1
        queued[s] = False
        best, action = best_action(successors, probabilities, rewards, gamma, 0.0, values, s, ahead, back)
        left -= 1
        change = best - values[s]
        large = abs(change) > threshold
        if change <= margin and not large:
            continue
        values[s] = best
        if actions[s] != action:
            actions[s] = action
            left = min(left + 5, limit)
        elif not large:
            continue
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
    shift: float,
    values: Floats,
    actions: Integers,
    margin: float,
    backward: bool,
) -> None:
    """Back up all states in place, by index; an action gives way to one better by more than ``margin``."""
    states = values.size
    ahead, back = np.empty(successors.shape[2]), np.empty(successors.shape[2])
    for i in range(states):
        s = states - 1 - i if backward else i
        if terminal[s]:
            continue
        best, action = best_action(successors, probabilities, rewards, gamma, shift, values, s, ahead, back)
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
    slack: Floats,
    drift: float,
    changed: Integers,
    noise: float,
    margin: float,
    threshold: float,
    choices: Sized,
    outcomes: Sized,
) -> tuple[float, int]:
    """The greedy policy in states where another action can have become the best.

    That is where ``slack`` (S,) is below ``drift``, how far values may have moved since the beginning. There it
    becomes the drift by which the action must be looked at again: that much more than now as it is better than others.

    An action gives way only to one better by more than ``noise``, the error of the values: less might be no gain, and
    do harm for 1/(1 - gamma) steps. States where the gain is more than ``margin``, or the residual than ``threshold``,
    are listed in ``changed``. ``choices`` are A long and ``outcomes`` K, as
    :func:`~gridzero.envs.backup_kernels.loop_lengths` has them.

    Returns:
        The largest absolute residual $|max_a q(s, a) - v(s)|$ that was found, and how many states are in ``changed``.
    """
    apart, varying = successors.shape[1] > 1, probabilities.shape[0] > 1
    ahead = np.empty(successors.shape[2])
    largest = 0.0
    listed = 0
    for s in range(values.size):
        if slack[s] >= drift or terminal[s]:
            continue
        best, best_action, second, present = -np.inf, 0, -np.inf, -np.inf
        for a in range(len(choices)):
            if a == 0 or apart:
                for k in range(len(outcomes)):
                    ahead[k] = values[successors[s, a, k]]
            expected = 0.0
            for k in range(len(outcomes)):
                expected += probabilities[s if varying else 0, a, k] * ahead[k]
            q = rewards[s, a] + gamma * expected
            lower = q if q < best else best
            second = lower if lower > second else second
            if q > best:
                best, best_action = q, a
            if a == actions[s]:
                present = q
        gain, change = best - present, abs(best - values[s])
        if gain > noise:
            actions[s] = best_action
        slack[s] = -np.inf if 0 < gain <= noise else drift + best - second
        if gain > margin or change > threshold:
            changed[listed] = s
            listed += 1
        largest = max(largest, change)
    return largest, listed


@numba.njit(cache=True, nogil=True)
def note_changes(
    offsets: Integers,
    sources: Integers,
    before: Floats,
    after: Floats,
    least: float,
    slack: Floats,
) -> float:
    """Return the largest change of a value, leaving out the few that changed much more than the mean.

    No state's actions can have moved further apart than twice that, but those near to the few: :func:`improve` must
    look at them again, which is noted in ``slack``. Changes below ``least`` are not told apart.
    """
    total, moved, sample = 0.0, 0, range(0, before.size, 1 + before.size // 10000)
    for s in sample:
        change = abs(after[s] - before[s])
        total += change
        moved += change > least
    bound = FAR * total / len(sample) if 2 * moved > len(sample) else 0.0
    for s in range(before.size):
        if abs(after[s] - before[s]) > max(bound, least):
            slack[s] = -np.inf
            for j in range(offsets[s], offsets[s + 1]):
                slack[sources[j]] = -np.inf
    return bound
