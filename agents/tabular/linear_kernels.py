r"""Compiled updates of the agents with linear function approximation, over a batch of N environments in turn.

Values are $\hat v(s) = w^\top x(s)$ and $\hat q(s, a) = w_a^\top x(s)$. All kernels share these arguments, tuples of
arrays that they change in place:

- ``knowledge``: ``weights`` (R, d), a row for each action, or a single one where the values of a given policy are
  estimated; ``updates`` (1,) made so far; ``streams`` (N,) uint64 random streams; and where each environment is:
  ``states`` (N,) its row of the policy, ``actions`` (N,) what it does next, ``indices`` and ``entries`` (N, k) its
  features.
- ``batch``: indices and entries of the features of the true successors, those of where each environment is now
  (another one if it was reset), its row of the policy there, ``rewards``, ``terminated``, ``truncated``, ``valid`` (N,)
  as in :class:`~gridzero.agents.interaction.Transition`.
- ``policy``: (S, A) its running sums over the actions; no rows where the policy is ε-greedy.
- ``settings``: discount, exploration rate, and the step size's scale, shift and power.
- ``waits``: whether an ended episode is reset by the next step (NEXT_STEP autoreset), not at once.

They return the sum of the absolute temporal-difference errors. Equations are those of Sutton & Barto, 2nd edition.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents.tabular.td_kernels import choose, draw, kernel
from gridzero.agents.tabular.trace_kernels import ACCUMULATING, NEGLIGIBLE_TRACE, REPLACING


@kernel
def value(weights: Any, row: int, indices: Any, entries: Any) -> float:
    """The estimate w·x for one feature vector."""
    total = 0.0
    for k in range(len(indices)):
        total += weights[row, indices[k]] * entries[k]
    return total


@kernel
def add(weights: Any, row: int, indices: Any, entries: Any, step: float) -> None:
    """Let w += step x for one feature vector."""
    for k in range(len(indices)):
        weights[row, indices[k]] += step * entries[k]


@kernel
def next_step_size(updates: Any, settings: Any) -> float:
    """Count one more update, and the step size it gets."""
    _, _, scale, shift, power = settings
    updates[0] += 1
    if power == 0.0:
        return float(scale)
    return float(scale * (updates[0] + shift) ** -power)


@kernel
def action_values(weights: Any, indices: Any, entries: Any) -> Any:
    """(1, A) estimates for one feature vector."""
    q = np.empty((1, weights.shape[0]))
    for a in range(weights.shape[0]):
        q[0, a] = value(weights, a, indices, entries)
    return q


@kernel
def next_action(
    weights: Any, policy: Any, state: int, indices: Any, entries: Any, epsilon: float, streams: Any, i: int
) -> int:
    """An action of the policy, or an ε-greedy one."""
    if policy.shape[0] > 0:
        return int(draw(policy, state, streams, i))
    return int(choose(action_values(weights, indices, entries), 0, epsilon, streams, i))


@kernel
def begin(knowledge: Any, policy: Any, epsilon: float) -> None:
    """The first actions."""
    weights, _, streams, states, actions, indices, entries = knowledge
    for i in range(len(actions)):
        actions[i] = next_action(weights, policy, states[i], indices[i], entries[i], epsilon, streams, i)


@kernel
def move(
    knowledge: Any, batch: Any, policy: Any, epsilon: float, waits: bool, chosen: int, ended: bool, i: int
) -> None:
    """Put environment i where it is now, and choose what it does there unless that was ``chosen`` (-1: it was not)."""
    weights, _, streams, states, actions, indices, entries = knowledge
    indices[i] = batch[2][i]
    entries[i] = batch[3][i]
    states[i] = batch[4][i]
    if chosen >= 0 and not ended:
        actions[i] = chosen
    elif not (waits and ended):
        actions[i] = next_action(weights, policy, states[i], indices[i], entries[i], epsilon, streams, i)


@kernel
def q_learning(knowledge: Any, batch: Any, policy: Any, settings: Any, waits: bool) -> float:
    """Semi-gradient Q-learning: w_a += alpha (r + gamma max q(s', ·) - q(s, a)) x (section 11.1)."""
    weights, updates, _, _, actions, indices, entries = knowledge
    next_indices, next_entries, _, _, _, rewards, terminated, truncated, valid = batch
    errors = 0.0
    for i in range(len(actions)):
        if valid[i]:
            target = rewards[i]
            if not terminated[i]:
                target += settings[0] * action_values(weights, next_indices[i], next_entries[i]).max()
            error = target - value(weights, actions[i], indices[i], entries[i])
            errors += abs(error)
            add(weights, actions[i], indices[i], entries[i], next_step_size(updates, settings) * error)
        ended = valid[i] and (terminated[i] or truncated[i])
        move(knowledge, batch, policy, settings[1], waits, -1, ended, i)
    return errors


@kernel
def n_step(knowledge: Any, batch: Any, policy: Any, settings: Any, waits: bool, past: Any) -> float:
    """Semi-gradient n-step TD (eq. 9.15) and n-step Sarsa (eq. 10.5); no more than n steps are remembered.

    Args:
        knowledge: as in all kernels.
        batch: as in all kernels.
        policy: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        past: the steps not yet learnt from, in a ring: indices and entries (N, n, k) of their features, rows (N, n) of
            the weights, rewards (N, n), and (N,) where the oldest of them is and how many there are.
    """
    past_indices, past_entries, past_rows, past_rewards, first, held = past
    weights, updates, streams, _, actions, indices, entries = knowledge
    next_indices, next_entries, _, _, _, rewards, terminated, truncated, valid = batch
    gamma, length = settings[0], past_rows.shape[1]
    predicts = policy.shape[0] > 0
    errors = 0.0
    for i in range(len(actions)):
        chosen = -1
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            last = (first[i] + held[i]) % length
            past_indices[i, last] = indices[i]
            past_entries[i, last] = entries[i]
            past_rows[i, last] = 0 if predicts else actions[i]
            past_rewards[i, last] = rewards[i]
            held[i] += 1
            row = 0
            if not predicts and not terminated[i]:
                chosen = next_action(weights, policy, 0, next_indices[i], next_entries[i], settings[1], streams, i)
                row = chosen
            while held[i] > 0 and (ended or held[i] == length):
                target = 0.0
                if not terminated[i]:
                    target = value(weights, row, next_indices[i], next_entries[i])
                for k in range(held[i] - 1, -1, -1):
                    target = past_rewards[i, (first[i] + k) % length] + gamma * target
                oldest = first[i]
                x, y = past_indices[i, oldest], past_entries[i, oldest]
                error = target - value(weights, past_rows[i, oldest], x, y)
                errors += abs(error)
                add(weights, past_rows[i, oldest], x, y, next_step_size(updates, settings) * error)
                first[i] = (oldest + 1) % length
                held[i] -= 1
        move(knowledge, batch, policy, settings[1], waits, chosen, ended, i)
    return errors


@kernel
def traced(
    knowledge: Any, batch: Any, policy: Any, settings: Any, waits: bool, kind: int, decay: float, past: Any
) -> float:
    """TD(lambda) and Sarsa(lambda) (sections 12.2, 12.5, 12.7), with the step size of each visit kept in its trace.

    Args:
        knowledge: as in all kernels.
        batch: as in all kernels.
        policy: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        kind: ``ACCUMULATING``, ``REPLACING`` or ``DUTCH`` (true online).
        decay: gamma lambda.
        past: ``traces`` (N, R·d), 0 where there is none; ``traced_weights`` (N, R·d), the weights (numbered row d +
            feature) that have one; (N,) how many those are; ``drifts`` (N,), what this environment's last update did to
            the value of its successor (``DUTCH``).
    """
    traces, traced_weights, held, drifts = past
    weights, updates, streams, _, actions, indices, entries = knowledge
    next_indices, next_entries, _, _, _, rewards, terminated, truncated, valid = batch
    size = weights.shape[1]
    flat = weights.reshape(-1)
    predicts = policy.shape[0] > 0
    errors = 0.0
    for i in range(len(actions)):
        chosen = -1
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            row, next_row = 0, 0
            if not predicts:
                row = actions[i]
                if not terminated[i]:
                    chosen = next_action(weights, policy, 0, next_indices[i], next_entries[i], settings[1], streams, i)
                    next_row = chosen
            following = 0.0
            if not terminated[i]:
                following = value(weights, next_row, next_indices[i], next_entries[i])
            error = rewards[i] + settings[0] * following - value(weights, row, indices[i], entries[i])
            errors += abs(error)
            alpha = next_step_size(updates, settings)
            count = 0
            for k in range(held[i]):
                j = traced_weights[i, k]
                traces[i, j] *= decay
                if abs(traces[i, j]) < NEGLIGIBLE_TRACE:
                    traces[i, j] = 0.0
                else:
                    traced_weights[i, count] = j
                    count += 1
            overlap = 0.0
            if kind != ACCUMULATING and kind != REPLACING:
                for k in range(indices.shape[1]):
                    overlap += traces[i, row * size + indices[i, k]] * entries[i, k]
            for k in range(indices.shape[1]):
                j = row * size + indices[i, k]
                increment = alpha * (1.0 - overlap) * entries[i, k]
                if increment != 0.0 and traces[i, j] == 0.0:
                    traced_weights[i, count] = j
                    count += 1
                if kind == REPLACING:
                    traces[i, j] = increment
                else:
                    traces[i, j] += increment
            if kind != ACCUMULATING and kind != REPLACING:
                # True online: what the last update has done to this value is not learnt twice.
                drift = drifts[i] if held[i] > 0 else 0.0
                error += drift
                add(weights, row, indices[i], entries[i], -alpha * drift)
            for k in range(count):
                flat[traced_weights[i, k]] += error * traces[i, traced_weights[i, k]]
            held[i] = count
            if ended:
                for k in range(count):
                    traces[i, traced_weights[i, k]] = 0.0
                held[i] = 0
            elif not terminated[i]:
                drifts[i] = value(weights, next_row, next_indices[i], next_entries[i]) - following
        move(knowledge, batch, policy, settings[1], waits, chosen, ended, i)
    return errors


@kernel
def average_targets(knowledge: Any, batch: Any, settings: Any, action_weights: Any) -> None:
    """Action values of a policy whose state values are known: q(s, a) towards r + gamma v(s'), linear as well.

    Args:
        knowledge: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        action_weights: (A, d).
    """
    weights, updates, _, _, actions, indices, entries = knowledge
    next_indices, next_entries, _, _, _, rewards, terminated, _, valid = batch
    gamma, _, scale, shift, power = settings
    alpha = scale * (updates[0] + 1 + shift) ** -power
    for i in range(len(actions)):
        if valid[i]:
            target = rewards[i]
            if not terminated[i]:
                target += gamma * value(weights, 0, next_indices[i], next_entries[i])
            error = target - value(action_weights, actions[i], indices[i], entries[i])
            add(action_weights, actions[i], indices[i], entries[i], alpha * error)
