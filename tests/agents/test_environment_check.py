"""What an environment must return, checked before training begins."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from gridzero.agents.environment_check import check_interface

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3
PAIR = gym.spaces.Dict(near=gym.spaces.Discrete(3), far=gym.spaces.Box(0, 1, (2,)))
GOOD = {"near": 1, "far": np.zeros(2, np.float32)}


class Scripted(gym.Env[Any, Any]):
    """Returns what it was told to."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space: gym.Space[Any], reset: Any, step: Any = None) -> None:
        self.observation_space, self.begins, self.goes_on = space, reset, step

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.begins

    def step(self, action: Any) -> Any:
        if self.goes_on is None:
            raise RuntimeError("this action is not allowed")
        return self.goes_on


@pytest.mark.parametrize(
    ("space", "reset", "step", "message"),
    [
        (PAIR, GOOD, None, "reset() must return (observation, info), not one with near, far"),
        (PAIR, (GOOD, None), None, "reset() must return (observation, info), not a tuple of 2: (dict, NoneType)"),
        (PAIR, ({"near": 1}, {}), None, "reset() must return a dictionary with near, far as observation"),
        (PAIR, (GOOD, {}), (GOOD, 0.0, False, {}), "step() must return (observation, reward, terminated, truncated"),
        (PAIR, (GOOD, {}), (GOOD, float("nan"), False, False, {}), "step() must return a finite number as reward"),
        (PAIR, (GOOD, {}), (GOOD, None, False, False, {}), "step() must return a finite number as reward, not None"),
        (
            PAIR,
            (GOOD, {}),
            ({**GOOD, "far": np.zeros(3)}, 0.0, False, False, {}),
            "step(), in 'far', must return numbers (2,) as observation, not an array (3,) of float64",
        ),
        (gym.spaces.Box(0, 1, (1,)), (np.array([np.inf]), {}), None, "reset() returned an observation that is not"),
        (gym.spaces.Discrete(3), (0.5, {}), None, "reset() must return an integer as observation, not a float"),
        (
            gym.spaces.Tuple([gym.spaces.Discrete(3)]),
            ([1], {}),
            None,
            "reset() must return a tuple of 1 as observation",
        ),
    ],
)
def test_what_no_agent_could_learn_from_is_named(space: Any, reset: Any, step: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'Mine-v0: {message}')}"):
        check_interface(Scripted(space, reset, step), "Mine-v0")


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (PAIR, GOOD),
        (gym.spaces.Box(0, 1, (2,), np.float32), [7, 8]),  # out of bounds, a list of integers
        (gym.spaces.Discrete(3), np.array(2)),
        (gym.spaces.MultiBinary(2), np.array([True, False])),
        (gym.spaces.Text(3), "abc"),
    ],
)
def test_what_can_be_learned_from_passes(space: Any, observation: Any) -> None:
    check_interface(
        Scripted(space, (observation, {}), (observation, np.int64(1), False, np.bool_(True), {})), "Mine-v0"
    )
    check_interface(Scripted(space, (observation, {})), "Mine-v0")  # a step that is refused says nothing


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1", "Pendulum-v1", TAXI])
def test_environments_of_gymnasium_pass(env_id: str) -> None:
    check_interface(gym.make(env_id), env_id)
