"""Observations of a grid world: functions from a batch of maps and cells to a batch of observations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.envs.grid.layouts.layout import Layout, Tile

AGENT_SYMBOLS = "@&$%*+=?~"
CHANNELS = ("wall", "target", "hazard")
"""Channels of a map's pixels; a hazard is forbidden, ends the episode short of a target, or sends one away."""


class Observer(ABC):
    """Turns cells into observations.

    Args:
        layout: the map; its size and, for text, its symbols make the space.

    Attributes:
        space: of one environment's observation.
    """

    space: gym.Space[Any]

    def __init__(self, layout: Layout) -> None:
        self.height, self.width = layout.height, layout.width
        self.maps = layout.cells[None]
        self.show(layout.cells[None], layout.legend)

    def show(self, maps: NDArray[np.uint8], legend: Sequence[Tile]) -> None:
        """Use other maps: (M, H, W), one for all environments or one each, indices into ``legend``."""
        self.maps = maps

    @abstractmethod
    def batch(self, cells: NDArray[np.int64]) -> Any:
        """The observations of N agents on ``cells`` (N,), as the batched space has them; fresh arrays."""

    def one(self, cell: int) -> Any:
        """The observation of one agent."""
        return self.batch(np.array([cell], dtype=np.int64))[0]


class IndexObserver(Observer):
    """The state: row · W + column."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.space = gym.spaces.Discrete(layout.cells.size)

    def batch(self, cells: NDArray[np.int64]) -> Any:
        """(N,) int64."""
        return cells

    def one(self, cell: int) -> Any:
        """An int."""
        return cell


class CoordinatesObserver(Observer):
    """(row, column)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.space = gym.spaces.MultiDiscrete([layout.height, layout.width])
        self.coordinates = np.indices((layout.height, layout.width), dtype=np.int64).reshape(2, -1).T.copy()

    def batch(self, cells: NDArray[np.int64]) -> Any:
        """(N, 2) int64."""
        return self.coordinates.take(cells, axis=0)

    def one(self, cell: int) -> Any:
        """(2,) int64."""
        return self.coordinates[cell].copy()


class OneHotObserver(Observer):
    """1 at the agent's state, 0 elsewhere."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.space = gym.spaces.Box(0.0, 1.0, (layout.cells.size,), np.float32)

    def batch(self, cells: NDArray[np.int64]) -> Any:
        """(N, S) float32."""
        out = np.zeros((len(cells), self.height * self.width), dtype=np.float32)
        out[np.arange(len(cells)), cells] = 1.0
        return out

    def one(self, cell: int) -> Any:
        """(S,) float32."""
        out = np.zeros(self.height * self.width, dtype=np.float32)
        out[cell] = 1.0
        return out


class PixelObserver(Observer):
    """Base of the two symbolic images: pixels of the tiles, 0 or 255 in each of ``CHANNELS``."""

    def show(self, maps: NDArray[np.uint8], legend: Sequence[Tile]) -> None:
        """Use other maps; see :meth:`Observer.show`."""
        super().show(maps, legend)
        self.looks = np.array(
            [
                (tile.blocks, tile.target, tile.forbidden or (tile.ends and not tile.target) or bool(tile.sends_to))
                for tile in legend
            ],
            dtype=np.uint8,
        ) * np.uint8(255)


class WindowObserver(PixelObserver):
    """The surroundings of the agent, who is in the middle: (size, size, 3) uint8; outside the map are walls."""

    def __init__(self, layout: Layout, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 3 or size % 2 == 0:
            raise ValueError(f"window_size must be an odd number from 3, not {size!r}")
        super().__init__(layout)
        self.size = int(size)
        self.space = gym.spaces.Box(0, 255, (self.size, self.size, len(CHANNELS)), np.uint8)

    def batch(self, cells: NDArray[np.int64]) -> Any:
        """(N, size, size, 3) uint8."""
        out = np.empty((len(cells), *self.space.shape), dtype=np.uint8)  # type: ignore[misc]  # a Box has a shape
        _window(self.maps, cells, self.looks, out)
        return out


class ImageObserver(PixelObserver):
    """The whole map, one pixel a cell: (H, W, 4) uint8, the agent in the first channel, then ``CHANNELS``."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.space = gym.spaces.Box(0, 255, (layout.height, layout.width, 1 + len(CHANNELS)), np.uint8)

    def batch(self, cells: NDArray[np.int64]) -> Any:
        """(N, H, W, 4) uint8."""
        out = np.empty((len(cells), *self.space.shape), dtype=np.uint8)  # type: ignore[misc]  # a Box has a shape
        _image(self.maps, cells, self.looks, out)
        return out


