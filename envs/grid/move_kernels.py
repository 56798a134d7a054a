"""From a map to its moves, and from moves to a model, compiled.

A *move* is one 64-bit word: where it lands, what it pays (an index into the palette of rewards) and what the landing
cell is. Tables of moves are small enough to stay in the first-level cache, which decides the speed of a step.

====== ====================================================================
bits   meaning
====== ====================================================================
0-31   the cell it lands on; a group of cells, any of them, if ``SPREAD``
32-47  index into the palette of rewards
48     ``TERMINAL``: the landing cell ends the episode
49     ``SUCCESS``: it is a target
50     ``SPREAD``
51     ``BUMP``: the boundary or a wall is in the way
====== ====================================================================
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

UintArray = NDArray[np.uint64]

BLOCKS, BOUNCES, ENDS, TARGET = 1, 2, 4, 8
"""Flags of a tile, the first column of a tile table."""
FLAGS, WIND_ROWS, WIND_COLUMNS, SENDS_TO, LEADS_TO, ENTERING, LEAVING = range(7)
"""The columns of a tile table; ``SENDS_TO`` and ``LEADS_TO`` are groups, -1 for none; the last two are rewards."""
BOUNDARY_REWARD = 2
"""Index in the palette of the reward for bumping; index 0 pays nothing."""

LOW = np.uint64(0xFFFFFFFF)
REWARD_MASK = np.uint64(0xFFFF)
TERMINAL, SUCCESS, SPREAD, BUMP = (np.uint64(1 << bit) for bit in (48, 49, 50, 51))
_S32 = np.uint64(32)


@numba.njit(inline="always")
def _landing(cell: int, tile: int, tiles: NDArray[np.int32]) -> np.uint64:
    word = np.uint64(cell)
    if tiles[tile, FLAGS] & ENDS:
        word |= TERMINAL
    if tiles[tile, FLAGS] & TARGET:
        word |= SUCCESS
    return word


@numba.njit(inline="always")
def _group_landing(group: int, offsets: NDArray[np.int64], members: UintArray) -> np.uint64:
    if offsets[group + 1] - offsets[group] == 1:
        only: np.uint64 = members[offsets[group]]
        return only
    return np.uint64(group) | SPREAD


@numba.njit(cache=True)
def start_words(
    cells: NDArray[np.uint8],
    tiles: NDArray[np.int32],
    preferred: NDArray[np.bool_],
    possible: NDArray[np.bool_],
    words: UintArray,
) -> int:
    """The landing words of the cells to start on: those of a preferred tile, or if there are none of a possible one.

    Args:
        cells: (H, W), indices of tiles.
        tiles: (L, 7), the tile table.
        preferred: (L,).
        possible: (L,).
        words: (H·W,), overwritten as far as it is used.

    Returns:
        How many.
    """
    count = 0
    flat = cells.reshape(-1)
    for wanted in (preferred, possible):
        for state in range(flat.size):
            if wanted[flat[state]]:
                words[count] = _landing(state, flat[state], tiles)
                count += 1
        if count > 0:
            break
    return count


@numba.njit(cache=True)
def landings(states: NDArray[np.int64], cells: NDArray[np.uint8], tiles: NDArray[np.int32]) -> UintArray:
    """Landing words of ``states``, which pay nothing."""
    flat = cells.reshape(-1)
    words = np.empty(states.size, dtype=np.uint64)
    for i in range(states.size):
        words[i] = _landing(states[i], flat[states[i]], tiles)
    return words


@numba.njit(cache=True)
def compile_moves(
    cells: NDArray[np.uint8],
    directions: NDArray[np.int64],
    tiles: NDArray[np.int32],
    offsets: NDArray[np.int64],
    members: UintArray,
    moves: UintArray,
) -> None:
    """Compile the moves in each direction from each cell.

    Wind is added to the direction and the sum clipped at the edge (Sutton & Barto, ex. 6.5), which carries over walls;
    a landing on a blocking cell is a bump. So is a direction off the map; without wind it leaves the agent in place.

    Args:
        cells: (H, W), indices of tiles.
        directions: (D, 2), rows and columns.
        tiles: (L, 7), the tile table.
        offsets: (G+1,), where each group of landing cells begins in ``members``.
        members: landing words.
        moves: (H·W, D), overwritten.
    """
    height, width = cells.shape
    flat = cells.reshape(-1)
    for row in range(height):
        for column in range(width):
            state = row * width + column
            tile = flat[state]
            if tiles[tile, FLAGS] & (BLOCKS | ENDS):
                moves[state, :] = _landing(state, tile, tiles) | TERMINAL
                continue
            wind_rows, wind_columns = tiles[tile, WIND_ROWS], tiles[tile, WIND_COLUMNS]
            windy = wind_rows != 0 or wind_columns != 0
            for d in range(directions.shape[0]):
                if tiles[tile, LEADS_TO] >= 0:
                    word = _group_landing(tiles[tile, LEADS_TO], offsets, members)
                    paid = tiles[tile, LEAVING]
                    if paid < 0:
                        paid = tiles[flat[np.int64(word & LOW)], ENTERING]
                    moves[state, d] = word | (np.uint64(paid) << _S32)
                    continue
                next_row, next_column = row + directions[d, 0], column + directions[d, 1]
                bump = not (0 <= next_row < height and 0 <= next_column < width)
                if windy:
                    next_row = min(max(next_row + wind_rows, 0), height - 1)
                    next_column = min(max(next_column + wind_columns, 0), width - 1)
                elif bump:
                    next_row, next_column = row, column
                next_tile = flat[next_row * width + next_column]
                if tiles[next_tile, FLAGS] & BLOCKS:
                    bump = True
                    next_row, next_column, next_tile = row, column, tile
                entered = next_tile
                if tiles[next_tile, FLAGS] & BOUNCES:
                    next_row, next_column, next_tile = row, column, tile
                if tiles[next_tile, SENDS_TO] >= 0:
                    word = _group_landing(tiles[next_tile, SENDS_TO], offsets, members)
                else:
                    word = _landing(next_row * width + next_column, next_tile, tiles)
                if bump:
                    moves[state, d] = word | (np.uint64(BOUNDARY_REWARD) << _S32) | BUMP
                else:
                    moves[state, d] = word | (np.uint64(tiles[entered, ENTERING]) << _S32)


@numba.njit(cache=True)
def distances_to(moves: UintArray, goals: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the moves from each cell to the nearest goal, in worlds of few cells whose moves lead to a single one.

    Args:
        moves: (S, D).
        goals: (S,).

    Returns:
        (S,), -1 where no goal can be reached.
    """
    distances = np.where(goals, 0, -1)
    frontier, changed = 0, True
    while changed:
        changed = False
        for state in range(len(moves)):
            if distances[state] < 0:
                for d in range(moves.shape[1]):
                    if distances[np.int64(moves[state, d] & LOW)] == frontier:
                        distances[state] = frontier + 1
                        changed = True
                        break
        frontier += 1
    return distances


