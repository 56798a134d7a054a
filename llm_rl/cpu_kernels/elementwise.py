"""Compiled loops of gates and norms on a CPU."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


# What loops over numbers may assume; not that sums can be in another order, which the exponential depends on.
_IN_ORDER = {"nnan", "nsz", "contract"}
_SINGLE = np.float32


@numba.njit(cache=True, fastmath=_IN_ORDER)
def exponential(x: np.float32) -> np.float32:
    """The exponential of x in single precision, to a relative 10⁻⁷, from -87 (below it 0) to 88, without branches.

    With x = k log 2 + y and |y| at most log 2 / 2 it is 2ᵏ times a polynomial in y, k being put where floating-point
    numbers have their exponent. Log 2 is in two parts, of which the first has few digits, so that k times it is exact.

    Source: Moshier (1989), Methods and programs for mathematical functions (Cephes), expf.
    """
    z = max(min(x, _SINGLE(88.0)), _SINGLE(-87.0))
    k = np.int32(z * _SINGLE(1.44269504) + _SINGLE(200.5)) - np.int32(200)
    y = z - _SINGLE(k) * _SINGLE(0.693359375)
    y = y + _SINGLE(k) * _SINGLE(2.12194440e-4)
    p = _SINGLE(1.9875691500e-4)
    p = p * y + _SINGLE(1.3981999507e-3)
    p = p * y + _SINGLE(8.3334519073e-3)
    p = p * y + _SINGLE(4.1665795894e-2)
    p = p * y + _SINGLE(1.6666665459e-1)
    p = p * y + _SINGLE(5.0000001201e-1)
    power = (p * (y * y) + y + _SINGLE(1.0)) * np.int32((k + 127) << 23).view(_SINGLE)
    return power if x > _SINGLE(-87.0) else _SINGLE(0.0)


def exp(x: Any) -> Any:
    """The exponential that suits the type, in compiled loops."""
    return math.exp(x)


@overload(exp)
def _exp_of(x: Any) -> Any:
    def single(x: Any) -> Any:
        return exponential(x)

    def double(x: Any) -> Any:
        return math.exp(x)

    return single if x == numba.float32 else double


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gate_halves(gate_up: Floats, out: Floats) -> None:
    """silu(a) · b, (N, F), of the halves a and b of (N, 2F).

    Source: Shazeer (2020), GLU variants improve transformer, eq. 6 (SwiGLU).
    """
    size, one = out.shape[1], gate_up.dtype.type(1)
    for n in range(len(gate_up)):
        gates, values, gated = gate_up[n, :size], gate_up[n, size:], out[n]
        for i in range(size):
            gated[i] = gates[i] * values[i] / (one + exp(-gates[i]))


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def normalise(x: Floats, epsilon: float, out: Floats) -> None:
    """Each x of (N, D) divided by √(|x|² + D ε): its RMSNorm but for √D and the weights."""
    size, zero = x.shape[1], x.dtype.type(0)
    for n in range(len(x)):
        squares = zero
        for i in range(size):
            squares += x[n, i] * x[n, i]
        scale = x.dtype.type(1 / math.sqrt(squares + size * epsilon))
        for i in range(size):
            out[n, i] = x[n, i] * scale
