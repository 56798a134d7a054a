"""Checks of the options of environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode


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
