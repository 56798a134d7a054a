"""Compiled updates of the temporal-difference agents, over a batch of N environments in turn.

All kernels share these arguments, tuples of arrays that they change in place:

- ``table``: ``q`` (S, A) action values, ``visits`` (S, A) updates so far, ``streams`` (N,) uint64 random streams,
  ``states`` (N,) and ``actions`` (N,): where each environment is, and what it does next.
- ``batch``: ``next_states`` (N,) the true successors, ``observed`` (N,) where each environment is now (another state
  if it was reset), ``rewards``, ``terminated``, ``truncated``, ``valid`` (N,) as in
  :class:`~gridzero.agents.interaction.Transition`.
- ``settings``: discount, exploration rate, and the step size's scale, shift and power.
- ``waits``: whether an ended episode is reset by the next step (NEXT_STEP autoreset), not at once.

Forbidden actions have the value ``FORBIDDEN``: they are neither chosen nor counted on. In a state that was never seen
none is known to be forbidden; there all actions have the initial value, so that it makes no difference to a target.

They return the sum of the absolute temporal-difference errors.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from gridzero.agents.tabular.tabular import FORBIDDEN
from gridzero.envs.compilation import lean_kernel, part
from gridzero.envs.grid.move_kernels import LOW, SPREAD, SUCCESS
from gridzero.envs.grid.step_kernels import arrive_one, begin_one, move_one, spread

# The arithmetic of numpy: a division cannot fail, so that no kernel has to be ready to be left in its middle.
kernel = numba.njit(cache=True, error_model="numpy")

SARSA, EXPECTED_SARSA, Q_LEARNING = 0, 1, 2


@part
def uniform(streams: Any, i: int) -> float:
    """The next number in [0, 1) of stream i, by SplitMix64 (Steele, Lea & Flood 2014)."""
    streams[i] += np.uint64(0x9E3779B97F4A7C15)
    z = streams[i]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * 2.0**-53


@kernel
def draw_allowed(q: Any, state: int, streams: Any, i: int) -> int:
    """An action that is not forbidden, each as likely."""
    allowed = 0
    for a in range(q.shape[1]):
        allowed += q[state, a] > FORBIDDEN
    skip = min(int(uniform(streams, i) * allowed), allowed - 1)
    for a in range(q.shape[1]):
        if q[state, a] > FORBIDDEN:
            if skip == 0:
                return a
            skip -= 1
    return 0


@part
def choose_among(count: int, q: Any, state: int, epsilon: float, streams: Any, i: int) -> int:
    """:func:`choose`, where the compiler may know how many actions there are."""
    number = uniform(streams, i)
    best = q[state, 0]
    for a in range(1, count):
        best = max(q[state, a], best)
    chosen, ties, before = 0, 0, 1
    for a in range(count):  # the first of the best, without branches, of which every second would be foreseen wrongly
        lower = int(q[state, a] < best)
        before &= lower
        chosen += before
        ties += 1 - lower
    if number < epsilon:
        chosen = min(int(number / epsilon * count), count - 1)
        if q[state, chosen] <= FORBIDDEN:
            chosen = draw_allowed(q, state, streams, i)
    elif ties > 1:
        skip = min(int((number - epsilon) / (1.0 - epsilon) * ties), ties - 1)
        for a in range(chosen, count):
            if q[state, a] == best:
                if skip == 0:
                    chosen = a
                    break
                skip -= 1
    return chosen


@part
def choose(q: Any, state: int, epsilon: float, streams: Any, i: int) -> int:
    """An epsilon-greedy action, equals drawn at random, from one number of stream i.

    A random action that is forbidden is drawn again among those that are not.
    """
    return choose_among(q.shape[1], q, state, epsilon, streams, i)


@kernel
def draw(cumulative: Any, state: int, streams: Any, i: int) -> int:
    """An action with the probabilities whose running sums are ``cumulative`` (S, A)."""
    last = int(cumulative.shape[1]) - 1
    mark = uniform(streams, i) * cumulative[state, last]
    for a in range(last):
        if mark < cumulative[state, a]:
            return a
    return last


@part
def next_value(kind: int, count: int, q: Any, state: int, action: int, epsilon: float) -> float:
    """Value of the successor: each algorithm's own part of its target (Sutton & Barto, eq. 6.7, 6.8, 6.9)."""
    if kind == SARSA:
        return float(q[state, action])
    best = q[state, 0]
    for a in range(1, count):
        best = max(q[state, a], best)
    if kind == Q_LEARNING or epsilon == 0.0:
        return float(best)
    total, allowed = 0.0, 0
    for a in range(count):
        if q[state, a] > FORBIDDEN:
            total += q[state, a]
            allowed += 1
    return float((1.0 - epsilon) * best + epsilon * total / allowed)


