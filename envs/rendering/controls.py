"""What the user does with keys and the mouse."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pygame

from gridzero.envs.rendering.boards import GridWorldBoard
from gridzero.envs.rendering.colors import RGB

if TYPE_CHECKING:
    from gridzero.envs.rendering.viewer import Viewer

RATES = (1, 2, 4, 8, 15, 30, 60, 120, 240)
"""Steps per second to choose from."""
REWARD_STEP = 0.5
BACKGROUND_KEYS = {pygame.K_v: "state values", pygame.K_a: "action values", pygame.K_c: "visits"}


class Controls:
    """Keys and mouse of a :class:`Viewer`.

    Attributes:
        paused: nothing goes on until resumed, but a single step if asked for.
        rate: steps per second while an agent plays.
        training_rate: updates per second while it learns; infinite until the user slows it down.
        brush: the index of the tile that the mouse paints with.
        help: whether the keys are shown.
        restart_asked: the user wants to start over.
        edited: a cell was changed.
        own_keys: keys that a program handles before these, and what they do.
        pictures: the folder that pictures are saved in.
    """

    def __init__(self, viewer: Viewer, rate: int) -> None:
        self.viewer = viewer
        self.paused = False
        self.rate = float(rate)
        self.training_rate = math.inf
        self.brush = 0
        self.help = True
        self.pictures = Path()
        self.restart_asked = self.edited = False
        self.own_keys: list[tuple[str, str]] = []
        self._single = False
        self._changed = True
        self._painted: tuple[int, int] | None = None
        self._stroke: Any = None
        self._before: dict[tuple[int, int], Any] = {}
        self._last_message = ""

    def take_single_step(self) -> bool:
        """Whether a single step was asked for."""
        asked, self._single = self._single, False
        return asked

    def take_restart(self) -> bool:
        """Whether to start over."""
        asked, self.restart_asked = self.restart_asked, False
        return asked

    def take_edited(self) -> bool:
        """Whether a cell was edited."""
        edited, self.edited = self.edited, False
        return edited

    def changed(self) -> bool:
        """Whether anything that is drawn may have changed."""
        changed, self._changed = self._changed, False
        return changed

    def handle(self, event: pygame.Event) -> None:
        """Do what an event asks for."""
        if event.type == pygame.QUIT and self.viewer.window is not None:
            self.viewer.window.close()
        elif event.type == pygame.KEYDOWN:
            if self.viewer.on_key is None or not self.viewer.on_key(event.key):
                self._key(event)
        elif event.type == pygame.MOUSEMOTION:
            self._point(event)
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button in (1, 3):
            self._press(event)
        elif event.type == pygame.MOUSEBUTTONUP and event.button in (1, 3):
            self._stroke = self._painted = None
        elif event.type == pygame.MOUSEWHEEL:
            self._wheel(event.y)
        else:
            return
        self._changed = True

    def _key(self, event: pygame.Event) -> None:
        key, layers = event.key, self.viewer.layers
        if key in (pygame.K_ESCAPE, pygame.K_q) and self.viewer.window is not None:
            self.viewer.window.close()
        elif key == pygame.K_SPACE:
            self.paused = not self.paused
        elif key in (pygame.K_PERIOD, pygame.K_KP_PERIOD):
            self.paused = self._single = True
        elif key in (pygame.K_PLUS, pygame.K_EQUALS, pygame.K_KP_PLUS):
            self._change_rate(1)
        elif key in (pygame.K_MINUS, pygame.K_KP_MINUS):
            self._change_rate(-1)
        elif key == pygame.K_r:
            self._start_over()
        elif key in (pygame.K_s, pygame.K_F12):
            self.say(f"saved {save_picture(self.viewer.draw(), self.pictures)}")
        elif key == pygame.K_h:
            self.help = not self.help
        elif key in BACKGROUND_KEYS:
            chosen = BACKGROUND_KEYS[key]
            layers.background = "none" if layers.background == chosen else chosen
        elif key == pygame.K_n:
            layers.numbers = not layers.numbers
        elif key == pygame.K_p:
            layers.policy = not layers.policy
        elif key == pygame.K_t:
            layers.trace = not layers.trace
        elif pygame.K_1 <= key <= pygame.K_9 and key - pygame.K_1 < len(self.palette()):
            self.brush = key - pygame.K_1

    def _change_rate(self, direction: int) -> None:
        """One notch; while the agent learns, the fastest notch is no limit at all."""
        nearest = min(range(len(RATES)), key=lambda i: abs(RATES[i] - self.rate))
        self.rate = float(RATES[max(0, min(len(RATES) - 1, nearest + direction))])
        notches = (*RATES, math.inf)
        now = notches.index(self.training_rate)
        self.training_rate = notches[max(0, min(len(notches) - 1, now + direction))]

    def _start_over(self) -> None:
        for (row, column), tile in self._before.items():
            self.viewer.env.unwrapped.edit(row, column, tile)
        self.edited = self.edited or bool(self._before)
        self._before.clear()
        self.restart_asked = True
        self.viewer.forget()
        self.say("started over")

    @property
    def _grid(self) -> GridWorldBoard | None:
        """The board, if its cells can be changed."""
        board = self.viewer.renderer.board
        return board if isinstance(board, GridWorldBoard) and hasattr(board.env, "edit") else None

    def palette(self) -> Sequence[Any]:
        """The tiles to paint with: walls and the like, then what is special on this map."""
        return () if self._grid is None else self._grid.palette()[:9]

    def palette_faces(self) -> list[tuple[RGB, str]]:
        """Colour and name of each tile to paint with."""
        return [] if self._grid is None else [(self._grid.face(tile).color, tile.name) for tile in self.palette()]

    def _point(self, event: pygame.Event) -> None:
        if self._grid is None:
            return
        self.viewer.picture.cursor = self.viewer.renderer.cell_at(*event.pos)
        if self._stroke is not None and self.viewer.picture.cursor is not None:
            self._paint(self.viewer.picture.cursor)

    def _press(self, event: pygame.Event) -> None:
        """Left paints with the brush, or erases where that tile already is; right erases."""
        place = self.viewer.renderer.cell_at(*event.pos)
        palette = self.palette()
        if place is None or not palette:
            return
        free = next(tile for tile in palette if tile.symbol == ".")
        brush = palette[self.brush]
        self._stroke = free if event.button == 3 or self._tile(place) == brush else brush
        self._paint(place)

    def _paint(self, place: tuple[int, int]) -> None:
        if place != self._painted:
            self._painted = place
            self._edit(place, self._stroke)

    def _wheel(self, notches: int) -> None:
        """Change what entering the cell under the pointer pays."""
        place = self.viewer.picture.cursor
        if place is None or not notches or self._grid is None:
            return
        coarse = 10 if pygame.key.get_mods() & pygame.KMOD_SHIFT else 1
        tile = self._tile(place)
        if tile.blocks:
            self.say("a wall pays nothing: nobody enters it")
            return
        reward = round(self._grid.reward(tile) + REWARD_STEP * notches * coarse, 6)
        self._edit(place, self._with_reward(tile, reward))
        self.say(f"entering ({place[0]}, {place[1]}) pays {reward:g}")

    def _tile(self, place: tuple[int, int]) -> Any:
        layout = self.viewer.env.unwrapped.layout
        return layout.legend[layout.cells[place]]

    def _with_reward(self, tile: Any, reward: float) -> Any:
        """Such a tile with another reward: one that the map has, else a new one under a symbol of its own."""
        legend = self.viewer.env.unwrapped.layout.legend
        for other in legend:
            if dataclasses.replace(other, symbol=tile.symbol, name=tile.name) == dataclasses.replace(
                tile, reward=reward
            ):
                return other
        used = {other.symbol for other in legend}
        symbol = next(chr(code) for code in range(0x100, 0x300) if chr(code) not in used)
        return dataclasses.replace(tile, symbol=symbol, reward=reward)

    def _edit(self, place: tuple[int, int], tile: Any) -> None:
        before = self._tile(place)
        if before == tile:
            return
        try:
            self.viewer.env.unwrapped.edit(*place, tile)
        except ValueError as error:
            self.say(str(error))
            return
        self._before.setdefault(place, before)
        self.edited = True
        self.say("")

    def say(self, message: str) -> None:
        """A line at the foot of the panel."""
        self._last_message = message

    def status(self) -> str:
        """The line at the foot of the panel."""
        if self.paused:
            return "paused: space goes on, . makes one step"
        return self._last_message

    def keys(self) -> list[tuple[str, str, bool]]:
        """Keys, what they do, and whether that is on."""
        layers = self.viewer.layers
        keys = [
            ("V", "state values", layers.background == "state values"),
            ("A", "action values", layers.background == "action values"),
            ("C", "visit counts", layers.background == "visits"),
            ("P", "policy", layers.policy),
            ("N", "numbers", layers.numbers),
            ("T", "trace", layers.trace),
            ("space", "pause", self.paused),
            (".", "one step", False),
            ("+ -", "speed", False),
            ("R", "start over", False),
            ("S", "save picture", False),
            ("H", "hide keys", False),
            ("Q Esc", "quit", False),
        ]
        if self._grid is not None:
            keys += [("drag", "paint tiles", False), ("wheel", "change reward", False)]
        if self.own_keys:
            keys = [key for key in keys if key[0] not in ("A", "S", ".", "+ -", "space")]
        return [(key, meaning, False) for key, meaning in self.own_keys] + keys


def save_picture(surface: pygame.Surface, folder: Path) -> Path:
    """Write a PNG under the first free name ``gridzero-0001.png``, ``gridzero-0002.png``, …"""
    number = 1
    while True:
        path = folder / f"gridzero-{number:04d}.png"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            number += 1
            continue
        with os.fdopen(descriptor, "wb") as file:
            pygame.image.save(surface, file, "picture.png")
        return path


def key_code(name: str) -> int:
    """The key of that name: a letter, ``"up"``, ``"return"``, or ``"kp4"`` for the 4 of the number pad."""
    return pygame.key.key_code(f"[{name[2:]}]" if name.startswith("kp") else name)
