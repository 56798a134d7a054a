"""A learner at work, on the screen or recorded.

While it trains::

    viewer = Viewer(env, agent)
    for update in agent.learn():
        viewer.update(update)  # costs next to nothing unless a frame is due
        if viewer.closed:
            break
    viewer.hold()  # until the window is closed; learning goes on after an edit
    viewer.close()

While it only plays, whoever steps the environment calls ``viewer.present()`` after each reset and step; it waits until
it is time for the next one.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pygame
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from gridzero.envs.rendering import colors
from gridzero.envs.rendering.boards import STEP_LIMIT, find_board
from gridzero.envs.rendering.controls import Controls
from gridzero.envs.rendering.episodes import Episodes, StepRate
from gridzero.envs.rendering.frame_renderer import FrameRenderer
from gridzero.envs.rendering.map_editor import MapEditor
from gridzero.envs.rendering.overlays import TRACE_LENGTH
from gridzero.envs.rendering.panel import WIDTH, Curve, Dashboard, draw_panel, number
from gridzero.envs.rendering.recording import Recorder, grid_palette
from gridzero.envs.rendering.renderer import GridRenderer, Picture, read_table
from gridzero.envs.rendering.screen import Window, save_picture, to_array

MOST_FRAMES = 30
"""Frames a second, at most, while the agent learns."""
SHARE = 0.05
"""The share of the time that drawing may take while the agent learns."""
CURVES = ("episode_return", "residual", "value_change", "evaluation_return")
"""Metrics that are plotted: the first of these that an update has."""


class UpdateLike(Protocol):
    """An update as the training loop hands it on."""

    @property
    def step(self) -> int:
        """Environment steps so far."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Named numbers."""


