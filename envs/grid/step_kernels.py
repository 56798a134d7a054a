"""A step of a whole batch of grid worlds, compiled.

:mod:`gridzero.envs.grid.move_kernels` says what a word of a move is.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.envs.compilation import part
from gridzero.envs.grid.layouts.generator_kernels import generate_into
from gridzero.envs.grid.move_kernels import (
    LOW,
    REWARD_MASK,
    SPREAD,
    SUCCESS,
    TERMINAL,
    UintArray,
    compile_moves,
    start_words,
)
from gridzero.envs.random_streams import GOLDEN, mix_bits

_ZERO, _ONE, _S32 = np.uint64(0), np.uint64(1), np.uint64(32)

LANE = np.dtype(
    [("key", "u8"), ("position", "u8"), ("cell", "i4"), ("elapsed", "i4"), ("done", "?")],
    align=True,
)
"""One environment of a batch. ``position`` is the number of draws made times ``GOLDEN``, which spares a product."""


@numba.njit(cache=True)
def spread(word: np.uint64, bits: np.uint64, offsets: NDArray[np.int64], members: UintArray) -> np.uint64:
    """The landing word of one cell of a group, drawn with a hash of the step's own bits."""
    group = np.int64(word & LOW)
    size = np.uint64(offsets[group + 1] - offsets[group])
    drawn: np.uint64 = members[offsets[group] + np.int64(((mix_bits(~bits) >> _S32) * size) >> _S32)]
    return drawn


@part
def begin_one(
    lanes: NDArray[np.void], i: int, starts: UintArray, start_counts: UintArray, many: np.uint64
) -> np.uint64:
    """Begin a new episode in environment i: the landing word of where it is now.

    Args:
        lanes: (N,) of ``LANE``, of which i is updated.
        i: the environment.
        starts: as in :func:`step`.
        start_counts: as in :func:`step`.
        many: 1 if each environment has a map of its own, else 0.
    """
    lane, m = lanes[i], np.uint64(i) * many
    bits = mix_bits(lane.key ^ lane.position)
    lane.position += GOLDEN
    word: np.uint64 = starts[m, ((bits >> _S32) * start_counts[m]) >> _S32]
    lane.cell = np.int32(word & LOW)
    lane.elapsed = 0
    lane.done = False
    return word


@part
def move_one(
    lanes: NDArray[np.void], i: int, action: int, words: UintArray, sizes: Any, palette: NDArray[np.float64]
) -> tuple[np.uint64, np.float64, np.uint64]:
    """Draw the move of environment i for an action: the move's word, the reward, and the random bits.

    A word with ``SPREAD`` is a group of cells, of which :func:`spread` draws one; then :func:`arrive_one` moves there.

    Args:
        lanes: (N,) of ``LANE``, of which i is updated.
        i: the environment.
        action: one of its actions.
        words: the moves of :func:`step`, flat.
        sizes: as in :func:`step`.
        palette: as in :func:`step`.
    """
    map_size, width, choices, threshold, _ = sizes
    lane = lanes[i]
    bits = mix_bits(lane.key ^ lane.position)
    lane.position += GOLDEN
    slipped = np.uint64((bits >> _S32) < threshold)
    choice = np.uint64(action) * choices + slipped * (_ONE + (((bits & LOW) * (choices - _ONE)) >> _S32))
    word = words[np.uint64(i) * map_size + np.uint64(lane.cell) * width + choice]
    return word, palette[(word >> _S32) & REWARD_MASK], bits


@part
def arrive_one(lanes: NDArray[np.void], i: int, word: np.uint64, sizes: Any) -> tuple[bool, bool]:
    """Put environment i on the cell of a landing word: whether that ends the episode, and whether the limit does."""
    lane = lanes[i]
    elapsed = lane.elapsed + 1
    terminated = word & TERMINAL != _ZERO
    truncated = elapsed >= sizes[4]
    lane.cell = np.int32(word & LOW)
    lane.elapsed = elapsed
    lane.done = terminated | truncated
    return terminated, truncated


@numba.njit(cache=True)
def step(
    lanes: NDArray[np.void],
    actions: NDArray[np.int64],
    worlds: Any,
    autoreset: bool,
    cells: NDArray[np.int64],
    rewards: NDArray[np.float64],
    flags: NDArray[np.bool_],
) -> bool:
    """One step of N environments; one hash each is all the randomness.

    Args:
        lanes: (N,) of ``LANE``, updated.
        actions: (N,).
        worlds: what the environments share or have one after the other, all that a step needs:

            - moves (M, S, A, 1+n), the words of each map's choices; M = N if each environment has its own map, else 1;
            - sizes: S · A · (1+n), or 0 where M is 1; A · (1+n); 1+n; the threshold: an action slips when 32 bits are
              below it, and then any of the n alternatives is taken; the limit: steps after which an episode is
              truncated;
            - starts (M, ≤ S), landing words of the cells to start on, and (M,) how many of them count;
            - the palette of rewards;
            - offsets and members, as in :func:`~gridzero.envs.grid.move_kernels.compile_moves`.
        autoreset: environments that are done begin a new episode instead of acting.
        cells: (N,), overwritten: where each is now.
        rewards: (N,), overwritten.
        flags: (4, N), overwritten: terminated, truncated, success, true.

    Returns:
        Whether all actions were valid; if not, nothing was done.
    """
    moves, sizes, starts, start_counts, palette, offsets, members = worlds
    words = moves.reshape(-1)
    valid, num_actions, many = True, sizes[1] // sizes[2], np.uint64(sizes[0] > _ZERO)
    for i in range(lanes.size):
        valid = valid & bool(np.uint64(actions[i]) < num_actions)
    if not valid:
        return False
    for i in range(lanes.size):
        flags[3, i] = True
        if autoreset and lanes[i].done:
            word = begin_one(lanes, i, starts, start_counts, many)
            cells[i] = np.int64(word & LOW)
            rewards[i] = 0.0
            flags[0, i] = False
            flags[1, i] = False
            flags[2, i] = word & SUCCESS != _ZERO
            continue
        word, rewards[i], bits = move_one(lanes, i, actions[i], words, sizes, palette)
        if word & SPREAD:
            word = spread(word, bits, offsets, members)
        flags[0, i], flags[1, i] = arrive_one(lanes, i, word, sizes)
        cells[i] = np.int64(word & LOW)
        flags[2, i] = word & SUCCESS != _ZERO
    return True


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
        begin_one(lanes, i, starts, start_counts, np.uint64(many))


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
        directions: as in :func:`~gridzero.envs.grid.move_kernels.compile_moves`.
        choices: as in :func:`~gridzero.envs.grid.move_kernels.merge_outcomes`.
        tiles: as in :func:`~gridzero.envs.grid.move_kernels.compile_moves`.
        offsets: as in :func:`~gridzero.envs.grid.move_kernels.compile_moves`.
        members: as in :func:`~gridzero.envs.grid.move_kernels.compile_moves`.
        preferred: as in :func:`~gridzero.envs.grid.move_kernels.start_words`.
        possible: as in :func:`~gridzero.envs.grid.move_kernels.start_words`.
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
