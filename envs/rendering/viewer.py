"""A learner at work, on the screen or recorded.

While it trains::

    viewer = Viewer(env, agent)
    for update in agent.learn():
        viewer.update(update)  # costs next to nothing unless a frame is due
        if viewer.closed:
            break
    viewer.hold()  # until the window is closed; learning goes on after an edit
    viewer.close()

While it only plays, the loop steps the environment, and the viewer paces it::

    viewer.begin()
    while not viewer.closed: ...; viewer.step(reward, terminated, truncated, info)
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pygame
from numpy.typing import NDArray

from gridzero.envs.rendering import colors
from gridzero.envs.rendering.boards import board_of
from gridzero.envs.rendering.controls import Controls
from gridzero.envs.rendering.panel import WIDTH, Curve, Dashboard, draw_panel, number
from gridzero.envs.rendering.recording import Recorder
from gridzero.envs.rendering.renderer import TRACE_LENGTH, GridRenderer, Picture
from gridzero.envs.rendering.screen import Window, to_array

MOST_FRAMES = 30
"""Frames a second, at most, while the agent learns."""
SHARE = 0.05
"""Of the time, what drawing may take while the agent learns."""
CURVES = ("episode_return", "residual", "value_change", "evaluation_return")
"""Metrics worth a curve, the first that there is."""


class UpdateLike(Protocol):
    """What the training loop hands on."""

    @property
    def step(self) -> int:
        """Environment steps so far."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Named numbers."""


