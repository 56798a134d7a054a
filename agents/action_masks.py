"""Which actions an environment allows."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def allowed_actions(env: Any, info: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(N, A) which actions are allowed now: from ``action_masks()`` or, as Taxi has it, ``info["action_mask"]``.

    Where no action is allowed, as in a terminal state, all are.

    Args:
        env: an environment, or a vector of N.
        info: of its last step or reset.

    Raises:
        ValueError: when the environment has neither.
    """
    inner, masks = env.unwrapped, None
    if hasattr(inner, "action_masks"):
        masks = inner.action_masks()
    elif "action_mask" in info:
        masks = info["action_mask"]
    elif hasattr(env, "call"):
        with contextlib.suppress(AttributeError):
            masks = env.call("action_masks")
    if masks is None:
        raise ValueError(f'{type(inner).__name__} has neither action_masks() nor info["action_mask"]')
    allowed = np.array(masks, dtype=np.bool_, ndmin=2)
    allowed[~allowed.any(axis=1)] = True
    return allowed
