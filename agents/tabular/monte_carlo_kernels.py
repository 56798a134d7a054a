"""Compiled inner loops of Monte Carlo: drawing actions, recording episodes, learning from those that ended.

In every kernel a policy is an (S, A) table of probabilities; a table without rows stands for the greedy policy of the
present action values. Actions of the value ``FORBIDDEN`` are neither drawn nor counted on.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.tabular import FORBIDDEN

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ON_POLICY, ORDINARY, WEIGHTED = 0, 1, 2


class Table(NamedTuple):
    """Estimates, and what their updates go by.

    Attributes:
        action_values: (S, A).
        visits: (S, A), how many returns each pair has had.
        weights: (S, A), the sums C of their weights (WEIGHTED alone).
        stamps: (S·A + 1,), scratch; the last entry counts episodes, the others say in which a pair was last seen.
    """

    action_values: FloatArray
    visits: IntArray
    weights: FloatArray
    stamps: IntArray


class Lanes(NamedTuple):
    """The episodes under way in N environments, of up to L steps.

    Attributes:
        states: (N, L).
        actions: (N, L).
        rewards: (N, L).
        probabilities: (N, L), of the actions, under the policy that drew them.
        lengths: (N,), steps recorded so far.
        active: (N,), whether the environment is in an episode to learn from.
    """

    states: NDArray[np.int32]
    actions: NDArray[np.int32]
    rewards: FloatArray
    probabilities: FloatArray
    lengths: IntArray
    active: BoolArray


class Rule(NamedTuple):
    """Settings of an update; the fields are those of the agents' configurations.

    Attributes:
        kind: ON_POLICY, ORDINARY or WEIGHTED importance sampling.
        first_visit: whether only the first visit of a pair in an episode counts.
        bootstrap: whether the return of an episode that was cut off goes on with the value of its last state.
        rounds: whether an environment rests when its episode has ended.
        gamma: discount.
        scale: of the schedule of step sizes.
        shift: of the same.
        power: of the same.
    """

    kind: int
    first_visit: bool
    bootstrap: bool
    rounds: bool
    gamma: float
    scale: float
    shift: float
    power: float


@numba.njit(cache=True)
def choose_action(
    action_values: FloatArray, policy: FloatArray, epsilon: float, state: int, draw: float
) -> tuple[int, float]:
    """Draw from the policy mixed with the uniform one over allowed actions; greedy means any of the best, each alike.

    Args:
        action_values: (S, A).
        policy: (S, A), or no rows: greedy.
        epsilon: weight of the uniform policy.
        state: where.
        draw: uniform in [0, 1); it decides everything.

    Returns:
        The action, and how likely it was.
    """
    row = action_values[state]
    num_actions = row.shape[0]
    best = row.max()
    ties = (row == best).sum()
    allowed = (row > FORBIDDEN).sum()
    action = num_actions - 1
    if draw < epsilon:
        skip = min(int(draw / epsilon * allowed), allowed - 1)
        for a in range(num_actions):
            if row[a] > FORBIDDEN:
                if skip == 0:
                    action = a
                    break
                skip -= 1
    else:
        draw = (draw - epsilon) / (1.0 - epsilon)
        cumulative = 0.0
        for a in range(num_actions):
            share = policy[state, a] if policy.shape[0] > 0 else (row[a] == best) / ties
            if share > 0.0:
                action = a  # the last possible one, where rounding leaves the sum below the draw
            cumulative += share
            if draw < cumulative:
                break
    share = policy[state, action] if policy.shape[0] > 0 else (row[action] == best) / ties
    return action, epsilon / allowed + (1.0 - epsilon) * share


@numba.njit(cache=True)
def choose_actions(
    action_values: FloatArray, policy: FloatArray, epsilon: float, states: IntArray, draws: FloatArray
) -> tuple[IntArray, FloatArray]:
    """:func:`choose_action` in N environments: states and draws (N,) in, actions and probabilities (N,) out."""
    actions, probabilities = np.empty(len(states), dtype=np.int64), np.empty(len(states))
    for i in range(len(states)):
        actions[i], probabilities[i] = choose_action(action_values, policy, epsilon, states[i], draws[i])
    return actions, probabilities


@numba.njit(cache=True)
def learn_from_episode(
    table: Table,
    rule: Rule,
    target: FloatArray,
    states: NDArray[np.int32],
    actions: NDArray[np.int32],
    rewards: FloatArray,
    probabilities: FloatArray,
    last: int,
    epsilon: float,
) -> tuple[float, int]:
    r"""Move the action values towards the returns of one episode (Sutton & Barto, sections 5.1 to 5.7).

    Backwards with $G \leftarrow r + \gamma G$ and, off-policy, the ratio $W$ of what follows the pair. At the k-th
    visit, with $a_k$ of the schedule, which for 1/k makes q a plain average:

    * ON_POLICY: $q \leftarrow q + a_k\,(G - q)$;
    * ORDINARY: $q \leftarrow q + a_k\,(W G - q)$ (eq. 5.5);
    * WEIGHTED: $C \leftarrow a_{k-1} (1/a_k - 1)\, C + W$ and $q \leftarrow q + (W/C)(G - q)$ (eqs. 5.6 to 5.8 for 1/k;
      in general, equal weights give the steps $a_k$).

    Args:
        table: written.
        rule: how.
        target: (S, A) policy that is evaluated off-policy, or no rows: the greedy one, the first of equals.
        states: (T,) of the episode.
        actions: (T,).
        rewards: (T,).
        probabilities: (T,) of the actions, under the policy that drew them.
        last: the state after the last, if the episode was cut off there and its return is to go on with what that
            state is worth; else -1.
        epsilon: weight of the uniform policy in what it is worth.

    Returns:
        The sum of |G - q| over the updates, and how many there were.
    """
    q, visits, weights, stamps = table
    num_actions = q.shape[1]
    length = states.shape[0]
    counts = np.ones(length, dtype=np.bool_)
    if rule.first_visit:
        stamps[-1] += 1
        for t in range(length):
            pair = states[t] * num_actions + actions[t]
            counts[t] = stamps[pair] != stamps[-1]
            stamps[pair] = stamps[-1]
    episode_return, ratio, error, updates = 0.0, 1.0, 0.0, 0
    if last >= 0:
        base = (target[last] * q[last]).sum() if target.shape[0] > 0 else q[last].max()
        total, allowed = 0.0, 0
        for a in range(num_actions):
            if q[last, a] > FORBIDDEN:
                total += q[last, a]
                allowed += 1
        episode_return = (1.0 - epsilon) * base + epsilon * total / allowed
    for t in range(length - 1, -1, -1):
        s, a = states[t], actions[t]
        episode_return = rewards[t] + rule.gamma * episode_return
        if counts[t]:
            visits[s, a] += 1
            error += abs(episode_return - q[s, a])
            updates += 1
            step = rule.scale * (visits[s, a] + rule.shift) ** -rule.power
            if rule.kind == ON_POLICY:
                q[s, a] += step * (episode_return - q[s, a])
            elif rule.kind == ORDINARY:
                q[s, a] += step * (ratio * episode_return - q[s, a])
            else:
                before = rule.scale * (visits[s, a] - 1 + rule.shift) ** -rule.power if visits[s, a] > 1 else 0.0
                weights[s, a] = before * (1.0 / step - 1.0) * weights[s, a] + ratio
                q[s, a] += ratio / weights[s, a] * (episode_return - q[s, a])
        if rule.kind != ON_POLICY:
            wanted = target[s, a] if target.shape[0] > 0 else 1.0 * (a == q[s].argmax())
            ratio *= wanted / probabilities[t]
            if ratio == 0.0 and rule.kind == WEIGHTED:  # what came before weighs nothing
                break
    return error, updates


@numba.njit(cache=True)
def absorb(
    table: Table,
    rule: Rule,
    lanes: Lanes,
    target: FloatArray,
    epsilon: float,
    states: IntArray,
    actions: IntArray,
    probabilities: FloatArray,
    rewards: FloatArray,
    next_states: IntArray,
    terminated: BoolArray,
    truncated: BoolArray,
    valid: BoolArray,
) -> tuple[int, float, int]:
    """Record one step of N environments; learn from the episodes that it ended or that grew to L steps.

    Args:
        table: written.
        rule: how.
        lanes: written.
        target: (S, A) policy that is evaluated, or no rows: the greedy one.
        epsilon: weight of the uniform policy in what the last state of a cut episode is worth.
        states: (N,) where the actions were taken.
        actions: (N,).
        probabilities: (N,) of the actions.
        rewards: (N,).
        next_states: (N,).
        terminated: (N,).
        truncated: (N,).
        valid: (N,).

    Returns:
        How many episodes were learnt from, the sum of |G - q|, and how many updates there were.
    """
    ended, error, updates = 0, 0.0, 0
    for i in range(states.shape[0]):
        if not (lanes.active[i] and valid[i]):
            continue
        t = lanes.lengths[i]
        lanes.states[i, t] = states[i]
        lanes.actions[i, t] = actions[i]
        lanes.rewards[i, t] = rewards[i]
        lanes.probabilities[i, t] = probabilities[i]
        lanes.lengths[i] = t + 1
        if not (terminated[i] or truncated[i] or t + 1 == lanes.states.shape[1]):
            continue
        part_error, part_updates = learn_from_episode(
            table,
            rule,
            target,
            lanes.states[i, : t + 1],
            lanes.actions[i, : t + 1],
            lanes.rewards[i, : t + 1],
            lanes.probabilities[i, : t + 1],
            next_states[i] if rule.bootstrap and not terminated[i] else -1,
            epsilon,
        )
        ended += 1
        error += part_error
        updates += part_updates
        lanes.lengths[i] = 0
        lanes.active[i] = not rule.rounds
    return ended, error, updates


@numba.njit(cache=True)
def measure(
    action_values: FloatArray,
    visits: IntArray,
    policy: FloatArray,
    gamma: float,
    step_size: tuple[float, float, float],
    states: IntArray,
    actions: IntArray,
    rewards: FloatArray,
    next_states: IntArray,
    terminated: BoolArray,
    valid: BoolArray,
) -> float:
    r"""Robbins-Monro steps $w(s, a) \leftarrow w(s, a) - a_k\,\{w(s, a) - [r + \gamma\, v_w(s')]\}$, in turn.

    Args:
        action_values: (S, A), w; written.
        visits: (S, A), k; written.
        policy: (S, A) whose Bellman equation is solved, or no rows: the optimality equation.
        gamma: discount.
        step_size: scale, shift and power of the schedule of a_k.
        states: (N,).
        actions: (N,).
        rewards: (N,).
        next_states: (N,).
        terminated: (N,).
        valid: (N,).

    Returns:
        The mean of the absolute measurements.
    """
    scale, shift, power = step_size
    total, count = 0.0, 0
    for i in range(len(states)):
        if not valid[i]:
            continue
        s, a = states[i], actions[i]
        target = rewards[i]
        if not terminated[i]:
            row = action_values[next_states[i]]
            target += gamma * ((policy[next_states[i]] * row).sum() if policy.shape[0] > 0 else row.max())
        measured = action_values[s, a] - target
        visits[s, a] += 1
        action_values[s, a] -= scale * (visits[s, a] + shift) ** -power * measured
        total += abs(measured)
        count += 1
    return total / max(count, 1)
