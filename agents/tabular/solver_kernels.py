"""Compiled parts of :func:`gridzero.agents.tabular.solver.solve`.

The model's arrays are as :class:`~gridzero.envs.mdp.FiniteMDP` holds them. A *chain* is what a policy leaves of the
model: the linear system $x = b + P x$ over n states in some order, (n, K) ``columns`` and ``weights``, the discount and
the self-loops divided out. In each row the first ``lower[i]`` columns are earlier states, the rest later ones, filled up by
the state itself with weight 0.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]
Booleans = NDArray[np.bool_]


@numba.njit(cache=True, nogil=True)
def predecessors(successors: Integers, probabilities: Floats, terminal: Booleans) -> tuple[Integers, Integers]:
    """The states from which each non-terminal state can be reached in one step, itself left out.

    Returns:
        (S + 1,) offsets and the states, those of s from ``offsets[s]`` to ``offsets[s + 1]``.
    """
    states, choices, outcomes = successors.shape
    offsets = np.zeros(states + 1, dtype=np.int32)
    found = np.empty(choices * outcomes, dtype=np.int32)
    sources = np.empty(0, dtype=np.int32)
    for writing in range(2):
        if writing:
            for s in range(states):
                offsets[s + 1] += offsets[s]
            sources = np.empty(offsets[states], dtype=np.int32)
            position = offsets[:-1].copy()
        for s in range(states):
            if terminal[s]:
                continue
            count = 0
            for a in range(choices):
                for k in range(outcomes):
                    t = successors[s, a, k]
                    if t == s or probabilities[s, a, k] == 0.0 or terminal[t]:
                        continue
                    new = True
                    for j in range(count):
                        if found[j] == t:
                            new = False
                            break
                    if new:
                        found[count] = t
                        count += 1
            for j in range(count):
                if writing:
                    sources[position[found[j]]] = s
                    position[found[j]] += 1
                else:
                    offsets[found[j] + 1] += 1
    return offsets, sources


@numba.njit(cache=True, nogil=True, inline="always")
def _best_action(
    successors: Integers, probabilities: Floats, rewards: Floats, gamma: float, shift: float, values: Floats, s: int
) -> tuple[float, int]:
    """The best action's value if it were repeated as long as it leads back to s, and the action."""
    _, choices, outcomes = successors.shape
    best, best_action = -np.inf, 0
    for a in range(choices):
        elsewhere, stays = 0.0, 0.0
        for k in range(outcomes):
            t = successors[s, a, k]
            if t == s:
                stays += probabilities[s, a, k]
            else:
                elsewhere += probabilities[s, a, k] * values[t]
        q = (rewards[s, a] - shift + gamma * elsewhere) / (1 - gamma * stays)
        if q > best:
            best, best_action = q, a
    return best, best_action


@numba.njit(cache=True, nogil=True)
def first_wave(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    terminal: Booleans,
    gamma: float,
    shift: float,
    offsets: Integers,
    sources: Integers,
    values: Floats,
    actions: Integers,
    order: Integers,
) -> int:
    """A first policy, and an order of the states that follows the flow of value.

    Values start at the least that is possible, which ``shift`` makes 0. Where one backup raises them the wave begins,
    and it goes backwards through the model, first come first served; each state is backed up when it is reached.

    Returns:
        How many states it reached; ``order`` has these first, then the other non-terminal ones.
    """
    states = values.size
    reached = terminal.copy()
    last = 0
    for s in range(states):
        if not terminal[s]:
            best, actions[s] = _best_action(successors, probabilities, rewards, gamma, shift, values, s)
            if best > 1e-12 * (1.0 + abs(shift)):
                order[last] = s
                last += 1
                reached[s] = True
    first = 0
    while first < last:
        s = order[first]
        first += 1
        values[s], actions[s] = _best_action(successors, probabilities, rewards, gamma, shift, values, s)
        for j in range(offsets[s], offsets[s + 1]):
            t = sources[j]
            if not reached[t]:
                reached[t] = True
                order[last] = t
                last += 1
    count = last
    for s in range(states):
        if not reached[s]:
            order[last] = s
            last += 1
    return count


@numba.njit(cache=True, nogil=True)
def spread(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    gamma: float,
    offsets: Integers,
    sources: Integers,
    values: Floats,
    actions: Integers,
    changed: Integers,
    margin: float,
    threshold: float,
    limit: int,
) -> bool:
    """Carry changes on to where they matter.

    The predecessors of the ``changed`` states are backed up, and where that changes the action for a gain of more than
    ``margin``, or the value by more than ``threshold``, their predecessors in turn. Returns whether this came to an end
    within ``limit`` backups; then it leaves no residual above the threshold where there was none.
    """
    states = values.size
    queue = np.empty(states, dtype=np.int32)
    queued = np.zeros(states, dtype=np.bool_)
    first, size, backups = 0, 0, 0
    for s in changed:
        for j in range(offsets[s], offsets[s + 1]):
            t = sources[j]
            if not queued[t]:
                queued[t] = True
                queue[size] = t
                size += 1
    while size > 0 and backups < limit:
        s = queue[first]
        first = first + 1 if first + 1 < states else 0
        size -= 1
        queued[s] = False
        backups += 1
        best, action = _best_action(successors, probabilities, rewards, gamma, 0.0, values, s)
        change = best - values[s]
        large = abs(change) > threshold
        if change <= margin and not large:
            continue
        values[s] = best
        if actions[s] == action and not large:
            continue
        actions[s] = action
        for j in range(offsets[s], offsets[s + 1]):
            t = sources[j]
            if not queued[t]:
                queued[t] = True
                last = first + size
                queue[last if last < states else last - states] = t
                size += 1
    return size == 0


