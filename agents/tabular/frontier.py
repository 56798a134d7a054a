"""Sweeps of value iteration over the states whose values can still change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.envs.backup_kernels import MANY_STATES, backup, loop_lengths, optimality_sweep, predecessors
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]
Indices = NDArray[np.uint32]
Model = tuple[NDArray[np.int32], FloatArray, FloatArray, NDArray[np.bool_], float]

FEW = 1 / 8
"""The share of states up to which a list of them is swept faster than all states in order; a list is begun where a
quarter of that have changed, as their predecessors join it."""


class Frontier:
    """Synchronous sweeps that leave out the states none of whose successors has just changed.

    The values, and all that a sweep says, are as if it had backed up every state: rewards spread from state to state,
    and where the outcomes are certain, values behind the front are final.

    Args:
        mdp: the model.
    """

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        self._lengths = loop_lengths(mdp)
        self._spare = np.empty(mdp.num_states)
        self._listed = np.zeros(mdp.num_states, dtype=np.bool_)
        self._sources: tuple[Indices, Indices] | None = None
        self._due: NDArray[np.int32] | None = None  # where there are few

    def sweep(self, values: FloatArray, actions: NDArray[np.int32], gamma: float) -> tuple[FloatArray, float, int]:
        """One sweep from ``values`` (S,), which must be those that the last one returned, if there was one.

        ``actions`` (S,) are overwritten, ``values`` may be.

        Returns:
            The new values, the largest change of a value, and in how many states the action changed.
        """
        model = *self.mdp.packed, self.mdp.rewards, self.mdp.terminal, float(gamma)
        few = FEW * self.mdp.num_states
        if self._due is not None and self._sources is not None:
            largest, changes, due = _sweep_due(*model, values, actions, self._due, *self._sources, self._listed)
            self._due = due if due.size <= few else None
            return values, largest, changes
        after = self._spare
        largest, changes, moved = self._sweep_all(model, values, after, actions)
        if moved <= few / 4:
            self._sources = self._sources or predecessors(*self.mdp.packed, self.mdp.terminal)
            self._due = _due_after(values, after, *self._sources)
        self._spare = values
        return after, largest, changes

    def _sweep_all(
        self, model: Model, values: FloatArray, after: FloatArray, actions: NDArray[np.int32]
    ) -> tuple[float, int, int]:
        states = self.mdp.num_states
        threads = numba.get_num_threads() if states >= MANY_STATES else 1

        def part(i: int) -> tuple[float, int, int]:
            first, end = states * i // threads, states * (i + 1) // threads
            return optimality_sweep(*model, values, after, actions, False, first, end, *self._lengths)

        with ThreadPoolExecutor() as pool:
            others = [pool.submit(part, i) for i in range(1, threads)]
            parts = [part(0), *(other.result() for other in others)]
        largest, changes, moved = zip(*parts, strict=True)
        return max(largest), sum(changes), sum(moved)


@numba.njit(cache=True, nogil=True)
def _due_after(before: FloatArray, after: FloatArray, offsets: Indices, sources: Indices) -> NDArray[np.int32]:
    """The states whose value, or a successor's, is another ``after`` a sweep than ``before``; each once.

    Args:
        before: (S,).
        after: (S,).
        offsets: (S + 1,), of :func:`~gridzero.envs.backup_kernels.predecessors`, as ``sources``.
        sources: the predecessors.
    """
    states = before.size
    due, listed, size = np.empty(states, dtype=np.int32), np.zeros(states, dtype=np.bool_), 0
    for s in range(states):
        if before[s] != after[s]:
            size = _list_with_predecessors(s, offsets, sources, due, listed, size)
    return due[:size]


@numba.njit(cache=True, inline="always")
def _list_with_predecessors(
    s: int,
    offsets: Indices,
    sources: Indices,
    due: NDArray[np.int32],
    listed: NDArray[np.bool_],
    size: int,
) -> int:
    """Append s and its predecessors to the first ``size`` that are ``due``, unless they are; the new size."""
    if not listed[s]:
        listed[s] = True
        due[size] = s
        size += 1
    for j in range(offsets[s], offsets[s + 1]):
        t = sources[j]
        if not listed[t]:
            listed[t] = True
            due[size] = t
            size += 1
    return size


@numba.njit(cache=True, nogil=True)
def _sweep_due(
    successors: NDArray[np.int32],
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: NDArray[np.bool_],
    gamma: float,
    values: FloatArray,
    actions: NDArray[np.int32],
    due: NDArray[np.int32],
    offsets: Indices,
    sources: Indices,
    listed: NDArray[np.bool_],
) -> tuple[float, int, NDArray[np.int32]]:
    """A synchronous :func:`~gridzero.envs.backup_kernels.optimality_sweep` of the states that are due.

    The others would keep their values, as no successor's has changed. ``values`` (S,) and ``actions`` (S,) are
    overwritten; ``listed`` (S,) is room to work in, False before and after.

    Returns:
        The largest change of a value, in how many states the action changed, and which states are due next.
    """
    ahead, backed_up = np.empty(successors.shape[2]), np.empty(due.size)
    choices, outcomes = np.arange(rewards.shape[1]), np.arange(ahead.size)
    largest, changes = 0.0, 0
    for i in range(due.size):
        s = due[i]
        backed_up[i], action = backup(successors, probabilities, rewards, gamma, values, s, ahead, choices, outcomes)
        if terminal[s]:
            backed_up[i], action = 0.0, 0
        changes += actions[s] != action
        actions[s] = action
    following, size = np.empty(values.size, dtype=np.int32), 0
    for i in range(due.size):
        s = due[i]
        change = abs(backed_up[i] - values[s])
        values[s] = backed_up[i]
        largest = max(largest, change)
        if change > 0:
            size = _list_with_predecessors(s, offsets, sources, following, listed, size)
    for i in range(size):
        listed[following[i]] = False
    return largest, changes, following[:size]
