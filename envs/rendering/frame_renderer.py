"""An environment's own picture, for all that are no grid: any with the render mode ``rgb_array``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from gridzero.envs.rendering import colors
from gridzero.envs.rendering.renderer import MARGIN, Picture

_ABSENT = object()


class OwnFrames:
    """Frames as an environment draws itself, whatever render mode it was made with.

    While it draws, its render mode is ``rgb_array``. Afterwards every attribute that drawing replaced (the mode,
    surfaces, clocks) is put back, so that the environment can be saved and closed as if nobody had looked.

    Args:
        env: an environment, wrapped or not, or a vector, of which the first environment is drawn.

    Raises:
        ValueError: when it has no such mode, or draws into a window of its own.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self._inner = env.unwrapped
        name = type(self._inner).__name__
        mode, modes = getattr(env, "render_mode", None), (env.metadata or {}).get("render_modes", ())
        if mode == "human":
            raise ValueError(f"{name} was made with render_mode='human'; make it without one")
        if "rgb_array" not in modes and mode not in ("rgb_array", "rgb_array_list"):
            raise ValueError(f"{name} cannot be drawn: it is no grid, and has no render mode rgb_array")
        if isinstance(self._inner, AsyncVectorEnv) and mode is None:
            raise ValueError(f"{name} is drawn in other processes: make it with render_mode='rgb_array'")
        self._drawing: dict[str, tuple[Any, Any]] = {}

    def frame(self) -> NDArray[np.uint8] | None:
        """(H, W, 3) uint8; None before the first reset.

        Raises:
            ValueError: when the environment gives something else.
        """
        inner, before = self._inner, dict(vars(self._inner))
        for name, (usual, drawing) in self._drawing.items():
            if before.get(name, _ABSENT) is usual:
                setattr(inner, name, drawing)
        inner.render_mode = "rgb_array"
        try:
            return _checked(self.env.render(), isinstance(self.env, VectorEnv), type(inner).__name__)
        except gym.error.ResetNeeded:
            return None
        finally:
            self._drawing = {
                name: (before.get(name, _ABSENT), value)
                for name, value in vars(inner).items()
                if before.get(name, _ABSENT) is not value
            }
            for name, (usual, _) in self._drawing.items():
                if usual is _ABSENT:
                    delattr(inner, name)
                else:
                    setattr(inner, name, usual)


def _checked(rendered: Any, vector: bool, name: str) -> NDArray[np.uint8] | None:
    if isinstance(rendered, Sequence) and len(rendered):  # one for each environment, or one for each step so far
        rendered = rendered[0 if vector else -1]
    if rendered is None:
        return None
    frame = np.asarray(rendered)
    if frame.ndim != 3 or frame.shape[2] not in (3, 4) or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ValueError(f"render() of {name} gives {frame.dtype} {frame.shape}, not a picture (H, W, 3) of uint8")
    return np.ascontiguousarray(frame[:, :, :3])


class FrameRenderer:
    """Draws what :class:`OwnFrames` gives, scaled to fit; small pictures are enlarged by whole factors.

    Args:
        env: as :class:`OwnFrames` takes it.
        size: pixels of the longer side, at most.

    Attributes:
        board: None, there is no grid.
        scale: None, there is no heat map.

    Raises:
        ValueError: when the environment cannot be drawn.
    """

    board = None
    scale = None

    def __init__(self, env: Any, *, size: int = 512) -> None:
        self.size = size
        self._frames = OwnFrames(env)
        self._fitted = False
        self.surface = _blank(size, round(0.75 * size))

    def draw(self, picture: Picture | None = None) -> pygame.Surface:
        """Draw onto the renderer's own surface, and return it; of ``picture`` there is nothing to draw here."""
        frame = self._frames.frame()
        if frame is None:
            return self.surface
        height, width = frame.shape[:2]
        if not self._fitted:
            factor = self._factor(width, height, self.size)
            self.surface = _blank(round(width * factor), round(height * factor))
            self._fitted = True
        room = (self.surface.get_width() - 2 * MARGIN, self.surface.get_height() - 2 * MARGIN)
        factor = min(room[0] / width, room[1] / height)
        image = pygame.image.frombuffer(frame.tobytes(), (width, height), "RGB")
        target = (max(1, round(width * factor)), max(1, round(height * factor)))
        if target != image.get_size():
            change = pygame.transform.scale if factor >= 2 else pygame.transform.smoothscale
            image = change(image, target)
        self.surface.fill(colors.PAPER)
        self.surface.blit(image, (MARGIN + (room[0] - target[0]) // 2, MARGIN + (room[1] - target[1]) // 2))
        return self.surface

    @staticmethod
    def _factor(width: int, height: int, size: int) -> float:
        """The factor that the first frame is scaled by."""
        factor = size / max(width, height)
        return factor if factor < 1 else float(int(factor))


def _blank(width: int, height: int) -> pygame.Surface:
    """A surface with room for such a picture within margins, its sides even, as videos need them."""
    width, height = max(1, width) + 2 * MARGIN, max(1, height) + 2 * MARGIN
    surface = pygame.Surface((width + width % 2, height + height % 2), 0, 32)
    surface.fill(colors.PAPER)
    return surface
