"""Compiled evaluation of a policy for :func:`gridzero.agents.tabular.solver.solve`.

A *chain* is what a policy leaves of the model: the linear system $x = b + P x$ over n states in some order, (n, K)
``columns`` and ``weights``, the discount and the self-loops divided out; the state itself, with weight 0, fills up.
Corrections are found in single precision, which halves what has to be read, residuals in double precision.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.factorization_kernels import Factors, solve_lower, solve_upper
from gridzero.agents.tabular.prefetch import AHEAD, prefetch

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]  # NDArray[np.float64] where gamma is so near to 1 that single precision is too little
Integers = NDArray[np.int32 | np.uint32]
Booleans = NDArray[np.bool_]

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
    changed: Booleans,
) -> tuple[int, int]:
    """Make the chain that of the policy; only the rows that differ from what was ``built`` are written.

    It has the states whose value depends on another's, now or in an earlier policy, in ``order``, later ones at the
    end; ``members`` has the state of each row, ``position`` (S,) the row of each state or -1. The other states' values
    are in ``alone`` (S,). Rows that are written are noted as ``changed``. Returns n, the number of rows, and how many
    of them were written.
    """
    outcomes, width = successors.shape[2], columns.shape[1]
    apart, varying = successors.shape[1] > 1, probabilities.shape[0] > 1
    first, joining = n == 0, -2
    for s in range(position.size if n < order.size else 0):
        a = actions[s]
        if a == built[s] or position[s] >= 0 or terminal[s]:
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
            position[s] = joining
        else:
            alone[s] = rewards[s, a] / (1 - gamma * stays)
            built[s] = a
        if not first:
            for j in range(offsets[s], offsets[s + 1]):
                if position[sources[j]] >= 0:
                    built[sources[j]] = -1
    for s in order if n < order.size else order[:0]:
        if position[s] == joining:
            members[n] = s
            position[s] = n
            n += 1
    written = 0
    for s in range(position.size):
        if first and s + AHEAD < position.size and position[s + AHEAD] >= 0:
            i = position[s + AHEAD]
            prefetch(columns, i)
            prefetch(weights, i)
            prefetch(light, i)
            prefetch(constants, i)
        a = actions[s]
        if a == built[s]:
            continue
        i = position[s]
        if i < 0:
            continue
        built[s] = a
        changed[i] = True
        written += 1
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
    return n, written


@numba.njit(cache=True, nogil=True)
def take(values: Floats, members: Integers, x: Floats) -> None:
    """``x`` (n,) become the ``values`` (S,) of the chain's states."""
    for i in range(x.size):
        x[i] = values[members[i]]


@numba.njit(cache=True, nogil=True)
def put(x: Floats, members: Integers, alone: Floats, values: Floats) -> None:
    """``values`` (S,) become ``x`` (n,) for the chain's states, and those in ``alone`` (S,) for the others."""
    if x.size < values.size:
        values[:] = alone
    for i in range(x.size):
        values[members[i]] = x[i]


@numba.njit(cache=True, nogil=True, inline="always")
def _expected(columns: Integers, weights: Any, x: Any, i: int) -> Any:
    """Element i of P x; four outcomes, the most usual number, without a loop."""
    if columns.shape[1] == 4:
        left = weights[i, 0] * x[columns[i, 0]] + weights[i, 1] * x[columns[i, 1]]
        return left + (weights[i, 2] * x[columns[i, 2]] + weights[i, 3] * x[columns[i, 3]])
    value = weights[i, 0] * x[columns[i, 0]]
    for k in range(1, columns.shape[1]):
        value += weights[i, k] * x[columns[i, k]]
    return value


@numba.njit(cache=True, nogil=True)
def gauss_seidel(columns: Integers, weights: Floats, constants: Floats, x: Floats) -> float:
    r"""One sweep $x_i \leftarrow b_i + \sum_j P_{ij} x_j$ in order; returns the largest change."""
    largest = 0.0
    for i in range(len(columns)):
        value = constants[i] + _expected(columns, weights, x, i)
        largest = max(largest, abs(value - x[i]))
        x[i] = value
    return largest


