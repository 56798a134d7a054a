"""Fifty tilings, each shifted, end with a smaller error than one tiling that learns as fast.

Sutton & Barto (2018), Reinforcement learning, figure 9.10: gradient Monte Carlo on the 1000-state random walk.
"""

from __future__ import annotations

import numpy as np

from gridzero.agents.tabular.features import FeatureMap, TileCoding
from gridzero.figures.figure import Figure, Row, claim, panels, shown
from gridzero.figures.thousand_states import POLICY, WALK, draw_errors, exact
from gridzero.figures.walks import Task, draw_walks

RUNS, EPISODES = 30, 5000
STEP_SIZE = 1e-4
TILINGS = (1, 50)
POSITIONS = np.clip((np.arange(1002) - 1) / 1000, 0, 1)[:, None]


def make(seed: int, runs: int = RUNS, episodes: int = EPISODES) -> Figure:
    """Root of the value error after each episode, the mean of the runs."""
    values, distribution = exact()
    walks = draw_walks(WALK, POLICY, runs * episodes, seed)
    picture, (axes,) = panels(1, width=6.4, height=4.4)
    curves = {}
    for tilings in TILINGS:
        # Tiles of 200 states; of 50 tilings each is 4 states off the last.
        coding: FeatureMap = TileCoding(1, tilings, tiles=5)
        task = Task(walks, runs, coding(POSITIONS), np.zeros(coding.size), values, distribution)
        curves[tilings] = task.return_errors(1.0, STEP_SIZE / tilings).mean(axis=0)
    draw_errors(axes, {f"{tilings} tiling{'s' * (tilings > 1)}": e for tilings, e in curves.items()}, f"{runs} runs")
    early = [float(curves[tilings][episodes // 10]) for tilings in TILINGS]
    alike = abs(early[1] - early[0]) < 0.03
    one, many = (float(curves[tilings][-100:].mean()) for tilings in TILINGS)
    rows: list[Row] = [
        claim("a tenth of the way: 1, 50 tilings", "alike", f"{early[0]:.3f}, {early[1]:.3f}", alike),
        claim("error at the end", "smaller with 50", f"{one:.3f}, {many:.3f}", many < one - 0.01),
        shown("runs", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 9.10: one tiling and fifty on the 1000-state random walk")
