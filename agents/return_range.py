"""Possible returns: their range within a limit of steps, and whether the goal can be reached in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

LARGEST_TABLE = 2_000
"""States of a table of transitions, which is a dictionary and slow to read."""


def return_range(
    table: Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]],
    start: FloatArray,
    limit: int,
    policy: FloatArray | None = None,
) -> tuple[float, float]:
    """The least and the greatest return of an episode that has probability greater than 0, by backward induction.

    Args:
        table: ``table[s][a]`` lists (probability, next state, reward, terminated).
        start: (S,) probabilities of the initial state.
        limit: the steps after which an episode is cut off.
        policy: (S, A) probabilities; if not given, any action may be taken.

    Example:
        >>> table = {0: {0: [(0.9, 0, 0.0, False), (0.1, 1, -5.0, True)]}, 1: {0: [(1.0, 1, 0.0, True)]}}
        >>> return_range(table, np.array([1.0, 0.0]), limit=10)
        (-5.0, 0.0)
    """
    rows = [
        (s, int(following), float(reward), float(not end))
        for s in range(len(table))
        for a in range(len(table[s]))
        if policy is None or policy[s, a] > 0
        for p, following, reward, end in table[s][a]
        if p > 0
    ]
    source, successor, reward, goes_on = (np.array(column) for column in zip(*rows, strict=True))
    firsts = np.searchsorted(source, np.arange(len(table)))
    started = start[: len(table)] > 0
    result = []
    for most in (np.minimum, np.maximum):
        values = np.zeros(len(table))
        for _ in range(limit):
            before = values
            values = most.reduceat(reward + goes_on * values[successor], firsts)
            if np.array_equal(values, before):
                break
        result.append(float(most.reduce(values[started])))
    return result[0], result[1]


def limit_warnings(mdp: FiniteMDP, targets: NDArray[np.bool_], limit: int) -> tuple[str, ...]:
    """Warn of starts from which no sequence of ``limit`` moves leads to a target.

    Args:
        mdp: the model.
        targets: (S,) bool.
        limit: the steps after which an episode is cut off.
    """
    share = float(mdp.start[distances(mdp, targets) > limit].sum())
    if share == 0:
        return ()
    where = "the start" if share > 1 - 1e-9 else f"{share:.0%} of the starts"
    return (f"the target cannot be reached from {where} within {limit:,} steps; the optimum is that of the limit",)


def distances(mdp: FiniteMDP, targets: NDArray[np.bool_]) -> FloatArray:
    """(S,) the fewest moves to a target if all goes well; infinite where it cannot be reached."""
    import scipy.sparse as sparse
    from scipy.sparse.csgraph import dijkstra

    successors, probabilities = mdp.packed
    possible = probabilities > 0
    if successors.shape[1] == 1:
        possible = np.logical_or.reduce(possible, axis=1, keepdims=True)
    possible = possible & ~mdp.terminal[:, None, None]
    sources = np.broadcast_to(np.arange(mdp.num_states, dtype=np.int32)[:, None, None], possible.shape)[possible]
    backwards = sparse.csr_matrix(
        (np.ones(sources.size, dtype=np.int8), (successors[possible], sources)),
        shape=(mdp.num_states, mdp.num_states),
    )
    if not targets.any():
        return np.full(mdp.num_states, np.inf)
    fewest: Any = dijkstra(backwards, indices=np.flatnonzero(targets), unweighted=True, min_only=True)
    return np.asarray(fewest, dtype=np.float64)
