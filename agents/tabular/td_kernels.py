"""Compiled updates of the temporal-difference agents, over a batch of N environments in turn.

All kernels share these arguments, tuples of arrays that they change in place:

- ``table``: ``q`` (S, A) action values, ``visits`` (S, A) updates so far, ``streams`` (N,) uint64 random streams,
  ``states`` (N,) and ``actions`` (N,): where each environment is, and what it does next.
- ``batch``: ``next_states`` (N,) the true successors, ``observed`` (N,) where each environment is now (another state
  if it was reset), ``rewards``, ``terminated``, ``truncated``, ``valid`` (N,) as in
  :class:`~gridzero.agents.interaction.Transition`.
- ``settings``: discount, exploration rate, and the step size's scale, shift and power.
- ``waits``: whether an ended episode is reset by the next step (NEXT_STEP autoreset), not at once.

They return the sum of the absolute temporal-difference errors.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

SARSA, EXPECTED_SARSA, Q_LEARNING = 0, 1, 2
ACCUMULATING, REPLACING, DUTCH = 0, 1, 2

NEGLIGIBLE_TRACE = 1e-12
"""A trace below this is dropped."""


@numba.njit(cache=True)
def uniform(streams: Any, i: int) -> float:
    """The next number in [0, 1) of stream i, by SplitMix64 (Steele, Lea & Flood 2014)."""
    streams[i] += np.uint64(0x9E3779B97F4A7C15)
    z = streams[i]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * 2.0**-53


@numba.njit(cache=True)
def choose(q: Any, state: int, epsilon: float, streams: Any, i: int) -> int:
    """An epsilon-greedy action, equals drawn at random, from one number of stream i."""
    count = q.shape[1]
    draw = uniform(streams, i)
    if draw < epsilon:
        return int(min(int(draw / epsilon * count), count - 1))
    best = q[state, 0]
    ties = 1
    for a in range(1, count):
        if q[state, a] > best:
            best = q[state, a]
            ties = 1
        elif q[state, a] == best:
            ties += 1
    skip = 0
    if ties > 1:
        skip = min(int((draw - epsilon) / (1.0 - epsilon) * ties), ties - 1)
    for a in range(count):
        if q[state, a] == best:
            if skip == 0:
                return a
            skip -= 1
    return 0  # only reached when values are not numbers


@numba.njit(cache=True)
def next_value(kind: int, q: Any, state: int, action: int, epsilon: float) -> float:
    """What the successor is worth: each algorithm's own part of its target (Sutton & Barto, eq. 6.7, 6.8, 6.9)."""
    if kind == SARSA:
        return float(q[state, action])
    best = q[state, 0]
    total = 0.0
    for a in range(q.shape[1]):
        best = max(best, q[state, a])
        total += q[state, a]
    if kind == Q_LEARNING or epsilon == 0.0:
        return float(best)
    return float((1.0 - epsilon) * best + epsilon * total / q.shape[1])


@numba.njit(cache=True)
def next_step_size(visits: Any, state: int, action: int, settings: Any) -> float:
    """Count one more update of the pair, and the step size it gets."""
    _, _, scale, shift, power = settings
    visits[state, action] += 1
    if power == 0.0:
        return float(scale)
    if power == 1.0:
        return float(scale / (visits[state, action] + shift))
    return float(scale * (visits[state, action] + shift) ** -power)


@numba.njit(cache=True)
def follow(table: Any, batch: Any, settings: Any, waits: bool, i: int, chosen: int) -> None:
    """Move environment i on: the action ``chosen`` at the successor, or a new one where none was (-1)."""
    q, _, streams, states, actions = table
    _, observed, _, terminated, truncated, valid = batch
    done = terminated[i] or truncated[i]
    states[i] = observed[i]
    if valid[i] and not done and chosen >= 0:
        actions[i] = chosen
    elif not (waits and valid[i] and done):
        actions[i] = choose(q, observed[i], settings[1], streams, i)


@numba.njit(cache=True)
def begin(table: Any, epsilon: float) -> None:
    """The first actions."""
    q, _, streams, states, actions = table
    for i in range(len(states)):
        actions[i] = choose(q, states[i], epsilon, streams, i)


@numba.njit(cache=True)
def one_step(table: Any, batch: Any, settings: Any, waits: bool, kind: int) -> float:
    """Sarsa, expected Sarsa and Q-learning: q(s, a) += alpha (r + gamma next_value - q(s, a))."""
    q, visits, streams, states, actions = table
    next_states, _, rewards, terminated, _, valid = batch
    gamma, epsilon = settings[0], settings[1]
    errors = 0.0
    for i in range(len(states)):
        chosen = -1
        if valid[i]:
            target = rewards[i]
            if not terminated[i]:
                if kind == SARSA:
                    chosen = choose(q, next_states[i], epsilon, streams, i)
                target += gamma * next_value(kind, q, next_states[i], chosen, epsilon)
            s, a = states[i], actions[i]
            error = target - q[s, a]
            q[s, a] += next_step_size(visits, s, a, settings) * error
            errors += abs(error)
        follow(table, batch, settings, waits, i, chosen)
    return errors
