"""A corridor with the goal at its right end."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Corridor(gym.Env[int, int]):
    """Walk left or right; each step costs 1 until the right end is reached.

    Args:
        length: cells.
        render_mode: None or "rgb_array".
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(self, length: int = 5, render_mode: str | None = None) -> None:
        self.length, self.render_mode, self.place = length, render_mode, 0
        self.observation_space: gym.Space[int] = gym.spaces.Discrete(length)
        self.action_space: gym.Space[int] = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin at the left end."""
        super().reset(seed=seed)
        self.place = 0
        return self.place, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """0 goes to the left, 1 to the right."""
        self.place = int(np.clip(self.place + (1 if action else -1), 0, self.length - 1))
        return self.place, -1.0, self.place == self.length - 1, False, {}

    def render(self) -> Any:
        """The corridor in grey, the walker in white."""
        picture = np.full((16, 16 * self.length, 3), 90, dtype=np.uint8)
        picture[:, 16 * self.place : 16 * (self.place + 1)] = 255
        return picture
