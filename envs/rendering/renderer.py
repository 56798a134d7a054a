"""The picture of a grid: cells and what is known about them, in layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pygame
from numpy.typing import NDArray

from gridzero.envs.rendering import colors, sprites
from gridzero.envs.rendering.boards import Board, Ground, board_of
from gridzero.envs.rendering.colors import RGB, Scale
from gridzero.envs.rendering.screen import Window, to_array
from gridzero.envs.rendering.wedges import Wedges

FloatArray = NDArray[np.float64]
Blit = tuple[pygame.Surface, tuple[int, int]]
Placed = tuple[pygame.Surface, int, int]
"""A sprite, and how far right and down of a cell's corner it goes."""

MARGIN = 12
"""Pixels around the map."""
TRACE_LENGTH = 60
"""Moves after which the trace has faded."""
WEDGE_NUMBERS = 56
"""The least cell that has room for the numbers of all actions; the arrows then give way to them."""
FADING = 6
"""The shades that it fades through."""

BACKGROUNDS = ("state values", "action values", "visits", "none")


@dataclass
class Layers:
    """What is drawn over the cells.

    Attributes:
        background: what colours the cells, one of ``BACKGROUNDS``.
        numbers: the numbers behind the colours.
        policy: an arrow for each action, as long as it is probable.
        trace: the way the agent came.
    """

    background: str = "state values"
    numbers: bool = True
    policy: bool = True
    trace: bool = True


