"""The usual limit of tokens in a conversation, by the task and the model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from gridzero.llm_rl.models.pretrained import model_path

MARGIN = 1.25
DEMONSTRATIONS = 200
THOUGHT = 512
"""Tokens in a completion of a pretrained model."""
_LARGE = 2048
_MANY = 4096


def usual_limit(task: Any, model: str | None) -> int:
    """Usual limit of the tokens that a model writes in a conversation: one that cuts thoughts stops learning.

    Models with thousands of positions think in words of their own: 512 tokens a turn, but no more than half of their
    positions. The others are tiny ones that write demonstrations: a quarter more than the longest of some.

    Args:
        task: of the environment, or None.
        model: what ``--policy.model`` names; None: a tiny model of the task.
    """
    turns = 1 if task is None else int(task.turns)
    if model is not None and (positions := _positions(model)) >= _LARGE:
        return min(THOUGHT * turns, positions // 2)
    try:
        rng = np.random.default_rng(0)
        longest = max(len(task.demonstrate(task.sample(rng), rng)) for _ in range(DEMONSTRATIONS))
    except (AttributeError, ValueError):
        return THOUGHT
    return round(MARGIN * longest) * turns


def _positions(model: str) -> int:
    """The positions that a model's configuration tells, and many where it tells none."""
    try:
        path = model_path(model)
        if (path / "adapter_config.json").is_file():
            path = model_path(json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"])
        config = json.loads((path / "config.json").read_text())
        config = config.get("text_config", config)
        return int(config.get("max_position_embeddings", config.get("n_positions", _MANY)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _MANY
