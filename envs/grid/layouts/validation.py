"""Validation of well-written maps: tiles that lead nowhere, nowhere to stand, a target out of reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.grid.layouts.tiles import Tile


def tile_problem(cells: NDArray[np.uint8], legend: Sequence[Tile]) -> tuple[str | None, str] | None:
    """The first contradiction between a map and its tiles.

    Args:
        cells: (H, W), indices into ``legend``.
        legend: the tiles.

    Returns:
        The symbol of the tile at fault (``None``: the whole map) and what is wrong, or ``None`` if nothing is.
    """
    symbols = [tile.symbol for tile in legend]
    for index, symbol in enumerate(symbols):
        if symbol in symbols[:index]:
            return symbol, f"two tiles of the legend have the symbol {symbol!r}"
    counts = np.bincount(cells.reshape(-1), minlength=len(legend))
    present = {tile.symbol: (tile, int(n)) for tile, n in zip(legend, counts, strict=True) if n}
    if not any(_can_stand(tile) for tile, _ in present.values()):
        return None, "the map has no cell to stand on"
    for tile, _ in present.values():
        for key in ("sends_to", "leads_to"):
            symbol = getattr(tile, key)
            if symbol is None:
                continue
            where = f"{key}={symbol} of tile {tile.symbol!r}"
            if symbol not in present:
                return tile.symbol, f"{where}: there is no {symbol!r} on the map"
            destination, count = present[symbol]
            if not _can_stand(destination):
                return tile.symbol, f"{where}: nobody can stand on {symbol!r}"
            if key == "leads_to" and count > 1:
                return tile.symbol, f"{where}: there must be one {symbol!r} on the map, not {count}"
    return None


def _can_stand(tile: Tile) -> bool:
    return not tile.blocks and tile.sends_to is None


def moves_to_target(cells: NDArray[np.uint8], legend: Sequence[Tile]) -> float:
    """The fewest straight moves from the farthest start to a target, past walls alone; infinite if there is no way.

    Args:
        cells: (H, W), indices into ``legend``.
        legend: the tiles.
    """
    import scipy.sparse as sparse
    from scipy.sparse.csgraph import dijkstra

    open_cells = ~np.array([tile.blocks for tile in legend])[cells]
    targets = np.flatnonzero(np.array([tile.target for tile in legend])[cells])
    starts = np.flatnonzero(np.array([tile.start for tile in legend])[cells])
    if targets.size == 0 or starts.size == 0:
        return np.inf
    numbers = np.arange(cells.size, dtype=np.int32).reshape(cells.shape)
    right, down = open_cells[:, :-1] & open_cells[:, 1:], open_cells[:-1] & open_cells[1:]
    one = np.concatenate([numbers[:, :-1][right], numbers[:-1][down]])
    other = np.concatenate([numbers[:, 1:][right], numbers[1:][down]])
    graph = sparse.csr_matrix((np.ones(one.size, dtype=np.int8), (one, other)), shape=(cells.size, cells.size))
    fewest = dijkstra(graph, directed=False, indices=targets, unweighted=True, min_only=True)
    return float(fewest[starts].max())


def unreachable_target(cells: NDArray[np.uint8], legend: Sequence[Tile]) -> tuple[int, int] | None:
    """The row and column of the first target, if no options of ``GridWorld`` let any start reach any target.

    Lenient on purpose: forbidden cells count as enterable and diagonal moves as allowed, and maps with wind, which
    carries over walls, always pass.
    """
    present = [tile for tile, n in zip(legend, np.bincount(cells.reshape(-1), minlength=len(legend)), strict=True) if n]
    wind, targets_exist = any(tile.wind != (0, 0) for tile in present), any(tile.target for tile in present)
    if wind or not targets_exist or not any(tile.blocks for tile in present):
        return None
    from scipy import ndimage

    targets = np.array([tile.target for tile in legend])[cells]
    open_cells = ~np.array([tile.blocks for tile in legend])[cells]
    starts = np.array([tile.start for tile in legend])[cells]
    regions, count = ndimage.label(open_cells, np.ones((3, 3)))
    reached = np.zeros(count + 1, dtype=np.bool_)
    reached[regions[starts if starts.any() else open_cells]] = True
    index = {tile.symbol: i for i, tile in enumerate(legend)}
    jumps = [
        (np.unique(regions[cells == index[tile.symbol]]), np.unique(regions[cells == index[symbol]]))
        for tile in present
        for symbol in (tile.sends_to, tile.leads_to)
        if symbol is not None
    ]
    for _ in jumps:  # each round reaches one more region, or none
        for sources, destinations in jumps:
            if reached[sources].any():
                reached[destinations] = True
    if reached[regions[targets]].any():
        return None
    row, column = np.argwhere(targets)[0]
    return int(row), int(column)
