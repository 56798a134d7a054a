"""Compiled updates from n-step returns; the shared arguments, and what is forbidden, are those of ``td_kernels``."""

from __future__ import annotations

from typing import Any

from gridzero.agents.tabular.td_kernels import choose, draw, kernel, next_action, update


@kernel
def append(past: Any, i: int, state: int, action: int, reward: float) -> int:
    """Remember one more step of environment i; how many there are now.

    Args:
        past: the steps not yet learnt from, the oldest first: states (N, n), actions (N, n), rewards (N, n), and (N,)
            how many there are.
        i: the environment.
        state: where it was.
        action: what it did.
        reward: what it got.
    """
    past_states, past_actions, past_rewards, held = past
    count = held[i]
    past_states[i, count] = state
    past_actions[i, count] = action
    past_rewards[i, count] = reward
    held[i] = count + 1
    return int(count) + 1


@kernel
def drop(past: Any, i: int, first: int) -> None:
    """Forget the steps of environment i before the ``first``, which have been learnt from."""
    past_states, past_actions, past_rewards, held = past
    if first == 0:
        return
    count = held[i]
    for k in range(first, count):
        past_states[i, k - first] = past_states[i, k]
        past_actions[i, k - first] = past_actions[i, k]
        past_rewards[i, k - first] = past_rewards[i, k]
    held[i] = count - first


@kernel
def n_step_return(past: Any, i: int, first: int, gamma: float, value: float) -> float:
    """The rewards of environment i from step ``first`` on, discounted, and then ``value`` (eq. 7.1)."""
    _, _, past_rewards, held = past
    for k in range(held[i] - 1, first - 1, -1):
        value = past_rewards[i, k] + gamma * value
    return value


@kernel
def n_step(table: Any, batch: Any, settings: Any, waits: bool, past: Any) -> float:
    """n-step Sarsa (eq. 7.4, 7.5).

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        past: as in :func:`append`.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    length = past[0].shape[1]
    errors = 0.0
    for i in range(len(states)):
        chosen = -1
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            count = append(past, i, states[i], actions[i], rewards[i])
            if not terminated[i]:
                chosen = choose(q, next_states[i], settings[1], streams, i)
            first = 0
            while first < count and (ended or count - first == length):
                value = 0.0 if terminated[i] else q[next_states[i], chosen]
                target = n_step_return(past, i, first, settings[0], value)
                errors += update(q, visits, past[0][i, first], past[1][i, first], target, settings)
                first += 1
            drop(past, i, first)
        states[i] = observed[i]
        actions[i] = next_action(q, streams, observed[i], chosen, ended, waits, settings[1], i)
    return errors


@kernel
def predict(
    table: Any, batch: Any, settings: Any, waits: bool, past: Any, values: Any, state_visits: Any, cumulative: Any
) -> float:
    """n-step TD (eq. 7.2), for n = 1 TD(0) (eq. 6.2); q(s, a) averages the same targets.

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        past: as in :func:`append`.
        values: (S, 1) state values.
        state_visits: (S, 1) updates so far.
        cumulative: (S, A), the policy summed over the actions.
    """
    q, visits, streams, states, actions = table
    next_states, observed, rewards, terminated, truncated, valid = batch
    length = past[0].shape[1]
    errors = 0.0
    for i in range(len(states)):
        ended = valid[i] and (terminated[i] or truncated[i])
        if valid[i]:
            count = append(past, i, states[i], actions[i], rewards[i])
            first = 0
            while first < count and (ended or count - first == length):
                value = 0.0 if terminated[i] else values[next_states[i], 0]
                target = n_step_return(past, i, first, settings[0], value)
                errors += update(values, state_visits, past[0][i, first], 0, target, settings)
                update(q, visits, past[0][i, first], past[1][i, first], target, settings)
                first += 1
            drop(past, i, first)
        states[i] = observed[i]
        if not (waits and ended):
            actions[i] = draw(cumulative, states[i], streams, i)
    return errors
