"""The compiled map generators; :mod:`gridzero.envs.grid.layouts.generators` says what each kind is.

Random numbers come from SplitMix64 (Steele, Lea & Flood 2014) in 64-bit integers, so that a key gives the same map on
every platform.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.envs.grid.layouts.tiles import FREE, START, TARGET, WALL

EMPTY, MAZE, OBSTACLES, ROOMS = range(4)
_MIN_ROOM = 3
_MAX_ROOM = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@numba.njit(cache=True)
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@numba.njit(cache=True)
def _below(state: NDArray[np.uint64], n: int) -> np.int64:
    """A uniform integer in 0 … n-1, up to a bias of n/2³²; advances the state (1,)."""
    state[0] += _GOLDEN
    return np.int64(((_mix(state[0]) >> _S32) * np.uint64(n)) >> _S32)


@numba.njit(cache=True)
def generate_into(kind: int, cells: NDArray[np.uint8], key: np.uint64, density: float) -> None:
    """Fill ``cells`` (H, W) with the map of this kind (an index into ``KINDS``) and key."""
    height, width = cells.shape
    state = np.empty(1, dtype=np.uint64)
    state[0] = _mix(key + _GOLDEN)
    last_row, last_column = height - 1, width - 1
    if kind == MAZE:
        last_row, last_column = last_row // 2 * 2, last_column // 2 * 2
        _carve_maze(cells, state)
    elif kind == OBSTACLES:
        _scatter_obstacles(cells, state, density)
    else:
        cells[:] = FREE
        if kind == ROOMS:
            _divide_rooms(cells, state)
    cells[0, 0] = START
    cells[last_row, last_column] = TARGET


@numba.njit(cache=True)
def _carve_maze(cells: NDArray[np.uint8], state: NDArray[np.uint64]) -> None:
    """A random depth-first spanning tree of the junctions."""
    height, width = cells.shape
    cells[:] = WALL
    rows, columns = (height + 1) // 2, (width + 1) // 2
    stack = np.empty(rows * columns, dtype=np.int64)
    ways = np.empty(4, dtype=np.int64)
    stack[0] = _below(state, rows * columns)
    cells[stack[0] // columns * 2, stack[0] % columns * 2] = FREE
    depth = 1
    while depth > 0:
        junction = stack[depth - 1]
        row, column = junction // columns, junction % columns
        count = 0
        if row > 0 and cells[2 * row - 2, 2 * column] == WALL:
            ways[count] = junction - columns
            count += 1
        if column + 1 < columns and cells[2 * row, 2 * column + 2] == WALL:
            ways[count] = junction + 1
            count += 1
        if row + 1 < rows and cells[2 * row + 2, 2 * column] == WALL:
            ways[count] = junction + columns
            count += 1
        if column > 0 and cells[2 * row, 2 * column - 2] == WALL:
            ways[count] = junction - 1
            count += 1
        if count == 0:
            depth -= 1
            continue
        neighbor = ways[_below(state, count)]
        next_row, next_column = neighbor // columns, neighbor % columns
        cells[2 * next_row, 2 * next_column] = FREE
        cells[row + next_row, column + next_column] = FREE
        stack[depth] = neighbor
        depth += 1


@numba.njit(cache=True)
def _scatter_obstacles(cells: NDArray[np.uint8], state: NDArray[np.uint64], density: float) -> None:
    height, width = cells.shape
    flat = cells.reshape(-1)
    for cell in range(flat.size):
        state[0] += _GOLDEN
        uniform = (_mix(state[0]) >> np.uint64(11)) * 2.0**-53
        flat[cell] = WALL if uniform < density else FREE
    flat[0] = FREE
    flat[-1] = FREE
    _open_cheapest_path(flat, height, width)


@numba.njit(cache=True)
def _open_cheapest_path(flat: NDArray[np.uint8], height: int, width: int) -> None:
    """Remove the walls on a path from the first to the last cell that has the fewest of them (0-1 breadth-first)."""
    size = flat.size
    parent = np.full(size, -1, dtype=np.int32)
    queue = np.empty(size, dtype=np.int32)
    beyond = np.empty(size, dtype=np.int32)
    parent[0] = 0
    queue[0] = 0
    count, waiting = 1, 0
    while parent[size - 1] < 0:
        head = 0
        while head < count:
            cell = queue[head]
            head += 1
            row, column = cell // width, cell % width
            for direction in range(4):
                if direction == 0 and row > 0:
                    neighbor = cell - width
                elif direction == 1 and column + 1 < width:
                    neighbor = cell + 1
                elif direction == 2 and row + 1 < height:
                    neighbor = cell + width
                elif direction == 3 and column > 0:
                    neighbor = cell - 1
                else:
                    continue
                if parent[neighbor] >= 0:
                    continue
                parent[neighbor] = cell
                if flat[neighbor] == WALL:
                    beyond[waiting] = neighbor
                    waiting += 1
                else:
                    queue[count] = neighbor
                    count += 1
        # Everything within so many walls is seen; the walls found become the next layer.
        queue, beyond = beyond, queue
        count, waiting = waiting, 0
    cell = size - 1
    while cell != 0:
        flat[cell] = FREE
        cell = parent[cell]


@numba.njit(cache=True)
def _divide_rooms(cells: NDArray[np.uint8], state: NDArray[np.uint64]) -> None:
    """Recursive division: walls on odd lines, doors on even ones, so that no wall ever closes a door."""
    height, width = cells.shape
    stack = np.empty((height + width + 64, 4), dtype=np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = 0, 0, height, width
    depth = 1
    while depth > 0:
        depth -= 1
        top, left, rows, columns = stack[depth]
        across = rows >= columns
        side, length = (rows, columns) if across else (columns, rows)
        if side <= _MAX_ROOM or side < 2 * _MIN_ROOM + 1:
            continue
        choices = (side - 2 * _MIN_ROOM + 1) // 2
        wall = _MIN_ROOM + 2 * _below(state, choices)
        door = 2 * _below(state, (length + 1) // 2)
        if across:
            cells[top + wall, left : left + columns] = WALL
            cells[top + wall, left + door] = FREE
            stack[depth] = (top, left, wall, columns)
            stack[depth + 1] = (top + wall + 1, left, rows - wall - 1, columns)
        else:
            cells[top : top + rows, left + wall] = WALL
            cells[top + door, left + wall] = FREE
            stack[depth] = (top, left, rows, wall)
            stack[depth + 1] = (top, left + wall + 1, rows, columns - wall - 1)
        depth += 2
