"""Checks of settings, of agents and of commands: each raises ValueError with the name of the field and what is allowed.

A field that is None is not set, and passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def check_between(config: object, low: float, high: float, *names: str) -> None:
    """Raise ValueError unless the fields are between two bounds, these included."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value}")


def check_at_least(config: object, least: float, *names: str) -> None:
    """Raise ValueError unless the fields are finite and at least ``least``."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"{name} must be {'finite' if value == math.inf else f'at least {least:g}'}, not {value}")


def check_above_zero(config: object, *names: str) -> None:
    """Raise ValueError unless the fields are finite and above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be {'finite' if value == math.inf else 'above 0'}, not {value}")


def check_choice(config: object, name: str, choices: Iterable[str]) -> None:
    """Raise ValueError unless the field is one of the choices."""
    value = getattr(config, name)
    if value is not None and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_hidden(config: Any) -> None:
    """Raise ValueError unless the field ``hidden`` has at least one width, all at least 1."""
    widths = config.hidden
    if widths is not None and (not widths or min(widths) < 1):
        raise ValueError(f"hidden must have at least one width, all at least 1, not {widths}")


def unused_fields(config: Any) -> Mapping[str, str]:
    """Fields that do nothing with the others, each with what makes it so: what its method ``unused`` says, if any."""
    found: Mapping[str, str] = config.unused() if hasattr(config, "unused") else {}
    return found


def check_used(configs: Sequence[Any], unused: Sequence[Mapping[str, str]], defaults: Any) -> None:
    """Raise ValueError for a field that is not at its default though it does nothing in any of some configs.

    Args:
        configs: one or more of the same class.
        unused: for each of them the fields that do nothing, with what makes it so.
        defaults: the config without what was given by hand.
    """
    for name in set.intersection(*map(set, unused)):
        if any(getattr(config, name) != getattr(defaults, name) for config in configs):
            raise ValueError(f"{name} does nothing with {unused[0][name]}; leave it out")


def check_unset(options: Any, why: str, *names: str) -> None:
    """Raise ValueError for options that are not at their defaults though they do nothing."""
    for name in names:
        if getattr(options, name) != type(options).__dataclass_fields__[name].default:
            raise ValueError(f"{name} does nothing {why}; leave it out")