@numba.njit(cache=True, nogil=True)
def improve(
    successors: Integers,
    probabilities: Floats,
    rewards: Floats,
    terminal: Booleans,
    gamma: float,
    values: Floats,
    actions: Integers,
    residuals: Floats,
    due: Booleans,
    begin: int,
    end: int,
    changed: Integers,
    margin: float,
    threshold: float,
) -> tuple[float, int]:
    """The greedy policy in states ``begin`` to ``end`` where a backup is ``due``, ties left as they are.

    There, ``residuals`` (S,) become $max_a q(s, a) - v(s)$. States whose action changed for one better by more than
    ``margin``, or whose residual exceeds ``threshold``, are listed in ``changed``.

    Returns:
        The largest absolute residual in the range, and how many states are in ``changed``.
    """
    _, choices, outcomes = successors.shape
    largest = 0.0
    listed = 0
    for s in range(begin, end):
        if terminal[s]:
            continue
        if due[s]:
            best, best_action, present = -np.inf, 0, -np.inf
            for a in range(choices):
                expected = 0.0
                for k in range(outcomes):
                    expected += probabilities[s, a, k] * values[successors[s, a, k]]
                q = rewards[s, a] + gamma * expected
                if q > best:
                    best, best_action = q, a
                if a == actions[s]:
                    present = q
            residuals[s] = best - values[s]
            if best - present > 1e-13 * abs(best):
                actions[s] = best_action
            if best - present > margin or abs(residuals[s]) > threshold:
                changed[listed] = s
                listed += 1
        largest = max(largest, abs(residuals[s]))
    return largest, listed


