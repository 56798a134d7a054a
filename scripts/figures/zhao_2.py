"""State values of two good and two bad policies on Zhao's 5x5 grid.

Zhao (2025), Mathematical foundations of reinforcement learning, figure 2.7.
"""

from __future__ import annotations

import numpy as np

from gridzero.figures.figure import Figure, Row, claim, compare_all, panels
from gridzero.figures.zhao_grid import GAMMA, OPTIMAL, draw, model, numbers, policy_of

GOOD = OPTIMAL[-10]
POLICIES = {  # moves row by row, published state values
    "good 1": ("rrrdd uurdd uldrd urold urull", GOOD),
    "good 2": ("rrrrd uurrd uldrd urold urull", GOOD),
    "bad 1": (
        "rrrrr " * 5,
        "-6.6 -7.3 -8.1 -9 -10 -8.5 -8.3 -8.1 -9 -10 -7.5 -8.3 -8.1 -9 -10 -7.5 -7.2 -9.1 -9 -10 -7.6 -7.3 -8.1 -9 -10",
    ),
    "bad 2": (
        "rlluu dordr lrdlo oduur ororo",
        "0 0 0 -10 -10 -9 -10 -0.4 -0.5 -10 -10 -0.5 0.5 -0.5 0 0 -1 -0.5 -0.5 -10 0 0 0 0 0",
    ),
}


def make(seed: int) -> Figure:
    """The four policies; nothing in them is random."""
    del seed
    mdp = model()
    picture, axes = panels(4)
    rows: list[Row] = []
    found = {}
    for panel, (name, (moves, published)) in zip(axes, POLICIES.items(), strict=True):
        policy = policy_of(moves)
        found[name] = values = mdp.policy_values(policy, GAMMA)
        draw(panel, values, policy, name)
        rows.append(compare_all(f"{name}: state values", numbers(published), values, 0.051))
    same = float(np.abs(found["good 1"] - found["good 2"]).max())
    rows.append(claim("the good policies differ in values by", "nothing", f"{same:.1g}", same < 1e-9))
    bad = max(float((found[name] - found["good 1"]).max()) for name in ("bad 1", "bad 2"))
    rows.append(claim("the bad ones are better than the good ones", "nowhere", f"by {bad:.2f} at most", bad < 0))
    return Figure(picture, rows, "Zhao, figure 2.7: good and bad policies of the 5x5 grid")
