"""The worlds: finite MDPs as Gymnasium environments. They know nothing of agents.

Importing this registers the environments with Gymnasium; what needs more than NumPy is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from gridzero.envs.mdp import FiniteMDP

if TYPE_CHECKING:
    from gridzero.envs.grid_world import GridWorld
    from gridzero.envs.grid_world_vector import GridWorldVector
    from gridzero.envs.layouts import LAYOUTS, Layout, Tile

__all__ = ["LAYOUTS", "FiniteMDP", "GridWorld", "GridWorldVector", "Layout", "Tile"]

_LAZY = {
    "GridWorld": "gridzero.envs.grid_world",
    "GridWorldVector": "gridzero.envs.grid_world_vector",
    "LAYOUTS": "gridzero.envs.layouts",
    "Layout": "gridzero.envs.layouts",
    "Tile": "gridzero.envs.layouts",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "gridzero/GridWorld-v0" not in gym.registry:
    gym.register(
        "gridzero/GridWorld-v0",
        entry_point="gridzero.envs.grid_world:GridWorld",
        vector_entry_point="gridzero.envs.grid_world_vector:GridWorldVector",
        max_episode_steps=200,
    )
