"""Models held against the environments that claim them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from gridzero.agents import evaluate, make
from gridzero.envs import FiniteMDP

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"


class Corridor(gym.Env[int, int]):
    """Five cells in a row; a step forwards fails with a probability that its table may conceal."""

    observation_space = gym.spaces.Discrete(5)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, told: float, real: float, hidden_reward: float = 0.0) -> None:
        self.real, self.hidden_reward = real, hidden_reward
        self.P = {
            s: {
                0: [(1.0, max(s - 1, 0), -1.0, False)],
                1: [(1 - told, s + 1, -1.0, s == 3), (told, s, -1.0, False)] if s < 4 else [(1.0, s, 0.0, True)],
            }
            for s in range(5)
        }
        self.P[4][0] = [(1.0, 4, 0.0, True)]
        self.initial_state_distrib = np.eye(5)[0]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.s = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if action == 0:
            self.s = max(self.s - 1, 0)
        elif self.np_random.random() >= self.real:
            self.s += 1
        reward = -1.0 + (self.hidden_reward if self.s == 3 else 0.0)
        return self.s, reward, self.s == 4, False, {}


@pytest.mark.parametrize("slip", [0.0, 0.1, 0.5])
def test_a_true_model_is_accepted(slip: float) -> None:
    assert FiniteMDP.from_env(Corridor(slip, slip)).num_states == 5


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1", TAXI])
def test_gymnasiums_own_models_are_accepted(name: str) -> None:
    env: Any = gym.make(name)
    assert FiniteMDP.from_env(env).num_states == env.observation_space.n


@pytest.mark.parametrize(
    ("corridor", "what"),
    [
        (Corridor(0.0, 0.05), "probability 0"),
        (Corridor(0.3, 0.5), "frequencies"),
        (Corridor(0.2, 0.0), "frequencies"),
        (Corridor(0.1, 0.1, hidden_reward=0.5), "reward -0.5"),
    ],
)
def test_a_model_that_is_not_the_environments_is_refused(corridor: Corridor, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        FiniteMDP.from_env(corridor)


def test_a_fickle_passenger_leaves_no_exact_optimum() -> None:
    env = gym.make(TAXI, fickle_passenger=True)
    with pytest.raises(ValueError, match="fickle_passenger"):
        FiniteMDP.from_env(env)
    result = evaluate(make("q-learning", env), episodes=2)
    assert (result.optimum, result.gap, result.value_gap) == (None, None, None)


@pytest.mark.parametrize("name", ["FrozenLake-v1", "gridzero/GridWorld-v0"])
def test_a_wrapper_that_changes_rewards_leaves_no_exact_optimum(name: str) -> None:
    env = gym.wrappers.TransformReward(gym.make(name), lambda reward: float(reward) - 1)
    with pytest.raises(ValueError, match="reward"):
        FiniteMDP.from_env(env)


def test_a_wrapper_that_changes_observations_keeps_the_model() -> None:
    env = gym.wrappers.TransformObservation(gym.make("FrozenLake-v1"), lambda s: s, None)
    assert FiniteMDP.from_env(env).num_states == 16


def test_the_environment_is_not_touched() -> None:
    one, other = gym.make("FrozenLake-v1"), gym.make("FrozenLake-v1")
    states = []
    for env in (one, other):
        env.reset(seed=3)
        if env is one:
            FiniteMDP.from_env(gym.wrappers.TransformReward(env, lambda reward: reward))
        states.append([env.step(2)[0] for _ in range(3)])
    assert states[0] == states[1]
