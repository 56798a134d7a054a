"""The picture of a grid: its cells, with values, policy and visits in layers over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pygame
from numpy.typing import NDArray

from gridzero.envs.rendering import colors, sprites
from gridzero.envs.rendering.boards import Board, Ground, board_of
from gridzero.envs.rendering.colors import Scale
from gridzero.envs.rendering.overlays import Overlays
from gridzero.envs.rendering.screen import Window, to_array
from gridzero.envs.rendering.wedges import Wedges

FloatArray = NDArray[np.float64]
MARGIN = 12
"""Pixels around the map."""
WEDGE_NUMBERS = 56
"""The smallest cell, in pixels, with room for the numbers of all actions; the arrows then give way to them."""
NUMBERS = 34
"""The smallest cell with room for one number."""
GREEDY = 16
"""The smallest cell in which the greedy action is marked among all."""
ARROWS = 10
"""The smallest cell with room for an arrow."""

BACKGROUNDS = ("state values", "action values", "visits", "none")


@dataclass
class Layers:
    """The layers that are drawn over the cells.

    Attributes:
        background: what colours the cells, one of ``BACKGROUNDS``.
        numbers: the numbers behind the colours.
        policy: an arrow for each action, as long as it is probable.
        trace: the way the agent came.
        view: darken what the agent does not see, and bar the moves that action masks forbid.
    """

    background: str = "state values"
    numbers: bool = True
    policy: bool = True
    trace: bool = True
    view: bool = False


@dataclass
class Picture:
    """Values, policy and visits to draw over a grid; each part may be missing.

    Attributes:
        state_values: (S,).
        action_values: (S, A).
        policy: (S, A) probabilities.
        tried: (S, A) whether an action was ever taken in a state; elsewhere values are only a guess, which is hatched.
        visits: (H·W,) how often each cell was entered.
        trace: the cells of the episode under way, oldest first.
        layers: which of it to draw.
        cursor: (row, column) of a cell to frame.
    """

    state_values: FloatArray | None = None
    action_values: FloatArray | None = None
    policy: FloatArray | None = None
    tried: NDArray[np.bool_] | None = None
    visits: NDArray[np.int64] | None = None
    trace: Sequence[int] = ()
    layers: Layers = field(default_factory=Layers)
    cursor: tuple[int, int] | None = None


def read_table(agent: Any, name: str) -> FloatArray | None:
    """A table of an agent's by the name of its method; None where it has none for its environment."""
    read = getattr(agent, name, None)
    if read is None:
        return None
    try:
        return np.asarray(read(), dtype=np.float64)
    except ValueError:  # its states cannot be counted, or it remembers
        return None


