"""Bootstrapping with groups of states ends further from the true values, but learns faster with the right n.

Sutton & Barto (2018), Reinforcement learning, figure 9.2: semi-gradient and n-step TD on the 1000-state walk.
"""

from __future__ import annotations

import numpy as np

from gridzero.agents.tabular.linear_theory import value_error
from gridzero.figures.figure import Figure, Row, claim, panels, shown
from gridzero.figures.nineteen_states import LENGTHS, curves, draw_curves, lowest
from gridzero.figures.thousand_states import POINTS, POLICY, WALK, draw_values, exact, fixed_point, groups, learned
from gridzero.figures.walks import Task, draw_walks

RUNS, EPISODES = 100, 10
LONG_RUN = 20_000
STEP_SIZE = 0.001


def make(seed: int, runs: int = RUNS, episodes: int = LONG_RUN, lengths: tuple[int, ...] = LENGTHS) -> Figure:
    """Left: what TD and Monte Carlo end with. Right: the error of n-step TD over the step size."""
    values, distribution = exact()
    scale = LONG_RUN / episodes  # fewer episodes take larger steps
    td, best = fixed_point(groups(10)), fixed_point(groups(10), decay=1.0)
    estimates = learned(episodes, seed, groups=10, step_size=str(STEP_SIZE * scale))
    walks = draw_walks(WALK, POLICY, runs * EPISODES, seed)
    features = groups(20)
    task = Task(walks, runs, features(POINTS), np.zeros(features.size), values, ~WALK.terminal / 1000)
    steps = curves(task.n_step_errors, lengths)
    picture, (left, right) = panels(2, height=4.0)
    draw_values(left, {"true value": values, "semi-gradient TD": estimates, "Monte Carlo's limit": best}, "ten groups")
    draw_curves(right, steps, "n", f"n-step TD, 20 groups, first {EPISODES} episodes")
    off = float(np.abs(estimates - td)[1:-1].max())
    bound, errors = value_error(best, values, distribution), value_error(td, values, distribution)
    n, error = lowest(steps)
    ends = {length: float(steps[length].min()) for length in (1, 512)}
    rows: list[Row] = [
        claim("TD's distance to its fixed point A⁻¹b", "none", f"{off:.3f} at most", off < 0.05 * scale**0.5),
        claim("value error of TD's limit, Monte Carlo's", "worse", f"{errors:.5f}, {bound:.5f}", errors > bound),
        claim("best n", "intermediate", f"{n:g}", 2 <= n <= 16),
        claim(
            "lowest errors of n = 1, best n, n = 512",
            "best n lowest",
            f"{ends[1]:.3f}, {error:.3f}, {ends[512]:.3f}",
            error < min(ends.values()) - 0.02,
        ),
        shown("runs of 10 episodes", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 9.2: bootstrapping with state aggregation, 1000 states")
