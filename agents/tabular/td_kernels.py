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

# The arithmetic of numpy: a division cannot fail, so that no kernel has to be ready to be left in its middle.
kernel = numba.njit(cache=True, error_model="numpy")

SARSA, EXPECTED_SARSA, Q_LEARNING = 0, 1, 2
ACCUMULATING, REPLACING, DUTCH = 0, 1, 2

NEGLIGIBLE_TRACE = 1e-12
"""A trace below this is dropped."""


@kernel
def uniform(streams: Any, i: int) -> float:
    """The next number in [0, 1) of stream i, by SplitMix64 (Steele, Lea & Flood 2014)."""
    streams[i] += np.uint64(0x9E3779B97F4A7C15)
    z = streams[i]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * 2.0**-53


@kernel
def choose(q: Any, state: int, epsilon: float, streams: Any, i: int) -> int:
    """An epsilon-greedy action, equals drawn at random, from one number of stream i."""
    count = q.shape[1]
    number = uniform(streams, i)
    if number < epsilon:
        return int(min(int(number / epsilon * count), count - 1))
    best, first, ties = q[state, 0], 0, 1
    for a in range(1, count):
        if q[state, a] > best:
            best, first, ties = q[state, a], a, 1
        elif q[state, a] == best:
            ties += 1
    if ties == 1:
        return first
    skip = min(int((number - epsilon) / (1.0 - epsilon) * ties), ties - 1)
    for a in range(first, count):
        if q[state, a] == best:
            if skip == 0:
                return a
            skip -= 1
    return first


@kernel
def draw(cumulative: Any, state: int, streams: Any, i: int) -> int:
    """An action with the probabilities whose running sums are ``cumulative`` (S, A)."""
    last = int(cumulative.shape[1]) - 1
    mark = uniform(streams, i) * cumulative[state, last]
    for a in range(last):
        if mark < cumulative[state, a]:
            return a
    return last


@kernel
def next_value(kind: int, q: Any, state: int, action: int, epsilon: float) -> float:
    """Value of the successor: each algorithm's own part of its target (Sutton & Barto, eq. 6.7, 6.8, 6.9)."""
    if kind == SARSA:
        return float(q[state, action])
    best = q[state, 0]
    for a in range(1, q.shape[1]):
        best = max(best, q[state, a])
    if kind == Q_LEARNING or epsilon == 0.0:
        return float(best)
    total = 0.0
    for a in range(q.shape[1]):
        total += q[state, a]
    return float((1.0 - epsilon) * best + epsilon * total / q.shape[1])


@kernel
def next_step_size(visits: Any, state: int, action: int, settings: Any) -> float:
    """Count one more update of the pair, and the step size it gets."""
    _, _, scale, shift, power = settings
    visits[state, action] += 1
    if power == 0.0:
        return float(scale)
    if power == 1.0:
        return float(scale / (visits[state, action] + shift))
    return float(scale * (visits[state, action] + shift) ** -power)


@kernel
def update(q: Any, visits: Any, state: int, action: int, target: float, settings: Any) -> float:
    """Move q(s, a) towards the target by its step size; the absolute error it had."""
    error = target - q[state, action]
    q[state, action] += next_step_size(visits, state, action, settings) * error
    return float(abs(error))


@kernel
def next_action(q: Any, streams: Any, state: int, chosen: int, ended: bool, waits: bool, epsilon: float, i: int) -> int:
    """What environment i does in ``state``: ``chosen`` at the successor, a new choice where none was made (-1).

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


@kernel
def one_step(table: Any, batch: Any, settings: Any, waits: bool, kind: int) -> float:
    """Sarsa, expected Sarsa and Q-learning: q(s, a) += alpha (r + gamma next_value - q(s, a))."""
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    gamma, epsilon = settings[0], settings[1]
    errors = 0.0
    for i in range(len(states)):
        chosen = -1
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            target = rewards[i]
            if not terminated[i]:
                if kind == SARSA:
                    chosen = choose(q, next_states[i], epsilon, streams, i)
                target += gamma * next_value(kind, q, next_states[i], chosen, epsilon)
            errors += update(q, visits, states[i], actions[i], target, settings)
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], chosen, ended, waits, settings[1], i)
    return errors


@kernel
def sarsa(table: Any, batch: Any, settings: Any, waits: bool) -> float:
    """Compiled apart from the other two, for the target's sake."""
    return float(one_step(table, batch, settings, waits, SARSA))


