"""Optimal values of a finite horizon, by backward induction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.envs import backup_kernels as kernels

if TYPE_CHECKING:
    from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Two rises count as equal if they differ by no more than this share of the value."""


def optimal_values(mdp: FiniteMDP, horizon: int, gamma: float) -> FloatArray:
    """(S,) values with ``horizon`` steps to go (Puterman, section 4.5).

    It ends where no value changes any more, as where every episode is over by now; where each action has one outcome,
    states whose values are known to rise steadily cost nothing.
    """
    if mdp.most_successors == 1:
        sources = kernels.predecessors(*mdp.packed, mdp.terminal)
        return certain_values(*mdp.packed, mdp.rewards, mdp.terminal, gamma, horizon, *sources)
    values, spare = np.zeros(mdp.num_states), np.empty(mdp.num_states)
    actions, lengths = np.zeros(mdp.num_states, dtype=np.int32), kernels.loop_lengths(mdp)
    model = *mdp.packed, mdp.rewards, mdp.terminal, gamma
    for _ in range(horizon):
        change, _, _ = kernels.optimality_sweep(*model, values, spare, actions, False, 0, mdp.num_states, *lengths)
        values, spare = spare, values
        if change == 0:
            break
    return values


@numba.njit(cache=True, nogil=True, inline="always")
def _value(latest: FloatArray, since: NDArray[np.int32], rise: FloatArray, s: int, n: int) -> float:
    """Value of s with n steps to go: the latest one of n's parity, and what it has risen by since."""
    parity = n % 2
    return float(latest[parity, s] + rise[s] * ((n - since[parity, s]) // 2))


@numba.njit(cache=True, nogil=True)
def certain_values(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: NDArray[np.bool_],
    gamma: float,
    horizon: int,
    offsets: NDArray[np.uint32],
    sources: NDArray[np.uint32],
) -> FloatArray:
    r"""(S,) optimal values with ``horizon`` steps to go, where each action has one outcome.

    With $v_n$ the values with n steps to go, let the rise of s be $v_n(s) - v_{n-2}(s)$: two steps, as an agent that
    has to leave a target to enter it again is paid in every second one. Where all successors of s rise as s does,
    without discounting (or not at all), s goes on to rise as much, for $T(v + c) = T(v) + c$. So a state is backed up
    only while a successor rises otherwise than it does, or has just begun to; equal means up to ``ROUNDING``.

    Args:
        successors: as the next four, as :func:`~gridzero.envs.backup_kernels.optimality_sweep` takes them.
        probabilities: all 0 or 1.
        rewards: (S, A).
        terminal: (S,).
        gamma: the discount.
        horizon: the steps to go.
        offsets: (S + 1,), of :func:`~gridzero.envs.backup_kernels.predecessors`, as ``sources``.
        sources: the predecessors.
    """
    states, choices = rewards.shape
    rows, varying = successors.shape[1], probabilities.shape[0] > 1
    ahead = np.empty(successors.shape[2])
    latest, rise = np.zeros((2, states)), np.zeros(states)
    since = np.zeros((2, states), dtype=np.int32)
    since[1] = -1
    due, following = np.flatnonzero(~terminal).astype(np.int32), np.empty(states, dtype=np.int32)
    backed_up, listed = np.empty(states), np.zeros(states, dtype=np.int32)
    size = due.size
    due = np.concatenate((due, following[size:]))
    for n in range(1, horizon + 1):
        for i in range(size):
            s = due[i]
            best = -np.inf
            for a in range(choices):
                if a == 0 or rows > 1:
                    for k in range(ahead.size):
                        ahead[k] = _value(latest, since, rise, successors[s, a, k], n - 1)
                expected = 0.0
                for k in range(ahead.size):
                    expected += probabilities[s if varying else 0, a, k] * ahead[k]
                best = max(best, rewards[s, a] + gamma * expected)
            backed_up[i] = best
        count = 0
        for i in range(size):
            s, value = due[i], backed_up[i]
            new, old = value - _value(latest, since, rise, s, n - 2), rise[s]
            if new != old:
                latest[(n - 1) % 2, s], since[(n - 1) % 2, s] = _value(latest, since, rise, s, n - 1), n - 1
                rise[s] = new
            latest[n % 2, s], since[n % 2, s] = value, n
            if abs(new - old) > ROUNDING * abs(value):
                for j in range(offsets[s], offsets[s + 1]):
                    before = sources[j]
                    if listed[before] < n:
                        listed[before] = n
                        following[count] = before
                        count += 1
        for i in range(size):
            s = due[i]
            if listed[s] == n:
                continue
            steady = n > 1 and (gamma == 1 or rise[s] == 0)
            for a in range(rows):
                for k in range(ahead.size):
                    difference = abs(rise[successors[s, a, k]] - rise[s])
                    steady &= difference <= ROUNDING * abs(latest[n % 2, s])
            if not steady:
                listed[s] = n
                following[count] = s
                count += 1
        due, following, size = following, due, count
        if size == 0:
            break
    values = np.empty(states)
    for s in range(states):
        values[s] = _value(latest, since, rise, s, horizon)
    return values
