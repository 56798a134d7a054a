"""The figures of linear methods make their claims with few repetitions already."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from gridzero.agents.tabular.features import TileCoding
from gridzero.figures.mountain_car import CODING, HIGH, LOW, Car, accelerate

QUICK: dict[str, dict[str, Any]] = {
    "sutton_9_1": {"episodes": 5000},
    "sutton_9_2": {"runs": 10, "episodes": 2000, "lengths": (1, 4, 512)},
    "sutton_9_5": {"runs": 1, "episodes": 2000},
    "sutton_9_10": {"runs": 1, "episodes": 2000},
    "sutton_10_1": {"episodes": (12, 104, 2000)},
    "sutton_10_2": {"runs": 2},
    "sutton_10_3": {"runs": 4},
    "sutton_10_4": {"runs": 10, "lengths": (1, 4, 16)},
    "sutton_12_10": {"runs": 3, "decays": (0.0, 0.96, 0.99)},
    "sutton_12_11": {"runs": 4},
    "sutton_12_3": {"runs": 20},
    "sutton_12_6": {"runs": 20},
}


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_figure_agrees(name: str) -> None:
    figure = importlib.import_module(f"gridzero.figures.{name}").make(1, **QUICK[name])
    assert [row.quantity for row in figure.rows if row.agrees is False] == []


def test_the_compiled_mountain_car_is_gymnasiums() -> None:
    env = gym.make("MountainCar-v0", max_episode_steps=1000)
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    for _ in range(300):
        action = int(rng.integers(3)) if rng.random() < 0.5 else (2 if observation[1] > 0 else 0)
        position, velocity = accelerate(float(env.unwrapped.state[0]), float(env.unwrapped.state[1]), action)
        observation, _, terminated, _, _ = env.step(action)
        np.testing.assert_allclose(env.unwrapped.state, (position, velocity), atol=1e-12)
        assert terminated == (position >= 0.5)
        if terminated:
            observation, _ = env.reset()


def test_its_car_learns_in_the_tiles_of_the_feature_map() -> None:
    """After one episode exactly the tiles that were passed have weights."""
    car = Car(1, 0.5 / 8, seed=0)
    car.drive(1)
    assert isinstance(CODING, TileCoding)
    passed = np.flatnonzero(car.weights.any(axis=0))
    positions, velocities, cost = car.cost_to_go(60)
    grid = np.stack(np.meshgrid(positions, velocities), axis=-1).reshape(-1, 2)
    indices, _ = CODING((grid - LOW) / (HIGH - LOW))
    never = ~np.isin(indices, passed).any(axis=1)
    assert (cost.ravel()[never] == 0).all()
    assert 0.1 < never.mean() < 0.9
