"""Compiled parts of :func:`gridzero.agents.tabular.solver.solve`.

The model's arrays are as :class:`~gridzero.envs.mdp.FiniteMDP` holds them. A *chain* is what a policy leaves of the
model: the linear system $x = b + P x$ over n states in some order, (n, K) ``columns`` and ``weights``, the discount and
the self-loops divided out; the state itself, with weight 0, fills up. $P_L$ is the part of P from earlier states, $P_U$
the one from later states. Solving with one of them takes all of P, from an array that is 0 where it is not yet written:
that is faster than to tell them apart.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]
Booleans = NDArray[np.bool_]

SHARE = 0.95
"""Of the fill that factorization drops, what goes to the diagonal."""
TINY = 1e-100
"""Smaller numbers become 0 where errors fade, before they turn subnormal and slow."""


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
) -> None:
    """A first policy, and an order of the states that follows the flow of value.

    Values start at the least that is possible, which ``shift`` makes 0. Where one backup raises them the wave begins,
    and it goes backwards through the model, first come first served; each state is backed up when it is reached.

    ``values``, ``actions`` and ``order``, which has room for the non-terminal states, are written.
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
    for s in range(states):
        if not reached[s]:
            order[last] = s
            last += 1


@numba.njit(cache=True, nogil=True)
def interleave(offsets: Integers, sources: Integers, order: Integers) -> Integers:
    """The states by level: one more than the highest of the successors that are earlier in ``order``.

    Where every move can be undone, as in grids, sweeps in either order compute the same. But now a state hardly ever
    waits for the one just before it, so the processor works on several at once.
    """
    level = np.zeros(offsets.size - 1, dtype=np.int32)
    placed = np.zeros(offsets.size - 1, dtype=np.bool_)
    starts = np.zeros(order.size + 1, dtype=np.int32)
    for s in order:
        placed[s] = True
        starts[level[s] + 1] += 1
        for j in range(offsets[s], offsets[s + 1]):
            t = sources[j]
            if not placed[t]:
                level[t] = max(level[t], level[s] + 1)
    starts = np.cumsum(starts)
    result = np.empty_like(order)
    for s in order:
        result[starts[level[s]]] = s
        starts[level[s]] += 1
    return result


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

    The ``changed`` states and their predecessors are backed up, and where that changes the action for a gain of more
    than ``margin``, or the value by more than ``threshold``, their predecessors in turn. Returns whether this came to
    an end within ``limit`` backups.
    """
    states = values.size
    queue = np.empty(states, dtype=np.int32)
    queued = np.zeros(states, dtype=np.bool_)
    first, size, backups = 0, 0, 0
    for s in changed:
        if not queued[s]:
            queued[s] = True
            queue[size] = s
            size += 1
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
    changed: Integers,
    noise: float,
    margin: float,
    threshold: float,
) -> tuple[float, int]:
    """The greedy policy in states where a backup is ``due``.

    There, ``residuals`` (S,) become $max_a q(s, a) - v(s)$. An action gives way only to one better by more than
    ``noise``, the error of the values: less might be no gain, and do harm for 1/(1 - gamma) steps. States where the
    gain is more than ``margin``, or the residual than ``threshold``, are listed in ``changed``.

    Returns:
        The largest absolute residual, and how many states are in ``changed``.
    """
    _, choices, outcomes = successors.shape
    largest = 0.0
    listed = 0
    for s in range(values.size):
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
            if best - present > noise:
                actions[s] = best_action
            if best - present > margin or abs(residuals[s]) > threshold:
                changed[listed] = s
                listed += 1
        largest = max(largest, abs(residuals[s]))
    return largest, listed


@numba.njit(cache=True, nogil=True)
def mark_due(
    offsets: Integers,
    sources: Integers,
    before: Floats,
    after: Floats,
    residuals: Floats,
    threshold: float,
    due: Booleans,
) -> None:
    """A backup is due where the residual was, or the state or a successor changed by, more than ``threshold``."""
    due[:] = False
    for s in range(before.size):
        if abs(residuals[s]) > threshold:
            due[s] = True
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
        for k in range(outcomes):
            t = successors[s, a, k]
            p = probabilities[s, a, k]
            columns[i, k] = i
            weights[i, k] = 0.0
            if t == s:
                stays += p
            elif p > 0 and not terminal[t]:
                if position[t] < 0:
                    constant += gamma * p * alone[t]
                else:
                    columns[i, k] = position[t]
                    weights[i, k] = p
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
def factorize(columns: Integers, weights: Floats, inverses: Floats, earlier: Floats, dropped: Floats) -> None:
    r"""Modified incomplete factorization $(D - P_L) D^{-1} (D - P_U) \approx I - P$ without fill-in.

    Where edges go both ways, as in grids, most of the fill that is dropped goes to the diagonal, which nearly keeps the
    sums of rows and so gets slowly varying errors right (Gustafsson 1978); else none does. $I - P$ is an M-matrix with
    positive row sums, so no pivot vanishes (Meijerink and van der Vorst 1977).
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
    share = SHARE if both > 0.5 * one else 0.0
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
def _solve_upper(columns: Integers, weights: Floats, inverses: Floats, right: Floats, out: Floats) -> None:
    """(D - P_U) out = D right."""
    n, outcomes = columns.shape
    out[:n] = 0.0
    for i in range(n - 1, -1, -1):
        value = 0.0
        for k in range(outcomes):
            j = columns[i, k]
            value += weights[i, k] * out[j]
        value = right[i] + value * inverses[i]
        out[i] = value if abs(value) > TINY else 0.0


