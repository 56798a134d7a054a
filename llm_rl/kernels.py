"""Loops of a transformer on a processor, compiled."""

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


@numba.njit(cache=True, nogil=True, fastmath=True)
def lay_out(
    queries: Floats,
    keys: Floats,
    values: Floats,
    cosines: Floats,
    sines: Floats,
    places: NDArray[np.int64],
    sorted_queries: Floats,
    sorted_keys: Floats,
    sorted_values: Floats,
) -> None:
    """From packed steps to sequences, head by head; queries and keys are turned by their positions.

    Args:
        queries: (N, H, d).
        keys: (N, K, d).
        values: (N, K, d).
        cosines: (N, d / 2), by which the halves of queries and keys are turned.
        sines: (N, d / 2).
        places: (B, L), which of the N steps each sequence has.
        sorted_queries: (B, H, L, d), the result.
        sorted_keys: (B, K, L, d), the result.
        sorted_values: (B, K, L, d), the result.
    """
    half = cosines.shape[1]
    for row in range(places.shape[0]):
        for step in range(places.shape[1]):
            n = places[row, step]
            for vectors, found in ((queries, sorted_queries), (keys, sorted_keys)):
                for head in range(vectors.shape[1]):
                    vector, out = vectors[n, head], found[row, head, step]
                    for i in range(half):
                        a, b = vector[i], vector[half + i]
                        out[i] = a * cosines[n, i] - b * sines[n, i]
                        out[half + i] = b * cosines[n, i] + a * sines[n, i]
            for head in range(values.shape[1]):
                vector, out = values[n, head], sorted_values[row, head, step]
                for i in range(2 * half):
                    out[i] = vector[i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def bring_back(
    sorted_queries: Floats,
    sorted_keys: Floats,
    sorted_values: Floats,
    cosines: Floats,
    sines: Floats,
    places: NDArray[np.int64],
    queries: Floats,
    keys: Floats,
    values: Floats,
) -> None:
    """The way back from :func:`lay_out`, for gradients: they are turned back and added where they came from."""
    half = cosines.shape[1]
    for row in range(places.shape[0]):
        for step in range(places.shape[1]):
            n = places[row, step]
            for vectors, found in ((sorted_queries, queries), (sorted_keys, keys)):
                for head in range(vectors.shape[1]):
                    vector, out = vectors[row, head, step], found[n, head]
                    for i in range(half):
                        a, b = vector[i], vector[half + i]
                        out[i] += a * cosines[n, i] + b * sines[n, i]
                        out[half + i] += b * cosines[n, i] - a * sines[n, i]
            for head in range(values.shape[1]):
                vector, out = sorted_values[row, head, step], values[n, head]
                for i in range(2 * half):
                    out[i] += vector[i]


@numba.njit(cache=True, nogil=True)
def pick(sorted_vectors: Floats, owned: NDArray[np.int64], before: int, packed: Floats) -> None:
    """From sequences to packed steps.

    Args:
        sorted_vectors: (B, H, L, d).
        owned: (N,), where in the parts of a packing, one after the other, each step's own place is.
        before: places in the parts before this one.
        packed: (N, H, d), the result, for steps that are in this part.
    """
    size, heads, length, d = sorted_vectors.shape
    for n in range(len(owned)):
        place = owned[n] - before
        if 0 <= place < size * length:
            row, step = place // length, place % length
            for head in range(heads):
                for i in range(d):
                    packed[n, head, i] = sorted_vectors[row, head, step, i]


@numba.njit(cache=True, nogil=True)
def put(packed: Floats, owned: NDArray[np.int64], before: int, sorted_vectors: Floats) -> None:
    """The way back from :func:`pick`, into zeros."""
    size, heads, length, d = sorted_vectors.shape
    for n in range(len(owned)):
        place = owned[n] - before
        if 0 <= place < size * length:
            row, step = place // length, place % length
            for head in range(heads):
                for i in range(d):
                    sorted_vectors[row, head, step, i] = packed[n, head, i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def add_and_normalise(
    states: Floats, update: Floats, weight: Floats, epsilon: float, summed: Floats, scales: Floats, normed: Floats
) -> None:
    """The RMSNorm of a sum.

    Args:
        states: (N, D).
        update: (N, D), added.
        weight: (D,).
        epsilon: added to the mean of the squares.
        summed: (N, D), the sum.
        scales: (N,), 1 / sqrt(mean of the squares + epsilon).
        normed: (N, D), the sum times these and the weight.
    """
    size, zero = states.shape[1], states.dtype.type(0)
    for n in range(len(states)):
        squares = zero
        for i in range(size):
            x = states[n, i] + update[n, i]
            summed[n, i] = x
            squares += x * x
        scale = states.dtype.type(1 / math.sqrt(squares / size + epsilon))
        scales[n] = scale
        for i in range(size):
            normed[n, i] = summed[n, i] * scale * weight[i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def normalisation_gradient(
    of_summed: Floats,
    of_normed: Floats,
    summed: Floats,
    weight: Floats,
    scales: Floats,
    of_states: Floats,
    of_weight: Floats,
) -> None:
    """The gradients of :func:`add_and_normalise`, from those of what it gives; ``of_weight`` is added to."""
    size, zero = summed.shape[1], summed.dtype.type(0)
    for n in range(len(summed)):
        scale, along = scales[n], zero
        for i in range(size):
            product = of_normed[n, i] * summed[n, i]
            of_weight[i] += product * scale
            along += product * weight[i]
        along *= scale * scale / summed.dtype.type(size)
        for i in range(size):
            of_states[n, i] = of_summed[n, i] + scale * (of_normed[n, i] * weight[i] - summed[n, i] * along)
