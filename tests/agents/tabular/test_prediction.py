from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero


class Recorder(gym.Wrapper[int, int, int, int]):
    """Keeps each episode's states and rewards, and whether it ended by itself."""

    def __init__(self, env: gym.Env[int, int]) -> None:
        super().__init__(env)
        self.episodes: list[tuple[list[int], list[float], bool]] = []

    def reset(self, **options: Any) -> tuple[int, dict[str, Any]]:
        state, info = self.env.reset(**options)
        self.path: tuple[list[int], list[float]] = ([state], [])
        return state, info

    def step(self, action: int) -> Any:
        state, reward, terminated, truncated, info = self.env.step(action)
        self.path[0].append(state)
        self.path[1].append(float(reward))
        if terminated or truncated:
            self.episodes.append((*self.path, terminated))
        return state, reward, terminated, truncated, info


def textbook(values: np.ndarray, episode: Any, n: int, alpha: float, gamma: float) -> None:
    """n-step TD as it is in the box of section 7.1, with its indices t and tau; an episode cut off goes on in value."""
    states, rewards, terminated = episode
    last = len(rewards)
    for t in range(last + n):
        tau = t - n + 1
        if 0 <= tau < last:
            target = sum(gamma ** (i - tau - 1) * rewards[i - 1] for i in range(tau + 1, min(tau + n, last) + 1))
            if tau + n < last or not terminated:
                target += gamma ** (min(tau + n, last) - tau) * values[states[min(tau + n, last)]]
            values[states[tau]] += alpha * (target - values[states[tau]])


@pytest.mark.parametrize("n", [1, 3, 10_000])
@pytest.mark.parametrize("limit", [500, 6])
def test_each_episode_teaches_what_the_textbook_says(n: int, limit: int) -> None:
    """With n = 1 that is TD(0), with n above the length of every episode constant-α Monte Carlo."""
    env = Recorder(gym.make("FrozenLake-v1", max_episode_steps=limit))
    agent: Any = gridzero.agents.make(
        "td-n-step", env, n=n, gamma=0.9, step_size="0.2", initial_value=0.5, steps_per_update=1, seed=1
    )
    expected, compared = np.full(16, 0.5), 0
    for _ in itertools.islice(agent.learn(), 800):
        if len(env.episodes) > compared:
            textbook(expected, env.episodes[compared], n, alpha=0.2, gamma=0.9)
            compared += 1
            np.testing.assert_allclose(agent.state_values(), expected, atol=1e-12)
    assert compared > 50