class TextObserver(Observer):
    """The map as text, one row a line, the agent an ``@`` (or, where maps use that, another sign).

    A batch is a tuple of strings. ``AsyncVectorEnv`` needs ``shared_memory=False`` for it, as for any text.
    """

    def __init__(self, layout: Layout) -> None:
        symbols = {tile.symbol for tile in layout.legend}
        self.agent = next((sign for sign in AGENT_SYMBOLS if sign not in symbols), "\N{BLACK CIRCLE}")
        printable = {chr(code) for code in range(32, 127)}
        self.charset = frozenset(symbols | printable | {"\n", self.agent})
        super().__init__(layout)
        length = layout.height * (layout.width + 1) - 1
        self.space = gym.spaces.Text(length, min_length=length, charset=self.charset)

    def show(self, maps: NDArray[np.uint8], legend: Sequence[Tile]) -> None:
        """Use other maps.

        Raises:
            ValueError: for a symbol that the space does not have.
        """
        for tile in legend:
            if tile.symbol not in self.charset or tile.symbol == self.agent:
                raise ValueError(f"text observations cannot show the symbol {tile.symbol!r}; the space lacks it")
        super().show(maps, legend)
        self.codes = np.array([ord(tile.symbol) for tile in legend], dtype="<u4")

    def batch(self, cells: NDArray[np.int64]) -> Any:
        """N strings."""
        drawn = np.empty((len(cells), self.height, self.width + 1), dtype="<u4")
        drawn[:, :, :-1] = self.codes[self.maps]
        drawn[:, :, -1] = ord("\n")
        row, column = np.divmod(cells, self.width)
        drawn[np.arange(len(cells)), row, column] = ord(self.agent)
        flat = drawn.reshape(len(cells), -1)[:, :-1]
        return tuple(np.ascontiguousarray(flat).view(f"<U{flat.shape[1]}").reshape(-1).tolist())


OBSERVATIONS = ("index", "coordinates", "one_hot", "window", "image", "text")
"""The kinds of observation."""


def make_observer(kind: str, layout: Layout, window_size: int) -> Observer:
    """The observer of this kind, one of :data:`OBSERVATIONS`.

    Raises:
        ValueError: for another kind, or a bad window.
    """
    if kind == "window":
        return WindowObserver(layout, window_size)
    plain: dict[str, type[Observer]] = {
        "index": IndexObserver,
        "coordinates": CoordinatesObserver,
        "one_hot": OneHotObserver,
        "image": ImageObserver,
        "text": TextObserver,
    }
    if kind not in plain:
        raise ValueError(f"observation must be one of {', '.join(OBSERVATIONS)}, not {kind!r}")
    return plain[kind](layout)


@numba.njit(cache=True)
def _window(
    maps: NDArray[np.uint8], cells: NDArray[np.int64], looks: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    size, radius = out.shape[1], out.shape[1] // 2
    height, width = maps.shape[1:]
    many = maps.shape[0] > 1
    for i in range(cells.size):
        m = i if many else 0
        row, column = cells[i] // width - radius, cells[i] % width - radius
        for r in range(size):
            for c in range(size):
                y, x = row + r, column + c
                if 0 <= y < height and 0 <= x < width:
                    tile = maps[m, y, x]
                    out[i, r, c, 0] = looks[tile, 0]
                    out[i, r, c, 1] = looks[tile, 1]
                    out[i, r, c, 2] = looks[tile, 2]
                else:
                    out[i, r, c, 0] = 255
                    out[i, r, c, 1] = 0
                    out[i, r, c, 2] = 0


@numba.njit(cache=True)
def _image(maps: NDArray[np.uint8], cells: NDArray[np.int64], looks: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    height, width = maps.shape[1:]
    many = maps.shape[0] > 1
    for i in range(cells.size):
        m = i if many else 0
        for y in range(height):
            for x in range(width):
                tile = maps[m, y, x]
                out[i, y, x, 0] = 0
                out[i, y, x, 1] = looks[tile, 0]
                out[i, y, x, 2] = looks[tile, 1]
                out[i, y, x, 3] = looks[tile, 2]
        out[i, cells[i] // width, cells[i] % width, 0] = 255
