"""Compiled updates of the agents that plan with a learnt model; shared arguments as in ``td_kernels``.

They also share ``model``: ``outcomes`` (S·A, K) next states of each state-action pair (-1: the end),
``outcome_rewards`` (S·A, K) and ``counts`` (S·A, K), how often each has followed. A pair is numbered s A + a.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents.tabular.tabular import FORBIDDEN
from gridzero.agents.tabular.td_kernels import (
    Q_LEARNING,
    kernel,
    next_action,
    next_value,
    uniform,
    update,
)


@kernel
def remember(pair: int, reward: float, successor: int, model: Any) -> tuple[int, int]:
    """Count one more outcome of a pair; a new one takes the place of the rarest where all places are taken.

    Returns:
        The place of a new outcome, -1 for one that was known, and the successor that had the place before (-1: none).
    """
    outcomes, outcome_rewards, counts = model
    place = 0
    for k in range(counts.shape[1]):
        if counts[pair, k] == 0:
            place = k
            break
        if outcomes[pair, k] == successor and outcome_rewards[pair, k] == reward:
            counts[pair, k] += 1
            return -1, -1
        if counts[pair, k] < counts[pair, place]:
            place = k
    before = outcomes[pair, place] if counts[pair, place] > 0 else -1
    outcomes[pair, place] = successor
    outcome_rewards[pair, place] = reward
    counts[pair, place] = 1
    return place, before


@kernel
def drawn_outcome(pair: int, model: Any, streams: Any, i: int) -> int:
    """The place of an outcome of the pair, drawn as often as it has followed; 0 where none has."""
    counts = model[2]
    total = 0
    for k in range(counts.shape[1]):
        total += counts[pair, k]
    k, left = 0, 0
    if total > counts[pair, 0]:
        left = min(int(uniform(streams, i) * total), total - 1)
    while left > 0 and left >= counts[pair, k]:
        left -= counts[pair, k]
        k += 1
    return k


@kernel
def planning_step_size(visits: Any, state: int, action: int, settings: Any) -> float:
    """The pair's present step size; an update from the model is not counted."""
    return float(settings[2] * (max(visits[state, action], 1) + settings[3]) ** -settings[4])


