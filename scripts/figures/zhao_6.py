"""Mean estimation, the Robbins-Monro algorithm, and stochastic gradient descent with mini-batches.

Zhao (2025), Mathematical foundations of reinforcement learning, section 6.1 and figures 6.3 to 6.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents.tabular.stochastic_approximation import (
    mean_error,
    robbins_monro,
    stochastic_gradient,
)
from gridzero.figures.figure import Figure, Row, add_legend, claim, compare, panels, shown

RUNS = 1000
"""Repetitions from which probabilities are counted."""
SIDE = 20.0
BATCHES = (1, 5, 50)


def make(seed: int) -> Figure:
    """One path of each algorithm as in the book, and where many end."""
    rng = np.random.default_rng(seed)
    picture, (running, cubic, hyperbolic, descent) = panels(4)
    rows = [*_mean(running, rng), *_cubic(cubic, rng), *_hyperbolic(hyperbolic), *_descent(descent, rng)]
    for axes in (running, cubic, hyperbolic, descent):
        add_legend(axes, fontsize=8)
    return Figure(picture, rows, "Zhao, chapter 6: stochastic approximation")


def _mean(axes: Any, rng: np.random.Generator) -> list[Row]:
    samples = rng.normal(size=200)
    path = robbins_monro(mean_error(samples), 0.0, "1/k", steps=len(samples))[1:]
    axes.plot(samples, ".", color="0.7", label="samples")
    axes.plot(path, label="w, with steps 1/k")
    axes.axhline(0, color="0.3", lw=0.8)
    axes.set(xlabel="k", ylabel="w", title="6.1: estimating a mean, step by step")
    off = float(np.abs(path - samples.cumsum() / np.arange(1, 201)).max())
    return [claim("6.1: w differs from the mean of the samples so far", "by nothing", f"by {off:.1g}", off < 1e-9)]


def _cubic(axes: Any, rng: np.random.Generator) -> list[Row]:
    """The root of w³ - 5 in noise of deviation 1, from w = 0.

    With steps 1/k, as the text has it, the first one leads to about 5, where w³ throws nearly every path out. The
    published path begins as one with steps 1/(k + 1) does.
    """

    def noisy(w: Any, draw: np.random.Generator) -> Any:
        return w**3 - 5 + draw.normal(size=np.shape(w))

    found = {}
    for steps in ("1/k", "1/(k+1)"):
        with np.errstate(over="ignore", invalid="ignore"):
            paths = robbins_monro(noisy, np.zeros(RUNS), steps, steps=10_000, rng=rng)
        found[steps] = paths[:, np.isfinite(paths[-1])]
    paths = found["1/(k+1)"]
    axes.plot(paths[:51, 0], label="one path, steps 1/(k + 1)")
    axes.fill_between(range(51), *np.quantile(paths[:51], [0.05, 0.95], axis=1), alpha=0.2, label="nine of ten")
    axes.axhline(5 ** (1 / 3), color="0.3", lw=0.8, label="root")
    axes.set(xlabel="k", ylabel="w", title="6.3: root of w³ - 5 in noise")
    away = {steps: 1 - paths.shape[1] / RUNS for steps, paths in found.items()}
    near = _share(paths[-1])
    return [
        compare("6.3: mean of w after 10,000 steps 1/(k + 1)", 1.71, float(paths[-1].mean()), 0.01),
        claim("6.3: of the paths that stay, within 0.1 of the root", "all", f"{near:.1%}", near > 0.99),
        shown("6.3: paths that run away, steps 1/(k + 1)", f"{away['1/(k+1)']:.1%}"),
        shown("6.3: paths that run away, steps 1/k as in the text", f"{away['1/k']:.1%}"),
    ]


def _share(final: Any) -> float:
    return float((np.abs(final - 5 ** (1 / 3)) < 0.1).mean())


def _hyperbolic(axes: Any) -> list[Row]:
    path = robbins_monro(lambda w, rng: np.tanh(w - 1), 3.0, "1/k", steps=1000)
    line = np.linspace(0.5, 4, 100)
    axes.plot(line, np.tanh(line - 1), color="0.5", label="g(w) = tanh(w - 1)")
    axes.plot(path[:6], np.tanh(path[:6] - 1), "o", label="w at k = 1 … 6")
    axes.axhline(0, color="0.3", lw=0.8)
    axes.set(xlabel="w", ylabel="g(w)", title="6.4: without noise")
    falls = bool((np.diff(path) <= 0).all())
    return [
        compare("6.4: w after 1,000 steps", 1.0, float(path[-1]), 0.01),
        claim("6.4: w comes nearer with each step", "yes", "yes" if falls else "no", falls),
    ]


def _descent(axes: Any, rng: np.random.Generator) -> list[Row]:
    """The mean of 100 points in a square of side 20, from (-20, 20), with steps 1/k."""
    errors = {}
    for size in BATCHES:
        distances = []
        for _ in range(RUNS):
            points = rng.uniform(-SIDE / 2, SIDE / 2, size=(100, 2))
            measured = stochastic_gradient(lambda w, x: w - x, points, batch_size=size)
            path = robbins_monro(measured, np.array([-20.0, 20.0]), "1/k", steps=30, rng=rng)
            distances.append(np.linalg.norm(path - points.mean(axis=0), axis=1))
        errors[size] = np.mean(distances, axis=0)
        axes.plot(errors[size], ".-", label=f"{size} in a batch")
    axes.set(xlabel="k", ylabel="distance to the mean", title=f"6.5: mean of {RUNS} runs")
    one, five, fifty = (errors[size][1:] for size in BATCHES)
    order = bool((one > five).all() and (five > fifty).all())
    # After 30 steps 1/k it is the mean of 30 draws from the points, whose distance has Rayleigh's distribution.
    exact = float(np.sqrt(np.pi / 2 * SIDE**2 / 12 * 0.99 / 30))
    first = float(one[0])
    return [
        claim("6.5: larger batches are nearer at every step", "yes", "yes" if order else "no", order),
        claim("6.5: distance after one step, of 28.3", "in the neighbourhood", f"{first:.1f}", first < 10),
        compare("6.5: mean distance after 30 steps, one at a time, exact", exact, float(one[-1]), 0.1),
    ]
