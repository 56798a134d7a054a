"""Environments made from descriptions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode

import gridzero.envs  # noqa: F401 - registers the environments
from gridzero.agents.environments import Description, describe, make_environment, remake_single
from gridzero.agents.files import fits
from gridzero.agents.neural.state_tables import StateTable
from gridzero.agents.search.simulator import Simulator
from gridzero.commands.watch import single

GRID = "gridzero/GridWorld-v0"


def vectors() -> dict[str, Any]:
    """Vectors whose autoreset mode is not the one that make_environment chooses."""
    return {
        "NextStep of Gymnasium's own": gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"),
        "SameStep of a native one": make_environment(GRID, {"autoreset_mode": "SameStep"}, 2),
    }


@pytest.mark.parametrize("name", vectors())
def test_one_like_those_of_a_vector_has_no_autoreset_mode(name: str) -> None:
    vector = vectors()[name]
    described = describe(vector)
    assert described is not None
    assert "autoreset_mode" in described["kwargs"]
    for make in (remake_single, single):
        other = make(vector)
        again = describe(other)
        assert again is not None
        assert "autoreset_mode" not in again["kwargs"]
        assert other.observation_space == vector.single_observation_space


def test_searches_and_tables_take_vectors_of_any_autoreset_mode() -> None:
    for mode in AutoresetMode:
        vector = make_environment(GRID, {"autoreset_mode": mode.value, "observation": "coordinates"}, 2)
        observations, _ = StateTable(vector).read()
        assert len(observations) == vector.unwrapped.mdp.num_states  # type: ignore[attr-defined]
        assert Simulator(vector).settable


def test_a_description_needs_an_id_and_keywords_alone() -> None:
    assert fits({"id": "FrozenLake-v1", "kwargs": {}}, Description)
    assert not fits({"id": "FrozenLake-v1"}, Description)
    assert not fits({"id": "FrozenLake-v1", "kwargs": {}, "num_envs": 0}, Description)
