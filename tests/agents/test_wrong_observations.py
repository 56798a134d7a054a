"""Observations that are not in their space: tables are read by compiled loops, which do not look."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero


class Astray(gym.Env[Any, Any]):
    """Leaves its observation space in the third step."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space: gym.Space[Any], wrong: Any) -> None:
        self.observation_space, self.wrong, self.taken = space, wrong, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.taken = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        observation = self.wrong if self.taken == 3 else self.observation_space.sample()
        return observation, 1.0, False, self.taken == 5, {}


LEARNERS = [
    "q-learning",
    "sarsa",
    "expected-sarsa",
    "double-q-learning",
    "n-step-sarsa",
    "sarsa-lambda",
    "td0",
    "dyna-q",
    "prioritized-sweeping",
    "mc-epsilon-greedy",
    "mc-off-policy",
    "actor-critic",
    "q-linear",
    "reinforce",
    "ppo",
]


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("copies", [None, 2])
def test_a_state_that_is_none_is_an_error(name: str, copies: int | None) -> None:
    def make() -> Any:
        return Astray(gym.spaces.Discrete(4), 10**9)

    agent = gridzero.agents.make(name, make() if copies is None else gym.vector.SyncVectorEnv([make] * copies))
    with pytest.raises(ValueError, match=r"is Discrete\(4\); .*1000000000.* is not in it"):
        for _ in zip(range(20), agent.learn(), strict=False):
            pass


def test_a_number_that_is_none_has_no_features() -> None:
    space = gym.spaces.Box(-1.0, 1.0, (2,))
    agent = gridzero.agents.make("sarsa-linear", Astray(space, np.array([0.5, np.nan], dtype=np.float32)))
    with pytest.raises(ValueError, match="returned an observation that is not a number"):
        next(agent.learn())


def test_a_network_reads_no_other_choice_s_row() -> None:
    space = gym.spaces.MultiDiscrete([2, 3])
    agent = gridzero.agents.make("ppo", Astray(space, np.array([3, 0])))
    with pytest.raises(ValueError, match=r"is MultiDiscrete\(\[2 3\]\); .* is not in it"):
        next(agent.learn())
