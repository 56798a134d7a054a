"""How the discount and the rewards change the optimal values and policy of Zhao's 5x5 grid.

Zhao (2025), Mathematical foundations of reinforcement learning, figures 3.4a to 3.4d.
"""

from __future__ import annotations

import numpy as np

from gridzero.agents.tabular.solver import solve
from gridzero.envs import FiniteMDP
from gridzero.figures.figure import Figure, Row, claim, compare_all, panels
from gridzero.figures.zhao_grid import FORBIDDEN, OPTIMAL, TARGET, draw, model, numbers

PUBLISHED = {"3.4a": OPTIMAL[-1], "3.4d": OPTIMAL[-10]}
SETTINGS = {  # figure: gamma, reward of a forbidden cell
    "3.4a": (0.9, -1.0),
    "3.4b": (0.5, -1.0),
    "3.4c": (0.0, -1.0),
    "3.4d": (0.9, -10.0),
}


def make(seed: int) -> Figure:
    """The four panels; nothing in them is random."""
    del seed
    picture, axes = panels(4)
    rows: list[Row] = []
    crossings, arrivals = {}, {}
    for panel, (number, (gamma, forbidden)) in zip(axes, SETTINGS.items(), strict=True):
        mdp = model(forbidden)
        values = solve(mdp, gamma).values
        q = mdp.action_values(values, gamma)
        best = q >= q.max(axis=1, keepdims=True) - 1e-9
        policy = np.eye(q.shape[1])[best.argmax(axis=1)]
        ways = _ways(mdp, policy)
        crossings[number] = sum(any(cell in FORBIDDEN for cell in way[1:]) for way in ways if way[0] not in FORBIDDEN)
        arrivals[number] = sum(TARGET in way for way in ways)
        draw(panel, values, policy, f"{number}: γ {gamma:g}, forbidden {forbidden:g}")
        if number in PUBLISHED:
            rows.append(
                compare_all(f"figure {number}, optimal state values", numbers(PUBLISHED[number]), values, 0.051)
            )
    rows += [
        claim("3.4a: crosses forbidden cells", "from some states", f"from {crossings['3.4a']}", crossings["3.4a"] > 0),
        claim("3.4b: crosses forbidden cells", "from none", f"from {crossings['3.4b']}", crossings["3.4b"] == 0),
        claim(
            "3.4c: reaches the target", "not from all states", f"from {arrivals['3.4c']} of 25", arrivals["3.4c"] < 25
        ),
        claim("3.4d: crosses forbidden cells", "from none", f"from {crossings['3.4d']}", crossings["3.4d"] == 0),
    ]
    return Figure(picture, rows, "Zhao, figure 3.4: optimal policies of the 5x5 grid")


def _ways(mdp: FiniteMDP, policy: np.ndarray) -> list[list[tuple[int, int]]]:
    """The cells that a deterministic policy passes from each state, within 25 moves."""
    following = mdp.successors[np.arange(25), policy.argmax(axis=1), 0]  # no move slips
    ways = []
    for state in range(25):
        way = [state]
        for _ in range(25):
            way.append(int(following[way[-1]]))
        ways.append([divmod(cell, 5) for cell in way])
    return ways