@part
def next_step_size(visits: Any, state: Any, action: Any, settings: Any) -> float:
    """Count one more update of the pair, and the step size it gets."""
    _, _, scale, shift, power = settings
    visits[state, action] += 1
    if power == 0.0:
        return float(scale)
    if power == 1.0:
        return float(scale / (visits[state, action] + shift))
    return float(scale * (visits[state, action] + shift) ** -power)


@part
def update(q: Any, visits: Any, state: Any, action: Any, target: float, settings: Any) -> float:
    """Move q(s, a) towards the target by its step size; the absolute error it had."""
    error = target - q[state, action]
    q[state, action] += next_step_size(visits, state, action, settings) * error
    return float(abs(error))


@kernel
def next_action(q: Any, streams: Any, state: int, chosen: int, ended: bool, waits: bool, epsilon: float, i: int) -> int:
    """Action of environment i in ``state``: ``chosen`` at the successor, a new choice where none was made (-1).

    No draw is spent on an action that an environment about to reset itself will not heed.
    """
    if chosen >= 0 and not ended:
        return chosen
    if waits and ended:
        return 0
    return int(choose(q, state, epsilon, streams, i))


@kernel
def begin(table: Any, epsilon: float) -> None:
    """The first actions."""
    q, _, streams, states, actions = table
    for i in range(len(states)):
        actions[i] = choose(q, states[i], epsilon, streams, i)


@part
def step_world(lanes: Any, tables: Any, i: int, action: int) -> Any:
    """Step environment i of a grid world's vector, or begin its next episode where the last has ended.

    Returns:
        Whether it acted, the reward, whether it terminated, whether it was truncated, and the word of where it is.
    """
    words, sizes, starts, start_counts, palette, offsets, members = tables
    if lanes[i].done:
        return False, 0.0, False, False, begin_one(lanes, i, starts, start_counts, np.uint64(0))
    word, reward, bits = move_one(lanes, i, action, words, sizes, palette)
    if word & SPREAD:
        word = spread(word, bits, offsets, members)
    terminated, truncated = arrive_one(lanes, i, word, sizes)
    return True, reward, terminated, truncated, word


