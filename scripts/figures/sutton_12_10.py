"""On the mountain car Sarsa(λ) learns faster than n-step Sarsa, with λ near 1 but not 1.

Sutton & Barto (2018), Reinforcement learning, figure 12.10: Sarsa(λ) with replacing traces beside figure 10.4.
"""

from __future__ import annotations

import numpy as np

from gridzero.figures.figure import Figure, Row, add_legend, claim, panels, shown
from gridzero.figures.mountain_car import mean_lengths

RUNS, EPISODES = 40, 50
DECAYS = (0.0, 0.68, 0.84, 0.92, 0.96, 0.98, 0.99)
STEP_SIZES = (0.3, 0.5, 0.75, 1.0, 1.3, 1.6)
"""Times the number of tilings."""
STEPS = {1: (0.6, 0.8, 1.0, 1.2, 1.5), 4: (0.4, 0.5, 0.6, 0.8, 1.0, 1.2), 16: (0.15, 0.2, 0.3, 0.4, 0.5)}
"""Step sizes for each n."""


def make(seed: int, runs: int = RUNS, decays: tuple[float, ...] = DECAYS) -> Figure:
    """Steps of an episode, the mean over the first 50 of each run, over the step size."""
    traces = {
        decay: [mean_lengths(1, size / 8, EPISODES, runs, seed, decay=decay).mean() for size in STEP_SIZES]
        for decay in decays
    }
    steps = {n: [mean_lengths(n, size / 8, EPISODES, runs, seed).mean() for size in STEPS[n]] for n in STEPS}
    picture, (left, right) = panels(2, height=4.0)
    for decay, lengths in traces.items():
        left.plot(STEP_SIZES, lengths, "o-", ms=3, lw=1.2, label=f"λ = {decay:g}")
    for n, lengths in steps.items():
        right.plot(STEPS[n], lengths, "o-", ms=3, lw=1.2, label=f"n = {n}")
    titles = "Sarsa(λ) with replacing traces", "n-step Sarsa"
    for axes, title in zip((left, right), titles, strict=True):
        axes.set(xlabel="α × number of tilings (8)", ylabel="steps per episode", title=title, ylim=(160, 305))
        add_legend(axes, fontsize=8)
    lowest = {decay: float(np.min(lengths)) for decay, lengths in traces.items()}
    best = min(lowest, key=lowest.__getitem__)
    n_best = min(float(np.min(lengths)) for lengths in steps.values())
    rows: list[Row] = [
        claim("best λ", "intermediate, 0.84 to 0.98", f"{best:g}", 0.84 <= best <= 0.98),
        claim(
            "fewest steps with λ, with n", "fewer with λ", f"{lowest[best]:.0f}, {n_best:.0f}", lowest[best] < n_best
        ),
        claim(
            f"λ of {decays[0]:g} and {decays[-1]:g}",
            "more than the best",
            f"{lowest[decays[0]]:.0f}, {lowest[decays[-1]]:.0f}",
            min(lowest[decays[0]], lowest[decays[-1]]) > lowest[best] + 5,
        ),
        shown("runs of 50 episodes", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 12.10: Sarsa(λ) on the mountain car")
