"""Gradient Monte Carlo with ten groups of states gives each group the mean of its states' values, weighted by visits.

Sutton & Barto (2018), Reinforcement learning, figure 9.1: state aggregation on the 1000-state random walk.
"""

from __future__ import annotations

import numpy as np

from gridzero.figures.figure import Figure, Row, claim, compare, panels, shown
from gridzero.figures.thousand_states import LONGEST, draw_values, exact, fixed_point, groups, learned

EPISODES = 100_000
STEP_SIZE = 2e-5
JUMPS = list(range(100, 1000, 100))


def make(seed: int, episodes: int = EPISODES) -> Figure:
    """True and learnt values, and the distribution of the states."""
    values, distribution = exact()
    scale = EPISODES / episodes  # fewer episodes take larger steps
    estimates = learned(episodes, seed, n=LONGEST, groups=10, step_size=str(STEP_SIZE * scale))
    best = fixed_point(groups(10), decay=1.0)
    picture, (axes,) = panels(1, width=6.4, height=4.4)
    draw_values(axes, {"true value": values, "gradient Monte Carlo": estimates}, "ten groups of 100 states")
    shares = axes.twinx()
    shares.fill_between(np.arange(1, 1001), distribution[1:-1], color="0.75")
    shares.set(ylim=(0, 0.0411), ylabel="share of the time, μ")
    near = distribution[450:551][np.arange(450, 551) != 500].mean()
    steps = np.flatnonzero(np.diff(estimates[1:-1]) != 0) + 1
    off = float(np.abs(estimates - best)[1:-1].max())
    rows: list[Row] = [
        compare("% of the time in state 500", 1.37, 100 * float(distribution[500]), 0.005),
        compare("% in each state near it", 0.17, 100 * float(near), 0.005),
        compare("% in states 1 and 1000", 0.0147, 100 * float(distribution[1]), 0.00005),
        claim("jumps of the estimates", "after 100, 200, …", f"{len(steps)}", list(steps) == JUMPS),
        claim("distance to the least value error", "close", f"{off:.3f} at most", off < 0.03 * scale**0.5),
        claim(
            "first group's value, mean of its states'",
            "above",
            f"{estimates[1]:.3f}, {values[1:101].mean():.3f}",
            estimates[1] > values[1:101].mean(),
        ),
        shown("episodes", f"{episodes:,}"),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 9.1: gradient Monte Carlo on the 1000-state random walk")
