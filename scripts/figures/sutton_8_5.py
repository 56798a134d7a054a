"""When a maze changes for the better, Dyna-Q+ finds the shortcut and Dyna-Q does not.

Sutton & Barto (2018), Reinforcement learning, figure 8.5 (example 8.3): after 3,000 steps a shorter way is opened, the
old one stays. The book does not say κ, α and the planning steps: 0.001, 1 and 10 here.
"""

from __future__ import annotations

from gridzero.figures.changing_mazes import EVERY, RUNS, ChangingMaze, mean_rate
from gridzero.figures.figure import Figure, Row, claim

CHANGE, STEPS = 3000, 6000
MAZE = ChangingMaze("shortcut-maze", CHANGE, {(3, 8): "."}, STEPS)
LAST = 1000
NEEDS = 16
"""Steps of the old way; the shortcut needs 10."""


def make(seed: int) -> Figure:
    """Cumulative rewards of both."""
    runs = MAZE.rewards(seed)
    curves = {name: earned.mean(axis=0) for name, earned in runs.items()}
    # More episodes than the old way could give, even without exploring.
    switched = {
        name: int((earned[:, -1] - earned[:, -1 - LAST // EVERY] > LAST / NEEDS).sum()) for name, earned in runs.items()
    }
    rates = {
        name: (mean_rate(curve, CHANGE - LAST, CHANGE), mean_rate(curve, STEPS - LAST, STEPS))
        for name, curve in curves.items()
    }
    rows: list[Row] = [
        claim(
            "runs of Dyna-Q that take the shortcut",
            "none",
            f"{switched['dyna-q']} of {RUNS}",
            switched["dyna-q"] == 0,
        ),
        claim(
            "runs of Dyna-Q+ that take the shortcut",
            "it does",
            f"{switched['dyna-q-plus']} of {RUNS}",
            switched["dyna-q-plus"] > 0.9 * RUNS,
        ),
        claim(
            "Dyna-Q: episodes in 1,000 steps before and after",
            "about the same",
            "{:.0f} and {:.0f}".format(*rates["dyna-q"]),
            abs(rates["dyna-q"][1] / rates["dyna-q"][0] - 1) < 0.1,
        ),
        claim(
            "Dyna-Q+: episodes in 1,000 steps before and after",
            "more after",
            "{:.0f} and {:.0f}".format(*rates["dyna-q-plus"]),
            rates["dyna-q-plus"][1] > 1.2 * rates["dyna-q-plus"][0],
        ),
        MAZE.compared(curves),
    ]
    return Figure(MAZE.draw(curves), rows, "Sutton & Barto, figure 8.5: Dyna-Q and Dyna-Q+ in the shortcut maze")
