"""Expected Sarsa learns at any step size: early and late returns of three learners on the cliff.

Sutton & Barto (2018), Reinforcement learning, figure 6.3, after van Seijen et al. (2009). The book's late means are of
100,000 episodes, so that the first ones do not matter; here the first half is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import GridWorld
from gridzero.figures.figure import Figure, Row, claim, panels, shown
from gridzero.figures.repetitions import FloatArray, Repetitions, record

STEP_SIZES = np.arange(1, 11) / 10
EARLY, EARLY_RUNS = 100, 200
LATE, LATE_RUNS = 600, 30
LEARNERS = {"expected-sarsa": "tab:red", "sarsa": "tab:blue", "q-learning": "black"}


def make(seed: int) -> Figure:
    """Mean returns over the step size."""
    picture, (axes,) = panels(1, width=7.6, height=4.2)
    early, late = {}, {}
    for name, color in LEARNERS.items():
        curves = [mean_returns(name, alpha, EARLY, EARLY_RUNS, seed) for alpha in STEP_SIZES]
        early[name] = np.array([curve.mean() for curve in curves])
        curves = [mean_returns(name, alpha, LATE, LATE_RUNS, seed) for alpha in STEP_SIZES]
        late[name] = np.array([curve[LATE // 2 :].mean() for curve in curves])
        axes.plot(STEP_SIZES, late[name], "o-", ms=3, color=color, label=f"{name}, last {LATE // 2} of {LATE}")
        axes.plot(STEP_SIZES, early[name], "x--", ms=4, color=color, label=f"{name}, first {EARLY}")
    axes.set(xlabel="step size α", ylabel="return of an episode", ylim=(-160, 0), title="cliff walking, ε = 0.1")
    axes.legend(fontsize=7, title="episodes", loc="center left", bbox_to_anchor=(1, 0.5))
    flat = float(np.ptp(late["expected-sarsa"]))
    margins = early["expected-sarsa"] - np.maximum(early["sarsa"], early["q-learning"])
    rows: list[Row] = [
        claim(
            "expected Sarsa in the long run",
            "the same at each α",
            f"{late['expected-sarsa'].min():.1f} to {late['expected-sarsa'].max():.1f}",
            flat < 6,
        ),
        claim(
            "expected Sarsa at first, less the better of the others",
            "above 0 at each α",
            f"{margins.min():.1f} to {margins.max():.1f}",
            bool((margins > -1).all()),
        ),
        claim(
            "Sarsa in the long run",
            "falls as α grows",
            f"{late['sarsa'][0]:.1f} at 0.1, {late['sarsa'][-1]:.1f} at 1",
            late["sarsa"][0] - late["sarsa"][-1] > 20,
        ),
        claim(
            "Sarsa at α = 0.1 in the long run",
            "as expected Sarsa",
            f"{late['sarsa'][0] - late['expected-sarsa'][0]:+.1f}",
            abs(late["sarsa"][0] - late["expected-sarsa"][0]) < 5,
        ),
        claim(
            "Q-learning in the long run",
            "below expected Sarsa at each α",
            f"{late['q-learning'].min():.1f} to {late['q-learning'].max():.1f}",
            bool((late["q-learning"] < late["expected-sarsa"]).all()),
        ),
        shown(
            "runs and episodes", f"{EARLY_RUNS} of {EARLY}; {LATE_RUNS} of {LATE} (book: 50,000 of 100; 10 of 100,000)"
        ),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 6.3: expected Sarsa, Sarsa and Q-learning on the cliff")


def mean_returns(name: str, step_size: float, episodes: int, runs: int, seed: int) -> FloatArray:
    """(E,) mean returns of the first episodes of some runs."""
    env = Repetitions(GridWorld(layout="cliff").mdp, runs, episodes)
    agent: Any = make_agent(
        name, env, gamma=1.0, step_size=f"{step_size:g}", epsilon="0.1", steps_per_update=20 * runs, seed=seed
    )
    record(agent, env)
    return np.asarray(env.returns.mean(axis=0))
