"""Keys and mouse of the viewer, and which of them are offered."""

from __future__ import annotations

import math
from typing import Literal

import pygame

from gridzero.envs.rendering.colors import RGB
from gridzero.envs.rendering.map_editor import MapEditor
from gridzero.envs.rendering.renderer import Layers

RATES = (1, 2, 4, 8, 15, 30, 60, 120, 240)
"""Steps per second to choose from."""
BACKGROUND_KEYS = {pygame.K_v: "state values", pygame.K_a: "action values", pygame.K_c: "visits"}
SWITCH_KEYS = {pygame.K_n: "numbers", pygame.K_p: "policy", pygame.K_t: "trace", pygame.K_m: "view"}

Request = Literal["quit", "save picture", "start over"]


class Controls:
    """Choices of the user by keys and mouse.

    Args:
        rate: steps per second at first.
        layers: of a grid, switched by keys; None for other pictures.
        editor: of a map that can be changed; None for others.

    Attributes:
        paused: nothing goes on until resumed, but a single step if asked for.
        rate: steps per second while an agent plays.
        training_rate: updates per second while it learns; infinite until the user slows it down.
        help: whether the keys are shown.
        restart_asked: the user wants to start over.
        own_keys: keys that a program handles before these, and their meaning.
    """

    def __init__(self, rate: int, layers: Layers | None = None, editor: MapEditor | None = None) -> None:
        self.layers = layers
        self.editor = editor
        self.paused = False
        self.rate = float(rate)
        self.training_rate = math.inf
        self.help = True
        self.restart_asked = False
        self.own_keys: list[tuple[str, str]] = []
        self._single = False
        self._changed = True
        self._message = ""

    def take_single_step(self) -> bool:
        """Whether a single step was asked for since this was last called."""
        asked, self._single = self._single, False
        return asked

    def take_restart(self) -> bool:
        """Whether the user asked to start over since this was last called."""
        asked, self.restart_asked = self.restart_asked, False
        return asked

    def changed(self) -> bool:
        """Whether anything that is drawn may have changed since this was last called."""
        changed, self._changed = self._changed, False
        return changed

    def touch(self) -> None:
        """Note that something that is drawn may have changed."""
        self._changed = True

    def handle(self, event: pygame.Event) -> Request | None:
        """Do what an event asks for.

        Returns:
            What only the viewer can do about it.
        """
        request: Request | None = None
        if event.type == pygame.QUIT:
            request = "quit"
        elif event.type == pygame.KEYDOWN:
            request = self._key(event.key)
        elif self.editor is None or not self.editor.handle(event):
            return None
        elif event.type != pygame.MOUSEMOTION or any(event.buttons):
            self._message = self.editor.message
        self._changed = True
        return request

    def _key(self, key: int) -> Request | None:
        if key in (pygame.K_ESCAPE, pygame.K_q):
            return "quit"
        if key in (pygame.K_s, pygame.K_F12):
            return "save picture"
        if key == pygame.K_r:
            self._start_over()
            return "start over"
        if key == pygame.K_SPACE:
            self.paused = not self.paused
        elif key in (pygame.K_PERIOD, pygame.K_KP_PERIOD):
            self.paused = self._single = True
        elif key in (pygame.K_PLUS, pygame.K_EQUALS, pygame.K_KP_PLUS):
            self._change_rate(1)
        elif key in (pygame.K_MINUS, pygame.K_KP_MINUS):
            self._change_rate(-1)
        elif key == pygame.K_h:
            self.help = not self.help
        elif pygame.K_1 <= key <= pygame.K_9 and self.editor is not None:
            self.editor.choose(key - pygame.K_1)
        elif self.layers is not None:
            self._switch_layer(self.layers, key)
        return None

    def _switch_layer(self, layers: Layers, key: int) -> None:
        if key in BACKGROUND_KEYS:
            chosen = BACKGROUND_KEYS[key]
            layers.background = "none" if layers.background == chosen else chosen
        elif key in SWITCH_KEYS:
            setattr(layers, SWITCH_KEYS[key], not getattr(layers, SWITCH_KEYS[key]))

    def _change_rate(self, direction: int) -> None:
        """One notch; while the agent learns, the fastest notch is no limit at all."""
        nearest = min(range(len(RATES)), key=lambda i: abs(RATES[i] - self.rate))
        self.rate = float(RATES[max(0, min(len(RATES) - 1, nearest + direction))])
        notches = (*RATES, math.inf)
        now = notches.index(self.training_rate)
        self.training_rate = notches[max(0, min(len(notches) - 1, now + direction))]

    def _start_over(self) -> None:
        if self.editor is not None:
            self.editor.undo()
        self.restart_asked = True
        self.say("started over")

    def say(self, message: str) -> None:
        """Show a line at the foot of the panel."""
        self._message = message

    def status(self) -> str:
        """The line at the foot of the panel."""
        if self.paused:
            return "paused: space goes on, . makes one step"
        return self._message

    def palette(self) -> list[tuple[RGB, str]]:
        """Color and name of each tile to paint with, where the map can be changed."""
        return [] if self.editor is None else self.editor.faces()

    def offered(self) -> list[tuple[str, str, bool]]:
        """Keys that do something here, their meaning, and whether that is on."""
        keys: list[tuple[str, str, bool]] = []
        if self.layers is not None:
            layers = self.layers
            keys += [
                ("V", "state values", layers.background == "state values"),
                ("A", "action values", layers.background == "action values"),
                ("C", "visit counts", layers.background == "visits"),
                ("P", "policy", layers.policy),
                ("N", "numbers", layers.numbers),
                ("T", "trace", layers.trace),
                ("M", "view, masks", layers.view),
            ]
        keys += [
            ("space", "pause", self.paused),
            (".", "one step", False),
            ("+ -", "speed", False),
            ("R", "start over", False),
            ("S", "save picture", False),
            ("H", "hide keys", False),
            ("Q Esc", "quit", False),
        ]
        if self.editor is not None:
            keys += [("drag", "paint tiles", False), ("wheel", "change reward", False)]
        if self.own_keys:
            keys = [key for key in keys if key[0] not in ("A", "S", ".", "+ -", "space")]
        return [(key, meaning, False) for key, meaning in self.own_keys] + keys


def key_code(name: str) -> int:
    """The key of that name: a letter, ``"up"``, ``"return"``, or ``"kp4"`` for the 4 of the number pad."""
    return pygame.key.key_code(f"[{name[2:]}]" if name.startswith("kp") else name)
