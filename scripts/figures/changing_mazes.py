"""Dyna-Q and Dyna-Q+ in a maze that changes on the way, for the figures of two such mazes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import GridWorld
from gridzero.figures.figure import Row, claim, panels
from gridzero.figures.repetitions import FloatArray

EVERY = 25
"""Steps between two points of a curve."""
RUNS, PLANNING_STEPS = 30, 10
LEARNERS: dict[str, dict[str, Any]] = {"dyna-q-plus": {"bonus": 1e-3}, "dyna-q": {}}


@dataclass(frozen=True)
class ChangingMaze:
    """A maze that becomes another one.

    Attributes:
        layout: the maze at first.
        change: after how many steps it becomes another.
        edits: tiles by (row, column) that it has then.
        steps: in all.
    """

    layout: str
    change: int
    edits: Mapping[tuple[int, int], str]
    steps: int

    def earned(self, name: str, seed: int) -> FloatArray:
        """(1 + steps / EVERY,) what a run of a learner has earned by then; each episode's end pays 1."""
        world = GridWorld(layout=self.layout)
        agent: Any = make_agent(
            name,
            world,
            planning_steps=PLANNING_STEPS,
            model_outcomes=1,
            gamma=0.95,
            step_size="1",
            epsilon="0.1",
            steps_per_update=EVERY,
            seed=seed,
            **LEARNERS[name],
        )
        earned, waiting = [0], True
        for update in agent.learn():
            earned.append(agent.interaction.episodes)
            if update.step >= self.steps:
                break
            free = divmod(world.cell, world.layout.cells.shape[1]) not in self.edits
            if waiting and free and update.step >= self.change:
                for (row, column), tile in self.edits.items():
                    world.edit(row, column, tile)
                waiting = False
        return np.array(earned, dtype=np.float64)

    def rewards(self, seed: int) -> dict[str, FloatArray]:
        """(R, 1 + steps / EVERY) what each run has earned by then, for each learner."""
        return {name: np.array([self.earned(name, seed + run) for run in range(RUNS)]) for name in LEARNERS}

    def draw(self, curves: Mapping[str, FloatArray]) -> Any:
        """A picture of mean cumulative rewards."""
        picture, (axes,) = panels(1, width=6.4, height=4.0)
        for name, color in zip(LEARNERS, ("tab:red", "tab:blue"), strict=True):
            axes.plot(EVERY * np.arange(len(curves[name])), curves[name], color=color, label=name)
        axes.axvline(self.change, color="0.5", ls="--", lw=0.8, label="the maze changes")
        title = f"{self.layout.replace('-', ' ')}, {PLANNING_STEPS} planning steps; mean of {RUNS} runs"
        axes.set(xlabel="steps", ylabel="cumulative reward", title=title)
        axes.legend()
        return picture

    def compared(self, curves: Mapping[str, FloatArray]) -> Row:
        """The row of the mean cumulative rewards in the end."""
        plus, plain = (float(curves[name][-1]) for name in LEARNERS)
        quantity = f"Dyna-Q+ against Dyna-Q after {self.steps:,} steps"
        return claim(quantity, "more", f"{plus:.0f} against {plain:.0f}", plus > plain)


def mean_rate(curve: FloatArray, start: int, end: int) -> float:
    """Episodes in 1,000 steps between two times in steps."""
    return float(curve[end // EVERY] - curve[start // EVERY]) / (end - start) * 1000