class GridRenderer:
    """Draws an environment whose cells form a grid: GridWorld, FrozenLake, CliffWalking, Taxi.

    Frames are the same in a window and off screen. Drawing reads the environment and changes nothing in it.

    Args:
        env: the environment, wrapped or not.
        human: show each frame in a window too, at the environment's ``render_fps``.
        size: about how many pixels the longer side of the map gets.

    Attributes:
        board: how the environment is read.
        cell: the side of a cell in pixels.
        scale: the colour scale of the last picture, None if it had no heat map.

    Raises:
        ValueError: when the environment is not such a grid, or there is no display to open a window on.

    Example:
        >>> import gymnasium
        >>> GridRenderer(gymnasium.make("FrozenLake-v1", map_name="8x8")).frame().shape
        (536, 536, 3)
    """

    def __init__(self, env: Any, human: bool = False, *, size: int = 512) -> None:
        self.env = env
        self.board: Board = board_of(env)
        self.size = size
        self.window: Window | None = None
        if human:
            self.window = Window(type(env.unwrapped).__name__, fps=int(env.metadata.get("render_fps", 0)))
        self.scale: Scale | None = None
        self._key: object = None
        self._measure()

    def _measure(self) -> None:
        rows, columns = self.board.height, self.board.width
        self.cell = max(1, self.size // max(rows, columns))
        width, height = columns * self.cell + 2 * MARGIN, rows * self.cell + 2 * MARGIN
        self.surface = pygame.Surface((width + width % 2, height + height % 2), 0, 32)
        self.surface.fill(colors.PAPER)
        self._wedges = Wedges(self.board.moves, self.cell)
        self._hatch = _hatch(self.cell)
        xs, ys = (range(MARGIN, MARGIN + count * self.cell, self.cell) for count in (columns, rows))
        self._corners = [(x, y) for y in ys for x in xs]

    def frame(self, picture: Picture | None = None) -> NDArray[np.uint8]:
        """Draw, and show if there is a window.

        Args:
            picture: what to draw over the cells; nothing but the agent if not given.

        Returns:
            (H, W, 3) uint8, a fresh array.
        """
        surface = self.draw(picture)
        if self.window is not None:
            self.window.show(surface)
            self.window.wait()
        return to_array(surface)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self.window is not None:
            self.window.close()
            self.window = None

    def draw(self, picture: Picture | None = None) -> pygame.Surface:
        """Draw onto the renderer's own surface, and return it."""
        self._refresh()
        states = self.board.states()
        dark = self._background(picture, states)
        self._grid_lines()
        overlays = self._overlays
        overlays.destinations()
        if picture is not None and picture.layers.trace and len(picture.trace) > 1:
            overlays.trace(picture.trace)
        overlays.agents(picture is not None and self._numbers(picture) and self._arrows(picture))
        overlays.decorations()
        overlays.walls()
        if picture is not None:
            self._arrows_and_numbers(picture, states, dark)
            if picture.layers.view:
                overlays.view()
        overlays.passengers()
        if picture is not None and picture.cursor is not None:
            row, column = picture.cursor
            sprite = sprites.frame(self.cell + 1, max(1, self.cell // 20), colors.AGENT)
            self.surface.blit(sprite, self.corner(row * self.board.width + column), special_flags=sprites.BLEND)
        return self.surface

    def _arrows_and_numbers(self, picture: Picture, states: NDArray[np.intp], dark: NDArray[np.bool_]) -> None:
        layers, scale = picture.layers, self.scale
        numbers, arrows = self._numbers(picture), self._arrows(picture)
        if scale is not None and layers.background == "action values" and picture.action_values is not None:
            values, tried = picture.action_values[states], None if picture.tried is None else picture.tried[states]
            if layers.policy and self.cell >= GREEDY:
                self._overlays.greedy(values, tried, self._wedges)
            if numbers and self.cell >= WEDGE_NUMBERS:
                light = _DARK[id(scale.table)][scale.levels(values)]
                self._overlays.wedge_numbers(values, light, self._wedges, tried)
            return
        known = self._known(picture, states)
        if arrows and picture.policy is not None:
            policy = picture.policy[states]
            self._overlays.arrows(policy if known is None else policy * known[:, None], dark, numbers)
        if numbers and layers.background == "visits" and picture.visits is not None:
            self._overlays.numbers(picture.visits, dark, arrows, picture.visits > 0)
        elif numbers and picture.state_values is not None:
            self._overlays.numbers(picture.state_values[states], dark, arrows, known)

    def _numbers(self, picture: Picture) -> bool:
        """Whether there is a number in each cell."""
        return picture.layers.numbers and self.cell >= NUMBERS and self.scale is not None

    def _arrows(self, picture: Picture) -> bool:
        """Whether there are arrows, which the wedges of action values take the place of."""
        wedges = picture.layers.background == "action values" and picture.action_values is not None
        return picture.layers.policy and picture.policy is not None and self.cell >= ARROWS and not wedges

    @staticmethod
    def _known(picture: Picture, states: NDArray[np.intp]) -> NDArray[np.bool_] | None:
        """(H·W,) where something was tried; None where all is known."""
        return None if picture.tried is None else np.asarray(picture.tried.any(axis=1))[states]

    def corner(self, cell: int) -> tuple[int, int]:
        """(x, y) of a cell's upper left pixel."""
        return self._corners[cell]

    def cell_at(self, x: int, y: int) -> tuple[int, int] | None:
        """(row, column) of the cell under a pixel, None outside the map."""
        row, column = (y - MARGIN) // self.cell, (x - MARGIN) // self.cell
        inside = 0 <= row < self.board.height and 0 <= column < self.board.width
        return (row, column) if inside else None

    def _refresh(self) -> None:
        """Take in how the cells look, if that changed."""
        key = self.board.key()
        if key is self._key:
            return
        self._key = key
        rows, columns = self.board.height, self.board.width
        self.board = board_of(self.env)
        if (self.board.height, self.board.width) != (rows, columns):
            self._measure()
        self.ground: Ground = self.board.ground()
        faces = np.array([face.color for face in self.ground.faces], dtype=np.uint8)
        self._ground_pixels = _packed(faces)[self.ground.kinds]
        self._ground_dark = colors.is_dark(faces)[self.ground.kinds].reshape(-1)
        self._open = np.flatnonzero(~self.ground.solid)
        self._overlays = Overlays(self.surface, self.board, self.ground, self.cell, self._corners)

    def _fill(self, cells: NDArray[np.uint32]) -> None:
        """One colour for each cell (H, W)."""
        rows, columns = cells.shape
        pixels = self._pixels()
        pixels.reshape(rows, self.cell, columns * self.cell)[:] = np.repeat(cells, self.cell, axis=1)[:, None]

    def _pixels(self) -> NDArray[np.uint32]:
        """(H·cell, W·cell) view of the map's pixels; the surface is locked while it lives."""
        height, width = self.board.height * self.cell, self.board.width * self.cell
        return pygame.surfarray.pixels2d(self.surface).T[MARGIN : MARGIN + height, MARGIN : MARGIN + width]

    def _background(self, picture: Picture | None, states: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Colour the cells; says of each, (H·W,), whether white is readable on it."""
        self.scale = None
        background = picture.layers.background if picture is not None else "none"
        if picture is None or background == "none":
            pass
        elif background == "action values" and picture.action_values is not None:
            tried = None if picture.tried is None else picture.tried[states]
            return self._color_wedges(picture.action_values[states], tried)
        elif background == "state values" and picture.state_values is not None:
            return self._color_cells(picture.state_values[states], known=self._known(picture, states))
        elif background == "visits" and picture.visits is not None:
            return self._color_cells(np.log1p(picture.visits), colors.COUNTS, picture.visits > 0)
        self._fill(self._ground_pixels)
        return self._ground_dark

    def _color_cells(
        self, values: FloatArray, table: NDArray[np.uint8] | None = None, known: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        self.scale = self._scale_of(values, table, known)
        levels = self.scale.levels(values)
        pixels = _packed(self.scale.table)[levels].reshape(self.ground.solid.shape)
        self._fill(np.where(self.ground.solid, self._ground_pixels, pixels))
        dark = np.asarray(_DARK[id(self.scale.table)][levels])
        if known is None or known.all():
            return dark
        blocks = self._blocks()
        blocks[~known.reshape(self.ground.solid.shape) & ~self.ground.solid] = self._hatch
        return dark & known

    def _blocks(self) -> NDArray[np.uint32]:
        """(H, W, cell, cell) view of the map's pixels by cells; the surface is locked while it lives."""
        rows, columns = self.ground.solid.shape
        return self._pixels().reshape(rows, self.cell, columns, self.cell).transpose(0, 2, 1, 3)

    def _color_wedges(self, values: FloatArray, tried: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        self.scale = self._scale_of(values, known=tried)
        rows, columns = self.ground.solid.shape
        packed = _packed(self.scale.table)[self.scale.levels(values)]
        if tried is not None:
            packed[~tried] = _UNKNOWN
        pixels = self._pixels()
        self._wedges.paint(pixels, packed.reshape(rows, columns, -1))
        blocks = self._blocks()
        if tried is not None:
            blocks[~tried.any(axis=1).reshape(rows, columns)] = self._hatch
        blocks[self.ground.solid] = self._ground_pixels[self.ground.solid][:, None, None]
        del pixels, blocks
        if self.cell >= 12:
            lines = self._wedges.lines(colors.PAPER)
            corners = [self.corner(int(cell)) for cell in self._open]
            for sprite, offset in lines:
                self.surface.fblits([(sprite, (x + offset, y + offset)) for x, y in corners], sprites.BLEND)
        return np.zeros(rows * columns, dtype=np.bool_)

    def _scale_of(
        self, values: FloatArray, table: NDArray[np.uint8] | None = None, known: NDArray[np.bool_] | None = None
    ) -> Scale:
        shown = values[self._open]
        shown = shown if known is None else shown[known[self._open]]
        if not shown.size:
            return Scale(0.0, 0.0, table)
        if table is not None:
            return Scale(0.0, max(float(shown.max(initial=0.0)), 1.0), table)
        least, high = float(shown.min(initial=np.inf)), float(shown.max(initial=-np.inf))
        low = least
        if low < shown.mean() - 2.5 * shown.std():
            # A few bad ones, next to a cliff say, would leave all others one colour.
            lower, upper = np.quantile(shown, (0.1, 0.9))
            low = max(low, float(lower - (upper - lower))) if upper > lower else low
        return Scale(low, high, clipped=low > least)

    def _grid_lines(self) -> None:
        if self.cell >= 8:
            pixels = self._pixels()
            pixels[:: self.cell] = _LINE
            pixels[:, :: self.cell] = _LINE


def _packed(table: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(N, 3) colours as the pixels of a 32-bit surface."""
    wide = table.astype(np.uint32)
    return np.asarray((wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2])


def _hatch(cell: int) -> NDArray[np.uint32]:
    """(cell, cell) pixels of a cell of which nothing is known: lines askew, plain where there is no room for any."""
    rows, columns = np.indices((cell, cell))
    spacing = max(5, cell // 8)
    lines = ((rows + columns) % spacing < max(1, spacing // 5)) & (cell >= 10)
    return np.where(lines, np.uint32(_HATCH), np.uint32(_UNKNOWN))


_LINE = int(_packed(np.array([colors.HAIRLINE], dtype=np.uint8))[0])
_UNKNOWN, _HATCH = (int(pixel) for pixel in _packed(np.array([colors.UNKNOWN, colors.HATCH], dtype=np.uint8)))
_DARK = {id(table): colors.is_dark(table) for table in (colors.SEQUENTIAL, colors.DIVERGING, colors.COUNTS)}
