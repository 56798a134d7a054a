"""Shape and reachability of Gymnasium's tables of transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
