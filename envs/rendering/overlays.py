"""Layers over the colored cells: frames and letters, the trace, arrows, numbers, agents."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pygame
from numpy.typing import NDArray

from gridzero.envs.rendering import colors, sprites
from gridzero.envs.rendering.boards import Board, Ground
from gridzero.envs.rendering.colors import RGB
from gridzero.envs.rendering.wedges import Wedges

FloatArray = NDArray[np.float64]
Blit = tuple[pygame.Surface, tuple[int, int]]
Placed = tuple[pygame.Surface, int, int]
"""A sprite, and how far right and down of a cell's corner it goes."""

TRACE_LENGTH = 60
"""Moves after which the trace has faded."""
FADING = 6
"""The shades that it fades through."""
LIFTED = 0.4
"""Height of the middle of arrows that were lifted above a number, in units of the cell's side."""
REMEMBERED = 65536
"""Size of the cache of numbers' places; it is emptied when full."""
FADES = [age * FADING // TRACE_LENGTH for age in range(TRACE_LENGTH)]
"""The shade of each move, the last one first."""


class Overlays:
    """Draws over the cells of one map.

    Args:
        surface: to draw on.
        board: the environment's grid.
        ground: how its cells look.
        cell: the side of a cell in pixels.
        corners: (x, y) of each cell's upper left pixel.
    """

    def __init__(
        self, surface: pygame.Surface, board: Board, ground: Ground, cell: int, corners: Sequence[tuple[int, int]]
    ) -> None:
        self.surface, self.board, self.ground, self.cell, self.corners = surface, board, ground, cell, corners
        self._solid = ground.solid.reshape(-1)
        self._open = np.flatnonzero(~self._solid)
        self._font_size = min(40, max(11, round(cell * 0.27)))
        self._arrow_sprites: dict[tuple[int, int, bool, bool], Placed] = {}
        self._arrows: dict[int, Blit] = {}
        self._numbers: dict[tuple[int, str, bool, bool], Blit] = {}
        self._segments: dict[tuple[int, int, int], Blit] = {}
        self._decorations = self._decorate()
        self._barred: list[Blit] | None = None

    def decorations(self) -> None:
        """Draw frames, letters, rewards and wind of the cells that have them."""
        self.surface.fblits(self._decorations, sprites.BLEND)

    def _decorate(self) -> list[Blit]:
        if self.cell < 8:
            return []
        blits: list[Blit] = []
        plain = (colors.FLOOR, colors.ICE, colors.WALL)
        for kind, face in enumerate(self.ground.faces):
            label = face.letter if face.reward is None else f"{face.letter} {face.reward:+g}".strip()
            framed = face.color not in plain
            if not (framed or label or any(face.wind)):
                continue
            for cell in np.flatnonzero(self.ground.kinds == kind).tolist():
                x, y = self.corners[cell]
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

    def trace(self, trace: Sequence[int]) -> None:
        """Draw the last moves, fading with age; jumps are left out."""
        recent = list(trace)[: -TRACE_LENGTH - 2 : -1]
        known = self._segments
        blits: list[Blit] = []
        for after, before, fade in zip(recent, recent[1:], FADES, strict=False):
            key = (after, before, fade)
            if key not in known:
                known[key] = self._segment(*key)
            blits.append(known[key])
        self.surface.fblits(blits, sprites.BLEND)

    def _segment(self, after: int, before: int, fade: int) -> Blit:
        """The way from one cell to the next, in its place; nothing for a jump."""
        (row, column), (to_row, to_column) = divmod(before, self.board.width), divmod(after, self.board.width)
        rows, columns = to_row - row, to_column - column
        x, y = self.corners[before]
        if (rows, columns) == (0, 0) or max(abs(rows), abs(columns)) > 3:
            return pygame.Surface((1, 1), pygame.SRCALPHA, 32), (x, y)
        thickness = max(2, self.cell // 16)
        sprite = sprites.segment(rows, columns, self.cell, thickness, colors.TRACE, 0.5 * (1 - fade / FADING))
        middle = self.cell // 2 - thickness
        return sprite, (x + middle + min(columns, 0) * self.cell, y + middle + min(rows, 0) * self.cell)

    def arrows(self, policy: FloatArray, dark: NDArray[np.bool_], lifted: bool) -> None:
        """Draw for each action of probability p an arrow of length p·reach; a ring of half that radius for staying.

        Several arrows of a cell begin at its centre; one that is certain has its middle there.
        """
        lengths = np.rint(policy * (self.cell * _reach(lifted))).astype(np.intp)
        lengths[self._solid] = 0
        cells, actions = np.nonzero(lengths >= 2)
        # One number for each picture of an arrow in its place, so that drawing it again is one look-up.
        codes = ((cells * policy.shape[1] + actions) * (self.cell + 1) + lengths[cells, actions]) * 4
        codes += 2 * dark[cells] + lifted
        known = self._arrows
        try:
            blits = [known[code] for code in codes.tolist()]
        except KeyError:
            for code, cell, action in zip(codes.tolist(), cells.tolist(), actions.tolist(), strict=True):
                if code not in known:
                    key = (action, int(lengths[cell, action]), bool(dark[cell]), lifted)
                    if key not in self._arrow_sprites:
                        self._arrow_sprites[key] = self._arrow(*key)
                    sprite, dx, dy = self._arrow_sprites[key]
                    x, y = self.corners[cell]
                    known[code] = (sprite, (x + dx, y + dy))
            blits = [known[code] for code in codes.tolist()]
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
        x, y = self.cell // 2, round(self.cell * (LIFTED if lifted else 0.5))
        if length == round(self.cell * _reach(lifted)) and move != (0, 0):  # certain: its middle is the cell's
            back = length / 2 / math.hypot(*move)
            x, y = x - round(back * move[1]), y - round(back * move[0])
        half = sprite.get_width() // 2
        return sprite.subsurface(used), x - half + used.x, y - half + used.y

    def numbers(
        self, values: NDArray[Any], dark: NDArray[np.bool_], lifted: bool, shown: NDArray[np.bool_] | None = None
    ) -> None:
        """Draw the values (H·W,) of the cells, or of those ``shown``; lower where arrows were lifted to make room."""
        cells = self._open if shown is None else self._open[shown[self._open]]
        if values.dtype.kind == "i":
            strings = [str(value) for value in values[cells].tolist()]
        else:
            strings = format_numbers(values[cells], self.cell - 6, self._font_size)
        known = self._numbers
        keys = zip(cells.tolist(), strings, dark[cells].tolist(), itertools.repeat(lifted), strict=False)
        blits: list[Blit] = []
        for key in keys:
            placed = known.get(key)
            if placed is None:
                if len(known) >= REMEMBERED:
                    known.clear()
                placed = known[key] = self._number(*key)
            blits.append(placed)
        self.surface.fblits(blits, sprites.BLEND)

    def _number(self, cell: int, string: str, light: bool, lifted: bool) -> Blit:
        """A number in its place."""
        sprite = sprites.text(string, self._font_size, colors.FLOOR if light else colors.INK)
        width, height = sprite.get_size()
        x, y = self.corners[cell]
        centre = round(self.cell * (0.83 if lifted else 0.5))
        return sprite, (x + (self.cell + 1 - width) // 2, y + centre - height // 2)

    def greedy(self, values: FloatArray, tried: NDArray[np.bool_] | None, wedges: Wedges) -> None:
        """Outline the wedge of the greedy action (H·W, A), the first of the best, where anything was tried."""
        shown = ~self._solid if tried is None else ~self._solid & tried.any(axis=1)
        cells = np.flatnonzero(shown)
        actions = values[cells].argmax(axis=1)
        outlines = wedges.outlines(colors.INK, colors.FLOOR)
        blits = [
            (outlines[action], self.corners[cell])
            for cell, action in zip(cells.tolist(), actions.tolist(), strict=True)
        ]
        self.surface.fblits(blits, sprites.BLEND)

    def wedge_numbers(
        self, values: FloatArray, light: NDArray[np.bool_], wedges: Wedges, tried: NDArray[np.bool_] | None
    ) -> None:
        """Draw the action values (H·W, A) that were tried, each in its wedge, white where ``light``."""
        blits: list[Blit] = []
        for action, (x, y) in enumerate(wedges.centres.tolist()):
            room = round(self.cell * wedges.widths[action])
            size = max(11, min(round(self.cell * 0.17), round(room * 0.55)))
            cells = self._open if tried is None else self._open[tried[self._open, action]]
            strings = format_numbers(values[cells, action], room, size)
            if any(sprites.text_width(string, size) > room for string in strings):
                continue
            for cell, string in zip(cells.tolist(), strings, strict=True):
                left, top = self.corners[cell]
                sprite = sprites.text(string, size, colors.FLOOR if light[cell, action] else colors.INK)
                width, height = sprite.get_size()
                at = (round(left + x * self.cell - width / 2), round(top + y * self.cell - height / 2))
                blits.append((sprite, at))
        self.surface.fblits(blits, sprites.BLEND)

    def walls(self) -> None:
        """Draw walls between cells."""
        breadth = max(2, self.cell // 12)
        for row, column in self.board.thin_walls():
            x, y = self.corners[row * self.board.width + column + 1]
            self.surface.fill(colors.WALL, (x - breadth // 2, y, breadth, self.cell + 1))

    def destinations(self) -> None:
        """Draw frames around target cells."""
        for marker in self.board.markers():
            x, y = self.corners[marker.row * self.board.width + marker.column]
            if marker.label == "destination":
                sprite = sprites.frame(self.cell - 1, max(2, self.cell // 10), marker.color)
                self.surface.blit(sprite, (x + 1, y + 1), special_flags=sprites.BLEND)

    def view(self) -> None:
        """Darken the cells that the agent does not see; bar the moves that lead nowhere, as action masks have them."""
        seen = self.board.seen()
        if seen is not None:
            shade = sprites.shade(self.cell, colors.WATER, 0.45)
            blits = [(shade, self.corners[cell]) for cell in np.flatnonzero(~seen.reshape(-1)).tolist()]
            self.surface.fblits(blits, sprites.BLEND)
        if self._barred is None:
            self._barred = self._bars()
        self.surface.fblits(self._barred, sprites.BLEND)

    def _bars(self) -> list[Blit]:
        allowed = self.board.allowed()
        if allowed is None or self.cell < 8:
            return []
        bars = [sprites.bar(move, self.cell, colors.PIT) for move in self.board.moves]
        pairs = np.argwhere(~allowed[: self._solid.size] & ~self._solid[:, None]).tolist()
        return [(bars[action], self.corners[cell]) for cell, action in pairs if self.board.moves[action] != (0, 0)]

    def agents(self, lifted: bool) -> None:
        """Draw agents, below letters, arrows and numbers; behind the arrow where it has been lifted."""
        radius = max(3, round(self.cell * 0.2))
        rim = max(1, self.cell // 24)
        sprite = sprites.disc(radius, colors.AGENT, colors.FLOOR, rim)
        offset = self.cell // 2 - sprite.get_width() // 2
        down = round(self.cell * LIFTED) - sprite.get_height() // 2 if lifted else offset
        cells = self.board.agents()
        places = [self.corners[cell] for cell in (set(cells) if len(cells) > 1 else cells)]
        self.surface.fblits([(sprite, (x + offset, y + down)) for x, y in places], sprites.BLEND)

    def passengers(self) -> None:
        """Draw passengers."""
        for marker in self.board.markers():
            if marker.label == "passenger":
                x, y = self.corners[marker.row * self.board.width + marker.column]
                person = sprites.person(max(6, round(self.cell * 0.36)), marker.color)
                at = (x + round(self.cell * 0.62), y + round(self.cell * 0.06))
                self.surface.blit(person, at, special_flags=sprites.BLEND)


def _reach(lifted: bool) -> float:
    """The length of an arrow that is certain, in units of the cell's side."""
    return 0.33 if lifted else 0.42


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
