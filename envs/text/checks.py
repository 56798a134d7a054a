"""Checks of the options of text environments, and rows of their observations."""

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


def one_of(observations: Any, i: int) -> Any:
    """The observation of environment i among those of all, which are a sequence or a dictionary of sequences."""
    if isinstance(observations, dict):
        return {name: values[i] for name, values in observations.items()}
    return observations[i]
