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
    from gridzero.envs.text_generation import TextGeneration, TextGenerationVector
    from gridzero.envs.token_generation import TokenGeneration, TokenGenerationVector

__all__ = [
    "LAYOUTS",
    "FiniteMDP",
    "GridWorld",
    "GridWorldVector",
    "Layout",
    "TextGeneration",
    "TextGenerationVector",
    "Tile",
    "TokenGeneration",
    "TokenGenerationVector",
]

_LAZY = {
    "GridWorld": "gridzero.envs.grid_world",
    "GridWorldVector": "gridzero.envs.grid_world_vector",
    "LAYOUTS": "gridzero.envs.layouts",
    "Layout": "gridzero.envs.layouts",
    "TextGeneration": "gridzero.envs.text_generation",
    "TextGenerationVector": "gridzero.envs.text_generation",
    "Tile": "gridzero.envs.layouts",
    "TokenGeneration": "gridzero.envs.token_generation",
    "TokenGenerationVector": "gridzero.envs.token_generation",
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

if "gridzero/TextGeneration-v0" not in gym.registry:
    gym.register(
        "gridzero/TextGeneration-v0",
        entry_point="gridzero.envs.text_generation:TextGeneration",
        vector_entry_point="gridzero.envs.text_generation:TextGenerationVector",
    )

if "gridzero/TokenGeneration-v0" not in gym.registry:
    gym.register(
        "gridzero/TokenGeneration-v0",
        entry_point="gridzero.envs.token_generation:TokenGeneration",
        vector_entry_point="gridzero.envs.token_generation:TokenGenerationVector",
    )
