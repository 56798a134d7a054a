"""Fourier features learn better than polynomials of the same order.

Sutton & Barto (2018), Reinforcement learning, figure 9.5: gradient Monte Carlo on the 1000-state random walk.
"""

from __future__ import annotations

import numpy as np

from gridzero.agents.tabular.features import Features, Fourier
from gridzero.figures.figure import Figure, Row, claim, panels, shown
from gridzero.figures.thousand_states import POLICY, WALK, draw_errors, exact
from gridzero.figures.walks import Task, draw_walks

RUNS, EPISODES = 30, 5000
ORDERS = (5, 10, 20)
STEP_SIZES = {"polynomial": 1e-4, "Fourier": 5e-5}
POSITIONS = np.clip(np.arange(1002) / 1000, 0, 1)[:, None]


def make(seed: int, runs: int = RUNS, episodes: int = EPISODES) -> Figure:
    """Root of the value error after each episode, the mean of the runs."""
    values, distribution = exact()
    walks = draw_walks(WALK, POLICY, runs * episodes, seed)
    picture, (axes,) = panels(1, width=6.4, height=4.4)
    curves = {}
    for kind, step_size in STEP_SIZES.items():
        for order in ORDERS:
            features = powers(order) if kind == "polynomial" else Fourier(1, order)(POSITIONS)
            task = Task(walks, runs, features, np.zeros(order + 1), values, distribution)
            curves[kind, order] = task.return_errors(1.0, step_size).mean(axis=0)
    draw_errors(axes, {f"{kind}, order {order}": errors for (kind, order), errors in curves.items()}, f"{runs} runs")
    ends = {key: float(errors[-100:].mean()) for key, errors in curves.items()}
    rows: list[Row] = []
    for order in ORDERS:
        polynomial, fourier = ends["polynomial", order], ends["Fourier", order]
        rows.append(
            claim(
                f"order {order}, polynomial and Fourier at the end",
                "Fourier lower",
                f"{polynomial:.3f}, {fourier:.3f}",
                fourier < polynomial,
            )
        )
    return Figure(
        picture,
        [*rows, shown("runs", str(runs))],
        "Sutton & Barto, figure 9.5: Fourier and polynomial features on the 1000-state random walk",
    )


def powers(order: int) -> Features:
    """The features s⁰ … sᵒʳᵈᵉʳ of section 9.5.1, the states scaled from 0 to 1."""
    return Features(np.tile(np.arange(order + 1), (len(POSITIONS), 1)), POSITIONS ** np.arange(order + 1))