@kernel
def expected_sarsa(table: Any, batch: Any, settings: Any, waits: bool) -> float:
    """As :func:`sarsa`."""
    return float(one_step(table, batch, settings, waits, EXPECTED_SARSA))


@kernel
def q_learning(table: Any, batch: Any, settings: Any, waits: bool) -> float:
    """As :func:`sarsa`."""
    return float(one_step(table, batch, settings, waits, Q_LEARNING))


@kernel
def predict(
    table: Any, batch: Any, settings: Any, waits: bool, values: Any, state_visits: Any, cumulative: Any
) -> float:
    """TD(0) (eq. 6.2): v(s) += alpha (r + gamma v(s') - v(s)); q(s, a) averages the same targets.

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        values: (S, 1) state values.
        state_visits: (S, 1) updates so far.
        cumulative: (S, A), the policy summed over the actions.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    errors = 0.0
    for i in range(len(states)):
        if valid[i]:
            target = rewards[i]
            if not terminated[i]:
                target += settings[0] * values[next_states[i], 0]
            errors += update(values, state_visits, states[i], 0, target, settings)
            update(q, visits, states[i], actions[i], target, settings)
        states[i] = observed[i]
        if not (waits and valid[i] and (terminated[i] or truncated[i])):
            actions[i] = draw(cumulative, states[i], streams, i)
    return errors


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
                best = np.argmax(tables[this, following])
                target += settings[0] * tables[1 - this, following, best]
            errors += update(tables[this], table_visits[this], s, a, target, settings)
            q[s, a] = 0.5 * (tables[0, s, a] + tables[1, s, a])
            visits[s, a] += 1
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], -1, ended, waits, settings[1], i)
    return errors


@kernel
def n_step(
    table: Any,
    batch: Any,
    settings: Any,
    waits: bool,
    past_states: Any,
    past_actions: Any,
    past_rewards: Any,
    held: Any,
) -> float:
    """n-step Sarsa (eq. 7.4, 7.5).

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        past_states: (N, n), the steps not yet learnt from, the oldest first.
        past_actions: (N, n).
        past_rewards: (N, n).
        held: (N,), how many of them there are.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    gamma = settings[0]
    length = past_states.shape[1]
    errors = 0.0
    for i in range(len(states)):
        chosen = -1
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            count = held[i]
            past_states[i, count] = states[i]
            past_actions[i, count] = actions[i]
            past_rewards[i, count] = rewards[i]
            count += 1
            if not terminated[i]:
                chosen = choose(q, next_states[i], settings[1], streams, i)
            first = 0
            while first < count and (ended or count - first == length):
                value = 0.0 if terminated[i] else q[next_states[i], chosen]
                for k in range(count - 1, first - 1, -1):
                    value = past_rewards[i, k] + gamma * value
                errors += update(q, visits, past_states[i, first], past_actions[i, first], value, settings)
                first += 1
            for k in range(first, count):
                past_states[i, k - first] = past_states[i, k]
                past_actions[i, k - first] = past_actions[i, k]
                past_rewards[i, k - first] = past_rewards[i, k]
            held[i] = count - first
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], chosen, ended, waits, settings[1], i)
    return errors


