"""Value iteration, policy iteration and truncated policy iteration on Zhao's 5x5 grid.

Zhao (2025), Mathematical foundations of reinforcement learning, figures 4.2, 4.4 and 4.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import GridWorld
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, compare_all, panels, shown
from gridzero.figures.zhao_grid import FORBIDDEN, GAMMA, OPTIMAL, TARGET, draw, model, numbers, optimal_values

SWEEPS = (3, 6, 100)
"""Evaluation sweeps of the truncated policy iterations."""
UPDATES = 40
STAY = 4


def path(name: str, mdp: Any, values: FloatArray, **settings: Any) -> list[FloatArray]:
    """Values after each update of a planner that begins with these values and the policy that stays everywhere."""
    agent: Any = make_agent(name, mdp, gamma=GAMMA, **settings)
    begin = {"values": values, "actions": np.full(mdp.num_states, STAY), "sweeps": 0, "converged": False}
    agent.load_state_dict(begin)
    found = [values]
    for _ in agent.learn():
        found.append(agent.state_values())
        if len(found) > UPDATES:
            break
    return found


def exact_path(mdp: Any) -> list[FloatArray]:
    """Values of each policy of policy iteration, which begins with the policy that stays everywhere.

    Of equal actions the first is taken, as the others take it: the agent itself keeps the one it has, so that which
    policies are compared would be decided by that.
    """
    agent: Any = make_agent("policy-iteration", mdp, gamma=GAMMA)
    actions, found = np.full(mdp.num_states, STAY), []
    while True:
        agent.load_state_dict({"values": np.zeros(mdp.num_states), "actions": actions, "sweeps": 0, "converged": False})
        next(agent.learn())
        found.append(agent.state_values())
        better = greedy(mdp, found[-1]).argmax(axis=1)
        if (better == actions).all():
            return found
        actions = better


def make(seed: int) -> Figure:
    """Errors by iteration and by sweep, and the first and last policies; nothing in them is random."""
    del seed
    mdp = model(-10)
    best = optimal_values(mdp)
    first = mdp.policy_values(np.full(25, STAY), GAMMA)
    policies = exact_path(mdp)
    paths = {"value iteration": path("value-iteration", mdp, first)}
    paths |= {
        f"truncated, {sweeps} sweeps": path("truncated-policy-iteration", mdp, first, evaluation_sweeps=sweeps)
        for sweeps in SWEEPS
    }
    paths["policy iteration"] = policies
    picture, (left, right, beginning, end) = panels(4)
    for width, (name, values) in zip((1.5, 1.5, 1.5, 5, 1.5), paths.items(), strict=True):  # the last two coincide
        errors = [float(np.abs(v - best).max()) for v in values]
        left.plot(range(len(errors)), errors, ".-", label=name, lw=width)
        if name != "policy iteration":
            sweeps = int(name.split()[1]) if name.startswith("truncated") else 1
            right.semilogy(np.arange(len(errors)) * sweeps, np.maximum(errors, 1e-9), ".-", label=name)
    left.set(
        xlabel="iteration k",
        ylabel=r"$\max_s |v_k - v^*|$",
        xlim=(-0.5, 20),
        xticks=range(0, 21, 4),
        title="4.5: by iteration",
    )
    right.set(xlabel="sweeps", xlim=(-3, 110), ylim=(1e-2, 200), title="the same by sweep over the states")
    left.set_yscale("symlog", linthresh=1e-2)
    left.set_ylim(0, 200)
    for axes in (left, right):
        add_legend(axes, fontsize=7)
    draw(beginning, policies[0], np.eye(5)[np.full(25, STAY)], "4.4a: the first policy and its values")
    draw(end, policies[-1], greedy(mdp, policies[-1]), f"4.4h: after {len(policies) - 1} improvements")
    return Figure(picture, [*_hand_examples(), *_rows(paths, policies, best)], "Zhao, chapter 4: planning")


def greedy(mdp: Any, values: FloatArray) -> FloatArray:
    """(S, A) the greedy policy."""
    return np.asarray(np.eye(5)[mdp.action_values(values, GAMMA).round(9).argmax(axis=1)])


def _hand_examples() -> list[Row]:
    """The first sweeps of value iteration on the 2x2 grid, worked by hand in the book (section 4.1.1)."""
    small = GridWorld(layout="zhao-2x2").mdp
    values = path("value-iteration", small, np.zeros(4))
    expected: dict[int, list[float]] = {1: [0, 1, 1, 1], 2: [0.9, 1.9, 1.9, 1.9]}
    return [compare_all(f"2x2 grid: v{k}", numbers, values[k], 1e-9) for k, numbers in expected.items()]


def _rows(paths: dict[str, list[FloatArray]], policies: list[FloatArray], best: FloatArray) -> list[Row]:
    worst = np.zeros((5, 5))
    worst[tuple(np.transpose(FORBIDDEN))], worst[TARGET] = -100, 10
    slowest, *between, fastest = paths.values()

    def ahead(lower: list[FloatArray], higher: list[FloatArray]) -> float:
        """The most by which a value of one exceeds that of the other in the same iteration."""
        ended = higher + [higher[-1]] * len(lower)
        return max(float((low - high).max()) for low, high in zip(lower, ended, strict=False))

    order = max(ahead(slowest, found) for found in (*between, fastest))
    last = max(ahead(found, fastest) for found in between)
    above = max(float((values - best).max()) for found in paths.values() for values in found)
    return [
        compare_all("4.4a: values of the first policy", worst.ravel(), policies[0], 0.051),
        compare_all("4.4h: values of the last policy", numbers(OPTIMAL[-10]), policies[-1], 0.051),
        shown("4.4: improvements until no action changes (ties decide)", f"{len(policies) - 1}"),
        claim("4.5: value iteration is above another", "never", f"by {max(order, 0.0):.1g} at most", order < 1e-9),
        claim("4.5: truncated is above policy iteration", "never", f"by {max(last, 0.0):.1g} at most", last < 1e-9),
        claim("4.5: any is above v*", "never", f"by {max(above, 0.0):.1g} at most", above < 1e-9),
    ]
