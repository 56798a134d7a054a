"""Compiled loops of attention on a CPU, for decoding and for scoring."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.llm_rl.cpu_kernels.elementwise import Floats, exp


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def causal_softmax(scores: Floats, scale: float) -> None:
    """Softmax of scale · scores, in place, over the steps up to a query's own.

    Args:
        scores: (N, G · L, L), L queries of each of G heads after one another.
        scale: of the scores.
    """
    length = scores.shape[2]
    factor, zero = scores.dtype.type(scale), scores.dtype.type(0)
    for n in range(scores.shape[0]):
        for query in range(scores.shape[1]):
            seen = query % length + 1
            greatest = scores[n, query, 0]
            for i in range(1, seen):
                greatest = max(greatest, scores[n, query, i])
            for i in range(seen):
                scores[n, query, i] = exp(factor * (scores[n, query, i] - greatest))
            total = zero
            for i in range(seen):
                total += scores[n, query, i]
            share = 1 / total
            for i in range(seen):
                scores[n, query, i] *= share
            scores[n, query, seen:] = zero


@numba.njit(cache=True, nogil=True, fastmath=True)
def causal_softmax_gradient(attention: Floats, gradient: Floats, scale: float) -> None:
    """Gradient of :func:`causal_softmax` from that of its result, in place."""
    length = attention.shape[2]
    factor, zero = attention.dtype.type(scale), attention.dtype.type(0)
    for n in range(attention.shape[0]):
        for query in range(attention.shape[1]):
            seen, mean = query % length + 1, zero
            for i in range(seen):
                mean += attention[n, query, i] * gradient[n, query, i]
            for i in range(seen):
                gradient[n, query, i] = factor * attention[n, query, i] * (gradient[n, query, i] - mean)
            gradient[n, query, seen:] = zero


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def attend(
    qkv: Floats,
    cosines: Floats,
    sines: Floats,
    keys: Floats,
    values: Floats,
    begins: NDArray[np.int64],
    at: int,
    attended: Floats,
) -> None:
    """Store the keys and values of T new steps of B rows, and attend from each step to itself and those before.

    Four of those are read at a time, lest the query be read again for each.

    Args:
        qkv: (B, T, H + 2K, d) queries, keys and values; what is turned together stands next to each other.
        cosines: (positions, d / 2), by which queries and keys are turned.
        sines: (positions, d / 2).
        keys: (B, K, C, d), written at ``at`` to ``at + T - 1``, turned.
        values: (B, K, C, d), the same.
        begins: (B,), the place of each row's first step; what is before it is padding, of new steps too.
        at: the place of the first new step.
        attended: (B, T, H, d), the result; 0 for padding.
    """
    key_heads, d = keys.shape[1], keys.shape[3]
    heads = attended.shape[2]
    turned = np.empty((heads + key_heads, d), qkv.dtype)
    weights = np.empty(keys.shape[2] + 3, qkv.dtype)
    zero = qkv.dtype.type(0)
    for row in range(qkv.shape[0]):
        begin = begins[row]
        for step in range(qkv.shape[1]):
            place = at + step
            if place < begin:
                attended[row, step] = 0
                continue
            for head in range(heads + key_heads):
                for i in range(d // 2):
                    real, imaginary = qkv[row, step, head, 2 * i], qkv[row, step, head, 2 * i + 1]
                    cosine, sine = cosines[place - begin, i], sines[place - begin, i]
                    turned[head, 2 * i] = real * cosine - imaginary * sine
                    turned[head, 2 * i + 1] = imaginary * cosine + real * sine
            for head in range(key_heads):
                for i in range(d):
                    keys[row, head, place, i] = turned[heads + head, i]
                    values[row, head, place, i] = qkv[row, step, heads + key_heads + head, i]
            for head in range(heads):
                own = head * key_heads // heads
                greatest = zero
                for seen in range(begin, place + 1, 4):
                    second, third, fourth = min(seen + 1, place), min(seen + 2, place), min(seen + 3, place)
                    a = b = c = e = zero
                    for i in range(d):
                        query = turned[head, i]
                        a += query * keys[row, own, seen, i]
                        b += query * keys[row, own, second, i]
                        c += query * keys[row, own, third, i]
                        e += query * keys[row, own, fourth, i]
                    weights[seen], weights[seen + 1], weights[seen + 2], weights[seen + 3] = a, b, c, e
                    largest = max(a, b, c, e)
                    greatest = largest if seen == begin else max(greatest, largest)
                total = zero
                for seen in range(begin, place + 1):
                    weight = exp(weights[seen] - greatest)
                    weights[seen] = weight
                    total += weight
                share = 1 / total
                weights[place + 1 : place + 4] = zero
                for i in range(d):
                    attended[row, step, head, i] = zero
                for seen in range(begin, place + 1, 4):
                    second, third, fourth = min(seen + 1, place), min(seen + 2, place), min(seen + 3, place)
                    a, b = weights[seen] * share, weights[seen + 1] * share
                    c, e = weights[seen + 2] * share, weights[seen + 3] * share
                    for i in range(d):
                        attended[row, step, head, i] += (
                            a * values[row, own, seen, i]
                            + b * values[row, own, second, i]
                            + c * values[row, own, third, i]
                            + e * values[row, own, fourth, i]
                        )


@numba.njit(cache=True, nogil=True, fastmath=True)
def unpack(
    qkv: Floats,
    cosines: Floats,
    sines: Floats,
    places: NDArray[np.int64],
    queries: Floats,
    keys: Floats,
    values: Floats,
) -> None:
    """Copy packed steps to padded sequences, head by head; queries and keys are turned by their positions.

    Args:
        qkv: (N, H + 2K, d), queries, keys and values.
        cosines: (N, d / 2), by which the halves of queries and keys are turned.
        sines: (N, d / 2).
        places: (B, L), which of the N steps each sequence has.
        queries: (B, H, L, d), the result.
        keys: (B, K, L, d), the result.
        values: (B, K, L, d), the result.
    """
    half, heads, key_heads = cosines.shape[1], queries.shape[1], keys.shape[1]
    for row in range(places.shape[0]):
        for step in range(places.shape[1]):
            n = places[row, step]
            for first, turned in ((0, queries), (heads, keys)):
                for head in range(turned.shape[1]):
                    for i in range(half):
                        a, b = qkv[n, first + head, i], qkv[n, first + head, half + i]
                        turned[row, head, step, i] = a * cosines[n, i] - b * sines[n, i]
                        turned[row, head, step, half + i] = b * cosines[n, i] + a * sines[n, i]
            for head in range(key_heads):
                for i in range(2 * half):
                    values[row, head, step, i] = qkv[n, heads + key_heads + head, i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def unpack_gradient(
    queries: Floats,
    keys: Floats,
    values: Floats,
    cosines: Floats,
    sines: Floats,
    places: NDArray[np.int64],
    qkv: Floats,
) -> None:
    """Gradient of :func:`unpack`: turned back, and added to the packed steps."""
    half, heads, key_heads = cosines.shape[1], queries.shape[1], keys.shape[1]
    for row in range(places.shape[0]):
        for step in range(places.shape[1]):
            n = places[row, step]
            for first, turned in ((0, queries), (heads, keys)):
                for head in range(turned.shape[1]):
                    for i in range(half):
                        a, b = turned[row, head, step, i], turned[row, head, step, half + i]
                        qkv[n, first + head, i] += a * cosines[n, i] + b * sines[n, i]
                        qkv[n, first + head, half + i] += b * cosines[n, i] - a * sines[n, i]
            for head in range(key_heads):
                for i in range(2 * half):
                    qkv[n, heads + key_heads + head, i] += values[row, head, step, i]


@numba.njit(cache=True, nogil=True)
def pack(padded: Floats, part_indices: NDArray[np.int64], before: int, packed: Floats) -> None:
    """Copy padded sequences to packed steps.

    Args:
        padded: (B, H, L, d).
        part_indices: (N,), the index of each packed step in the parts of a packing, flat and one after the other.
        before: places in the parts before this one.
        packed: (N, H, d), the result, for steps that are in this part.
    """
    size, heads, length, d = padded.shape
    for n in range(len(part_indices)):
        place = part_indices[n] - before
        if 0 <= place < size * length:
            row, step = place // length, place % length
            for head in range(heads):
                for i in range(d):
                    packed[n, head, i] = padded[row, head, step, i]


@numba.njit(cache=True, nogil=True)
def pack_gradient(packed: Floats, part_indices: NDArray[np.int64], before: int, padded: Floats) -> None:
    """Gradient of :func:`pack`, written into zeros."""
    size, heads, length, d = padded.shape
    for n in range(len(part_indices)):
        place = part_indices[n] - before
        if 0 <= place < size * length:
            row, step = place // length, place % length
            for head in range(heads):
                for i in range(d):
                    padded[row, head, step, i] = packed[n, head, i]
