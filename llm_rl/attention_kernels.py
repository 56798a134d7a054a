"""Attention of new steps to those before them, compiled: decoding small models on a processor."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@numba.njit(cache=True, inline="always")
def _turn(pairs: Floats, cosines: Floats, sines: Floats, out: Floats) -> None:
    """Numbers next to each other, turned as complex ones are."""
    for i in range(len(cosines)):
        real, imaginary = pairs[2 * i], pairs[2 * i + 1]
        out[2 * i] = real * cosines[i] - imaginary * sines[i]
        out[2 * i + 1] = imaginary * cosines[i] + real * sines[i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def attend(
    made: Floats,
    cosines: Floats,
    sines: Floats,
    keys: Floats,
    values: Floats,
    begins: NDArray[np.int64],
    at: int,
    mixed: Floats,
) -> None:
    """Store the keys and values of T new steps of B rows, and mix what each step attends to: itself and those before.

    Args:
        made: (B, T, H + 2K, d) queries, keys and values; what is turned together stands next to each other.
        cosines: (positions, d / 2), by which queries and keys are turned.
        sines: (positions, d / 2).
        keys: (B, K, C, d), written at ``at`` to ``at + T - 1``, turned.
        values: (B, K, C, d), the same.
        begins: (B,), the place of each row's first step; what is before it is padding, of new steps too.
        at: the place of the first new step.
        mixed: (B, T, H, d), the result; 0 for padding.
    """
    key_heads, d = keys.shape[1], keys.shape[3]
    heads = mixed.shape[2]
    query = np.empty(d, made.dtype)
    weights = np.empty(keys.shape[2], made.dtype)
    zero = made.dtype.type(0)
    for row in range(made.shape[0]):
        begin = begins[row]
        for step in range(made.shape[1]):
            place = at + step
            if place < begin:
                mixed[row, step] = 0
                continue
            cosine, sine = cosines[place - begin], sines[place - begin]
            for head in range(key_heads):
                _turn(made[row, step, heads + head], cosine, sine, keys[row, head, place])
                values[row, head, place] = made[row, step, heads + key_heads + head]
            for head in range(heads):
                _turn(made[row, step, head], cosine, sine, query)
                own_keys, own_values = keys[row, head * key_heads // heads], values[row, head * key_heads // heads]
                out = mixed[row, step, head]
                for seen in range(begin, place + 1):
                    product, key = zero, own_keys[seen]
                    for i in range(d):
                        product += query[i] * key[i]
                    weights[seen] = product
                greatest = weights[begin]
                for seen in range(begin + 1, place + 1):
                    greatest = max(greatest, weights[seen])
                total = zero
                for seen in range(begin, place + 1):
                    weight = math.exp(weights[seen] - greatest)
                    weights[seen] = weight
                    total += weight
                share = 1 / total
                for i in range(d):
                    out[i] = zero
                for seen in range(begin, place + 1):
                    weight, value = weights[seen] * share, own_values[seen]
                    for i in range(d):
                        out[i] += weight * value[i]
