"""Compiled incomplete factorization of the chain of a policy, the preconditioner of its evaluation.

The chain is as in :mod:`gridzero.agents.tabular.chain_kernels`: $x = b + P x$, with the (n, K) ``columns`` and
``weights`` of P.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]  # or of float64, as the weights are
Integers = NDArray[np.int32]

TINY = np.float32(1e-30)
"""Smaller numbers become 0 where errors fade, before they turn subnormal and slow."""
SHARE = 0.95
"""Of the fill that is dropped, what goes to the diagonal."""
LEAST = 0.02
"""Smaller elements that elimination adds are dropped, in units of the diagonal."""
TINIEST = 0.2
"""Of the least element, what is not even added up with others to one."""
ROOM = 24
"""Elements that elimination may add to a row on each side of the diagonal."""


class Factors(NamedTuple):
    r"""$(D - L)\,D^{-1}\,(D - U) \approx I - P$: L has columns before the row, U columns after it.

    Row i of L is at ``lower_starts[i]`` to ``lower_starts[i + 1]`` of ``lower_columns`` and ``lower_weights``, that of
    U likewise; ``inverses`` (n,) is the diagonal of $D^{-1}$.
    """

    lower_starts: Integers
    lower_columns: Integers
    lower_weights: Singles
    upper_starts: Integers
    upper_columns: Integers
    upper_weights: Singles
    inverses: Singles


@numba.njit(cache=True, nogil=True)
def _share_of_edges_both_ways(columns: Integers, weights: Singles) -> float:
    n, outcomes = columns.shape
    both, one = 0.0, 1e-300
    for i in range(0, n, max(1, n // 10000)):
        for k in range(outcomes):
            j = columns[i, k]
            one += weights[i, k]
            for m in range(outcomes):
                if columns[j, m] == i and weights[j, m] > 0:
                    both += weights[i, k]
    return both / one


@numba.njit(cache=True, nogil=True, inline="always")
def _place(column: int, columns: Integers, first: int, last: int) -> int:
    """Return the index of ``column`` in ``columns[first:last]``, or ``last`` if it is not there."""
    k = first
    while k < last and columns[k] != column:
        k += 1
    return k


@numba.njit(cache=True, nogil=True)
def _enlarged(array: NDArray[Any], used: int) -> NDArray[Any]:
    larger = np.empty(array.size + array.size // 2, dtype=array.dtype)
    larger[:used] = array[:used]
    return larger


@numba.njit(cache=True, nogil=True)
def factorize(columns: Integers, weights: Singles, share: float, least: float) -> Factors:
    r"""Modified incomplete factorization of $I - P$ with a threshold.

    Rows are eliminated one after the other. Elements of P are kept, and of what elimination adds elsewhere, elements
    of at least ``least`` times the diagonal. Where edges go both ways, as in grids, a ``share`` of what is dropped goes
    to the diagonal, which nearly keeps the sums of rows and so gets slowly varying errors right; else none does.
    $I - P$ is an M-matrix with positive row sums, so no pivot vanishes.

    Args:
        columns: (n, K), those of P; several of a row may be the same.
        weights: (n, K), 0 or more, each row's sum below 1.
        share: of what is dropped, what goes to the diagonal.
        least: the threshold, relative to the diagonal.

    Source: Saad (1994), ILUT: a dual threshold incomplete LU factorization; Gustafsson (1978), A class of first order
    factorization methods (the share); Meijerink and van der Vorst (1977), An iterative solution method for linear
    systems of which the coefficient matrix is a symmetric M-matrix.
    """
    n, outcomes = columns.shape
    share = share if _share_of_edges_both_ways(columns, weights) > 0.5 else 0.0
    lower_starts, upper_starts = np.zeros(n + 1, dtype=np.int32), np.zeros(n + 1, dtype=np.int32)
    most = outcomes + ROOM
    capacity = n * outcomes + most
    lower_columns, upper_columns = np.empty(capacity, dtype=np.int32), np.empty(capacity, dtype=np.int32)
    lower_weights, upper_weights = np.empty(capacity, dtype=weights.dtype), np.empty(capacity, dtype=weights.dtype)
    inverses = np.empty(n, dtype=weights.dtype)
    # Earlier columns of the row that are still to be eliminated; later ones are put where they stay.
    open_columns, open_weights = np.empty(most, dtype=np.int32), np.empty(most, dtype=weights.dtype)
    given = np.empty(most, dtype=np.bool_)
    lower, upper = 0, 0
    for i in range(n):
        if lower + most > lower_columns.size:
            lower_columns, lower_weights = _enlarged(lower_columns, lower), _enlarged(lower_weights, lower)
        if upper + most > upper_columns.size:
            upper_columns, upper_weights = _enlarged(upper_columns, upper), _enlarged(upper_weights, upper)
        count, first, kept, dropped = 0, upper, 0.0, 0.0
        for k in range(outcomes):
            weight, column = weights[i, k], columns[i, k]
            if weight > 0 and column < i:
                place = _place(column, open_columns, 0, count)
                if place == count:
                    open_columns[count], open_weights[count], given[count] = column, 0, True
                    count += 1
                open_weights[place] += weight
            elif weight > 0:
                place = _place(column, upper_columns, first, upper)
                if place == upper:
                    upper_columns[upper], upper_weights[upper] = column, 0
                    upper += 1
                upper_weights[place] += weight
        ours, lower_end = upper, lower + most
        while count > 0:
            place = 0
            for k in range(1, count):
                if open_columns[k] < open_columns[place]:
                    place = k
            j, weight, keep = open_columns[place], open_weights[place], given[place]
            count -= 1
            open_columns[place], open_weights[place] = open_columns[count], open_weights[count]
            given[place] = given[count]
            if (weight < least * (1 - kept) and not keep) or lower == lower_end:
                dropped += weight
                continue
            lower_columns[lower], lower_weights[lower] = j, weight
            lower += 1
            factor = weight * inverses[j]
            for k in range(upper_starts[j], upper_starts[j + 1]):
                fill, column = factor * upper_weights[k], upper_columns[k]
                if column == i:
                    kept += fill
                elif fill < TINIEST * least * (1 - kept):
                    dropped += fill
                elif column < i:
                    place = _place(column, open_columns, 0, count)
                    if place < count:
                        open_weights[place] += fill
                    elif count < most:
                        open_columns[count], open_weights[count], given[count] = column, fill, False
                        count += 1
                    else:
                        dropped += fill
                else:
                    place = _place(column, upper_columns, first, upper)
                    if place < upper:
                        upper_weights[place] += fill
                    elif upper < first + most:
                        upper_columns[upper], upper_weights[upper] = column, fill
                        upper += 1
                    else:
                        dropped += fill
        upper_end, upper = upper, ours
        for k in range(ours, upper_end):
            if upper_weights[k] < least * (1 - kept):
                dropped += upper_weights[k]
            else:
                upper_columns[upper], upper_weights[upper] = upper_columns[k], upper_weights[k]
                upper += 1
        inverses[i] = 1 / (1 - kept - share * dropped)
        lower_starts[i + 1], upper_starts[i + 1] = lower, upper
    return Factors(lower_starts, lower_columns, lower_weights, upper_starts, upper_columns, upper_weights, inverses)


@numba.njit(cache=True, nogil=True)
def solve_factors(
    factors: Factors, r: Singles, c: float, q: Singles, d: float, v: Singles, right: Singles, out: Singles
) -> None:
    """Solve (D - L) D^-1 (D - U) out = r + c q + d v by a forward and a backward substitution.

    The right side is made on the way, as both need the same pass over memory.

    Args:
        factors: D, L and U.
        r: (n,).
        c: factor of ``q``.
        q: (n,).
        d: factor of ``v``.
        v: (n,).
        right: (n,), written: the right side; may be ``r`` or ``q`` itself.
        out: (n,), written: the solution.

    Source: Saad (2003), Iterative methods for sparse linear systems, section 10.3.
    """
    starts, columns, weights = factors.lower_starts, factors.lower_columns, factors.lower_weights
    inverses = factors.inverses
    of_q, of_v, zero = r.dtype.type(c), r.dtype.type(d), r.dtype.type(0)
    for i in range(r.size):
        value = r[i] + of_q * q[i] + of_v * v[i]
        value = value if abs(value) > TINY else zero
        right[i] = value
        for k in range(starts[i], starts[i + 1]):
            value += weights[k] * out[columns[k]]
        value *= inverses[i]
        out[i] = value if abs(value) > TINY else zero
    starts, columns, weights = factors.upper_starts, factors.upper_columns, factors.upper_weights
    for i in range(r.size - 1, -1, -1):
        value = zero
        for k in range(starts[i], starts[i + 1]):
            value += weights[k] * out[columns[k]]
        value = out[i] + value * inverses[i]
        out[i] = value if abs(value) > TINY else zero
