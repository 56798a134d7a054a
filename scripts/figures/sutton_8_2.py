"""Planning makes Dyna-Q find the way through a maze in a few episodes.

Sutton & Barto (2018), Reinforcement learning, figure 8.2 (example 8.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import GridWorld
from gridzero.figures.figure import Figure, Row, claim, compare, panels, shown
from gridzero.figures.repetitions import FloatArray

EPISODES, RUNS = 50, 30
PLANNING = {0: "tab:blue", 5: "tab:green", 50: "tab:red"}
SHORT = 20
"""Steps of an episode from which on the text's "about optimal" is counted: 14 are the fewest, ε costs some more."""


def make(seed: int) -> Figure:
    """Steps an episode, a curve for each number of planning steps."""
    curves = {n: np.mean([lengths(n, seed + run) for run in range(RUNS)], axis=0) for n in PLANNING}
    picture, (axes,) = panels(1, width=6.4, height=4.0)
    for n, color in PLANNING.items():
        axes.plot(range(2, EPISODES + 1), curves[n][1:], color=color, label=f"{n} planning steps")
    axes.axhline(14, color="0.5", lw=0.8, ls="--", label="shortest way")
    axes.set(
        xlabel="episodes (from the second on)",
        ylabel="steps an episode",
        ylim=(0, 800),
        title=f"Dyna-Q, α = 0.1, ε = 0.1, γ = 0.95; mean of {RUNS} runs",
    )
    axes.legend()
    reached = {n: first_below(curve, SHORT) for n, curve in curves.items()}
    second = {n: float(curve[1]) for n, curve in curves.items()}
    first = float(np.mean([curve[0] for curve in curves.values()]))
    world = GridWorld(layout="dyna-maze", reward_step=-1, reward_boundary=-1, reward_target=-1).mdp
    walk = -float(world.start @ world.policy_values(np.full(world.rewards.shape, 0.25), 1.0))
    rows: list[Row] = [
        compare("no planning: episodes until about optimal", 25, reached[0], 6),
        compare("5 planning steps: episodes until about optimal", 5, reached[5], 2),
        compare("50 planning steps: episodes until about optimal", 3, reached[50], 1),
        claim(
            "second episode with 0, 5 and 50",
            "ever shorter",
            ", ".join(f"{steps:.0f}" for steps in second.values()),
            second[0] > second[5] > second[50],
        ),
        shown("first episode (book: about 1,700; its ties are not said to be random)", f"{first:.0f} steps"),
        shown("mean steps of a random walk, from the model", f"{walk:.0f}"),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 8.2: Dyna-Q in a maze")


def first_below(curve: FloatArray, steps: float) -> int:
    """The first episode, counted from 1, whose mean length is at most so many steps."""
    return int((curve <= steps).argmax()) + 1


def lengths(planning_steps: int, seed: int) -> FloatArray:
    """(E,) steps of each episode of one run."""
    agent: Any = make_agent(
        "dyna-q",
        GridWorld(layout="dyna-maze"),
        planning_steps=planning_steps,
        gamma=0.95,
        step_size="0.1",
        epsilon="0.1",
        steps_per_update=1,
        seed=seed,
    )
    found: list[float] = []
    for update in agent.learn():
        if "episode_length" in update.metrics:
            found.append(update.metrics["episode_length"])
            if len(found) == EPISODES:
                break
    return np.array(found)