@dataclass
class Picture:
    """What is known about a grid; each part may be missing.

    Attributes:
        state_values: (S,).
        action_values: (S, A).
        policy: (S, A) probabilities.
        visits: (H·W,) how often each cell was entered.
        trace: the cells of the episode under way, oldest first.
        layers: which of it to draw.
        cursor: (row, column) of a cell to frame.
    """

    state_values: FloatArray | None = None
    action_values: FloatArray | None = None
    policy: FloatArray | None = None
    visits: NDArray[np.int64] | None = None
    trace: Sequence[int] = ()
    layers: Layers = field(default_factory=Layers)
    cursor: tuple[int, int] | None = None


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
        self.cell = max(1, min(128, self.size // max(rows, columns)))
        width, height = columns * self.cell + 2 * MARGIN, rows * self.cell + 2 * MARGIN
        self.surface = pygame.Surface((width + width % 2, height + height % 2), 0, 32)
        self.surface.fill(colors.PAPER)
        self._wedges = Wedges(self.board.moves, self.cell)
        self._font_size = min(26, max(11, round(self.cell * 0.27)))
        self._arrow_sprites: dict[tuple[int, int, bool, bool], Placed] = {}
        self._segments: dict[tuple[int, int, int], Placed] = {}
        xs, ys = (range(MARGIN, MARGIN + count * self.cell, self.cell) for count in (columns, rows))
        self._corners = [(x, y) for y in ys for x in xs]

    # --- The frame ---------------------------------------------------------------------------------------------------

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
        self._destinations()
        self.surface.fblits(self._decorations, sprites.BLEND)
        self._walls()
        if picture is not None:
            layers = picture.layers
            numbers = layers.numbers and self.cell >= 34
            if layers.trace and len(picture.trace) > 1:
                self._trace(picture.trace)
            wedges = layers.background == "action values" and self.scale is not None
            crowded = wedges and numbers and self.cell >= WEDGE_NUMBERS
            if layers.policy and picture.policy is not None and self.cell >= 10 and not crowded:
                lifted = numbers and self.scale is not None and not wedges
                self._arrows(picture.policy[states], dark, lifted)
            if numbers:
                self._numbers(picture, states, dark)
        self._things()
        if picture is not None and picture.cursor is not None:
            row, column = picture.cursor
            sprite = sprites.frame(self.cell + 1, max(1, self.cell // 20), colors.AGENT)
            self.surface.blit(sprite, self.corner(row * self.board.width + column), special_flags=sprites.BLEND)
        return self.surface

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
        self._solid = self.ground.solid.reshape(-1)
        self._open = np.flatnonzero(~self.ground.solid)
        self._decorations = self._decorate()

    # --- Cells -------------------------------------------------------------------------------------------------------

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
            return self._color_wedges(picture.action_values[states])
        elif background == "state values" and picture.state_values is not None:
            return self._color_cells(picture.state_values[states])
        elif background == "visits" and picture.visits is not None:
            return self._color_cells(np.log1p(picture.visits), colors.COUNTS)
        self._fill(self._ground_pixels)
        return self._ground_dark

    def _color_cells(self, values: FloatArray, table: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
        self.scale = self._scale_of(values, table)
        levels = self.scale.levels(values)
        pixels = _packed(self.scale.table)[levels].reshape(self.ground.solid.shape)
        self._fill(np.where(self.ground.solid, self._ground_pixels, pixels))
        return np.asarray(_DARK[id(self.scale.table)][levels])

    def _color_wedges(self, values: FloatArray) -> NDArray[np.bool_]:
        self.scale = self._scale_of(values)
        rows, columns = self.ground.solid.shape
        packed = _packed(self.scale.table)[self.scale.levels(values)]
        pixels = self._pixels()
        self._wedges.paint(pixels, packed.reshape(rows, columns, -1))
        blocks = pixels.reshape(rows, self.cell, columns, self.cell).transpose(0, 2, 1, 3)
        blocks[self.ground.solid] = self._ground_pixels[self.ground.solid][:, None, None]
        del pixels, blocks
        if self.cell >= 12:
            lines = self._wedges.lines(colors.PAPER)
            corners = [self.corner(int(cell)) for cell in self._open]
            for sprite, offset in lines:
                self.surface.fblits([(sprite, (x + offset, y + offset)) for x, y in corners], sprites.BLEND)
        return np.zeros(rows * columns, dtype=np.bool_)

    def _scale_of(self, values: FloatArray, table: NDArray[np.uint8] | None = None) -> Scale:
        shown = values[self._open]
        if table is not None:
            return Scale(0.0, max(float(shown.max(initial=0.0)), 1.0), table)
        low, high = float(shown.min(initial=np.inf)), float(shown.max(initial=-np.inf))
        if low < shown.mean() - 2.5 * shown.std():
            # A few bad ones, next to a cliff say, would leave all others one colour.
            lower, upper = np.quantile(shown, (0.1, 0.9))
            low = max(low, float(lower - (upper - lower))) if upper > lower else low
        return Scale(low, high)

    def _grid_lines(self) -> None:
        if self.cell >= 8:
            pixels = self._pixels()
            pixels[:: self.cell] = _LINE
            pixels[:, :: self.cell] = _LINE

    # --- Over the cells ----------------------------------------------------------------------------------------------

    def _decorate(self) -> list[Blit]:
        """Frames, letters, rewards and wind of the cells that have them."""
        if self.cell < 8:
            return []
        blits: list[Blit] = []
        plain = (colors.FLOOR, colors.ICE, colors.WALL)
        for kind, face in enumerate(self.ground.faces):
            label = face.letter if face.reward is None else f"{face.letter} {face.reward:+g}".strip()
            framed = face.color not in plain
            if not (framed or label or any(face.wind)):
                continue
            for cell in np.flatnonzero(self.ground.kinds == kind):
                x, y = self.corner(int(cell))
                solid = bool(self.ground.solid.flat[cell])
                if framed and not solid:
                    blits.append((sprites.frame(self.cell - 1, max(2, self.cell // 14), face.color), (x + 1, y + 1)))
                if label and solid and face.color != colors.WALL and self.cell >= 16:
                    blits.append(self._centred(label, x + self.cell / 2, y + self.cell / 2, 0.42, colors.FLOOR))
                elif label and self.cell >= 24:
                    tint = colors.MUTED if face.color in plain else face.color
                    ink = colors.FLOOR if colors.is_dark(tint) else colors.INK
                    blits.append((sprites.tag(label, max(12, round(self.cell * 0.22)), tint, ink), (x + 1, y + 1)))
                if any(face.wind) and self.cell >= 16:
                    blits.append(self._wind(face.wind, x, y))
        return blits

    def _wind(self, wind: tuple[int, int], x: int, y: int) -> Blit:
        strength = max(abs(part) for part in wind)
        length = round(self.cell * min(0.14 + 0.05 * strength, 0.3))
        sprite = sprites.arrow(wind, length, max(2, self.cell // 16), colors.JUMP, 0.75)
        half = sprite.get_width() // 2
        return sprite, (x + round(self.cell * 0.84) - half, y + round(self.cell * 0.3) - half)

    def _centred(self, string: str, x: float, y: float, size: float, color: RGB) -> Blit:
        sprite = sprites.text(string, max(11, round(self.cell * size)), color)
        return sprite, (round(x - sprite.get_width() / 2), round(y - sprite.get_height() / 2))

    def _trace(self, trace: Sequence[int]) -> None:
        """The last moves, fading with age; jumps are left out."""
        recent = list(trace)[: -TRACE_LENGTH - 2 : -1]
        width = self.board.width
        blits: list[Blit] = []
        for age, (after, before) in enumerate(itertools.pairwise(recent)):
            key = (after // width - before // width, after % width - before % width, age * FADING // TRACE_LENGTH)
            if key not in self._segments:
                self._segments[key] = self._segment(*key)
            sprite, dx, dy = self._segments[key]
            x, y = self._corners[before]
            blits.append((sprite, (x + dx, y + dy)))
        self.surface.fblits(blits, sprites.BLEND)

    def _segment(self, rows: int, columns: int, fade: int) -> Placed:
        """The way from one cell to another, to be put at the first one's corner; nothing for a jump."""
        if (rows, columns) == (0, 0) or max(abs(rows), abs(columns)) > 3:
            return pygame.Surface((1, 1), pygame.SRCALPHA, 32), 0, 0
        thickness = max(2, self.cell // 10)
        sprite = sprites.segment(rows, columns, self.cell, thickness, colors.TRACE, 0.6 * (1 - fade / FADING))
        middle = self.cell // 2 - thickness
        return sprite, middle + min(columns, 0) * self.cell, middle + min(rows, 0) * self.cell

    def _arrows(self, policy: FloatArray, dark: NDArray[np.bool_], lifted: bool) -> None:
        """For each action of probability p an arrow of length p·reach; a ring of half that radius for staying."""
        reach = self.cell * (0.33 if lifted else 0.42)
        lengths = np.rint(policy * reach).astype(np.intp)
        lengths[self._solid] = 0
        cells, actions = np.nonzero(lengths >= 2)
        arrows, corners = self._arrow_sprites, self._corners
        blits: list[Blit] = []
        keys = zip(
            actions.tolist(),
            lengths[cells, actions].tolist(),
            dark[cells].tolist(),
            itertools.repeat(lifted),
            strict=False,
        )
        for cell, key in zip(cells.tolist(), keys, strict=True):
            if key not in arrows:
                arrows[key] = self._arrow(*key)
            sprite, dx, dy = arrows[key]
            x, y = corners[cell]
            blits.append((sprite, (x + dx, y + dy)))
        self.surface.fblits(blits, sprites.BLEND)

    def _arrow(self, action: int, length: int, light: bool, lifted: bool) -> Placed:
        """The sprite of an action, to be put at a cell's corner."""
        color = colors.FLOOR if light else colors.INK
        thickness = min(max(1, round(self.cell / 14)), 1 + length // 4)
        move, label = self.board.moves[action], self.board.labels[action]
        if move != (0, 0):
            sprite = sprites.arrow(move, length, thickness, color)
        elif label:
            sprite = sprites.token(label, round(length * 0.8), color, colors.INK if light else colors.FLOOR)
        else:
            sprite = sprites.ring(round(length * 0.5), thickness, color)
        used = sprite.get_bounding_rect()
        half = sprite.get_width() // 2
        centre_y = round(self.cell * (0.40 if lifted else 0.5))
        return sprite.subsurface(used), self.cell // 2 - half + used.x, centre_y - half + used.y

    def _numbers(self, picture: Picture, states: NDArray[np.intp], dark: NDArray[np.bool_]) -> None:
        background = picture.layers.background
        if background == "action values" and picture.action_values is not None:
            self._wedge_numbers(picture.action_values[states])
            return
        if background == "visits" and picture.visits is not None:
            strings = [str(count) for count in picture.visits[self._open].tolist()]
        elif background == "state values" and picture.state_values is not None:
            values = picture.state_values[states][self._open]
            strings = format_numbers(values, self.cell - 6, self._font_size)
        else:
            return
        lifted = picture.layers.policy and picture.policy is not None
        centre = round(self.cell * (0.83 if lifted else 0.5))
        blits: list[Blit] = []
        for cell, string, light in zip(self._open.tolist(), strings, dark[self._open].tolist(), strict=True):
            sprite = sprites.text(string, self._font_size, colors.FLOOR if light else colors.INK)
            width, height = sprite.get_size()
            x, y = self._corners[cell]
            blits.append((sprite, (x + (self.cell + 1 - width) // 2, y + centre - height // 2)))
        self.surface.fblits(blits, sprites.BLEND)

    def _wedge_numbers(self, values: FloatArray) -> None:
        if self.cell < WEDGE_NUMBERS or self.scale is None:
            return
        light = _DARK[id(self.scale.table)][self.scale.levels(values)]
        blits: list[Blit] = []
        for action, (x, y) in enumerate(self._wedges.centres.tolist()):
            room = round(self.cell * self._wedges.widths[action])
            size = max(11, min(round(self.cell * 0.17), round(room * 0.55)))
            strings = format_numbers(values[self._open, action], room, size)
            if any(sprites.text_width(string, size) > room for string in strings):
                continue
            for cell, string in zip(self._open.tolist(), strings, strict=True):
                left, top = self.corner(cell)
                sprite = sprites.text(string, size, colors.FLOOR if light[cell, action] else colors.INK)
                width, height = sprite.get_size()
                at = (round(left + x * self.cell - width / 2), round(top + y * self.cell - height / 2))
                blits.append((sprite, at))
        self.surface.fblits(blits, sprites.BLEND)

    def _walls(self) -> None:
        breadth = max(2, self.cell // 12)
        for row, column in self.board.thin_walls():
            x, y = self.corner(row * self.board.width + column + 1)
            self.surface.fill(colors.WALL, (x - breadth // 2, y, breadth, self.cell + 1))

    def _destinations(self) -> None:
        for marker in self.board.markers():
            x, y = self.corner(marker.row * self.board.width + marker.column)
            if marker.label == "destination":
                sprite = sprites.frame(self.cell - 1, max(2, self.cell // 10), marker.color)
                self.surface.blit(sprite, (x + 1, y + 1), special_flags=sprites.BLEND)

    def _things(self) -> None:
        """Agents, passengers."""
        radius = max(3, round(self.cell * 0.2))
        rim = max(1, self.cell // 24)
        sprite = sprites.disc(radius, colors.AGENT, colors.FLOOR, rim)
        offset = self.cell // 2 - sprite.get_width() // 2
        cells = self.board.agents()
        places = [self.corner(cell) for cell in (set(cells) if len(cells) > 1 else cells)]
        self.surface.fblits([(sprite, (x + offset, y + offset)) for x, y in places], sprites.BLEND)
        for marker in self.board.markers():
            if marker.label == "passenger":
                x, y = self.corner(marker.row * self.board.width + marker.column)
                person = sprites.person(max(6, round(self.cell * 0.36)), marker.color)
                at = (x + round(self.cell * 0.62), y + round(self.cell * 0.06))
                self.surface.blit(person, at, special_flags=sprites.BLEND)


def format_numbers(values: FloatArray, width: int, size: int) -> list[str]:
    """The numbers with equally many decimals, as many as fit, at most 3 and no more than the range asks for."""
    finite = values[np.isfinite(values)]
    most = float(np.abs(finite).max(initial=0.0))
    decimals = 3 if most < 1 else 2 if most < 10 else 1 if most < 1000 else 0
    while True:
        strings = [f"{value:.{decimals}f}" for value in values.tolist()]
        longest = max(strings, key=len, default="")
        if decimals == 0 or sprites.text_width(longest, size) <= width:
            break
        decimals -= 1
    nothing = f"{-0.0:.{decimals}f}"
    return [string[1:] if string == nothing else string for string in strings]


def _packed(table: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(N, 3) colours as the pixels of a 32-bit surface."""
    wide = table.astype(np.uint32)
    return np.asarray((wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2])


_LINE = int(_packed(np.array([colors.HAIRLINE], dtype=np.uint8))[0])
_DARK = {id(table): colors.is_dark(table) for table in (colors.SEQUENTIAL, colors.DIVERGING, colors.COUNTS)}