@numba.njit(cache=True, nogil=True)
def residual(columns: Integers, weights: Floats, constants: Floats, x: Floats, out: Singles) -> float:
    """``out`` = b + P x - x; returns the largest absolute element."""
    largest = 0.0
    for i in range(len(columns)):
        value = constants[i] - x[i] + _expected(columns, weights, x, i)
        out[i] = value
        largest = max(largest, abs(value))
    return largest


@numba.njit(cache=True, nogil=True)
def _apply(columns: Integers, weights: Singles, z: Singles, other: Singles, out: Singles) -> tuple[float, float]:
    """``out`` = (I - P) z; returns its inner products with ``other`` and with itself."""
    product, square = 0.0, 0.0
    for i in range(len(columns)):
        value = z[i] - _expected(columns, weights, z, i)
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
    factors: Factors,
    work: Singles,
    start: float,
) -> tuple[float, int]:
    r"""Solve $x = b + P x$ by iterative refinement: residuals in double precision, corrections in single.

    It starts from ``x``, which is overwritten, and ends with a residual of ``tolerance``, after ``limit`` iterations,
    or when a correction is of no use. ``light`` are the ``weights`` in single precision; ``factors`` those of this
    chain or of a similar one; ``work`` is (8, at least n), of which ``work[1]`` has the residuals at x, the largest of
    which is ``start``.

    Returns:
        The largest absolute residual at x and the number of iterations.
    """
    total = 0
    z, r = work[0], work[1]
    while start > tolerance and total < limit:
        aim = max(tolerance, FINEST * start)
        reached, iterations = _correct(columns, light, aim, limit - total, factors, work)
        total += iterations
        for i in range(x.size):
            x[i] += z[i]
        # What the iteration says of its residual is right to several digits: its next user finds the exact one.
        if reached > tolerance:
            reached = residual(columns, weights, constants, x, r)
        if not reached < start:
            for i in range(x.size):
                x[i] -= z[i]
            break
        start = reached
    return start, total


@numba.njit(cache=True, nogil=True)
def _correct(
    columns: Integers, weights: Singles, aim: float, limit: int, factors: Factors, work: Singles
) -> tuple[float, int]:
    r"""BiCGSTAB (van der Vorst 1992) for $(I - P) z = r$, preconditioned by the ``factors``.

    It begins with r in ``work[1]`` and ends when the largest absolute residual is at most ``aim``. z is left in
    ``work[0]``. Returns that residual and the number of iterations.
    """
    n = columns.shape[0]
    z, r, t, v = work[0][:n], work[1][:n], work[2][:n], work[3][:n]
    shadow, p, y, u = work[4][:n], work[5][:n], work[6][:n], work[7][:n]
    rho, largest = 0.0, 0.0
    for i in range(n):
        shadow[i] = r[i]
        rho += float(r[i] * r[i])
        z[i] = 0
    last_p, last_v = r, r
    iterations = 0
    beta, omega = 0.0, 0.0
    while iterations < limit:
        iterations += 1
        solve_lower(factors, r, beta, last_p, -beta * omega, last_v, p, y)
        solve_upper(factors, y)
        product, _ = _apply(columns, weights, y, shadow, v)
        if product == 0.0 or not np.isfinite(product):
            return np.inf, iterations
        alpha = rho / product
        a = r.dtype.type(alpha)
        largest = solve_lower(factors, r, 0.0, p, -alpha, v, r, u)
        if largest <= aim:
            for i in range(n):
                z[i] += a * y[i]
            break
        solve_upper(factors, u)
        product, square = _apply(columns, weights, u, r, t)
        omega = product / square if square > 0 else 0.0
        w = r.dtype.type(omega)
        before, rho, largest = rho, 0.0, 0.0
        for i in range(n):
            z[i] += a * y[i] + w * u[i]
            value = r[i] - w * t[i]
            r[i] = value
            rho += value * shadow[i]
            largest = max(largest, float(abs(value)))
        if before == 0.0 or omega == 0.0 or not np.isfinite(largest) or largest <= aim:
            break
        beta = rho / before * alpha / omega
        last_p, last_v = p, v
    return largest, iterations
