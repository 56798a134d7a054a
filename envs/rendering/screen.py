"""The one window, and surfaces as arrays."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pygame
from numpy.typing import NDArray


class NoDisplayError(ValueError):
    """There is no screen to open a window on."""


def to_array(surface: pygame.Surface) -> NDArray[np.uint8]:
    """The pixels of a surface: (H, W, 3) uint8, a fresh array."""
    width, height = surface.get_size()
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pygame.image.frombuffer(pixels.data, (width, height), "RGB").blit(surface, (0, 0))
    return pixels


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


def open_display() -> None:
    """Start pygame's display, and nothing else of pygame.

    Raises:
        NoDisplayError: when there is no screen, unless SDL_VIDEODRIVER asks for a driver without one.
    """
    if _no_display_named():
        raise NoDisplayError("no display")
    try:
        pygame.display.init()
    except pygame.error as error:
        raise NoDisplayError(f"no display: {str(error).lower()}") from None
    if pygame.display.get_driver() in ("dummy", "offscreen") and "SDL_VIDEODRIVER" not in os.environ:
        pygame.display.quit()
        raise NoDisplayError("no display")


def _no_display_named() -> bool:
    """Whether this is Linux without a variable that names a display, or a driver without one."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform.startswith("linux") and not any(os.environ.get(name) for name in named)


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Have environments that start all of pygame for a picture look for no display where there is none, and no sound.

    SDL would look for both and write ``error: XDG_RUNTIME_DIR is invalid`` and the like to the error stream.
    """
    chosen = [] if "SDL_AUDIODRIVER" in os.environ else ["SDL_AUDIODRIVER"]
    chosen += ["SDL_VIDEODRIVER"] if _no_display_named() else []
    os.environ.update(dict.fromkeys(chosen, "dummy"))
    try:
        yield
    finally:
        for name in chosen:
            os.environ.pop(name, None)


def has_display() -> bool:
    """Whether a window can be opened that someone may see."""
    if os.environ.get("SDL_VIDEODRIVER") in ("dummy", "offscreen"):
        return False
    running = pygame.display.get_init()
    try:
        open_display()
    except NoDisplayError:
        return False
    if not running:
        pygame.display.quit()
    return True


class Window:
    """A window that shows surfaces, opened when the first one comes.

    Args:
        title: in its bar.
        fps: frames per second that :meth:`wait` keeps to; 0 for no limit.

    Raises:
        NoDisplayError: when there is no display.
    """

    def __init__(self, title: str, fps: int = 0) -> None:
        open_display()
        self.title = title
        self.fps = fps
        self.closed = False
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, surface: pygame.Surface) -> None:
        """Put a surface on the screen; the window takes its size. Nothing, once the window was closed."""
        if self.closed:
            return
        if self._screen is None or self._screen.get_size() != surface.get_size():
            pygame.display.set_caption(self.title)
            self._screen = pygame.display.set_mode(surface.get_size())
        self._screen.blit(surface, (0, 0))
        pygame.display.flip()

    def wait(self) -> None:
        """Keep to the frame rate, and let the window be closed."""
        if self.closed:
            return
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self.close()
                return
        if self.fps:
            self._clock.tick(self.fps)

    def events(self) -> Iterator[pygame.Event]:
        """Events of the user since this was last called."""
        if not self.closed:
            yield from pygame.event.get()

    def close(self) -> None:
        """Close the window."""
        if not self.closed:
            self.closed = True
            self._screen = None
            pygame.display.quit()
