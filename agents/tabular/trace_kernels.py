"""Compiled updates of Sarsa(lambda); the shared arguments, and what is forbidden, are those of ``td_kernels``."""

from __future__ import annotations

from typing import Any

from gridzero.agents.tabular.td_kernels import choose, kernel, next_action, next_step_size

ACCUMULATING, REPLACING, DUTCH = 0, 1, 2

NEGLIGIBLE_TRACE = 1e-12
"""A trace below this is dropped."""


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
