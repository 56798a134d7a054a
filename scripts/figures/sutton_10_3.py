"""On the mountain car eight-step Sarsa learns faster than one-step Sarsa, and ends better.

Sutton & Barto (2018), Reinforcement learning, figure 10.3: good step sizes, α = 0.5/8 for n = 1 and 0.3/8 for n = 8.
"""

from __future__ import annotations

from gridzero.figures.figure import Figure, Row, claim, shown
from gridzero.figures.mountain_car import draw_lengths, mean_lengths

RUNS, EPISODES = 100, 500
STEP_SIZES = {1: 0.5, 8: 0.3}


def make(seed: int, runs: int = RUNS, episodes: int = EPISODES) -> Figure:
    """Steps of each episode, the mean of the runs."""
    curves = {n: mean_lengths(n, size / 8, episodes, runs, seed) for n, size in STEP_SIZES.items()}
    picture = draw_lengths({f"n = {n}, α = {STEP_SIZES[n]}/8": lengths for n, lengths in curves.items()}, runs)
    early = {n: float(steps[:50].mean()) for n, steps in curves.items()}
    late = {n: float(steps[-100:].mean()) for n, steps in curves.items()}
    rows: list[Row] = [
        claim("first 50 episodes, n = 1, 8", "fewer with 8", f"{early[1]:.0f}, {early[8]:.0f}", early[8] < early[1]),
        claim("last 100 episodes", "fewer with 8", f"{late[1]:.1f}, {late[8]:.1f}", late[8] < late[1]),
        shown("runs", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 10.3: one-step and eight-step Sarsa on the mountain car")