@kernel
def dyna(
    table: Any,
    batch: Any,
    settings: Any,
    waits: bool,
    planning_steps: int,
    bonus: float,
    model: Any,
    known: Any,
    listed: Any,
    tried_at: Any,
) -> float:
    """Dyna-Q (section 8.2): after each step of Q-learning, ``planning_steps`` more on what the model draws.

    With a bonus it is Dyna-Q+ (section 8.3): planning takes untried actions of the states that were visited, too, as
    though they led back without reward, and adds bonus · √τ to the reward of a pair untried for τ steps.

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        planning_steps: updates from the model after each real one; they have the pair's present step size.
        bonus: 0 for Dyna-Q.
        model: as in the module's docstring.
        known: (2,), how many pairs are listed, and how many real steps there were.
        listed: (S·A,), the pairs to plan with.
        tried_at: (S·A,), the real step that last tried the pair.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    outcomes, outcome_rewards, counts = model
    num_actions = q.shape[1]
    errors = 0.0
    for i in range(len(states)):
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            s, a = states[i], actions[i]
            pair = s * num_actions + a
            if bonus > 0.0:
                if visits[s].sum() == 0:
                    for b in range(num_actions):
                        if q[s, b] > FORBIDDEN:
                            listed[known[0]] = s * num_actions + b
                            known[0] += 1
            elif visits[s, a] == 0:
                listed[known[0]] = pair
                known[0] += 1
            known[1] += 1
            tried_at[pair] = known[1]
            target = rewards[i]
            if not terminated[i]:
                target += settings[0] * next_value(Q_LEARNING, q.shape[1], q, next_states[i], 0, 0.0)
            errors += update(q, visits, s, a, target, settings)
            remember(pair, rewards[i], -1 if terminated[i] else next_states[i], model)
            for _ in range(planning_steps):
                pair = listed[min(int(uniform(streams, i) * known[0]), known[0] - 1)]
                s, a = pair // num_actions, pair % num_actions
                k = drawn_outcome(pair, model, streams, i)
                successor, target = s, 0.0
                if counts[pair, k] > 0:
                    successor, target = outcomes[pair, k], outcome_rewards[pair, k]
                if bonus > 0.0:
                    target += bonus * np.sqrt(known[1] - tried_at[pair])
                if successor >= 0:
                    target += settings[0] * next_value(Q_LEARNING, q.shape[1], q, successor, 0, 0.0)
                q[s, a] += planning_step_size(visits, s, a, settings) * (target - q[s, a])
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], -1, ended, waits, settings[1], i)
    return errors


@kernel
def expected_target(q: Any, pair: int, gamma: float, model: Any) -> float:
    """R + gamma max q(s', ·), averaged over the outcomes of the pair."""
    outcomes, outcome_rewards, counts = model
    total, target = 0, 0.0
    for k in range(counts.shape[1]):
        if counts[pair, k] == 0:
            break
        total += counts[pair, k]
        worth = outcome_rewards[pair, k]
        if outcomes[pair, k] >= 0:
            worth += gamma * next_value(Q_LEARNING, q.shape[1], q, outcomes[pair, k], 0, 0.0)
        target += counts[pair, k] * worth
    return float(target / total)


@kernel
def push(queue: Any, pair: int, priority: float) -> None:
    """Put a pair into the queue, or raise its priority.

    Args:
        queue: a binary heap, the largest priority first: ``heap`` (S·A,) pairs, ``priorities`` (S·A,) of each pair,
            ``places`` (S·A,) of each pair in the heap (-1: not in it), and (1,) the number of pairs in it.
        pair: which.
        priority: above 0.
    """
    heap, priorities, places, size = queue
    at = places[pair]
    if at >= 0 and priority <= priorities[pair]:
        return
    if at < 0:
        at = size[0]
        size[0] += 1
    priorities[pair] = priority
    while at > 0:
        above = (at - 1) // 2
        if priorities[heap[above]] >= priority:
            break
        heap[at] = heap[above]
        places[heap[at]] = at
        at = above
    heap[at] = pair
    places[pair] = at


@kernel
def pop(queue: Any) -> int:
    """Take the pair of the largest priority out of a queue that is not empty."""
    heap, priorities, places, size = queue
    first = heap[0]
    places[first] = -1
    size[0] -= 1
    if size[0] == 0:
        return int(first)
    pair, at = heap[size[0]], 0
    while 2 * at + 1 < size[0]:
        below = 2 * at + 1
        if below + 1 < size[0] and priorities[heap[below + 1]] > priorities[heap[below]]:
            below += 1
        if priorities[heap[below]] <= priorities[pair]:
            break
        heap[at] = heap[below]
        places[heap[at]] = at
        at = below
    heap[at] = pair
    places[pair] = at
    return int(first)


@kernel
def link(edges: Any, edge: int, before: int, successor: int) -> None:
    """Move an outcome from the list of the state that it led to, to that of the state that it leads to.

    Args:
        edges: lists of the outcomes that lead to each state: the first (S,) and the next after each (S·A·K,), -1 at
            the end.
        edge: the outcome, numbered pair · K + place.
        before: the state whose list has it; -1 for none.
        successor: the state whose list is to have it; -1 for none.
    """
    first, following = edges
    if before >= 0:
        if first[before] == edge:
            first[before] = following[edge]
        else:
            other = first[before]
            while following[other] != edge:
                other = following[other]
            following[other] = following[edge]
    if successor >= 0:
        following[edge] = first[successor]
        first[successor] = edge


@kernel
def sweep(
    table: Any,
    batch: Any,
    settings: Any,
    waits: bool,
    planning_steps: int,
    threshold: float,
    model: Any,
    edges: Any,
    queue: Any,
    backups: Any,
) -> float:
    """Prioritized sweeping (section 8.4): the values that are furthest off come first, then those that lead there.

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        planning_steps: updates after each real step, at most.
        threshold: an error up to this is let be.
        model: as in the module's docstring.
        edges: as in :func:`link`.
        queue: as in :func:`push`.
        backups: (1,), counts the updates.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    num_actions, places = q.shape[1], model[2].shape[1]
    flat = q.reshape(-1)
    errors = 0.0
    for i in range(len(states)):
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            pair = states[i] * num_actions + actions[i]
            visits[states[i], actions[i]] += 1
            successor = -1 if terminated[i] else next_states[i]
            place, before = remember(pair, rewards[i], successor, model)
            if place >= 0:
                link(edges, pair * places + place, before, successor)
            error = abs(expected_target(q, pair, settings[0], model) - flat[pair])
            errors += error
            if error > threshold:
                push(queue, pair, error)
            for _ in range(planning_steps):
                if queue[3][0] == 0:
                    break
                pair = pop(queue)
                s, a = pair // num_actions, pair % num_actions
                alpha = planning_step_size(visits, s, a, settings)
                q[s, a] += alpha * (expected_target(q, pair, settings[0], model) - q[s, a])
                backups[0] += 1
                edge = edges[0][s]
                while edge >= 0:
                    pair = edge // places
                    error = abs(expected_target(q, pair, settings[0], model) - flat[pair])
                    if error > threshold:
                        push(queue, pair, error)
                    edge = edges[1][edge]
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], -1, ended, waits, settings[1], i)
    return errors