@part
def one_step(table: Any, batch: Any, worlds: Any, settings: Any, waits: bool, kind: int) -> float:
    """Sarsa, expected Sarsa and Q-learning: q(s, a) += alpha (r + gamma next_value - q(s, a)).

    Args:
        table: as in all kernels.
        batch: as in all kernels; or None, where this takes the step itself, which comes to the same.
        worlds: what it takes steps with, those of :attr:`~gridzero.agents.interaction.Interaction.worlds`; a tuple as
            long as there are actions, for the compiler to know; and how many steps, fewer where the room for ended
            episodes ends before. None where there is a batch.
        settings: as in all kernels.
        waits: as in all kernels.
        kind: of the three.
    """
    q, visits, streams, states, actions = table
    gamma, epsilon = settings[0], settings[1]
    count, rounds, done = q.shape[1], 1, 0
    if batch is not None:
        next_states, observed, rewards, terminated, truncated, valid = batch
    if worlds is not None:
        lanes, tables, episodes, columns, rounds = worlds
        returns, lengths, rows, counts = episodes
        count = len(columns)
        acted, over = 0, 0
    total = 0.0
    while done < rounds:
        errors = 0.0
        for i in range(len(states)):
            if batch is not None:
                acts, target, terminal, cut = valid[i], rewards[i], terminated[i], truncated[i]
                following, new = next_states[i], observed[i]
            if worlds is not None:
                acts, target, terminal, cut, word = step_world(lanes, tables, i, actions[i])
                new = following = word & LOW
                if acts:
                    acted += 1
                    returns[i] += target
                    lengths[i] += 1
                    if terminal or cut:
                        rows[over, 0], rows[over, 1], rows[over, 2] = returns[i], lengths[i], word & SUCCESS != 0
                        returns[i], lengths[i] = 0.0, 0
                        over += 1
            chosen, ended = -1, acts and (terminal or cut)
            if acts:
                if not terminal:
                    if kind == SARSA:
                        chosen = choose_among(count, q, following, epsilon, streams, i)
                    target += gamma * next_value(kind, count, q, following, chosen, epsilon)
                errors += update(q, visits, np.uint64(states[i]), np.uint64(actions[i]), target, settings)
            states[i] = new
            if waits and ended:
                actions[i] = 0
                continue
            if chosen < 0 or ended:
                chosen = choose_among(count, q, new, epsilon, streams, i)
            actions[i] = chosen
        total += errors
        done += 1
        if worlds is not None and over + len(states) > len(rows):
            break
    if worlds is not None:
        counts[0], counts[1], counts[2] = acted, over, done
    return total


@lean_kernel
def sarsa(table: Any, batch: Any, worlds: Any, settings: Any, waits: bool) -> float:
    """Compiled apart from the other two, for the target's sake; arguments as of :func:`one_step`."""
    return float(one_step(table, batch, worlds, settings, waits, SARSA))


@lean_kernel
def expected_sarsa(table: Any, batch: Any, worlds: Any, settings: Any, waits: bool) -> float:
    """Expected Sarsa (eq. 6.9); arguments as of :func:`one_step`."""
    return float(one_step(table, batch, worlds, settings, waits, EXPECTED_SARSA))


@lean_kernel
def q_learning(table: Any, batch: Any, worlds: Any, settings: Any, waits: bool) -> float:
    """Q-learning (eq. 6.8); arguments as of :func:`one_step`."""
    return float(one_step(table, batch, worlds, settings, waits, Q_LEARNING))


@kernel
def double(table: Any, batch: Any, settings: Any, waits: bool, tables: Any, table_visits: Any) -> float:
    """Double Q-learning (eq. 6.10): one table picks the successor's action, the other one values it.

    Args:
        table: as in all kernels; ``q`` holds the mean of the two tables.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        tables: (2, S, A) action values.
        table_visits: (2, S, A) updates so far.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    errors = 0.0
    for i in range(len(states)):
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            s, a, following = states[i], actions[i], next_states[i]
            this = 0 if uniform(streams, i) < 0.5 else 1
            target = rewards[i]
            if not terminated[i]:
                # Among equals, the best by the mean of the tables: any other may be one that the other table alone has
                # tried and found bad, and where rewards are rare no value would ever be passed on.
                best = 0
                for b in range(1, q.shape[1]):
                    lead = tables[this, following, b] - tables[this, following, best]
                    if lead > 0.0 or (lead == 0.0 and q[following, b] > q[following, best]):
                        best = b
                target += settings[0] * tables[1 - this, following, best]
            errors += update(tables[this], table_visits[this], s, a, target, settings)
            q[s, a] = 0.5 * (tables[0, s, a] + tables[1, s, a])
            visits[s, a] += 1
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], -1, ended, waits, settings[1], i)
    return errors