@numba.njit(cache=True)
def list_outcomes(
    moves: UintArray,
    directions: NDArray[np.int64],
    chances: NDArray[np.float64],
    palette: NDArray[np.float64],
    successors: NDArray[np.int32],
    rewards: NDArray[np.float64],
) -> None:
    """Fill the arrays of a FiniteMDP in which no move leads to a group of cells.

    Args:
        moves: (S, D).
        directions: (A, K) that an action can take, or (1, K) where all actions share them.
        chances: (A, K), their probabilities.
        palette: rewards.
        successors: (S, A, K) or (S, 1, K), overwritten.
        rewards: (S, A), overwritten.
    """
    apart = directions.shape[0] > 1
    for s in range(moves.shape[0]):
        for a in range(chances.shape[0]):
            expected = 0.0
            for k in range(chances.shape[1]):
                word = moves[s, directions[a if apart else 0, k]]
                if a == 0 or apart:
                    successors[s, a, k] = np.int32(word & LOW)
                expected += chances[a, k] * palette[(word >> _S32) & REWARD_MASK]
            rewards[s, a] = expected


@numba.njit(cache=True)
def merge_outcomes(
    moves: UintArray,
    choices: NDArray[np.int64],
    slips: NDArray[np.float64],
    palette: NDArray[np.float64],
    offsets: NDArray[np.int64],
    members: UintArray,
    successors: NDArray[np.int32],
    probabilities: NDArray[np.float64],
    rewards: NDArray[np.float64],
) -> int:
    """Fill the arrays of any FiniteMDP, equal successors merged; with ``successors`` of size 0, only count.

    Args:
        moves: (S, D).
        choices: (A, 1+n), the directions an action can take: its own, then the equally likely alternatives.
        slips: (A,), the probability of the alternatives together.
        palette: rewards.
        offsets: as in :func:`compile_moves`.
        members: as in :func:`compile_moves`.
        successors: (S, A, K), holding each state's own number, or size 0.
        probabilities: (S, A, K), zeros.
        rewards: (S, A), zeros.

    Returns:
        K: the most successors that any pair has.
    """
    states, actions = moves.shape[0], choices.shape[0]
    largest_group = 1
    for g in range(offsets.size - 1):
        largest_group = max(largest_group, offsets[g + 1] - offsets[g])
    successors_seen = np.empty(choices.shape[1] * largest_group, dtype=np.int64)
    most = 1
    fill = successors.size > 0
    for s in range(states):
        for a in range(actions):
            count = 0
            alternatives = choices.shape[1] - 1 if slips[a] > 0 else 0
            for j in range(alternatives + 1):
                weight = 1.0 - slips[a] if j == 0 else slips[a] / alternatives
                if weight == 0.0:
                    continue
                word = moves[s, choices[a, j]]
                target = np.int64(word & LOW)
                first, last = 0, 1
                if word & SPREAD:
                    first, last = offsets[target], offsets[target + 1]
                if fill:
                    rewards[s, a] += weight * palette[(word >> _S32) & REWARD_MASK]
                for m in range(first, last):
                    cell = np.int64(members[m] & LOW) if word & SPREAD else target
                    k = 0
                    while k < count and successors_seen[k] != cell:
                        k += 1
                    if k == count:
                        successors_seen[k] = cell
                        count += 1
                    if fill:
                        successors[s, a, k] = cell
                        probabilities[s, a, k] += weight / (last - first)
            most = max(most, count)
    return most