class Viewer:
    """Shows an environment beside a panel of numbers, and over a grid the agent's values and policy.

    A grid (GridWorld, FrozenLake, CliffWalking, Taxi) is drawn with the agent's ``state_values``, ``action_values`` and
    ``policy``, where it has them; every other environment by itself, in its mode ``rgb_array``. Only the user's edits
    change anything. Drawing while an agent learns takes at most ``SHARE`` of the time.

    Args:
        env: an environment or a vector; of a vector that is no grid, the first environment is shown.
        agent: what learns or plays there.
        title: the first line of the panel; the agent's name if not given.
        human: open a window.
        record: write a GIF or MP4 of every frame, or a PNG of the last one, that :meth:`present` draws.
        fps: frames per second of the recording, and of :meth:`present` at first.
        size: pixels of the longer side of the picture, about.

    Attributes:
        closed: the user has closed the window.
        env: the environment that is shown.
        layers: what is drawn over a grid.
        editor: changes the map with the mouse, where there is one to change.
        message: a line at the foot of the panel.
        pictures: the folder that pictures are saved in.

    Raises:
        ValueError: when the environment cannot be drawn, or there is no display for a window.
    """

    renderer: GridRenderer | FrameRenderer

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
        self.env = env.unwrapped.envs[0] if isinstance(env.unwrapped, SyncVectorEnv) else env
        self.agent = agent
        self.picture = Picture()
        self.layers = self.picture.layers
        self.editor: MapEditor | None = None
        board = find_board(self.env)
        if board is None:
            self.renderer = FrameRenderer(self.env, size=size)
        else:
            wide = board.width > 1.5 * board.height
            self.renderer = GridRenderer(self.env, size=round(size * 1.4) if wide else size)
            if self.env is env and MapEditor.fits(self.renderer):
                self.editor = MapEditor(self.renderer, self.picture)
        self.title = title or getattr(agent, "name", "") or type(self.env.unwrapped).__name__
        self.subtitle = _name(env)
        palette = None if board is None else grid_palette()
        self.recorder = Recorder(record, fps, palette) if record is not None else None
        self.window = Window(self.title) if human else None
        self.controls = Controls(fps, None if board is None else self.layers, self.editor)
        self.episodes = Episodes(self.env.unwrapped, self.renderer.board, TRACE_LENGTH + 1)
        self.episodes.listening = True
        self.message = ""
        self.pictures = Path()
        self.rows: dict[str, str] = {}
        self.on_key: Callable[[int], bool] | None = None
        self.curve: Curve | None = None
        self._so_far: Curve | None = None
        self._undrawn = False  # only the last frame is kept: it is drawn when it is known to be that
        self._latest: UpdateLike | None = None
        self._exact: tuple[object, float | None, float | None] | None = None
        self._reached: float | None = None
        self._seen: dict[str, str] = {}
        self._surface: pygame.Surface | None = None
        self._due = self._next = 0.0
        self._rate = StepRate()

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window."""
        return self.window is not None and self.window.closed

    def update(self, update: UpdateLike) -> None:
        """Take in an update; draw it if a frame is due. Waits only if the user paused or slowed the agent down."""
        self._plot(update)
        now = time.perf_counter()
        slowed = self.controls.training_rate != math.inf
        if not slowed and (now < self._due or not self.episodes.listening):
            # A frame shows what happened during the update before it.
            self.episodes.listening = now >= self._due
            if self.episodes.single or now < self._due:
                return
        self._rate.note(update.step)
        self._handle_events()
        self.draw()
        finished = time.perf_counter()
        self._due = finished + max(1 / MOST_FRAMES, (finished - now) / SHARE)
        self.episodes.listening = slowed
        if slowed:
            self._next = max(self._next + 1 / self.controls.training_rate, now)
            self.wait(lambda: time.perf_counter() >= self._next)
        self.wait(lambda: not self.controls.paused)

    def note(self, update: UpdateLike) -> None:
        """Take in an update for the next frame, whenever that is drawn."""
        self._plot(update)
        self._rate.note(update.step)

    def _plot(self, update: UpdateLike) -> None:
        self._latest, metrics = update, update.metrics
        if self.curve is None:
            name = next((name for name in CURVES if name in metrics), None)
            if name is None:
                return
            self.curve = Curve(name)
        if self.curve.name in metrics:
            self.curve.append(float(metrics[self.curve.name]))

    def hold(self) -> None:
        """Stay open until the user closes the window; after an edit the agent learns on."""
        while not self.closed:
            self.learn_on()
            self._handle_events()
            self.draw()
            time.sleep(1 / MOST_FRAMES)

    def learn_on(self, updates: int | None = None) -> None:
        """After an edit, let the agent learn: to its end, or for so many updates."""
        if self.take_edited() and self.agent is not None:
            for update in itertools.islice(self.agent.learn(), updates):
                self.update(update)
                if self.closed:
                    return

    def present(self, repeat: int = 1) -> None:
        """Draw a frame, into the recording too, and wait until it is time for the next, or the user goes on."""
        episodes = self.episodes
        if self._latest is None:
            if self.window is not None:
                self._rate.note(episodes.total_steps + episodes.steps)
                self.rows |= {"steps per second": number(self._rate.value)}
            self.curve = self.curve or Curve("episode_return")
            for total in episodes.take_returns():
                self.curve.append(total)
            if episodes.steps == 0 or self._so_far is None:
                self._so_far = Curve("return so far")
            self._so_far.append(episodes.total_reward)
        self._handle_events()
        if self.window is None and self.recorder is not None and self.recorder.keeps_last:
            self.recorder.frames += repeat
            self._undrawn = True
            return
        surface = self.draw()
        if self.recorder is not None:
            self.recorder.add(to_array(surface), repeat)
        if self.window is not None:
            self._next = max(self._next + repeat / self.controls.rate, time.perf_counter())
            self.wait(lambda: time.perf_counter() >= self._next)
            self.wait(lambda: not self.controls.paused)

    def restarting(self) -> bool:
        """Whether the user asked, since this was last called, to start over."""
        return self.controls.take_restart()

    @property
    def edited(self) -> bool:
        """Whether the user has changed the map since :meth:`take_edited`."""
        return self.editor is not None and self.editor.edited

    def take_edited(self) -> bool:
        """Whether the user has changed the map since this was last called."""
        return self.editor is not None and self.editor.take_edited()

    def clear(self) -> None:
        """Clear counts, trace and curve."""
        self.episodes.clear()
        self.curve = None

    def wait(self, done: Callable[[], bool]) -> None:
        """Draw and listen until ``done``, a single step was asked for, or the window is closed."""
        while not self.closed and not done() and not self.controls.take_single_step():
            self._handle_events()
            if not self.closed and self.controls.changed():
                self.draw()
            time.sleep(min(1 / MOST_FRAMES, 0.25 / self.controls.rate))

    def draw(self) -> pygame.Surface:
        """Draw picture and panel, and show them if there is a window."""
        self._read_agent()
        picture = self.renderer.draw(self.picture)
        surface = self._canvas(picture)
        below = self._below(picture)
        room = surface.get_height() if not below else picture.get_height()
        surface.blit(picture, (0, (room - picture.get_height()) // 2))
        left, top = (0, picture.get_height()) if below else (picture.get_width(), 0)
        area = pygame.Rect(left, top, surface.get_width() - left, surface.get_height() - top)
        draw_panel(surface, area, self.dashboard(), self.renderer.scale)
        if self.window is not None:
            self.window.show(surface)
        return surface

    def _read_agent(self) -> None:
        """Take in what the agent knows about the grid, as far as the layers show it."""
        if self.renderer.board is None:
            return
        picture, background = self.picture, self.layers.background
        if self.agent is not None:
            values, action_values = background == "state values", background == "action values"
            picture.state_values = read_table(self.agent, "state_values") if values else None
            picture.action_values = read_table(self.agent, "action_values") if action_values else None
            picture.policy = read_table(self.agent, "policy_table") if self.layers.policy else None
            tried = read_table(self.agent, "tried") if values or action_values or self.layers.policy else None
            picture.tried = None if tried is None else tried > 0
        picture.visits = np.asarray(self.episodes.visits) if self.episodes.single else None
        searched = read_table(self.agent, "search_visits") if background == "visits" else None
        if searched is not None and searched.any():
            picture.visits = searched[self.renderer.board.states()].astype(np.int64)
        picture.trace = self.episodes.trace

    def _canvas(self, picture: pygame.Surface) -> pygame.Surface:
        least = 560 if self.window is not None else 520
        if self._below(picture):
            size = (picture.get_width(), picture.get_height() + (400 if self.window is not None else 300))
        else:
            height = max(picture.get_height(), least)
            size = (picture.get_width() + WIDTH, height + height % 2)
        if self._surface is None or self._surface.get_size() != size:
            self._surface = pygame.Surface(size, 0, 32)
            self._surface.fill(colors.PAPER)
        return self._surface

    @staticmethod
    def _below(picture: pygame.Surface) -> bool:
        """Whether the picture is so long that the panel goes below it."""
        return picture.get_width() > max(2 * WIDTH, 2.5 * picture.get_height())

    def frame(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: what :meth:`draw` draws."""
        return to_array(self.draw())

    def dashboard(self) -> Dashboard:
        """The content of the panel."""
        return Dashboard(
            self.title,
            self.subtitle,
            self._rows(),
            self.curve if self.curve is None or self.curve.points() else self._so_far or self.curve,
            self.controls.status() or self.message,
            self.controls.offered() if self.window is not None else (),
            self.controls.palette() if self.window is not None else (),
            0 if self.editor is None else self.editor.brush,
            self.controls.help,
            self.layers.background,
        )

    def _rows(self) -> list[tuple[str, str]]:
        """The numbers of the panel: of the present episode, where it is recorded, then the others."""
        episodes = self.episodes
        rows = {"episodes": f"{episodes.count:,}"} if episodes.count else {}
        if episodes.count and self._latest is None:
            rows = {"episode": f"{episodes.count:,}", "step": f"{episodes.steps:,}"}
            rows["return so far"] = number(episodes.total_reward)
        if episodes.outcomes:
            rows["success rate"] = f"{np.mean(episodes.outcomes):.0%} of {len(episodes.outcomes)}"
        if self._latest is not None:
            word = "sweeps" if getattr(self.agent, "default_steps", 0) is None else "steps"
            rows |= {word: f"{self._latest.step:,}", f"{word} per second": number(self._rate.value)}
            rows |= self._metrics(self._latest.metrics)
        rows |= self._optimum()
        gamma = getattr(getattr(self.agent, "config", None), "gamma", None)
        if gamma is not None:
            rows["discount γ"] = number(float(gamma))
        return list((rows | self.rows).items())

    def _optimum(self) -> dict[str, str]:
        """The best expected return, where the map says it, and what the agent's falls short of it by."""
        board = self.renderer.board
        spec = getattr(self.env, "spec", None)
        if board is None or spec is None or spec.additional_wrappers:
            return {}
        limit = spec.max_episode_steps or STEP_LIMIT
        if self._exact is None or self._exact[0] is not board.key():
            best = board.expected_return(limit, None)
            policy = None if self._latest is not None or best is None else read_table(self.agent, "policy_table")
            self._exact = (board.key(), best, None if policy is None else board.expected_return(limit, policy))
        _, best, reached = self._exact
        if best is None:
            return {}
        if self._latest is not None:
            reached = self._latest.metrics.get("evaluation_return", self._reached)
            self._reached = reached
        model = board.model()
        # The episode on the board has but one of several starts.
        several = model is not None and np.count_nonzero(model.start) > 1
        names = ("optimum, all starts", "gap, all starts") if several else ("optimum", "gap to the optimum")
        return {names[0]: number(best)} | ({} if reached is None else {names[1]: number(best - reached)})

    def _metrics(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """The metrics in words, each as it last was, but for those that the panel has anyway."""
        said = ("steps_per_second", *(["success_rate"] if self.episodes.outcomes else []))
        for name, value in metrics.items():
            if name not in said:
                self._seen[name.replace("_", " ")] = number(float(value))
        return self._seen

    def _handle_events(self) -> None:
        if self.window is None:
            return
        for event in self.window.events():
            if event.type == pygame.KEYDOWN and self.on_key is not None and self.on_key(event.key):
                self.controls.touch()
                continue
            request = self.controls.handle(event)
            if request == "quit":
                self.window.close()
            elif request == "save picture":
                self.controls.say(f"saved {save_picture(self.draw(), self.pictures)}")
            elif request == "start over":
                self.clear()

    def close(self) -> None:
        """Finish the recording, close the window, and leave the environment as it was."""
        self.episodes.stop()
        if self.recorder is not None:
            if self._undrawn:
                self.recorder.add(self.frame(), 0)
            self.recorder.close()
        if self.window is not None:
            self.window.close()


def _name(env: Any) -> str:
    spec = getattr(env, "spec", None)
    name = type(env.unwrapped).__name__ if spec is None else str(spec.id)
    layout = getattr(getattr(env.unwrapped, "layout", None), "name", "")
    return f"{name}, {layout}" if layout else name
