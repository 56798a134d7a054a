"""The worlds: finite MDPs as Gymnasium environments. They know nothing of agents.

Importing this registers the environments with Gymnasium; what needs more than NumPy is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from gridzero.envs.mdp import FiniteMDP

if TYPE_CHECKING:
    from gridzero.envs.grid.layouts.layout import LAYOUTS, Layout, Tile, register_layout
    from gridzero.envs.grid.vector import GridWorldVector
    from gridzero.envs.grid.world import GridWorld
    from gridzero.envs.text.generation import TextGeneration, TextGenerationVector
    from gridzero.envs.text.token_generation import TokenGeneration, TokenGenerationVector

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
    "register_layout",
]

_LAZY = {
    "GridWorld": "gridzero.envs.grid.world",
    "GridWorldVector": "gridzero.envs.grid.vector",
    "LAYOUTS": "gridzero.envs.grid.layouts.layout",
    "Layout": "gridzero.envs.grid.layouts.layout",
    "TextGeneration": "gridzero.envs.text.generation",
    "TextGenerationVector": "gridzero.envs.text.generation",
    "Tile": "gridzero.envs.grid.layouts.layout",
    "TokenGeneration": "gridzero.envs.text.token_generation",
    "TokenGenerationVector": "gridzero.envs.text.token_generation",
    "register_layout": "gridzero.envs.grid.layouts.layout",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "gridzero/GridWorld-v0" not in gym.registry:
    gym.register(
        "gridzero/GridWorld-v0",
        entry_point="gridzero.envs.grid.world:GridWorld",
        vector_entry_point="gridzero.envs.grid.vector:GridWorldVector",
        max_episode_steps=200,
    )

if "gridzero/TextGeneration-v0" not in gym.registry:
    gym.register(
        "gridzero/TextGeneration-v0",
        entry_point="gridzero.envs.text.generation:TextGeneration",
        vector_entry_point="gridzero.envs.text.generation:TextGenerationVector",
    )

if "gridzero/TokenGeneration-v0" not in gym.registry:
    gym.register(
        "gridzero/TokenGeneration-v0",
        entry_point="gridzero.envs.text.token_generation:TokenGeneration",
        vector_entry_point="gridzero.envs.text.token_generation:TokenGenerationVector",
    )
