"""On the mountain car an intermediate n learns fastest, and a larger n wants a smaller step size.

Sutton & Barto (2018), Reinforcement learning, figure 10.4: n-step Sarsa with tile coding over α and n.
"""

from __future__ import annotations

import numpy as np

from gridzero.figures.figure import Figure, Row, add_legend, claim, panels, shown
from gridzero.figures.mountain_car import mean_lengths

RUNS, EPISODES = 100, 50
STEP_SIZES = {  # times the number of tilings
    1: (0.4, 0.6, 0.8, 1.0, 1.2, 1.5),
    2: (0.3, 0.5, 0.7, 0.9, 1.2, 1.5),
    4: (0.25, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2),
    8: (0.2, 0.3, 0.4, 0.5, 0.6, 0.8),
    16: (0.15, 0.2, 0.3, 0.4, 0.5),
}


def make(seed: int, runs: int = RUNS, lengths: tuple[int, ...] = tuple(STEP_SIZES)) -> Figure:
    """Steps of an episode, the mean over the first 50 of each run, over the step size."""
    curves = {
        n: np.array([mean_lengths(n, size / 8, EPISODES, runs, seed).mean() for size in STEP_SIZES[n]]) for n in lengths
    }
    picture, (axes,) = panels(1, width=6.4, height=4.4)
    for n, steps in curves.items():
        axes.plot(STEP_SIZES[n], steps, "o-", ms=3, lw=1.2, label=f"n = {n}")
    title = f"first {EPISODES} episodes, mean of {runs} runs"
    axes.set(xlabel="step size α × number of tilings (8)", ylabel="steps per episode", title=title, ylim=(215, 305))
    add_legend(axes)
    lowest = {n: float(steps.min()) for n, steps in curves.items()}
    sizes = {n: STEP_SIZES[n][int(steps.argmin())] for n, steps in curves.items()}
    best = min(lowest, key=lowest.__getitem__)
    falling = list(sizes.values()) == sorted(sizes.values(), reverse=True)
    rows: list[Row] = [
        claim("best n", "4 (intermediate)", f"{best}", best in (2, 4, 8)),
        claim("fewest steps with n = 4", "215 to 240", f"{lowest[4]:.0f}", 215 <= lowest[4] <= 240),
        claim(
            f"fewest steps with n = {', '.join(map(str, lowest))}",
            "more at both ends",
            ", ".join(f"{steps:.0f}" for steps in lowest.values()),
            max(lowest[1], lowest[16]) > lowest[best] + 10 and min(lowest[1], lowest[16]) > lowest[best],
        ),
        claim("best α × 8 as n grows", "smaller", ", ".join(f"{size:g}" for size in sizes.values()), falling),
        shown("runs", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 10.4: n-step Sarsa on the mountain car (read off its curves)")