@numba.njit(cache=True, nogil=True)
def _finish_product(
    columns: Integers,
    weights: Floats,
    inverses: Floats,
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
    n, outcomes = columns.shape
    scratch[:n] = 0.0
    product, square = 0.0, 0.0
    for i in range(n):
        value = (given[i] - 2 * z[i]) + z[i] * inverses[i]
        inner = 0.0
        for k in range(outcomes):
            j = columns[i, k]
            inner += weights[i, k] * scratch[j]
        value += inner * inverses[i]
        value = value if abs(value) > TINY else 0.0
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
    n, outcomes = columns.shape
    inverses, scratch, z, r, s, t, v = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    shadow, p, y = work[7], work[8], work[9]
    r[:n] = 0.0
    v[:n] = 0.0
    start = _residual(columns, weights, constants, x, scratch)
    if start <= tolerance:
        return start, 0
    factorize(columns, weights, inverses, s, t)
    rho = 0.0
    for i in range(n):
        value = scratch[i]
        for k in range(outcomes):
            j = columns[i, k]
            value += weights[i, k] * r[j]
        r[i] = value * inverses[i]
        rho += r[i] * r[i]
        shadow[i], p[i], y[i] = r[i], r[i], 0.0
    iterations, residual = 0, start
    while iterations < limit:
        iterations += 1
        _solve_upper(columns, weights, inverses, p, z)
        product, _ = _finish_product(columns, weights, inverses, p, z, scratch, v, shadow)
        if product == 0.0 or not np.isfinite(product):
            break
        alpha = rho / product
        for i in range(n):
            value = r[i] - alpha * v[i]
            s[i] = value if abs(value) > TINY else 0.0
        _solve_upper(columns, weights, inverses, s, z)
        product, square = _finish_product(columns, weights, inverses, s, z, scratch, t, s)
        omega = product / square if square > 0 else 0.0
        before, rho, residual = rho, 0.0, 0.0
        z[:n] = 0.0
        for i in range(n):
            y[i] += alpha * p[i] + omega * s[i]
            value = s[i] - omega * t[i]
            value = value if abs(value) > TINY else 0.0
            r[i] = value
            z[i] = value
            rho += r[i] * shadow[i]
            value = r[i] / inverses[i]
            for k in range(outcomes):
                j = columns[i, k]
                value -= weights[i, k] * z[j]
            residual = max(residual, abs(value))
        if residual <= tolerance or before == 0.0 or omega == 0.0 or not np.isfinite(residual):
            break
        beta = rho / before * alpha / omega
        for i in range(n):
            value = r[i] + beta * (p[i] - omega * v[i])
            p[i] = value if abs(value) > TINY else 0.0
    _solve_upper(columns, weights, inverses, y, z)
    for i in range(n):
        z[i] += x[i]
    reached = _residual(columns, weights, constants, z, scratch)
    if reached < start:
        x[:] = z[:n]
        return reached, iterations
    return start, iterations