@kernel
def traced(
    table: Any,
    batch: Any,
    settings: Any,
    waits: bool,
    kind: int,
    decay: float,
    pairs: Any,
    traces: Any,
    held: Any,
    drifts: Any,
) -> float:
    """Sarsa(lambda), with the step size of each visit kept in its trace.

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        kind: ``ACCUMULATING``, ``REPLACING`` or ``DUTCH``.
        decay: gamma lambda.
        pairs: (N, C), the state-action pairs (numbered s A + a) that have a trace.
        traces: (N, C), those traces.
        held: (N,), how many there are.
        drifts: (N,), what this environment's last update did to the value of the action chosen before it (``DUTCH``).
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    num_actions = q.shape[1]
    flat = q.reshape(-1)
    errors = 0.0
    for i in range(len(states)):
        chosen = -1
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            s, a = states[i], actions[i]
            following = 0.0
            if not terminated[i]:
                chosen = choose(q, next_states[i], settings[1], streams, i)
                following = q[next_states[i], chosen]
            value = q[s, a]
            error = rewards[i] + settings[0] * following - value
            errors += abs(error)
            alpha = next_step_size(visits, s, a, settings)
            pair = s * num_actions + a
            own = -1
            count = 0
            for k in range(held[i]):
                trace = decay * traces[i, k]
                if pairs[i, k] == pair:
                    own = count
                elif trace < NEGLIGIBLE_TRACE:
                    continue
                pairs[i, count] = pairs[i, k]
                traces[i, count] = trace
                count += 1
            if own < 0:
                own = count
                pairs[i, own] = pair
                traces[i, own] = 0.0
                count += 1
            if kind == ACCUMULATING:
                traces[i, own] += alpha
            elif kind == REPLACING:
                traces[i, own] = alpha
            else:
                traces[i, own] += alpha * (1.0 - traces[i, own])
                # True online: what the last update has done to this pair's value is not learnt twice.
                drift = drifts[i] if held[i] > 0 else 0.0
                error += drift
                flat[pair] -= alpha * drift
            for k in range(count):
                flat[pairs[i, k]] += error * traces[i, k]
            if chosen >= 0:
                drifts[i] = q[next_states[i], chosen] - following
            held[i] = 0 if ended else count
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], chosen, ended, waits, settings[1], i)
    return errors


@kernel
def remember(
    pair: int, reward: float, successor: int, outcomes: Any, outcome_rewards: Any, counts: Any, known: Any, seen: Any
) -> None:
    """Count one more outcome of a pair; a new one takes the place of the rarest where all places are taken."""
    if counts[pair, 0] == 0:
        seen[known[0]] = pair
        known[0] += 1
    place = 0
    for k in range(counts.shape[1]):
        if counts[pair, k] == 0:
            place = k
            break
        if outcomes[pair, k] == successor and outcome_rewards[pair, k] == reward:
            counts[pair, k] += 1
            return
        if counts[pair, k] < counts[pair, place]:
            place = k
    outcomes[pair, place] = successor
    outcome_rewards[pair, place] = reward
    counts[pair, place] = 1


@kernel
def dyna(table: Any, batch: Any, settings: Any, waits: bool, planning_steps: int, model: Any) -> float:
    """Dyna-Q (section 8.2): after each step of Q-learning, ``planning_steps`` more on what the model draws.

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        planning_steps: updates from the model after each real one; they have the pair's present step size.
        model: ``outcomes`` (S·A, K) next states (-1: the end), ``outcome_rewards`` (S·A, K), ``counts`` (S·A, K), and
            ``known`` (1,), how many of the pairs ``seen`` (S·A,) there are.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    outcomes, outcome_rewards, counts, known, seen = model
    gamma, _, scale, shift, power = settings
    num_actions = q.shape[1]
    errors = 0.0
    for i in range(len(states)):
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            s, a = states[i], actions[i]
            target = rewards[i]
            if not terminated[i]:
                target += gamma * next_value(Q_LEARNING, q, next_states[i], 0, 0.0)
            errors += update(q, visits, s, a, target, settings)
            successor = -1 if terminated[i] else next_states[i]
            remember(s * num_actions + a, rewards[i], successor, outcomes, outcome_rewards, counts, known, seen)
            for _ in range(planning_steps):
                pair = seen[min(int(uniform(streams, i) * known[0]), known[0] - 1)]
                total = 0
                for k in range(counts.shape[1]):
                    total += counts[pair, k]
                k, left = 0, 0
                if total > counts[pair, 0]:
                    left = min(int(uniform(streams, i) * total), total - 1)
                while left >= counts[pair, k]:
                    left -= counts[pair, k]
                    k += 1
                target = outcome_rewards[pair, k]
                if outcomes[pair, k] >= 0:
                    target += gamma * next_value(Q_LEARNING, q, outcomes[pair, k], 0, 0.0)
                s, a = pair // num_actions, pair % num_actions
                alpha = scale * (visits[s, a] + shift) ** -power
                q[s, a] += alpha * (target - q[s, a])
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], -1, ended, waits, settings[1], i)
    return errors