@numba.njit(cache=True, nogil=True)
def mark_due(
    offsets: Integers, sources: Integers, before: Floats, after: Floats, threshold: float, due: Booleans
) -> None:
    """A backup is due where the value of the state or of a successor changed by more than ``threshold``."""
    due[:] = False
    for s in range(before.size):
        if abs(after[s] - before[s]) > threshold:
            due[s] = True
            for j in range(offsets[s], offsets[s + 1]):
                due[sources[j]] = True


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
    lower: NDArray[np.int16],
    constants: Floats,
) -> int:
    """Make the chain that of the policy; only the rows that differ from what was ``built`` are written.

    It has the states whose value depends on another's, now or in an earlier policy, in ``order``, later ones at the
    end; ``members`` has the state of each row, ``position`` (S,) the row of each state or -1. The other states' values
    are in ``alone`` (S,). Returns n, the number of rows.
    """
    outcomes = successors.shape[2]
    for s in order:
        a = actions[s]
        if a == built[s] or position[s] >= 0:
            continue
        moves = False
        stays = 0.0
        for k in range(outcomes):
            t = successors[s, a, k]
            if t == s:
                stays += probabilities[s, a, k]
            elif not terminal[t] and probabilities[s, a, k] > 0:
                moves = True
        if moves:
            members[n] = s
            position[s] = n
            n += 1
        else:
            alone[s] = rewards[s, a] / (1 - gamma * stays)
            built[s] = a
        for j in range(offsets[s], offsets[s + 1]):
            built[sources[j]] = -1
    for s in range(position.size):
        i = position[s]
        a = actions[s]
        if i < 0 or a == built[s]:
            continue
        built[s] = a
        stays = 0.0
        constant = rewards[s, a]
        front, back = 0, outcomes
        for k in range(outcomes):
            t = successors[s, a, k]
            p = probabilities[s, a, k]
            if t == s:
                stays += p
            elif p > 0 and not terminal[t]:
                j = position[t]
                if j < 0:
                    constant += gamma * p * alone[t]
                elif j < i:
                    columns[i, front] = j
                    weights[i, front] = p
                    front += 1
                else:
                    back -= 1
                    columns[i, back] = j
                    weights[i, back] = p
        lower[i] = front
        for k in range(front, back):
            columns[i, k] = i
            weights[i, k] = 0.0
        factor = 1 / (1 - gamma * stays)
        constants[i] = constant * factor
        for k in range(outcomes):
            weights[i, k] *= gamma * factor
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
def factorize(columns: Integers, weights: Floats, lower: NDArray[np.int16], pivots: Floats) -> None:
    r"""Modified incomplete factorization $(D - P_L) D^{-1} (D - P_U) \approx I - P$ without fill-in.

    Where edges go both ways, as in grids, 0.95 of the fill that is dropped goes to the diagonal, which keeps sums of
    rows and so gets slowly varying errors right (Gustafsson 1978); else none does. $I - P$ is an M-matrix with
    positive row sums, so no pivot vanishes (Meijerink and van der Vorst 1977).
    """
    n, outcomes = columns.shape
    both, one = 0.0, 1e-300
    for i in range(0, n, max(1, n // 10000)):
        for k in range(lower[i]):
            j = columns[i, k]
            one += weights[i, k]
            for m in range(lower[j], outcomes):
                if columns[j, m] == i and weights[j, m] > 0:
                    both += weights[i, k]
    share = 0.95 if both > 0.5 * one else 0.0
    for i in range(n):
        pivot = 1.0
        for k in range(lower[i]):
            j = columns[i, k]
            returns, onwards = 0.0, 0.0
            for m in range(lower[j], outcomes):
                onwards += weights[j, m]
                if columns[j, m] == i:
                    returns += weights[j, m]
            pivot -= weights[i, k] / pivots[j] * ((1 - share) * returns + share * onwards)
        pivots[i] = pivot


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
    columns: Integers, weights: Floats, lower: NDArray[np.int16], pivots: Floats, right: Floats, out: Floats
) -> None:
    """(D - P_U) out = D right."""
    n, outcomes = columns.shape
    for i in range(n - 1, -1, -1):
        value = 0.0
        for k in range(lower[i], outcomes):
            value += weights[i, k] * out[columns[i, k]]
        out[i] = right[i] + value / pivots[i]


@numba.njit(cache=True, nogil=True)
def _finish_product(
    columns: Integers,
    weights: Floats,
    lower: NDArray[np.int16],
    pivots: Floats,
    given: Floats,
    z: Floats,
    scratch: Floats,
    out: Floats,
    other: Floats,
) -> tuple[float, float]:
    r"""The preconditioned matrix times ``given``, of which z is $(D - P_U)^{-1} D$ times; Eisenstat (1981).

    $(D - P_L)^{-1} (I - P) z = z + (D - P_L)^{-1} (D\,given + (I - 2D) z)$: each weight is read once.

    Returns:
        The inner products of the result with ``other`` and with itself.
    """
    n = columns.shape[0]
    product, square = 0.0, 0.0
    for i in range(n):
        value = pivots[i] * given[i] + (1 - 2 * pivots[i]) * z[i]
        for k in range(lower[i]):
            value += weights[i, k] * scratch[columns[i, k]]
        value /= pivots[i]
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
    lower: NDArray[np.int16],
    constants: Floats,
    x: Floats,
    tolerance: float,
    limit: int,
    work: Floats,
) -> tuple[float, int]:
    r"""BiCGSTAB (van der Vorst 1992) for $x = b + P x$, preconditioned by :func:`factorize` on both sides.

    It starts from ``x`` and ends with a residual of ``tolerance`` or after ``limit`` iterations; x is overwritten where
    that is better. ``work`` is (10, at least n).

    Returns:
        The largest absolute residual at x and the number of iterations.
    """
    n = columns.shape[0]
    pivots, scratch, z, r, s, t, v = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    shadow, p, y = work[7], work[8], work[9]
    z[:n] = 0.0
    start = _residual(columns, weights, constants, x, scratch)
    if start <= tolerance:
        return start, 0
    factorize(columns, weights, lower, pivots)
    rho = 0.0
    for i in range(n):
        value = scratch[i]
        for k in range(lower[i]):
            value += weights[i, k] * r[columns[i, k]]
        r[i] = value / pivots[i]
        rho += r[i] * r[i]
        shadow[i], p[i], y[i] = r[i], r[i], 0.0
    iterations, residual = 0, start
    while iterations < limit:
        iterations += 1
        _solve_upper(columns, weights, lower, pivots, p, z)
        product, _ = _finish_product(columns, weights, lower, pivots, p, z, scratch, v, shadow)
        if product == 0.0 or not np.isfinite(product):
            break
        alpha = rho / product
        for i in range(n):
            s[i] = r[i] - alpha * v[i]
        _solve_upper(columns, weights, lower, pivots, s, z)
        product, square = _finish_product(columns, weights, lower, pivots, s, z, scratch, t, s)
        omega = product / square if square > 0 else 0.0
        before, rho, residual = rho, 0.0, 0.0
        for i in range(n):
            y[i] += alpha * p[i] + omega * s[i]
            r[i] = s[i] - omega * t[i]
            rho += r[i] * shadow[i]
            value = pivots[i] * r[i]
            for k in range(lower[i]):
                value -= weights[i, k] * r[columns[i, k]]
            residual = max(residual, abs(value))
        if residual <= tolerance or before == 0.0 or omega == 0.0 or not np.isfinite(residual):
            break
        beta = rho / before * alpha / omega
        for i in range(n):
            p[i] = r[i] + beta * (p[i] - omega * v[i])
    _solve_upper(columns, weights, lower, pivots, y, z)
    for i in range(n):
        z[i] += x[i]
    reached = _residual(columns, weights, constants, z, scratch)
    if reached < start:
        x[:] = z[:n]
        return reached, iterations
    return start, iterations
