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
Floats = NDArray[np.float64]
Integers = NDArray[np.int32 | np.uint32]
Unsigned = NDArray[np.uint32]
Booleans = NDArray[np.bool_]

TINY = np.float32(1e-30)
"""Smaller numbers become 0 where errors fade, before they turn subnormal and slow."""
SHARE = 0.98
"""Of the fill that is dropped, what goes to the diagonal."""
LEAST = 0.02
"""Smaller elements that elimination adds are dropped, in units of the diagonal."""
TINIEST = 0.2
"""Of the least element, what is not even added up with others to one."""
ROOM = 24
"""Elements that elimination may add to a row on each side of the diagonal."""
WIDTH = 4
"""Elements of a row that are read at a time. Rows differ in length, in fours hardly, which processors predict well."""
MOVED = 0.02
"""Rows whose elements changed by less in all, in units of the diagonal, are taken for the same by later ones."""


class Factors(NamedTuple):
    r"""$(D - L)\,D^{-1}\,(D - U) \approx I - P$: L has columns before the row, U columns after it.

    Row i of L is the ``lower_counts[i]`` elements from ``lower_starts[i]`` of ``lower_columns`` and ``lower_weights``,
    that of U likewise. After it come elements of weight 0, up to a multiple of :data:`WIDTH`. ``inverses`` is the
    diagonal of $D^{-1}$. ``used`` (2,) tells how much of the elements' arrays is in use, ``share`` (1,) what part of
    the fill that is dropped goes to the diagonal.
    """

    lower_starts: Integers
    lower_counts: Integers
    lower_columns: Integers
    lower_weights: Singles
    upper_starts: Integers
    upper_counts: Integers
    upper_columns: Integers
    upper_weights: Singles
    inverses: Singles
    used: NDArray[np.int64]
    share: Floats


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


def no_factors(columns: Integers, weights: Singles, room: int, share: float) -> Factors:
    """Factors of no rows yet, with room for ``room`` of them, for the chain with these columns and weights.

    ``share`` (see :class:`Factors`) counts where edges go both ways, as in grids; elsewhere it is 0.
    """
    size = columns.size + len(columns) + columns.shape[1] + ROOM + WIDTH
    share = share if _share_of_edges_both_ways(columns, weights) > 0.5 else 0.0
    return Factors(
        np.zeros(room, dtype=np.int32),
        np.zeros(room, dtype=np.int32),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=weights.dtype),
        np.zeros(room, dtype=np.int32),
        np.zeros(room, dtype=np.int32),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=weights.dtype),
        np.ones(room, dtype=weights.dtype),
        np.zeros(2, dtype=np.int64),
        np.full(1, share),
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _unsigned(starts: Integers, counts: Integers, columns: Integers) -> tuple[Unsigned, Unsigned, Unsigned]:
    """Views of indices as unsigned numbers, so that compiled code need not ask whether one is negative."""
    return starts.view(np.uint32), counts.view(np.uint32), columns.view(np.uint32)


@numba.njit(cache=True, nogil=True, inline="always")
def _next(
    i: int, n: int, changed: Booleans, moved: Booleans, starts: Integers, counts: Integers, columns: Integers
) -> int:
    """The first row from i on that changed, or that has a column in which a row moved; else n."""
    starts, counts, columns = _unsigned(starts, counts, columns)
    while i < n and not changed[i]:
        stale = False
        for k in range(starts[i], starts[i] + counts[i]):
            stale |= moved[columns[k]]
        if stale:
            break
        i += 1
    return i


