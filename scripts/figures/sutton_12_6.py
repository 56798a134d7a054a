"""Traces do online what the λ-return does afterwards: TD(λ) is as good at small step sizes, and worse at large ones.

Sutton & Barto (2018), Reinforcement learning, figure 12.6: TD(λ) beside the offline λ-return algorithm; and figure
12.8: true online TD(λ), which is the online λ-return algorithm.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gridzero.agents.tabular.temporal_difference import TRACES
from gridzero.figures.figure import Figure, Row, claim, panels, shown
from gridzero.figures.nineteen_states import DECAYS, RUNS, STEP_SIZES, curves, draw_curves, lowest, task


def make(seed: int, runs: int = RUNS) -> Figure:
    """Error over the step size, a curve for each λ, of three algorithms."""
    walks = task(seed, runs)
    offline = curves(walks.return_errors, DECAYS)
    traced, online = (
        curves(partial(walks.trace_errors, kind=TRACES[name]), DECAYS) for name in ("accumulating", "dutch")
    )
    picture, axes = panels(3, columns=3, height=4.0)
    draw_curves(axes[0], traced, "λ", "TD(λ), accumulating traces (12.6)")
    draw_curves(axes[1], offline, "λ", "offline λ-return algorithm (12.6, 12.8)")
    draw_curves(axes[2], online, "λ", "true online TD(λ) (12.8)")
    small = np.flatnonzero(STEP_SIZES <= 0.02)
    apart = max(float(np.abs(traced[decay] - offline[decay])[small].max()) for decay in DECAYS if decay <= 0.95)
    large = {decay: float(traced[decay][-1] - offline[decay][-1]) for decay in (0.8, 0.9, 0.95)}
    (_, error), (best, online_error), (_, offline_error) = lowest(traced), lowest(online), lowest(offline)
    never_worse = all(online[decay].min() < offline[decay].min() + 0.003 for decay in DECAYS)
    rows: list[Row] = [
        claim("α to 0.02, λ to 0.95: TD(λ) and offline", "virtually identical", f"{apart:.3f} apart", apart < 0.02),
        claim("α = 1: TD(λ) above offline", "much", f"by {min(large.values()):.2g}", min(large.values()) > 0.1),
        claim(
            "lowest errors of the two", "alike", f"{error:.3f}, {offline_error:.3f}", abs(error - offline_error) < 0.02
        ),
        claim(
            "lowest error of true online TD(λ)",
            "slightly below offline",
            f"{online_error:.3f} at λ = {best:g}",
            offline_error - 0.03 < online_error < offline_error,
        ),
        claim("and at each λ", "no worse", "no worse" if never_worse else "worse", never_worse),
        shown("runs of 10 episodes", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figures 12.6 and 12.8: TD(λ) on the 19-state random walk")
