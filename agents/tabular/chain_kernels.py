"""Compiled evaluation of a policy for :func:`gridzero.agents.tabular.solver.solve`.

A *chain* is what a policy leaves of the model: the linear system $x = b + P x$ over n states in some order, (n, K)
``columns`` and ``weights``, the discount and the self-loops divided out; the state itself, with weight 0, fills up.
$P_L$ is the part of P from earlier states, $P_U$ the one from later states. Solving with one of them takes all of P,
from an array that is 0 where it is not yet written: that is faster than to tell them apart.

Corrections are found in single precision, which halves what has to be read, residuals in double precision.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]  # NDArray[np.float64] where gamma is so near to 1 that single precision is too little
Integers = NDArray[np.int32]
Booleans = NDArray[np.bool_]

TINY = np.float32(1e-30)
"""Smaller numbers become 0 where errors fade, before they turn subnormal and slow."""
FINEST = 1e-4
"""How much of the residual a correction may leave at least; single precision cannot do much better."""


@numba.njit(cache=True, nogil=True)
def update_chain(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    terminal: Booleans,
    gamma: float,
    offsets: Integers,
    sources: Integers,
    order: Integers,
    actions: Integers,
    built: Integers,
    alone: Floats,
    position: Integers,
    members: Integers,
    n: int,
    columns: Integers,
    weights: Floats,
    light: Singles,
    constants: Floats,
) -> int:
    """Make the chain that of the policy; only the rows that differ from what was ``built`` are written.

    It has the states whose value depends on another's, now or in an earlier policy, in ``order``, later ones at the
    end; ``members`` has the state of each row, ``position`` (S,) the row of each state or -1. The other states' values
    are in ``alone`` (S,). Returns n, the number of rows.
    """
    outcomes, width = successors.shape[2], columns.shape[1]
    apart, varying = successors.shape[1] > 1, probabilities.shape[0] > 1
    for s in order if n < order.size else order[:0]:
        a = actions[s]
        if a == built[s] or position[s] >= 0:
            continue
        moves = False
        stays = 0.0
        for k in range(outcomes):
            t = successors[s, a if apart else 0, k]
            p = probabilities[s if varying else 0, a, k]
            if t == s:
                stays += p
            elif p > 0 and not terminal[t]:
                moves = True
        if moves:
            members[n] = s
            position[s] = n
            n += 1
        else:
            alone[s] = rewards[s, a] / (1 - gamma * stays)
            built[s] = a
        for j in range(offsets[s], offsets[s + 1]):
            if position[sources[j]] >= 0:
                built[sources[j]] = -1
    for s in range(position.size):
        i = position[s]
        a = actions[s]
        if i < 0 or a == built[s]:
            continue
        built[s] = a
        stays = 0.0
        constant = rewards[s, a]
        filled = 0
        for k in range(outcomes):
            t = successors[s, a if apart else 0, k]
            p = probabilities[s if varying else 0, a, k]
            if t == s:
                stays += p
            elif p > 0 and not terminal[t]:
                if position[t] < 0:
                    constant += gamma * p * alone[t]
                else:
                    columns[i, filled] = position[t]
                    weights[i, filled] = p
                    filled += 1
        factor = 1 / (1 - gamma * stays)
        constants[i] = constant * factor
        for k in range(width):
            if k >= filled:
                columns[i, k] = i
                weights[i, k] = 0.0
            weights[i, k] *= gamma * factor
            light[i, k] = weights[i, k]
    return n


@numba.njit(cache=True, nogil=True)
def gauss_seidel(columns: Integers, weights: Floats, constants: Floats, x: Floats) -> float:
    r"""One sweep $x_i \leftarrow b_i + \sum_j P_{ij} x_j$ in order; returns the largest change."""
    n, outcomes = columns.shape
    largest = 0.0
    for i in range(n):
        value = constants[i]
        for k in range(outcomes):
            value += weights[i, k] * x[columns[i, k]]
        largest = max(largest, abs(value - x[i]))
        x[i] = value
    return largest


@numba.njit(cache=True, nogil=True)
def factorize(
    columns: Integers, weights: Singles, share: float, inverses: Singles, earlier: Singles, dropped: Singles
) -> None:
    r"""Modified incomplete factorization $(D - P_L) D^{-1} (D - P_U) \approx I - P$ without fill-in.

    Where edges go both ways, as in grids, a ``share`` of the fill that is dropped goes to the diagonal, which nearly
    keeps the sums of rows and so gets slowly varying errors right (Gustafsson 1978); else none does. $I - P$ is an
    M-matrix with positive row sums, so no pivot vanishes (Meijerink and van der Vorst 1977).
    """
    n, outcomes = columns.shape
    both, one = 0.0, 1e-300
    for i in range(0, n, max(1, n // 10000)):
        for k in range(outcomes):
            j = columns[i, k]
            one += weights[i, k]
            for m in range(outcomes):
                if columns[j, m] == i and weights[j, m] > 0:
                    both += weights[i, k]
    share = share if both > 0.5 * one else 0.0
    dropped[:n] = 0.0
    earlier[:n] = 0.0
    for i in range(n):
        total, before, fill = 0.0, 0.0, 0.0
        for k in range(outcomes):
            j = columns[i, k]
            total += weights[i, k]
            before += weights[i, k] * earlier[j]
            fill += weights[i, k] * dropped[j]
        inverses[i] = 1 / (1 - share * fill)
        dropped[i] = (total - before) * inverses[i]
        earlier[i] = 1.0


@numba.njit(cache=True, nogil=True)
def _residual(columns: Integers, weights: Floats, constants: Floats, x: Floats, out: Floats) -> float:
    n, outcomes = columns.shape
    largest = 0.0
    for i in range(n):
        value = constants[i] - x[i]
        for k in range(outcomes):
            value += weights[i, k] * x[columns[i, k]]
        out[i] = value
        largest = max(largest, abs(value))
    return largest


@numba.njit(cache=True, nogil=True)
def _solve_upper(
    columns: Integers,
    weights: Singles,
    inverses: Singles,
    r: Singles,
    c: np.float32,
    q: Singles,
    d: np.float32,
    v: Singles,
    right: Singles,
    out: Singles,
) -> None:
    """``right`` = r + c q + d v, and (D - P_U) out = D right."""
    n, outcomes = columns.shape
    out[:n] = 0
    for i in range(n - 1, -1, -1):
        value = np.float32(0)
        for k in range(outcomes):
            value += weights[i, k] * out[columns[i, k]]
        here = r[i] + c * q[i] + d * v[i]
        here = here if abs(here) > TINY else np.float32(0)
        right[i] = here
        value = here + value * inverses[i]
        out[i] = value if abs(value) > TINY else np.float32(0)


@numba.njit(cache=True, nogil=True)
def _finish_product(
    columns: Integers,
    weights: Singles,
    inverses: Singles,
    given: Singles,
    z: Singles,
    scratch: Singles,
    out: Singles,
    other: Singles,
) -> tuple[float, float]:
    r"""The preconditioned matrix times ``given``, of which z is $(D - P_U)^{-1} D$ times; Eisenstat (1981).

    $(D - P_L)^{-1} (I - P) z = z + (D - P_L)^{-1} (D\,given + (I - 2D) z)$: each weight is read once.

    Returns:
        The inner products of the result with ``other`` and with itself.
    """
    n, outcomes = columns.shape
    scratch[:n] = 0
    product, square = 0.0, 0.0
    two = np.float32(2)
    for i in range(n):
        inner = z[i]
        for k in range(outcomes):
            inner += weights[i, k] * scratch[columns[i, k]]
        value = given[i] - two * z[i] + inner * inverses[i]
        value = value if abs(value) > TINY else np.float32(0)
        scratch[i] = value
        value += z[i]
        out[i] = value
        product += value * other[i]
        square += value * value
    return product, square


@numba.njit(cache=True, nogil=True)
def solve_chain(
    columns: Integers,
    weights: Floats,
    light: Singles,
    constants: Floats,
    x: Floats,
    tolerance: float,
    limit: int,
    share: float,
    work: Singles,
    residuals: Floats,
) -> tuple[float, int]:
    r"""Solve $x = b + P x$ by iterative refinement: residuals in double precision, corrections in single.

    It starts from ``x``, which is overwritten, and ends with a residual of ``tolerance``, after ``limit`` iterations,
    or when a correction is of no use. ``light`` are the ``weights`` in single precision; ``share``
    is that of :func:`factorize`; ``work`` is (10, at least n),
    ``residuals`` (at least n,).

    Returns:
        The largest absolute residual at x and the number of iterations.
    """
    start = _residual(columns, weights, constants, x, residuals)
    if start <= tolerance:
        return start, 0
    n = columns.shape[0]
    factorize(columns, light, share, work[0], work[1], work[2])
    total = 0
    while True:
        used = _correct(columns, light, residuals, start, max(0.9 * tolerance / start, FINEST), limit - total, work)
        total += used
        z = work[2]
        for i in range(n):
            x[i] += start * z[i]
        reached = _residual(columns, weights, constants, x, residuals)
        if not reached < start:
            for i in range(n):
                x[i] -= start * z[i]
            return start, total
        start = reached
        if start <= tolerance or total >= limit:
            return start, total


@numba.njit(cache=True, nogil=True)
def _true_size(columns: Integers, weights: Singles, inverses: Singles, r: Singles, scratch: Singles) -> float:
    """The largest absolute element of (D - P_L) r, the residual without the preconditioner."""
    n, outcomes = columns.shape
    scratch[:n] = 0
    largest = np.float32(0)
    for i in range(n):
        inner = np.float32(0)
        for k in range(outcomes):
            inner += weights[i, k] * scratch[columns[i, k]]
        scratch[i] = r[i]
        largest = max(largest, abs(r[i] / inverses[i] - inner))
    return float(largest)


@numba.njit(cache=True, nogil=True)
def _correct(
    columns: Integers,
    weights: Singles,
    residuals: Floats,
    scale: float,
    fraction: float,
    limit: int,
    work: Singles,
) -> int:
    r"""BiCGSTAB (van der Vorst 1992) for $(I - P) z = residuals / scale$, preconditioned by :func:`factorize`.

    It ends when the largest absolute residual is at most ``fraction``. ``work[0]`` has the inverse pivots; z is left in
    ``work[2]``. Returns the number of iterations.
    """
    n, outcomes = columns.shape
    inverses, scratch, z, r, s, t, v = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    shadow, p, y = work[7], work[8], work[9]
    r[:n] = 0
    rho, largest = 0.0, 0.0
    by = 1 / scale
    for i in range(n):
        value = np.float32(residuals[i] * by)
        for k in range(outcomes):
            value += weights[i, k] * r[columns[i, k]]
        value *= inverses[i]
        value = value if abs(value) > TINY else np.float32(0)
        r[i] = value
        rho += float(value * value)
        largest = max(largest, float(abs(value)))
        shadow[i], p[i], y[i], v[i] = value, 0, 0, 0
    near = 10 * fraction * largest
    iterations = 0
    zero = np.float32(0)
    beta, omega = 0.0, 0.0
    while iterations < limit:
        iterations += 1
        _solve_upper(columns, weights, inverses, r, np.float32(beta), p, np.float32(-beta * omega), v, p, z)
        product, _ = _finish_product(columns, weights, inverses, p, z, scratch, v, shadow)
        if product == 0.0 or not np.isfinite(product):
            break
        alpha = rho / product
        _solve_upper(columns, weights, inverses, r, zero, p, np.float32(-alpha), v, s, z)
        product, square = _finish_product(columns, weights, inverses, s, z, scratch, t, s)
        omega = product / square if square > 0 else 0.0
        before, rho, largest = rho, 0.0, 0.0
        a, w = np.float32(alpha), np.float32(omega)
        for i in range(n):
            y[i] += a * p[i] + w * s[i]
            value = s[i] - w * t[i]
            value = value if abs(value) > TINY else zero
            r[i] = value
            rho += value * shadow[i]
            largest = max(largest, float(abs(value)))
        if before == 0.0 or omega == 0.0 or not np.isfinite(largest):
            break
        if largest <= near and _true_size(columns, weights, inverses, r, z) <= fraction:
            break
        beta = rho / before * alpha / omega
    _solve_upper(columns, weights, inverses, y, zero, y, zero, y, scratch, z)
    return iterations
