"""Editing the map of a grid world with the mouse."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import pygame

from gridzero.envs.grid.layouts.tiles import Tile
from gridzero.envs.rendering.boards import GridWorldBoard
from gridzero.envs.rendering.colors import RGB
from gridzero.envs.rendering.renderer import GridRenderer, Picture

REWARD_STEP = 0.5
"""One notch of the wheel; ten times as much with Shift."""


class MapEditor:
    """Paints tiles and changes rewards of a grid world.

    Args:
        renderer: of the map.
        picture: whose cursor follows the mouse.

    Attributes:
        brush: the index of the tile that the mouse paints with.
        edited: a cell was changed.
        message: what there is to say about the last edit.
    """

    def __init__(self, renderer: GridRenderer, picture: Picture) -> None:
        self.renderer = renderer
        self.picture = picture
        self.brush = 0
        self.edited = False
        self.message = ""
        self._env = renderer.env.unwrapped
        self._painted: tuple[int, int] | None = None
        self._stroke: Tile | None = None
        self._before: dict[tuple[int, int], Tile] = {}

    @staticmethod
    def fits(renderer: GridRenderer) -> bool:
        """Whether the cells of what is drawn can be changed."""
        return isinstance(renderer.board, GridWorldBoard) and hasattr(renderer.board.env, "edit")

    @property
    def board(self) -> GridWorldBoard:
        """The map as it is now."""
        return cast(GridWorldBoard, self.renderer.board)

    def palette(self) -> Sequence[Tile]:
        """The tiles to paint with: walls and the like, then what is special on this map."""
        return self.board.palette()[:9]

    def faces(self) -> list[tuple[RGB, str]]:
        """Color and name of each tile to paint with."""
        return [(self.board.face(tile).color, tile.name) for tile in self.palette()]

    def choose(self, brush: int) -> None:
        """Paint with another tile, if there is one of that number."""
        if brush < len(self.palette()):
            self.brush = brush

    def take_edited(self) -> bool:
        """Whether a cell was edited since this was last called."""
        edited, self.edited = self.edited, False
        return edited

    def undo(self) -> None:
        """Take every edit back."""
        for (row, column), tile in self._before.items():
            self._env.edit(row, column, tile)
        self.edited = self.edited or bool(self._before)
        self._before.clear()

    def handle(self, event: pygame.Event) -> bool:
        """Do what a mouse event asks for; whether it was one."""
        if event.type == pygame.MOUSEMOTION:
            self._point(event)
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button in (1, 3):
            self._press(event)
        elif event.type == pygame.MOUSEBUTTONUP and event.button in (1, 3):
            self._stroke = self._painted = None
        elif event.type == pygame.MOUSEWHEEL:
            self._wheel(event.y)
        else:
            return False
        return True

    def _point(self, event: pygame.Event) -> None:
        self.picture.cursor = self.renderer.cell_at(*event.pos)
        if self._stroke is not None and self.picture.cursor is not None:
            self._paint(self.picture.cursor, self._stroke)

    def _press(self, event: pygame.Event) -> None:
        """Left paints with the brush, or erases where that tile already is; right erases."""
        place = self.renderer.cell_at(*event.pos)
        if place is None:
            return
        palette = self.palette()
        free = next(tile for tile in palette if tile.symbol == ".")
        brush = palette[self.brush]
        self._stroke = free if event.button == 3 or self._tile(place) == brush else brush
        self._paint(place, self._stroke)

    def _paint(self, place: tuple[int, int], tile: Tile) -> None:
        if place != self._painted:
            self._painted = place
            self._edit(place, tile)

    def _wheel(self, notches: int) -> None:
        """Change what entering the cell under the pointer pays."""
        place = self.picture.cursor
        if place is None or not notches:
            return
        tile = self._tile(place)
        if tile.blocks:
            self.message = "a wall pays nothing: nobody enters it"
            return
        coarse = 10 if pygame.key.get_mods() & pygame.KMOD_SHIFT else 1
        reward = round(self.board.reward(tile) + REWARD_STEP * notches * coarse, 6)
        self._edit(place, self._with_reward(tile, reward))
        self.message = f"entering ({place[0]}, {place[1]}) pays {reward:g}"

    def _tile(self, place: tuple[int, int]) -> Tile:
        layout = self._env.layout
        tile: Tile = layout.legend[layout.cells[place]]
        return tile

    def _with_reward(self, tile: Tile, reward: float) -> Tile:
        """Such a tile with another reward: one that the map has, else a new one under a symbol of its own."""
        legend: tuple[Tile, ...] = self._env.layout.legend
        wanted = dataclasses.replace(tile, reward=reward)
        for other in legend:
            if dataclasses.replace(other, symbol=tile.symbol, name=tile.name) == wanted:
                return other
        used = {other.symbol for other in legend}
        symbol = next(chr(code) for code in range(0x100, 0x300) if chr(code) not in used)
        return dataclasses.replace(wanted, symbol=symbol)

    def _edit(self, place: tuple[int, int], tile: Tile) -> None:
        before = self._tile(place)
        if before == tile:
            return
        try:
            self._env.edit(*place, tile)
        except ValueError as error:
            self.message = str(error)
            return
        self._before.setdefault(place, before)
        self.edited = True
        self.message = ""
