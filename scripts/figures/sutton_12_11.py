"""True online Sarsa(λ) learns the mountain car best, and accumulating traces fail at step sizes that suit the others.

Sutton & Barto (2018), Reinforcement learning, figure 12.11: Sarsa(λ) with λ = 0.9 and three kinds of traces.
"""

from __future__ import annotations

import numpy as np

from gridzero.agents.tabular.temporal_difference import TRACES
from gridzero.figures.figure import Figure, Row, add_legend, claim, panels, shown
from gridzero.figures.mountain_car import LONGEST, mean_lengths

RUNS, EPISODES = 100, 20
STEP_SIZES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)
"""Times the number of tilings; accumulating traces get the first six."""
COMMON = slice(1, 6)
"""Step sizes from 0.2 to 0.6."""
NAMES = {"dutch": "true online", "replacing": "replacing", "accumulating": "accumulating"}


def make(seed: int, runs: int = RUNS) -> Figure:
    """Reward of an episode, the mean over the first 20 of each run, over the step size."""
    sizes = {kind: STEP_SIZES[:6] if kind == "accumulating" else STEP_SIZES for kind in NAMES}
    curves = {
        kind: np.array(
            [-mean_lengths(1, s / 8, EPISODES, runs, seed, decay=0.9, kind=TRACES[kind]).mean() for s in sizes[kind]]
        )
        for kind in NAMES
    }
    picture, (axes,) = panels(1, width=6.4, height=4.4)
    for kind, rewards in curves.items():
        axes.plot(sizes[kind], rewards, "o-", ms=3, lw=1.2, label=NAMES[kind])
    title = f"λ = 0.9, first {EPISODES} episodes, mean of {runs} runs"
    axes.set(xlabel="α × number of tilings (8)", ylabel="reward per episode", title=title, ylim=(-560, -230))
    add_legend(axes, loc="lower right")
    best = {kind: float(rewards.max()) for kind, rewards in curves.items()}
    better = [int((curves[kind][COMMON] >= curves["dutch"][COMMON]).sum()) for kind in ("replacing", "accumulating")]
    failed = [size for size, reward in zip(STEP_SIZES, curves["accumulating"], strict=False) if reward < -LONGEST / 4]
    noise = 3 * (RUNS / runs) ** 0.5
    rows: list[Row] = [
        claim(
            "best of true online, replacing, accumulating",
            "true online best, accumulating worst",
            ", ".join(f"{reward:.0f}" for reward in best.values()),
            best["dutch"] >= best["replacing"] - noise and best["replacing"] > best["accumulating"],
        ),
        claim(
            "α × 8 of 0.2 to 0.6: others better than it",
            "nowhere",
            f"{better[0]} and {better[1]} of 5",
            max(better) == 0,
        ),
        claim("accumulating traces fail", "from a small α on", f"α × 8 = {min(failed, default=9)}", bool(failed)),
        shown("runs of 20 episodes", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 12.11: kinds of traces on the mountain car")
