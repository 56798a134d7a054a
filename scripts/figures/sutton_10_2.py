"""On the mountain car with tile coding, the largest of three step sizes learns fastest.

Sutton & Barto (2018), Reinforcement learning, figure 10.2: semi-gradient Sarsa with ε = 0 and eight tilings.
"""

from __future__ import annotations

from gridzero.figures.figure import Figure, Row, claim, shown
from gridzero.figures.mountain_car import draw_lengths, mean_lengths

RUNS, EPISODES = 100, 500
STEP_SIZES = (0.1, 0.2, 0.5)
"""Times the number of tilings."""


def make(seed: int, runs: int = RUNS, episodes: int = EPISODES) -> Figure:
    """Steps of each episode, the mean of the runs."""
    curves = {size: mean_lengths(1, size / 8, episodes, runs, seed) for size in STEP_SIZES}
    picture = draw_lengths({f"α = {size}/8": lengths for size, lengths in curves.items()}, runs)
    early = {size: float(lengths[:100].mean()) for size, lengths in curves.items()}
    late = {size: float(lengths[-50:].mean()) for size, lengths in curves.items()}
    rows: list[Row] = [
        claim(
            "steps in the first 100 episodes, α × 8 of 0.1, 0.2, 0.5",
            "fewer with larger α",
            ", ".join(f"{steps:.0f}" for steps in early.values()),
            early[0.1] > early[0.2] > early[0.5],
        ),
        claim("first episodes", "over 400 steps", f"{curves[0.5][0]:.0f} and more", curves[0.5][0] > 400),
        claim("last 50 episodes, 0.5/8", "100 to 130", f"{late[0.5]:.0f}", 100 <= late[0.5] <= 130),
        claim("last 50 episodes, 0.1/8", "100 to 160", f"{late[0.1]:.0f}", 100 <= late[0.1] <= 160),
        shown("runs", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 10.2: step sizes on the mountain car (read off its curves)")