@numba.njit(cache=True, nogil=True)
def factorize(columns: Integers, weights: Singles, least: float, factors: Factors, changed: Booleans) -> Factors:
    r"""Modified incomplete factorization of $I - P$ with a threshold, of all rows or of those that a change concerns.

    Rows are eliminated one after the other. Elements of P are kept, and of what elimination adds elsewhere, elements
    of at least ``least`` times the diagonal. Where edges go both ways, as in grids, a share of what is dropped goes
    to the diagonal, which nearly keeps the sums of rows and so gets slowly varying errors right; else none does.
    $I - P$ is an M-matrix with positive row sums, so no pivot vanishes.

    An elimination is repeated where the row of P changed, and where an earlier row that enters it has thereby changed
    by more than :data:`MOVED`: changes fade within a few rows.

    Args:
        columns: (n, K), those of P; several of a row may be the same.
        weights: (n, K), 0 or more, each row's sum below 1.
        least: the threshold, relative to the diagonal.
        factors: of P before the change, or :func:`no_factors`; overwritten.
        changed: (at least n,) the rows of P that changed; with no factors yet, all.

    Returns:
        The factors, in the arrays of those that were given where these are large enough.

    Source: Saad (1994), ILUT: a dual threshold incomplete LU factorization; Gustafsson (1978), A class of first order
    factorization methods (the share); Meijerink and van der Vorst (1977), An iterative solution method for linear
    systems of which the coefficient matrix is a symmetric M-matrix.
    """
    n, outcomes = columns.shape
    lower_starts, lower_counts, lower_columns, lower_weights = factors[:4]
    upper_starts, upper_counts, upper_columns, upper_weights, inverses, used, shares = factors[4:]
    lower, upper, share = used[0], used[1], shares[0]
    most = outcomes + ROOM
    room = most + WIDTH
    # Earlier columns of the row that are still to be eliminated; later ones are put where they stay.
    open_columns, open_weights = np.empty(most, dtype=np.int32), np.empty(most, dtype=weights.dtype)
    given = np.empty(most, dtype=np.bool_)
    moved = np.zeros(n, dtype=np.bool_)
    i = -1
    while True:
        # A loop of its own, as the one around it is too long for the processor's registers.
        i = _next(i + 1, n, changed, moved, lower_starts, lower_counts, lower_columns)
        if i == n:
            break
        if lower + room > lower_columns.size:
            lower_columns, lower_weights = _enlarged(lower_columns, lower), _enlarged(lower_weights, lower)
        if upper + room > upper_columns.size:
            upper_columns, upper_weights = _enlarged(upper_columns, upper), _enlarged(upper_weights, upper)
        count, lower_end, upper_end, kept, dropped = 0, lower, upper, 0.0, 0.0
        for k in range(outcomes):
            weight, column = weights[i, k], columns[i, k]
            if weight > 0 and column < i:
                place = _place(column, open_columns, 0, count)
                if place == count:
                    open_columns[count], open_weights[count], given[count] = column, 0, True
                    count += 1
                open_weights[place] += weight
            elif weight > 0:
                place = _place(column, upper_columns, upper, upper_end)
                if place == upper_end:
                    upper_columns[place], upper_weights[place] = column, 0
                    upper_end += 1
                upper_weights[place] += weight
        ours = upper_end
        while count > 0:
            place = 0
            for k in range(1, count):
                if open_columns[k] < open_columns[place]:
                    place = k
            j, weight, keep = open_columns[place], open_weights[place], given[place]
            count -= 1
            open_columns[place], open_weights[place] = open_columns[count], open_weights[count]
            given[place] = given[count]
            if (weight < least * (1 - kept) and not keep) or lower_end == lower + most:
                dropped += weight
                continue
            lower_columns[lower_end], lower_weights[lower_end] = j, weight
            lower_end += 1
            factor = weight * inverses[j]
            for k in range(upper_starts[j], upper_starts[j] + upper_counts[j]):
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
                    place = _place(column, upper_columns, upper, upper_end)
                    if place < upper_end:
                        upper_weights[place] += fill
                    elif upper_end < upper + most:
                        upper_columns[upper_end], upper_weights[upper_end] = column, fill
                        upper_end += 1
                    else:
                        dropped += fill
        last, upper_end = upper_end, ours
        for k in range(ours, last):
            if upper_weights[k] < least * (1 - kept):
                dropped += upper_weights[k]
            else:
                upper_columns[upper_end], upper_weights[upper_end] = upper_columns[k], upper_weights[k]
                upper_end += 1
        inverse = 1 / (1 - kept - share * dropped)
        change = _difference(upper_columns, upper_weights, upper_starts[i], upper_counts[i], upper, upper_end)
        moved[i] = (change + abs(1 / inverse - 1 / inverses[i])) * inverse > MOVED
        inverses[i] = inverse
        lower_starts[i], lower_counts[i], lower = _put(
            lower_columns, lower_weights, lower_starts[i], lower_counts[i], lower, lower_end
        )
        upper_starts[i], upper_counts[i], upper = _put(
            upper_columns, upper_weights, upper_starts[i], upper_counts[i], upper, upper_end
        )
    used[0], used[1] = lower, upper
    return Factors(
        lower_starts,
        lower_counts,
        lower_columns,
        lower_weights,
        upper_starts,
        upper_counts,
        upper_columns,
        upper_weights,
        inverses,
        used,
        shares,
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _difference(columns: Integers, weights: Singles, start: int, count: int, first: int, last: int) -> float:
    """Sum of absolute differences of two rows: from ``first`` to ``last``, and ``count`` elements from ``start``."""
    difference = 0.0
    for k in range(first, last):
        place = _place(columns[k], columns, start, start + count)
        difference += abs(weights[k] - weights[place]) if place < start + count else weights[k]
    for k in range(start, start + count):
        if _place(columns[k], columns, first, last) == last:
            difference += weights[k]
    return difference


@numba.njit(cache=True, nogil=True, inline="always")
def _put(columns: Integers, weights: Singles, start: int, old: int, first: int, last: int) -> tuple[int, int, int]:
    """Move a new row, from ``first`` to ``last``, to where the one of ``old`` elements is if there is room.

    Returns its start, its length, and the end of what is in use.
    """
    count = last - first
    filled, room = -(-count // WIDTH) * WIDTH, -(-old // WIDTH) * WIDTH
    end = first
    if count > room:
        start, end = first, first + filled
    else:
        for k in range(count):
            columns[start + k], weights[start + k] = columns[first + k], weights[first + k]
    for k in range(count, filled):
        columns[start + k], weights[start + k] = columns[start], 0
    return start, count, end


@numba.njit(cache=True, nogil=True)
def solve_lower(
    factors: Factors, r: Singles, c: float, q: Singles, d: float, v: Singles, right: Singles, out: Singles
) -> float:
    """Solve (D - L) D^-1 (D - U) out = r + c q + d v, of which this is the first half; :func:`solve_upper` ends it.

    The right side is made on the way, as both need the same pass over memory.

    Args:
        factors: D, L and U.
        r: (n,).
        c: factor of ``q``.
        q: (n,).
        d: factor of ``v``.
        v: (n,).
        right: (n,), written: the right side; may be ``r`` or ``q`` itself.
        out: (n,), written: D^-1 (D - U) times the solution.

    Returns:
        The largest absolute element of the right side.

    Source: Saad (2003), Iterative methods for sparse linear systems, section 10.3.
    """
    starts, counts, columns = _unsigned(factors.lower_starts, factors.lower_counts, factors.lower_columns)
    weights, inverses = factors.lower_weights, factors.inverses
    of_q, of_v, zero = r.dtype.type(c), r.dtype.type(d), r.dtype.type(0)
    largest = zero
    for i in range(r.size):
        value = r[i] + of_q * q[i] + of_v * v[i]
        value = value if abs(value) > TINY else zero
        right[i] = value
        largest = max(largest, abs(value))
        for k in range(starts[i], starts[i] + counts[i], WIDTH):
            for m in range(WIDTH):
                value += weights[k + m] * out[columns[k + m]]
        value *= inverses[i]
        out[i] = value if abs(value) > TINY else zero
    return float(largest)


@numba.njit(cache=True, nogil=True)
def solve_upper(factors: Factors, out: Singles) -> None:
    """The second half of what :func:`solve_lower` begins: ``out`` (n,) is overwritten by the solution."""
    starts, counts, columns = _unsigned(factors.upper_starts, factors.upper_counts, factors.upper_columns)
    weights, inverses, zero = factors.upper_weights, factors.inverses, out.dtype.type(0)
    for i in range(out.size - 1, -1, -1):
        value = zero
        for k in range(starts[i], starts[i] + counts[i], WIDTH):
            for m in range(WIDTH):
                value += weights[k + m] * out[columns[k + m]]
        value = out[i] + value * inverses[i]
        out[i] = value if abs(value) > TINY else zero
