"""Pictures of grids for notebooks, as PNG."""

from __future__ import annotations

import io
from typing import Any

import pygame

from gridzero.envs.rendering.boards import find_board
from gridzero.envs.rendering.renderer import GridRenderer, Picture, read_table

SIZE = 400
"""Pixels of the longer side of a map."""


def picture_of(env: Any, agent: Any = None) -> bytes | None:
    """A grid as PNG, with an agent's values and policy over it; None for an environment that is no grid.

    Args:
        env: an environment or a vector, wrapped or not.
        agent: with ``state_values``, ``policy_table`` and ``tried``, as far as it has them.
    """
    if not hasattr(env, "unwrapped") or find_board(env) is None:
        return None
    tables = {name: read_table(agent, name) for name in ("state_values", "policy_table", "tried")}
    tried = tables["tried"]
    picture = Picture(tables["state_values"], policy=tables["policy_table"], tried=None if tried is None else tried > 0)
    surface = GridRenderer(env, size=SIZE).draw(picture)
    file = io.BytesIO()
    pygame.image.save(surface, file, "picture.png")
    return file.getvalue()
