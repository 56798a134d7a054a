"""When a maze changes for the worse, Dyna-Q+ finds the new way sooner than Dyna-Q.

Sutton & Barto (2018), Reinforcement learning, figure 8.4 (example 8.2): after 1,000 steps the way on the right is
blocked and a longer one on the left is open. The book does not say κ, α and the planning steps: 0.001, 1 and 10 here.
"""

from __future__ import annotations

from gridzero.figures.changing_mazes import EVERY, RUNS, ChangingMaze, mean_rate
from gridzero.figures.figure import Figure, Row, claim, shown

CHANGE, STEPS = 1000, 3000
MAZE = ChangingMaze("blocking-maze", CHANGE, {(3, 0): ".", (3, 8): "#"}, STEPS)


def make(seed: int) -> Figure:
    """Cumulative rewards of both."""
    runs = MAZE.rewards(seed)
    curves = {name: earned.mean(axis=0) for name, earned in runs.items()}
    before = {name: mean_rate(curve, 500, CHANGE) for name, curve in curves.items()}
    after = {name: mean_rate(curve, CHANGE, CHANGE + 200) for name, curve in curves.items()}
    late = {name: mean_rate(curve, STEPS - 500, STEPS) for name, curve in curves.items()}
    found = {name: int((earned[:, -1] > earned[:, -1 - 500 // EVERY]).sum()) for name, earned in runs.items()}
    rows: list[Row] = [
        claim(
            "episodes in 1,000 steps, 500 to 1,000",
            "both have found the short way (10 steps)",
            f"Dyna-Q+ {before['dyna-q-plus']:.0f}, Dyna-Q {before['dyna-q']:.0f}",
            min(before.values()) > 50,
        ),
        claim(
            "episodes in 1,000 steps, 1,000 to 1,200",
            "flat: none for a while",
            f"Dyna-Q+ {after['dyna-q-plus']:.0f}, Dyna-Q {after['dyna-q']:.0f}",
            max(after.values()) < 0.4 * min(before.values()),
        ),
        claim(
            "episodes in 1,000 steps, 2,500 to 3,000",
            "both rise again",
            f"Dyna-Q+ {late['dyna-q-plus']:.0f}, Dyna-Q {late['dyna-q']:.0f}",
            min(late.values()) > 10,
        ),
        shown(
            "runs that earn in these steps",
            f"Dyna-Q+ {found['dyna-q-plus']} of {RUNS}, Dyna-Q {found['dyna-q']} of {RUNS}",
        ),
        MAZE.compared(curves),
    ]
    return Figure(MAZE.draw(curves), rows, "Sutton & Barto, figure 8.4: Dyna-Q and Dyna-Q+ in the blocking maze")