class Viewer:
    """Shows an environment, and what an agent makes of it.

    Of the agent it reads ``state_values``, ``action_values`` and ``policy``, where it has them; of the environment,
    what lies where. Only the user's edits change anything. Drawing while an agent learns takes at most ``SHARE`` of
    the time.

    Args:
        env: an environment that :class:`GridRenderer` can draw.
        agent: what learns or plays there.
        title: the first line of the panel; the agent's name if not given.
        human: open a window.
        record: write a GIF or MP4 of every frame that :meth:`step` and :meth:`capture` draw.
        fps: frames per second of the recording, and of :meth:`step` at first.
        size: pixels of the longer side of the map, about.

    Attributes:
        closed: the user has closed the window.
        layers: what is drawn.
        message: a line at the foot of the panel.

    Raises:
        ValueError: when the environment cannot be drawn, or there is no display for a window.
    """

    def __init__(
        self,
        env: Any,
        agent: Any = None,
        *,
        title: str | None = None,
        human: bool = True,
        record: str | Path | None = None,
        fps: int = 8,
        size: int = 640,
    ) -> None:
        self.env = env
        self.agent = agent
        shape = board_of(env)
        wide = shape.width > 1.5 * shape.height
        self.renderer = GridRenderer(env, size=round(size * 1.4) if wide else size)
        self.title = title or getattr(agent, "name", "") or type(env.unwrapped).__name__
        self.subtitle = _name(env)
        self.recorder = Recorder(record, fps) if record is not None else None
        self.window = Window(self.title) if human else None
        self.picture = Picture()
        self.layers = self.picture.layers
        self.controls = Controls(self, fps)
        self.message = ""
        self.rows: dict[str, str] = {}
        self.on_key: Callable[[int], bool] | None = None
        self.curve: Curve | None = None
        self._trace: deque[int] = deque(maxlen=TRACE_LENGTH + 1)
        self._visits = [0] * (self.renderer.board.height * self.renderer.board.width)
        self._episode, self._steps, self._return = 0, 0, 0.0
        self._outcomes: deque[bool] = deque(maxlen=100)
        self._surface: pygame.Surface | None = None
        self._due = 0.0
        self._next = 0.0
        self._rate = _Rate()

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window."""
        return self.window is not None and self.window.closed

    # --- While the agent learns --------------------------------------------------------------------------------------

    def update(self, update: UpdateLike) -> None:
        """Take in an update; draw it if a frame is due. Waits only if the user paused or slowed the agent down."""
        metrics = update.metrics
        if self.curve is None or self.curve.name in metrics:
            self._plot(metrics)
        self._follow()
        if "episode_return" in metrics:
            self._trace.clear()
        now = time.perf_counter()
        if now < self._due and self.controls.training_rate == math.inf:
            return
        self._describe(update)
        self._frame_in_budget(now)
        if self.controls.training_rate != math.inf:
            self._next = max(self._next, now - 1) + 1 / self.controls.training_rate
            self._idle(lambda: time.perf_counter() >= self._next)
        self._idle(lambda: not self.controls.paused)

    def _plot(self, metrics: Mapping[str, float]) -> None:
        if self.curve is None:
            name = next((name for name in CURVES if name in metrics), None)
            if name is None:
                return
            self.curve = Curve(name.replace("_", " "))
            self.curve.name = name
        self.curve.append(float(metrics[self.curve.name]))

    def _follow(self) -> None:
        """Note where the agent is."""
        cells = self.renderer.board.agents()
        if len(cells) == 1 and (not self._trace or cells[0] != self._trace[-1]):
            self._visits[cells[0]] += 1
            self._trace.append(cells[0])

    def _describe(self, update: UpdateLike) -> None:
        self._rate.note(update.step)
        rows = {"step": f"{update.step:,}", "steps per second": number(self._rate.value)}
        for name, value in update.metrics.items():
            if name != "steps_per_second":
                rows[name.replace("_", " ")] = number(float(value))
        self.rows = {**self.rows, **rows}

    def _frame_in_budget(self, now: float) -> None:
        self._handle_events()
        self.draw()
        finished = time.perf_counter()
        self._due = finished + max(1 / MOST_FRAMES, (finished - now) / SHARE)

    def hold(self) -> None:
        """Stay open until the user closes the window; after an edit the agent learns on."""
        while not self.closed:
            if self.controls.take_edited() and self.agent is not None:
                for update in self.agent.learn():
                    self.update(update)
                    if self.closed:
                        return
            self._handle_events()
            self.draw()
            time.sleep(1 / MOST_FRAMES)

    # --- While the agent plays ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """An episode has begun."""
        self._episode += 1
        self._steps, self._return = 0, 0.0
        self._trace.clear()
        self._pace()

    def step(self, reward: float, terminated: bool, truncated: bool, info: Mapping[str, Any]) -> None:
        """The environment made a step: draw it, and wait until it is time for the next."""
        self._steps += 1
        self._return += float(reward)
        self._rate.note(self._rate.last + 1)
        if terminated or truncated:
            if self.curve is None:
                self.curve = Curve("episode return")
            self.curve.append(self._return)
            success = info.get("is_success", terminated and reward > 0)
            self._outcomes.append(bool(success))
        self._pace()

    def _pace(self) -> None:
        self._follow()
        self.rows |= {
            "episode": f"{self._episode:,}",
            "step": f"{self._steps:,}",
            "return": number(self._return),
            "steps per second": number(self._rate.value),
        }
        if self._outcomes:
            self.rows["success rate"] = f"{np.mean(self._outcomes):.0%} of {len(self._outcomes)}"
        self.capture()
        if self.window is not None:
            self._next = max(self._next + 1 / self.controls.rate, time.perf_counter())
            self._idle(lambda: time.perf_counter() >= self._next)
            self._idle(lambda: not self.controls.paused)

    def restarting(self) -> bool:
        """Whether the user asked, since this was last called, to start over."""
        return self.controls.take_restart()

    def forget(self) -> None:
        """Clear counts, trace and curve."""
        self._visits = [0] * len(self._visits)
        self._trace.clear()
        self._outcomes.clear()
        self.curve = None

    # --- Frames ------------------------------------------------------------------------------------------------------

    def capture(self, repeat: int = 1) -> None:
        """Draw a frame, into the recording too, ``repeat`` times."""
        self._handle_events()
        surface = self.draw()
        if self.recorder is not None:
            self.recorder.add(to_array(surface), repeat)

    def draw(self) -> pygame.Surface:
        """Draw map and panel, and show them if there is a window."""
        self._look()
        grid = self.renderer.draw(self.picture)
        surface = self._canvas(grid)
        surface.blit(grid, (0, 0))
        draw_panel(surface, grid.get_width(), self.dashboard(), self.renderer.scale)
        if self.window is not None:
            self.window.show(surface)
        return surface

    def _look(self) -> None:
        """Read the agent."""
        picture, background = self.picture, self.layers.background
        if self.agent is not None:
            for name, wanted in (
                ("state_values", background == "state values"),
                ("action_values", background == "action values"),
                ("policy", self.layers.policy),
            ):
                read = getattr(self.agent, name, None)
                setattr(picture, name, np.asarray(read(), dtype=np.float64) if wanted and read is not None else None)
        picture.visits = np.asarray(self._visits)
        picture.trace = self._trace

    def _canvas(self, grid: pygame.Surface) -> pygame.Surface:
        height = max(grid.get_height(), 560)
        size = (grid.get_width() + WIDTH, height + height % 2)
        if self._surface is None or self._surface.get_size() != size:
            self._surface = pygame.Surface(size, 0, 32)
            self._surface.fill(colors.PAPER)
        return self._surface

    def frame(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: what :meth:`draw` draws."""
        return to_array(self.draw())

    def dashboard(self) -> Dashboard:
        """What the panel says."""
        return Dashboard(
            self.title,
            self.subtitle,
            list(self.rows.items()),
            self.curve,
            self.controls.status() or self.message,
            self.controls.keys(),
            self.controls.palette_faces(),
            self.controls.brush,
            self.controls.help,
            self.layers.background,
        )

    # --- The user ----------------------------------------------------------------------------------------------------

    def _handle_events(self) -> None:
        if self.window is not None:
            for event in self.window.events():
                self.controls.handle(event)

    def _idle(self, done: Callable[[], bool]) -> None:
        """Draw and listen until ``done``, a single step was asked for, or the window is closed."""
        while not self.closed and not done() and not self.controls.take_single_step():
            self._handle_events()
            if not self.closed and self.controls.changed():
                self.draw()
            time.sleep(min(1 / MOST_FRAMES, 0.25 / self.controls.rate))

    def close(self) -> None:
        """Finish the recording and close the window."""
        if self.recorder is not None:
            self.recorder.close()
        if self.window is not None:
            self.window.close()


class _Rate:
    """Steps per second, over about the last second."""

    def __init__(self) -> None:
        self.value = 0.0
        self.last = 0
        self._since = time.perf_counter()
        self._from = 0

    def note(self, step: int) -> None:
        self.last = step
        now = time.perf_counter()
        if now - self._since >= 0.5:
            self.value = (step - self._from) / (now - self._since)
            self._since, self._from = now, step


def _name(env: Any) -> str:
    spec = getattr(env, "spec", None)
    name = type(env.unwrapped).__name__ if spec is None else str(spec.id)
    layout = getattr(env.unwrapped, "layout", None)
    return f"{name}, {layout.name}" if getattr(layout, "name", "") else str(name)
