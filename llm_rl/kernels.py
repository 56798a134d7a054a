"""Loops of a transformer on a processor, compiled."""

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


def _exp(x: Any) -> Any:
    """The exponential that suits the type, in compiled loops."""
    return math.exp(x)


@overload(_exp)
def _exp_of(x: Any) -> Any:
    def single(x: Any) -> Any:
        return exponential(x)

    def double(x: Any) -> Any:
        return math.exp(x)

    return single if x == numba.float32 else double


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gate(gates: Floats, values: Floats, out: Floats) -> None:
    """silu(gates) · values, (N,) each."""
    one = gates.dtype.type(1)
    for i in range(len(gates)):
        out[i] = gates[i] * values[i] / (one + _exp(-gates[i]))


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gate_gradient(gradient: Floats, gates: Floats, values: Floats, of_gates: Floats, of_values: Floats) -> None:
    """The gradients of :func:`gate`, from that of what it gives."""
    one = gates.dtype.type(1)
    for i in range(len(gates)):
        share = one / (one + _exp(-gates[i]))
        silu = gates[i] * share
        of_values[i] = gradient[i] * silu
        of_gates[i] = gradient[i] * values[i] * (share + silu * (one - share))


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gate_halves(made: Floats, out: Floats) -> None:
    """silu(a) · b, (N, F), of the halves a and b of (N, 2F)."""
    size, one = out.shape[1], made.dtype.type(1)
    for n in range(len(made)):
        gates, values = made[n, :size], made[n, size:]
        for i in range(size):
            out[n, i] = gates[i] * values[i] / (one + _exp(-gates[i]))


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


@numba.njit(cache=True, fastmath=True)
def _sum(numbers: Floats) -> float:
    """In double precision."""
    total = 0.0
    for number in numbers:
        total += number
    return total


@numba.njit(cache=True, nogil=True, fastmath=_IN_ORDER, error_model="numpy")
def draw(logits: Floats, uniforms: Floats, tokens: NDArray[np.int64], log_probs: Floats) -> None:
    """Draw a token from each row of logits, by inverting the distribution function.

    Args:
        logits: (N, V).
        uniforms: (N,), from 0 to below 1, with at most 24 bits.
        tokens: (N,), the result: the first at which the probabilities up to it are more than the uniform number.
        log_probs: (N,), theirs.
    """
    size = logits.shape[1]
    powers = np.empty(size, logits.dtype)
    for row in range(len(logits)):
        greatest = logits[row, 0]
        for i in range(1, size):
            greatest = max(greatest, logits[row, i])
        for i in range(size):
            powers[i] = _exp(logits[row, i] - greatest)
        total = _sum(powers)
        share, seen, token = uniforms[row] * total, 0.0, 0
        for i in range(size):
            seen += powers[i]
            token = i
            if seen > share:
                break
        tokens[row] = token
        log_probs[row] = logits[row, token] - greatest - math.log(total)


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
                scores[n, query, i] = _exp(factor * (scores[n, query, i] - greatest))
            total = zero
            for i in range(seen):
                total += scores[n, query, i]
            share = 1 / total
            for i in range(seen):
                scores[n, query, i] *= share
            scores[n, query, seen:] = zero


@numba.njit(cache=True, nogil=True, fastmath=True)
def causal_softmax_gradient(attention: Floats, gradient: Floats, scale: float) -> None:
    """The gradient of :func:`causal_softmax`, in the place of that of what it gives."""
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

    Four of those are read at a time, lest the query be read again for each.

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
    turned = np.empty((heads + key_heads, d), made.dtype)
    weights = np.empty(keys.shape[2] + 3, made.dtype)
    zero = made.dtype.type(0)
    for row in range(made.shape[0]):
        begin = begins[row]
        for step in range(made.shape[1]):
            place = at + step
            if place < begin:
                mixed[row, step] = 0
                continue
            for head in range(heads + key_heads):
                for i in range(d // 2):
                    real, imaginary = made[row, step, head, 2 * i], made[row, step, head, 2 * i + 1]
                    cosine, sine = cosines[place - begin, i], sines[place - begin, i]
                    turned[head, 2 * i] = real * cosine - imaginary * sine
                    turned[head, 2 * i + 1] = imaginary * cosine + real * sine
            for head in range(key_heads):
                for i in range(d):
                    keys[row, head, place, i] = turned[heads + head, i]
                    values[row, head, place, i] = made[row, step, heads + key_heads + head, i]
            for head in range(heads):
                own = head * key_heads // heads
                greatest = made.dtype.type(-np.inf)
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
                    greatest = max(greatest, a, b, c, e)
                total = zero
                for seen in range(begin, place + 1):
                    weight = _exp(weights[seen] - greatest)
                    weights[seen] = weight
                    total += weight
                share = 1 / total
                weights[place + 1 : place + 4] = zero
                for i in range(d):
                    mixed[row, step, head, i] = zero
                for seen in range(begin, place + 1, 4):
                    second, third, fourth = min(seen + 1, place), min(seen + 2, place), min(seen + 3, place)
                    a, b = weights[seen] * share, weights[seen + 1] * share
                    c, e = weights[seen + 2] * share, weights[seen + 3] * share
                    for i in range(d):
                        mixed[row, step, head, i] += (
                            a * values[row, own, seen, i]
                            + b * values[row, own, second, i]
                            + c * values[row, own, third, i]
                            + e * values[row, own, fourth, i]
                        )


@numba.njit(cache=True, nogil=True, fastmath=True)
def lay_out(
    made: Floats,
    cosines: Floats,
    sines: Floats,
    places: NDArray[np.int64],
    queries: Floats,
    keys: Floats,
    values: Floats,
) -> None:
    """From packed steps to sequences, head by head; queries and keys are turned by their positions.

    Args:
        made: (N, H + 2K, d), queries, keys and values.
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
                        a, b = made[n, first + head, i], made[n, first + head, half + i]
                        turned[row, head, step, i] = a * cosines[n, i] - b * sines[n, i]
                        turned[row, head, step, half + i] = b * cosines[n, i] + a * sines[n, i]
            for head in range(key_heads):
                for i in range(2 * half):
                    values[row, head, step, i] = made[n, heads + key_heads + head, i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def bring_back(
    queries: Floats,
    keys: Floats,
    values: Floats,
    cosines: Floats,
    sines: Floats,
    places: NDArray[np.int64],
    made: Floats,
) -> None:
    """The way back from :func:`lay_out`, for gradients: they are turned back and added to where they came from."""
    half, heads, key_heads = cosines.shape[1], queries.shape[1], keys.shape[1]
    for row in range(places.shape[0]):
        for step in range(places.shape[1]):
            n = places[row, step]
            for first, turned in ((0, queries), (heads, keys)):
                for head in range(turned.shape[1]):
                    for i in range(half):
                        a, b = turned[row, head, step, i], turned[row, head, step, half + i]
                        made[n, first + head, i] += a * cosines[n, i] + b * sines[n, i]
                        made[n, first + head, half + i] += b * cosines[n, i] - a * sines[n, i]
            for head in range(key_heads):
                for i in range(2 * half):
                    made[n, heads + key_heads + head, i] += values[row, head, step, i]


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
