"""Gymnasium's tables of transitions as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Table = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
"""Gymnasium's toy-text format, ``table[s][a] = [(probability, next, reward, terminated), …]``."""


def table_shape(table: Mapping[int, Mapping[int, Any]]) -> tuple[int, int]:
    """The numbers of states and actions of ``table[s][a]``.

    Raises:
        ValueError: for gaps in the numbering, or rows of different length.
    """
    states = len(table)
    actions = len(table[0]) if 0 in table else 0
    if actions == 0:
        raise ValueError("a table of transitions needs states and actions numbered from 0")
    for s in range(states):
        if s not in table:
            raise ValueError(f"the table has {states} states but no state {s}")
        if set(table[s]) != set(range(actions)):
            raise ValueError(f"state {s} of the table must have actions 0 to {actions - 1}, not {sorted(table[s])}")
    return states, actions


def states_entered(
    flat: Sequence[tuple[int, int, float, int, float, bool]], initial: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(S,), the states in which an episode can be that has not ended."""
    following: list[list[int]] = [[] for _ in initial]
    for s, _, _, nxt, _, end in flat:
        if not end:
            following[s].append(nxt)
    reached: NDArray[np.bool_] = initial > 0
    stack = np.flatnonzero(reached).tolist()
    while stack:
        for nxt in following[stack.pop()]:
            if not reached[nxt]:
                reached[nxt] = True
                stack.append(nxt)
    return reached


def table_arrays(table: Table, start: ArrayLike | None) -> tuple[NDArray[Any], ...]:
    """Successors, probabilities, rewards, terminal states and start, as ``FiniteMDP.from_table`` describes them.

    Raises:
        ValueError: for a table with gaps, rows of different length, a state out of range, or a start of another shape.
    """
    states, actions = table_shape(table)
    flat = [
        (s, a, float(p), int(nxt), float(r), bool(end))
        for s in range(states)
        for a in range(actions)
        for p, nxt, r, end in table[s][a]
        if p > 0
    ]
    for s, a, _, nxt, _, _ in flat:
        if not 0 <= nxt < states:
            raise ValueError(f"the table's [{s}][{a}] leads to state {nxt}; states go from 0 to {states - 1}")
    ending = np.zeros(states, dtype=np.bool_)
    ending[[nxt for *_, nxt, _, end in flat if end]] = True
    if start is None:
        initial = (~ending if not ending.all() else ending).astype(np.float64)
        initial /= initial.sum()
    else:
        initial = np.asarray(start, dtype=np.float64)
        if initial.shape != (states,):
            raise ValueError(f"start must have shape {(states,)} to go with the table; it has {initial.shape}")
    mixed = ending & states_entered(flat, initial)
    extra = int(mixed.any())
    terminal = np.concatenate([ending & ~mixed, np.ones(extra, dtype=np.bool_)])
    counts = np.bincount([s * actions + a for s, a, *_ in flat], minlength=states * actions)
    shape = (states + extra, actions, max(int(counts.max()), 1))
    successors = np.broadcast_to(np.arange(shape[0], dtype=np.int32)[:, None, None], shape).copy()
    probabilities, rewards = np.zeros(shape), np.zeros(shape[:2])
    if extra:
        probabilities[states, :, 0] = 1.0
    filled = np.zeros((states, actions), dtype=np.int64)
    for s, a, p, nxt, r, end in flat:
        k = filled[s, a]
        filled[s, a] += 1
        successors[s, a, k] = states if end and mixed[nxt] else nxt
        probabilities[s, a, k] = p
        rewards[s, a] += p * r
    return (successors, probabilities, rewards, terminal, np.concatenate([initial, np.zeros(extra)]))
