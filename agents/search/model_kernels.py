"""Compiled Monte Carlo tree search over the arrays of a finite Markov decision process.

All functions share these arguments:

- ``model``: ``successors`` (S, A, K), ``probabilities`` (S, A, K), ``rewards`` (S, A) and ``terminal`` (S,).
- ``guide``: ``priors`` (S, A) and ``values`` (S,), or arrays of no length where there is no guide.
- ``settings``: discount, exploration constant, depth, and whether to select by PUCT and to back up maxima (then a
  state that enters the tree is worth nothing but what a guide says: random actions say little, and a lucky return,
  once it is a maximum, takes long to be forgotten).
- ``tables``: ``visits`` (S, A) and ``counts`` (S, A, K), how often actions were tried and what came of them;
  ``q`` (S, A); ``v`` (S,) and ``expanded`` (S,), of the states in the tree; ``touched`` (S,), their numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents.tabular.td_kernels import kernel, uniform


@kernel
def search(
    model: Any, guide: Any, settings: Any, root: int, simulations: int, streams: Any, tables: Any, path: Any
) -> tuple[int, int]:
    """Simulate from a state, and leave what was found in the tables, which are emptied first.

    Args:
        model: see the module.
        guide: see the module.
        settings: see the module.
        root: the state to search from, not a terminal one.
        simulations: how many.
        streams: (1,) uint64, a random stream.
        tables: see the module; ``touched`` says which states they hold.
        path: (depth, 3) room for a simulation's states, actions and outcomes.

    Returns:
        How many states the tree has, and the depth of the longest way through it.
    """
    successors, probabilities, rewards, terminal = model
    gamma, exploration, depth, puct, maxima = settings
    visits, counts, q, v, expanded, touched = tables
    size, deepest = 0, 0
    low, high = np.inf, -np.inf
    for _ in range(simulations):
        state, steps, value = root, 0, 0.0
        while True:
            if terminal[state]:
                value = 0.0
                break
            if not expanded[state]:
                expanded[state] = True
                visits[state] = 0
                counts[state] = 0
                q[state] = 0.0
                value = v[state] = evaluate(model, guide, gamma, state, 0 if maxima else depth - steps, streams)
                touched[size] = state
                size += 1
                if size > 1:  # the root is entered, so that even one simulation tries an action
                    break
            if steps == depth:
                value = v[state]
                break
            action = select(state, visits, q, guide, exploration, puct, low, high, streams)
            outcome = draw(probabilities[state, action], streams)
            path[steps] = state, action, outcome
            state = successors[state, action, outcome]
            steps += 1
        deepest = max(deepest, steps)
        for t in range(steps - 1, -1, -1):
            before, action, outcome = path[t]
            visits[before, action] += 1
            counts[before, action, outcome] += 1
            value = rewards[before, action] + gamma * value
            if maxima:
                for other in range(q.shape[1]):
                    if visits[before, other]:
                        q[before, other] = backed_up(before, other, model, tables, gamma)
            else:
                q[before, action] += (value - q[before, action]) / visits[before, action]
            v[before] = best(before, visits, q)
            low, high = min(low, q[before, action]), max(high, q[before, action])
    return size, deepest


@kernel
def select(
    state: int, visits: Any, q: Any, guide: Any, exploration: float, puct: bool, low: float, high: float, streams: Any
) -> int:
    """The action with the highest upper confidence bound; values are taken relative to the range seen so far."""
    actions = q.shape[1]
    priors = guide[0]
    total = visits[state].sum()
    scale = high - low if high > low else 1.0
    offset = int(uniform(streams, 0) * actions)  # so that no action is preferred among equals
    chosen, highest = 0, -np.inf
    for i in range(actions):
        action = (i + offset) % actions
        tried = visits[state, action]
        if puct:
            prior = priors[state, action] if len(priors) else 1.0 / actions
            mean = (q[state, action] - low) / scale if tried and high > low else 0.0
            bound = mean + exploration * prior * np.sqrt(total + 1.0) / (1.0 + tried)
        elif tried == 0:
            return int(action)
        else:
            mean = (q[state, action] - low) / scale if high > low else 0.0
            bound = mean + exploration * np.sqrt(np.log(total) / tried)
        if bound > highest:
            chosen, highest = action, bound
    return int(chosen)


@kernel
def evaluate(model: Any, guide: Any, gamma: float, state: int, steps: int, streams: Any) -> float:
    """The guide's value of a state, or the return of random actions from it, so many steps at most."""
    successors, probabilities, rewards, terminal = model
    values = guide[1]
    if len(values):
        return float(values[state])
    total, discount = 0.0, 1.0
    for _ in range(steps):
        action = int(uniform(streams, 0) * rewards.shape[1])
        total += discount * rewards[state, action]
        discount *= gamma
        state = successors[state, action, draw(probabilities[state, action], streams)]
        if terminal[state]:
            break
    return total


@kernel
def draw(probabilities: Any, streams: Any) -> int:
    """An outcome with these probabilities (K,)."""
    last = len(probabilities) - 1
    if last == 0:
        return 0
    number = uniform(streams, 0)
    for outcome in range(last):
        number -= probabilities[outcome]
        if number < 0.0:
            return int(outcome)
    while last > 0 and probabilities[last] == 0.0:  # what rounding left over is no outcome that cannot happen
        last -= 1
    return last


@kernel
def backed_up(state: int, action: int, model: Any, tables: Any, gamma: float) -> float:
    """The reward, and the discounted mean of the values of the outcomes that were drawn at least once."""
    successors, probabilities, rewards, terminal = model
    _, counts, _, v, _, _ = tables
    total = weight = 0.0
    for outcome in range(counts.shape[2]):
        if counts[state, action, outcome]:
            probability = probabilities[state, action, outcome]
            following = successors[state, action, outcome]
            weight += probability
            if not terminal[following]:
                total += probability * v[following]
    return float(rewards[state, action] + gamma * total / weight)


@kernel
def best(state: int, visits: Any, q: Any) -> float:
    """The highest value of the actions that were tried."""
    highest = -np.inf
    for action in range(q.shape[1]):
        if visits[state, action] and q[state, action] > highest:
            highest = q[state, action]
    return float(highest)
