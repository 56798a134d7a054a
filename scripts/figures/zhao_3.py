"""How the discount and the rewards change the optimal values and policy of Zhao's 5x5 grid.

Zhao (2025), Mathematical foundations of reinforcement learning, figures 3.4a to 3.4d.
"""

from __future__ import annotations

import numpy as np

from gridzero.agents.tabular.solver import solve
from gridzero.envs import FiniteMDP, GridWorld
from gridzero.figures.figure import Figure, Row, claim, compare_all, draw_grid, panels

FORBIDDEN = ((1, 1), (1, 2), (2, 2), (3, 1), (3, 3), (4, 1))
TARGET = (3, 2)
PUBLISHED = {
    "3.4a": "5.8 5.6 6.2 6.5 5.8 6.5 7.2 8.0 7.2 6.5 7.2 8.0 10 8.0 7.2 8.0 10 10 10 8.0 7.2 9.0 10 9.0 8.1",
    "3.4d": "3.5 3.9 4.3 4.8 5.3 3.1 3.5 4.8 5.3 5.9 2.8 2.5 10 5.9 6.6 2.5 10 10 10 7.3 2.3 9.0 10 9.0 8.1",
}
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
        mdp = GridWorld(layout="zhao-5x5", reward_forbidden=forbidden).mdp
        values = solve(mdp, gamma).values
        q = mdp.action_values(values, gamma)
        best = q >= q.max(axis=1, keepdims=True) - 1e-9
        policy = np.eye(q.shape[1])[best.argmax(axis=1)]
        ways = _ways(mdp, policy)
        crossings[number] = sum(any(cell in FORBIDDEN for cell in way[1:]) for way in ways if way[0] not in FORBIDDEN)
        arrivals[number] = sum(TARGET in way for way in ways)
        grid, arrows = values.reshape(5, 5), policy.reshape(5, 5, -1)
        title = f"{number}: γ {gamma:g}, forbidden {forbidden:g}"
        draw_grid(panel, grid, arrows, forbidden=FORBIDDEN, target=TARGET, title=title)
        if number in PUBLISHED:
            published = np.array(PUBLISHED[number].split(), dtype=float)
            rows.append(compare_all(f"figure {number}, optimal state values", published, values, 0.051))
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
