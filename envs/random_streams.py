"""Counter-based random numbers: draw n of the stream (seed, index) is a hash of the three, so no stream needs another.

The hash is SplitMix64's finaliser (Steele, Lea & Flood 2014, variant 13 of Stafford) of the stream's key xor n golden
ratios. Environment i of a batch has the stream (seed, i): it is the same however many run beside it.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
GOLDEN = np.uint64(_GOLDEN)
_GOLDEN_INVERSE = pow(_GOLDEN, -1, 1 << 64)
_U_MIX_1, _U_MIX_2 = np.uint64(_MIX_1), np.uint64(_MIX_2)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


def mix(x: int) -> int:
    """The hash of a 64-bit integer, a bijection.

    >>> mix(0), mix(1) == int(mix_bits(np.uint64(1)))
    (0, True)
    """
    x = (x ^ (x >> 30)) * _MIX_1 & _MASK
    x = (x ^ (x >> 27)) * _MIX_2 & _MASK
    return x ^ (x >> 31)


@numba.njit(inline="always")
def mix_bits(x: np.uint64) -> np.uint64:
    """:func:`mix`, compiled."""
    x = (x ^ (x >> _S30)) * _U_MIX_1
    x = (x ^ (x >> _S27)) * _U_MIX_2
    return x ^ (x >> _S31)


def mix_array(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash each of an array of 64-bit integers, as :func:`mix` does."""
    x = (x ^ (x >> _S30)) * _U_MIX_1
    x = (x ^ (x >> _S27)) * _U_MIX_2
    return x ^ (x >> _S31)


def stream_keys(seed: int, count: int) -> NDArray[np.uint64]:
    """The keys of the streams (seed, 0) … (seed, count-1).

    Args:
        seed: any integer from 0.
        count: how many.

    Returns:
        (count,) uint64; they depend on ``count`` in nothing but their number.

    Raises:
        ValueError: for a negative seed.
    """
    return mix_array((np.arange(count, dtype=np.uint64) ^ np.uint64(_seed_hash(seed))) + GOLDEN)


def stream_key(seed: int) -> int:
    """The key of the stream (seed, 0).

    >>> stream_key(7) == int(stream_keys(7, 1)[0])
    True
    """
    return mix(_seed_hash(seed) + _GOLDEN & _MASK)


def draws_made(position: int) -> int:
    """The number of draws n behind a position in a stream, which is n · ``GOLDEN`` modulo 2**64.

    >>> draws_made(3 * int(GOLDEN) % 2**64)
    3
    """
    return position * _GOLDEN_INVERSE & _MASK


def _seed_hash(seed: int) -> int:
    if seed < 0:
        raise ValueError(f"a seed is an integer from 0, not {seed}")
    result = 0
    while True:
        result = mix((result ^ (seed & _MASK)) + _GOLDEN & _MASK)
        seed >>= 64
        if not seed:
            return result


@numba.njit(cache=True)
def fill_draws(key: np.uint64, first: np.uint64, out: NDArray[np.uint64]) -> None:
    """Draws ``first``, ``first`` + 1, … of a stream, 64 uniform bits each, into ``out``."""
    for i in range(out.size):
        out[i] = mix_bits(key ^ ((first + np.uint64(i)) * GOLDEN))
