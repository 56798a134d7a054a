"""Decorators of compiled functions that are too short for numba's counting of who uses an array.

It takes an atomic operation for each array at each call, as long as a step of a grid world. A function without it
cannot make arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
_njit: Any = numba.njit  # whose types leave out the option


def lean_kernel(function: Function) -> Function:
    """Compile a loop over a batch that makes no arrays; divisions cannot fail, as in numpy."""
    compiled: Function = _njit(cache=True, error_model="numpy", _nrt=False)(function)
    return compiled


def part(function: Function) -> Function:
    """Compile a part of kernels into each of them: a call would take as long as what it does."""
    compiled: Function = _njit(cache=True, error_model="numpy", forceinline=True, _nrt=False)(function)
    return compiled
