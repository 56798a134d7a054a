"""The mountain car's cost-to-go, learnt with tile coding: optimism alone explores, and a spiral of values results.

Sutton & Barto (2018), Reinforcement learning, figure 10.1: one run of semi-gradient Sarsa with ε = 0 (example 10.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.figures.figure import Figure, Row, claim, shown
from gridzero.figures.mountain_car import HIGH, LOW, Car
from gridzero.plotting.figure import canvas

STEP_SIZE = 0.5 / 8
FIRST_STEPS = 428
LIMITS = (LOW[0], HIGH[0])
EPISODES = (12, 104, 1000, 9000)


def make(seed: int, episodes: tuple[int, ...] = EPISODES) -> Figure:
    """Surfaces of the cost-to-go after 428 steps and after some episodes of one run."""
    car = Car(1, STEP_SIZE, seed)
    first = car.drive(1, limit=FIRST_STEPS)
    surfaces = {f"step {FIRST_STEPS}": car.cost_to_go()}
    unfinished = int(first[0]) == FIRST_STEPS
    early = surfaces[f"step {FIRST_STEPS}"][2]
    car, done = Car(1, STEP_SIZE, seed), 0
    for number in episodes:
        lengths = car.drive(number - done)
        done = number
        surfaces[f"episode {number:,}"] = car.cost_to_go()
    picture = canvas(12.0, 7.2)
    _draw_mountain(picture.add_subplot(2, 3, 1))
    for i, (title, (positions, velocities, cost)) in enumerate(surfaces.items()):
        axes = picture.add_subplot(2, 3, i + 2, projection="3d")
        axes.plot_surface(*np.meshgrid(positions, velocities), cost, cmap="viridis", lw=0)
        axes.set(xlabel="position", ylabel="velocity", title=title)
        axes.set_zlabel("cost-to-go")
        axes.set_xticks([-1.2, -0.35, 0.5])
        axes.set_yticks([-0.07, 0.0, 0.07])
        axes.set_box_aspect(None, zoom=0.85)
    positions, velocities, cost = surfaces[f"episode {episodes[-1]:,}"]
    start = cost[np.abs(velocities).argmin(), np.abs(positions + 0.5).argmin()]
    steps = float(lengths[-100:].mean())
    right = cost[velocities > 0.05][:, positions > 0.3].max()
    rows: list[Row] = [
        claim(f"an episode is over by step {FIRST_STEPS}", "no", "no" if unfinished else "yes", unfinished),
        claim(
            "then: states worse than those never visited",
            "the visited ones",
            f"{(early > 0).mean():.0%} worse, none better",
            bool(early.min() >= 0 and 0.02 < (early > 0).mean() < 0.9),
        ),
        claim(
            "in the end: cost-to-go of the start, steps taken",
            "the same",
            f"{start:.0f}, {steps:.0f}",
            abs(start - steps) < 0.15 * steps,
        ),
        claim("and where the car is fast and near the goal", "little", f"{right:.1f} at most", right < 20),
        shown("highest cost-to-go", ", ".join(f"{surface[2].max():.0f}" for surface in surfaces.values())),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 10.1: cost-to-go of the mountain car")


def _draw_mountain(axes: Any) -> None:
    """The mountain, where the car begins, and the goal."""
    positions = np.linspace(*LIMITS, 200)
    axes.plot(positions, np.sin(3 * positions), color="0.3")
    begins = np.linspace(-0.6, -0.4, 20)
    axes.plot(begins, np.sin(3 * begins) + 0.06, lw=5, color="tab:blue", solid_capstyle="round")
    axes.annotate("start", (-0.5, -0.85), ha="center")
    axes.plot(LIMITS[1], np.sin(3 * LIMITS[1]) + 0.08, "*", ms=14, color="tab:orange")
    axes.annotate("goal", (LIMITS[1] - 0.05, np.sin(3 * LIMITS[1])), ha="right")
    axes.set(xlabel="position", title="mountain car", ylim=(-1.2, 1.3), yticks=[])
