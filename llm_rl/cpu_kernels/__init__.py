"""Compiled loops of a transformer on a CPU, behind one switch: the environment variable GRIDZERO_CPU_KERNELS."""

from __future__ import annotations

import os

VARIABLE = "GRIDZERO_CPU_KERNELS"
PARTS = ("decoding", "attention")
"""Parts that have compiled loops: decoding with small models, and attention in scoring."""


def enabled(part: str) -> bool:
    """Whether the compiled loops of a part are to be used.

    The variable is 1 (all parts, which is the default), 0 (none), or names of parts with commas between them.

    Args:
        part: one of ``PARTS``.

    Raises:
        ValueError: for another value of the variable.
    """
    value = os.environ.get(VARIABLE, "1")
    if value in ("0", "1"):
        return value == "1"
    chosen = value.split(",")
    if not set(chosen) <= set(PARTS):
        raise ValueError(f"{VARIABLE} must be 1, 0 or some of {','.join(PARTS)}, not {value!r}")
    return part in chosen
