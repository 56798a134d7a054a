"""The compiled half of the grid world: from a map to its moves, from moves to a model, and a step of a whole batch.

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

from gridzero.envs.generator_kernels import generate_into
from gridzero.envs.random_streams import GOLDEN, mix_bits

UintArray = NDArray[np.uint64]

BLOCKS, BOUNCES, ENDS, TARGET = 1, 2, 4, 8
"""Flags of a tile, the first column of a tile table."""
FLAGS, WIND_ROWS, WIND_COLUMNS, SENDS_TO, LEADS_TO, ENTERING, LEAVING = range(7)
"""The columns of a tile table; ``SENDS_TO`` and ``LEADS_TO`` are groups, -1 for none; the last two are rewards."""
BOUNDARY_REWARD = 2
"""Where the palette has the reward for bumping; 0 is for what pays nothing."""

LOW = np.uint64(0xFFFFFFFF)
REWARD_MASK = np.uint64(0xFFFF)
TERMINAL, SUCCESS, SPREAD, BUMP = (np.uint64(1 << bit) for bit in (48, 49, 50, 51))
_ZERO, _ONE, _S32 = np.uint64(0), np.uint64(1), np.uint64(32)

LANE = np.dtype(
    [("key", "u8"), ("position", "u8"), ("cell", "i4"), ("elapsed", "i4"), ("done", "?")],
    align=True,
)
"""One environment of a batch. ``position`` is the number of draws made times ``GOLDEN``, which spares a product."""


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
    """What it is to land on each of ``states``, as words that pay nothing."""
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
    """What each direction does from each cell.

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
            here = flat[state]
            if tiles[here, FLAGS] & (BLOCKS | ENDS):
                moves[state, :] = _landing(state, here, tiles) | TERMINAL
                continue
            wind_rows, wind_columns = tiles[here, WIND_ROWS], tiles[here, WIND_COLUMNS]
            windy = wind_rows != 0 or wind_columns != 0
            for d in range(directions.shape[0]):
                if tiles[here, LEADS_TO] >= 0:
                    word = _group_landing(tiles[here, LEADS_TO], offsets, members)
                    paid = tiles[here, LEAVING]
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
                there = flat[next_row * width + next_column]
                if tiles[there, FLAGS] & BLOCKS:
                    bump = True
                    next_row, next_column, there = row, column, here
                entered = there
                if tiles[there, FLAGS] & BOUNCES:
                    next_row, next_column, there = row, column, here
                if tiles[there, SENDS_TO] >= 0:
                    word = _group_landing(tiles[there, SENDS_TO], offsets, members)
                else:
                    word = _landing(next_row * width + next_column, there, tiles)
                if bump:
                    moves[state, d] = word | (np.uint64(BOUNDARY_REWARD) << _S32) | BUMP
                else:
                    moves[state, d] = word | (np.uint64(tiles[entered, ENTERING]) << _S32)


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
    """Fill the arrays of a FiniteMDP, equal successors merged; with ``successors`` of size 0, only count.

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
    found = np.empty(choices.shape[1] * largest_group, dtype=np.int64)
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
                    while k < count and found[k] != cell:
                        k += 1
                    if k == count:
                        found[k] = cell
                        count += 1
                    if fill:
                        successors[s, a, k] = cell
                        probabilities[s, a, k] += weight / (last - first)
            most = max(most, count)
    return most


@numba.njit(cache=True)
def step(
    lanes: NDArray[np.void],
    actions: NDArray[np.int64],
    moves: UintArray,
    num_actions: int,
    num_choices: int,
    threshold: int,
    starts: UintArray,
    start_counts: UintArray,
    many: bool,
    palette: NDArray[np.float64],
    offsets: NDArray[np.int64],
    members: UintArray,
    limit: int,
    autoreset: bool,
    cells: NDArray[np.int64],
    rewards: NDArray[np.float64],
    flags: NDArray[np.bool_],
) -> bool:
    """One step of N environments; one hash each is all the randomness.

    Args:
        lanes: (N,) of ``LANE``, updated.
        actions: (N,).
        moves: (M·S·A·K,), the words of each map's choices; M = N if ``many``, else 1.
        num_actions: A.
        num_choices: K = 1+n.
        threshold: an action slips when 32 bits are below it; then any of the n alternatives is taken.
        starts: (M, ≤ S), landing words of the cells to start on.
        start_counts: (M,), how many of them count.
        many: each environment has a map of its own.
        palette: rewards.
        offsets: as in :func:`compile_moves`.
        members: as in :func:`compile_moves`.
        limit: steps after which an episode is truncated.
        autoreset: environments that are done begin a new episode instead of acting.
        cells: (N,), overwritten: where each is now.
        rewards: (N,), overwritten.
        flags: (4, N), overwritten: terminated, truncated, success, true.

    Returns:
        Whether all actions were valid; if not, nothing was done.
    """
    valid = True
    for i in range(lanes.size):
        valid = valid & bool(np.uint64(actions[i]) < np.uint64(num_actions))
    if not valid:
        return False
    map_size = np.uint64(moves.size // start_counts.size) if many else _ZERO
    limit_32, choices, alternatives = np.uint64(threshold), np.uint64(num_choices), np.uint64(num_choices - 1)
    width = np.uint64(num_actions) * choices
    for i in range(lanes.size):
        lane = lanes[i]
        position = lane.position
        bits = mix_bits(lane.key ^ position)
        lane.position = position + GOLDEN
        high = bits >> _S32
        flags[3, i] = True
        if autoreset and lane.done:
            m = i if many else 0
            word = starts[m, (high * start_counts[m]) >> _S32]
            lane.cell = np.int32(word & LOW)
            lane.elapsed = 0
            lane.done = False
            cells[i] = np.int64(word & LOW)
            rewards[i] = 0.0
            flags[0, i] = False
            flags[1, i] = False
            flags[2, i] = word & SUCCESS != _ZERO
            continue
        slipped = np.uint64(high < limit_32)
        choice = np.uint64(actions[i]) * choices + slipped * (_ONE + (((bits & LOW) * alternatives) >> _S32))
        word = moves[np.uint64(i) * map_size + np.uint64(lane.cell) * width + choice]
        paid = palette[(word >> _S32) & REWARD_MASK]
        if word & SPREAD:
            word = spread(word, bits, offsets, members)
        elapsed = lane.elapsed + 1
        terminated = word & TERMINAL != _ZERO
        truncated = elapsed >= limit
        lane.cell = np.int32(word & LOW)
        lane.elapsed = elapsed
        lane.done = terminated | truncated
        cells[i] = np.int64(word & LOW)
        rewards[i] = paid
        flags[0, i] = terminated
        flags[1, i] = truncated
        flags[2, i] = word & SUCCESS != _ZERO
    return True


@numba.njit(cache=True)
def spread(word: np.uint64, bits: np.uint64, offsets: NDArray[np.int64], members: UintArray) -> np.uint64:
    """The landing word of one cell of a group, drawn with a hash of the step's own bits."""
    group = np.int64(word & LOW)
    size = np.uint64(offsets[group + 1] - offsets[group])
    drawn: np.uint64 = members[offsets[group] + np.int64(((mix_bits(~bits) >> _S32) * size) >> _S32)]
    return drawn


