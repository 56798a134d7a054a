"""Pictures of maps, put together from tiles that are drawn once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SYMBOLS = ".#SG"
"""Free, wall, start and target."""
LARGEST = 64
"""Pixels of a tile, at most."""
_FREE, _WALL, _LINE = (255, 255, 255), (58, 63, 75), (214, 212, 205)
_START, _TARGET = (205, 32, 116), (25, 148, 107)
_FINE = 8  # samples in each direction that an edge's pixel is the mean of


def map_picture(text: str, pixels: int) -> NDArray[np.uint8]:
    r"""Draw a map: free cells white, walls dark, the start a disc and the target a diamond.

    Args:
        text: of H rows and W columns, of the symbols :data:`SYMBOLS`.
        pixels: p, of a tile's side, even, from 2 to 64.

    Returns:
        (H·p, W·p, 3) uint8.

    Example:
        >>> map_picture("S.#\n..G", 8).shape
        (16, 24, 3)
    """
    width = text.find("\n") + 1
    cells = np.frombuffer(f"{text}\n".encode(), dtype=np.uint8).reshape(-1, width or len(text) + 1)[:, :-1]
    tiles = tile_pictures(pixels).take(_KINDS.take(cells), axis=0)
    height, width = cells.shape
    return tiles.transpose(0, 2, 1, 3, 4).reshape(height * pixels, width * pixels, 3)


@lru_cache(maxsize=8)
def tile_pictures(pixels: int) -> NDArray[np.uint8]:
    """(4, p, p, 3) uint8, a picture of each of :data:`SYMBOLS`, with a line along two of its sides."""
    floor = np.empty((pixels, pixels, 3))
    floor[:] = _FREE
    floor[-1, :] = floor[:, -1] = _LINE
    wall = np.empty_like(floor)
    wall[:] = _WALL
    steps = (np.arange(pixels * _FINE) + 0.5) / (pixels * _FINE) * 2 - 1
    x, y = np.meshgrid(steps, steps)
    shapes = [_paint(floor, x**2 + y**2 <= 0.75**2, _START), _paint(floor, abs(x) + abs(y) <= 0.9, _TARGET)]
    pictures = np.rint(np.stack([floor, wall, *shapes])).astype(np.uint8)
    pictures.flags.writeable = False
    return pictures


def _paint(ground: NDArray[np.float64], inside: NDArray[np.bool_], color: tuple[int, int, int]) -> NDArray[np.float64]:
    """A shape on a ground (p, p, 3), each pixel by the part of its samples that are inside."""
    size = len(ground)
    share = inside.reshape(size, _FINE, size, _FINE).mean(axis=(1, 3))[..., None]
    return np.asarray(ground * (1 - share) + np.array(color) * share)


_KINDS = np.zeros(256, dtype=np.intp)
_KINDS[list(SYMBOLS.encode())] = np.arange(len(SYMBOLS))
