"""The λ-return learns as well as the best n-step return, and both are best between one step and Monte Carlo.

Sutton & Barto (2018), Reinforcement learning, figure 12.3: the offline λ-return algorithm beside n-step TD.
"""

from __future__ import annotations

from gridzero.figures.figure import Figure, Row, claim, panels, shown
from gridzero.figures.nineteen_states import DECAYS, LENGTHS, RUNS, curves, draw_curves, lowest, task


def make(seed: int, runs: int = RUNS) -> Figure:
    """Error over the step size: a curve for each λ, and one for each n."""
    walks = task(seed, runs)
    returns, steps = curves(walks.return_errors, DECAYS), curves(walks.n_step_errors, LENGTHS)
    picture, (left, right) = panels(2, height=4.0)
    draw_curves(left, returns, "λ", "offline λ-return algorithm")
    draw_curves(right, steps, "n", "n-step TD")
    (decay, error), (n, n_error) = lowest(returns), lowest(steps)
    ends, n_ends = (min(found[key].min() for key in keys) for found, keys in ((returns, (0, 1)), (steps, (1, 512))))
    spread = 0.03 * (RUNS / runs) ** 0.5 - 0.03  # fewer runs agree less closely
    rows: list[Row] = [
        claim("best λ", "intermediate, 0.8 or 0.9", f"{decay:g}", decay in (0.8, 0.9)),
        claim("best n", "intermediate, 4", f"{n:g}", n in (2, 4, 8)),
        claim("lowest error with λ", "0.24 to 0.27", f"{error:.3f}", 0.24 - spread <= error <= 0.27 + spread),
        claim("and with n", "slightly higher", f"{n_error:.3f}", error - 0.002 < n_error < error + 0.03),
        claim("λ of 0 and 1", "higher", f"{ends:.3f}", ends > error + 0.05),
        claim("n of 1 and 512", "higher", f"{n_ends:.3f}", n_ends > n_error + 0.05),
        shown("runs of 10 episodes", str(runs)),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 12.3: λ-returns and n-step returns, 19-state random walk")