@numba.njit(cache=True)
def renew_maps(
    lanes: NDArray[np.void],
    which: NDArray[np.int64],
    kind: int,
    density: float,
    directions: NDArray[np.int64],
    choices: NDArray[np.int64],
    tiles: NDArray[np.int32],
    offsets: NDArray[np.int64],
    members: UintArray,
    preferred: NDArray[np.bool_],
    possible: NDArray[np.bool_],
    maps: NDArray[np.uint8],
    moves: UintArray,
    starts: UintArray,
    start_counts: UintArray,
) -> None:
    """Generate and compile new maps for the environments ``which``, keyed by the draw that their next reset makes.

    Args:
        lanes: (N,) of ``LANE``.
        which: some of 0 … N-1.
        kind: of generator.
        density: of walls.
        directions: as in :func:`compile_moves`.
        choices: as in :func:`merge_outcomes`.
        tiles: as in :func:`compile_moves`.
        offsets: as in :func:`compile_moves`.
        members: as in :func:`compile_moves`.
        preferred: as in :func:`start_words`.
        possible: as in :func:`start_words`.
        maps: (N, H, W), overwritten at ``which``, as are the next three.
        moves: (N, S, A, K).
        starts: (N, S).
        start_counts: (N,).
    """
    scratch = np.empty((moves.shape[1], directions.shape[0]), dtype=np.uint64)
    for i in which:
        bits = mix_bits(lanes[i].key ^ lanes[i].position)
        generate_into(kind, maps[i], mix_bits(bits), density)
        compile_moves(maps[i], directions, tiles, offsets, members, scratch)
        for s in range(moves.shape[1]):
            for a in range(moves.shape[2]):
                for k in range(moves.shape[3]):
                    moves[i, s, a, k] = scratch[s, choices[a, k]]
        start_counts[i] = start_words(maps[i], tiles, preferred, possible, starts[i])


@numba.njit(cache=True)
def reset(
    lanes: NDArray[np.void],
    which: NDArray[np.int64],
    starts: UintArray,
    start_counts: UintArray,
    many: bool,
) -> None:
    """Begin new episodes in the environments ``which``; arguments as in :func:`step`."""
    for i in which:
        lane = lanes[i]
        bits = mix_bits(lane.key ^ lane.position)
        lane.position += GOLDEN
        m = i if many else 0
        word = starts[m, ((bits >> _S32) * start_counts[m]) >> _S32]
        lane.cell = np.int32(word & LOW)
        lane.elapsed = 0
        lane.done = False
