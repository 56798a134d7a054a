"""Which actions an environment allows."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def allowed_actions(env: Any, info: Mapping[str, Any], actions: int) -> NDArray[np.bool_]:
    """(N, A) which actions are allowed now: from ``action_masks()`` or, as Taxi has it, ``info["action_mask"]``.

    Where no action is allowed, as in a terminal state, all are.

    Args:
        env: an environment, or a vector of N.
        info: of its last step or reset.
        actions: A.

    Raises:
        ValueError: when the environment has neither, or masks of another shape.
    """
    inner, masks = env.unwrapped, None
    if callable(getattr(inner, "action_masks", None)):
        masks = inner.action_masks()
    elif "action_mask" in info:
        masks = info["action_mask"]
    elif hasattr(env, "call"):
        with contextlib.suppress(AttributeError):
            masks = env.call("action_masks")
    if masks is None:
        raise ValueError(f'{type(inner).__name__} has neither action_masks() nor info["action_mask"]')
    count = getattr(env, "num_envs", 1)
    allowed = np.asarray(masks)
    allowed = np.array(allowed.tolist() if allowed.dtype == object else allowed, dtype=np.bool_)  # a vector's lists
    if allowed.size != count * actions or (allowed.ndim > 1 and len(allowed) != count):
        raise ValueError(f"action masks are {allowed.shape}; {count} × {actions} actions need one each")
    allowed = allowed.reshape(count, actions)
    allowed[~allowed.any(axis=1)] = True
    return allowed
