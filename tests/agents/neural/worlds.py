"""Small environments whose best behaviour is known."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv


class Missions(gym.Space):
    """A space of texts that a library has of its own, as MiniGrid does."""

    def __init__(self):
        super().__init__(dtype=str)

    def sample(self, mask=None, probability=None):
        return "go to the red door"

    def contains(self, x):
        return isinstance(x, str)


OBSERVATIONS = {
    "discrete": (spaces.Discrete(6, start=3), lambda k: np.int64(3 + k)),
    "multi-discrete": (spaces.MultiDiscrete([2, 3]), lambda k: np.array([k // 3, k % 3])),
    "multi-binary": (spaces.MultiBinary(6), lambda k: np.eye(6, dtype=np.int8)[k]),
    "box": (spaces.Box(0, 1, (6,)), lambda k: np.eye(6, dtype=np.float32)[k]),
    "image": (
        spaces.Box(0, 255, (4, 6, 2), np.uint8),
        lambda k: np.pad(np.full((1, 1, 2), 255, np.uint8), ((1, 2), (k, 5 - k), (0, 0))),
    ),
    "dict": (
        spaces.Dict(half=spaces.Discrete(2), part=spaces.Dict(third=spaces.Box(0, 2, (1,)))),
        lambda k: {"half": np.int64(k // 3), "part": {"third": np.array([k % 3], dtype=np.float32)}},
    ),
    "text": (
        spaces.Dict(hint=spaces.Discrete(2), mission=Missions()),
        lambda k: {"hint": np.int64(k % 2), "mission": f"go to the {('red', 'green', 'blue')[k // 2]} door"},
    ),
    "tuple": (spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]), lambda k: (np.int64(k // 3), np.int64(k % 3))),
}
ACTIONS = {
    "discrete": (spaces.Discrete(6, start=-1), lambda action, k: float(action == k - 1)),
    "multi-discrete": (spaces.MultiDiscrete([2, 3]), lambda action, k: float(np.mean(action == [k // 3, k % 3]))),
    "multi-binary": (spaces.MultiBinary(2), lambda action, k: float(np.mean(action == [k // 3, k % 2]))),
    "box": (spaces.Box(-3, 3, (1,)), lambda action, k: 1 - float(((action - (k - 2.5) / 2.5) ** 2).sum())),
}


class Identity(gym.Env):
    """Say what you see: reward 1 at each step for the right action, less for others; episodes of 8 steps."""

    def __init__(self, observation: str = "discrete", action: str = "discrete"):
        self.observation_space, self.show = OBSERVATIONS[observation]
        self.action_space, self.reward = ACTIONS[action]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._next(), {}

    def step(self, action):
        reward = self.reward(action, self.k)
        self.steps += 1
        return self._next(), reward, False, self.steps == 8, {}

    def _next(self):
        self.k = int(self.np_random.integers(6))
        return self.show(self.k)


class Recall(gym.Env):
    """A cue of two at the first step, to be named at the third: without a memory no better than a coin."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue, self.steps = int(self.np_random.integers(2)), 0
        return np.array([2 * self.cue - 1, 0], dtype=np.float32), {}

    def step(self, action):
        self.steps += 1
        reward = float(action == self.cue) if self.steps == 3 else 0.0
        return np.array([0, self.steps == 2], dtype=np.float32), reward, self.steps == 3, False, {}


class Clock(gym.Env):
    """Counts up, paying 1 a step; after ``length`` steps the episode is over or, if so told, only cut off."""

    observation_space = spaces.Box(0, 100, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 5, cut: bool = True):
        self.length, self.cut = length, cut

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.steps += 1
        end = self.steps == self.length
        return np.array([self.steps], dtype=np.float32), 1.0, end and not self.cut, end and self.cut, {}


class Bandit(gym.Env):
    """One choice of three, paying 0, 0.5 and 1."""

    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.int64(0), {}

    def step(self, action):
        return np.int64(0), 0.5 * int(action), True, False, {}


class Maskable(gym.Env):
    """The number shown is the one move that pays, but moves of the other parity are not allowed."""

    observation_space = spaces.Discrete(6)
    action_space = spaces.Discrete(6)

    def action_masks(self):
        return np.arange(6) % 2 == self.k % 2

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.k = 0, int(self.np_random.integers(6))
        return np.int64(self.k), {}

    def step(self, action):
        assert self.action_masks()[action]
        reward = float(action == self.k)
        self.steps += 1
        self.k = int(self.np_random.integers(6))
        return np.int64(self.k), reward, False, self.steps == 8, {}


def vector(make, num_envs: int, mode: AutoresetMode = AutoresetMode.DISABLED) -> SyncVectorEnv:
    return SyncVectorEnv([make] * num_envs, autoreset_mode=mode)
