"""Checks of the options of environments and vectors of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

_NO_LIMIT = 2**31 - 1


def positive_integer(name: str, value: Any) -> int:
    """Option that is an integer from 1.

    Raises:
        ValueError: for another value.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer from 1, not {value!r}")
    return int(value)


def autoreset(given: AutoresetMode | str) -> AutoresetMode:
    """Autoreset mode by itself or by its value.

    Raises:
        ValueError: for another value.
    """
    try:
        return AutoresetMode(given)
    except ValueError:
        allowed = ", ".join(mode.value for mode in AutoresetMode)
        raise ValueError(f"autoreset_mode must be one of {allowed}, not {given!r}") from None


def step_limit(max_episode_steps: int | None) -> int:
    """Number of steps after which a vector truncates an episode; None is as good as never.

    Raises:
        ValueError: for what is neither None nor an integer from 1.
    """
    if max_episode_steps is None:
        return _NO_LIMIT
    return min(positive_integer("max_episode_steps", max_episode_steps), _NO_LIMIT)


def environments_to_reset(options: Mapping[str, Any] | None, num_envs: int) -> NDArray[np.int64]:
    """Indices of the environments that a vector's ``reset(options={"reset_mask": mask})`` resets; all without a mask.

    Raises:
        ValueError: for a mask that is not (N,) booleans, or another option.
    """
    given = dict(options or {})
    mask = np.asarray(given.pop("reset_mask", np.ones(num_envs, dtype=np.bool_)))
    if given:
        raise ValueError(f"the one option of reset is reset_mask, not {', '.join(map(str, given))}")
    if mask.shape != (num_envs,) or mask.dtype != np.bool_:
        raise ValueError(f"reset_mask must be ({num_envs},) booleans, not {mask.dtype} of shape {mask.shape}")
    return np.flatnonzero(mask)


def check_none_done(done: NDArray[np.bool_]) -> None:
    """Raise ValueError where an environment (N,) is done and autoreset is disabled: it must be reset first."""
    if done.any():
        i = int(done.argmax())
        raise ValueError(f"environment {i} is done: reset it, reset(options={{'reset_mask': terminated | truncated}})")
