"""Between TD(0) and Monte Carlo there is an n that learns best: n-step TD on the 19-state random walk.

Sutton & Barto (2018), Reinforcement learning, figure 7.2 (example 7.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs.chains import random_walk
from gridzero.figures.figure import Figure, Row, claim, compare, panels
from gridzero.figures.repetitions import Repetitions, errors_by_episode

WALK = random_walk(19, left=-1.0)
EXACT = np.array([np.nan, *np.arange(-9, 10) / 10, np.nan])
EPISODES, RUNS = 10, 100
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STEP_SIZES = np.array([0.02, 0.05, *np.arange(1, 11) / 10])


def make(seed: int) -> Figure:
    """Error over the step size, a curve for each n."""
    curves = {n: np.array([error(n, alpha, seed) for alpha in STEP_SIZES]) for n in LENGTHS}
    picture, (axes,) = panels(1, width=6.4, height=4.4)
    for n, curve in curves.items():
        axes.plot(STEP_SIZES, curve, "o-", ms=2.5, lw=1.2, label=f"n = {n}")
    axes.set(
        xlabel="step size α",
        ylabel="RMS error",
        ylim=(0.24, 0.56),
        title=f"19 states, first {EPISODES} episodes, mean of {RUNS} runs",
    )
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    lowest = {n: float(curve.min()) for n, curve in curves.items()}
    best = min(lowest, key=lowest.__getitem__)
    sizes = [float(STEP_SIZES[curve.argmin()]) for curve in curves.values()]
    rows: list[Row] = [
        claim("best n", "4 (an intermediate one)", str(best), best in (2, 4, 8)),
        compare("lowest error of n = 4", 0.26, lowest[4], 0.02),
        claim(
            "best α of n = 4",
            "0.4 ± 0.1",
            f"{STEP_SIZES[curves[4].argmin()]:g}",
            0.3 <= STEP_SIZES[curves[4].argmin()] <= 0.5,
        ),
        claim(
            "lowest errors of n = 1 and n = 512",
            "above that of n = 4",
            f"{lowest[1]:.3f} and {lowest[512]:.3f}",
            min(lowest[1], lowest[512]) > lowest[4],
        ),
        claim(
            "the best step size as n grows",
            "becomes smaller",
            ", ".join(f"{size:g}" for size in sizes),
            sizes == sorted(sizes, reverse=True),
        ),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 7.2: n-step TD on the 19-state random walk")


def error(n: int, step_size: float, seed: int, runs: int = RUNS) -> float:
    """Mean error over states, the first ten episodes and the runs."""
    env = Repetitions(WALK, runs, EPISODES)
    agent: Any = make_agent("td-n-step", env, n=n, gamma=1.0, step_size=str(step_size), steps_per_update=1, seed=seed)
    return float(errors_by_episode(agent, env, EXACT).mean())
