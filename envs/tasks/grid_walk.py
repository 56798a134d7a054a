"""Walking through a grid world that is drawn as text, one move a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import numpy as np

from gridzero.envs.grid.layouts.generators import DENSITY
from gridzero.envs.tasks.grid_path import MOVES, GridPath, World, world_of
from gridzero.envs.tasks.task import CommonOptions, Problem, Verdict, check_integer


class _Walk(NamedTuple):
    world: World
    state: int
    moves: str
    well_formed: bool
    reason: str


class GridWalk(GridPath):
    r"""Reaching G from S within a number of turns; each completion is one move, each reply the map as it is then.

    The moves are those of :class:`GridPath`. On the map of a reply, S is where the walker stands. An answer that is not
    one move leaves it there, and costs a turn. The episode is right when the target is reached.

    The work says for each move how far the target is after it, ``#`` for a move that a wall or the edge stops:
    ``U#,R2,D4,L#``.

    Args:
        height: rows, 2 to 10.
        width: columns, 2 to 10.
        kind: as for :class:`GridPath`.
        density: as for :class:`GridPath`.
        turns: how many moves there are, 1 to 100; every problem can be solved in them.
        pixels: as for :class:`GridPath`; each reply then shows a picture.
        transcribe: as for :class:`GridPath`.
        common: see :class:`Task`.

    Example:
        >>> task = GridWalk(template="plain")
        >>> problem = Problem("S.#\n..G", "R")
        >>> print(task.reply(problem, ["R"]))
        <BLANKLINE>
        .S#
        ..G
        <BLANKLINE>
        >>> task.reply(problem, ["R", "D", "R"])
        >>> task.judge(problem, ["R", "D", "R"])
        Verdict(correct=True, well_formed=True, answer='RDR', reason='it reaches the target in 3 moves')
    """

    name = "grid-walk"
    explanation = (
        "On this map S is where you are, G the target, . free and # a wall. Answer with one move, U for up, R for "
        "right, D for down or L for left; you will see the map after it, until you reach G:"
    )
    characters = "0123456789.#SGURDL\n,"

    def __init__(
        self,
        *,
        height: int = 4,
        width: int = 4,
        kind: str = "obstacles",
        density: float = DENSITY,
        turns: int = 12,
        pixels: int = 0,
        transcribe: bool = False,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            height=height,
            width=width,
            kind=kind,
            density=density,
            pixels=pixels,
            transcribe=transcribe,
            search=False,
            **common,
        )
        self.turns = check_integer("turns", turns, 1, 100)

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        problem = super().generate(rng)
        return Problem(problem.question, problem.reference[0])

    def solvable(self, question: str) -> bool:
        """Whether the start leads to the target in time."""
        return super().solvable(question) and world_of(question).distances[world_of(question).start] <= self.turns

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:
        """Whether this one move reaches the target."""
        world = world_of(problem.question)
        if len(answer) != 1 or answer not in MOVES:
            return False, f"the answer is not one of the moves {' '.join(MOVES)}"
        if world.distances[world.next_states[world.start][MOVES.index(answer)]] == 0:
            return True, "right"
        return False, "it does not reach the target"

    def reply(self, problem: Problem, completions: Sequence[str]) -> str | None:
        """The map after the moves so far; None once the target is reached or the turns are used up."""
        walk = self._walk(problem, completions)
        if len(completions) >= self.turns or walk.world.distances[walk.state] == 0:
            return None
        return self.template.next_prompt("" if self.pixels else self._drawn(problem, walk))

    def judge(self, problem: Problem, completions: Sequence[str]) -> Verdict:
        """Right when the target is reached; well-formed when every completion is."""
        walk = self._walk(problem, completions)
        reached = walk.world.distances[walk.state] == 0
        count = len(walk.moves)
        outcome = f"it reaches the target in {count} moves" if reached else f"no target after {count} moves"
        reason = f"{outcome}; {walk.reason}" if walk.reason else outcome
        return Verdict(reached, walk.well_formed, walk.moves, reason)

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        walk = self._walk(problem, completions)
        after = walk.world.next_states[walk.state]
        steps = ["#" if state == walk.state else str(walk.world.distances[state]) for state in after]
        work = ",".join(letter + far for letter, far in zip(MOVES, steps, strict=True))
        given = self.given(problem, completions)
        return f"{given}\n{work}" if given else work

    def guess(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        return self.answer(problem, completions)

    def answer(self, problem: Problem, completions: Sequence[str] = ()) -> str:
        """The best move after those so far."""
        walk = self._walk(problem, completions)
        if walk.world.distances[walk.state] <= 0:
            raise ValueError("the walk is over")
        return MOVES[walk.world.best_move(walk.state)]

    def _walk(self, problem: Problem, completions: Sequence[str]) -> _Walk:
        world = world_of(problem.question)
        state, moves, well_formed, reason = world.start, "", True, ""
        for completion in completions[: self.turns]:
            if world.distances[state] == 0:
                break
            extraction = self.template.extract(completion)
            well_formed &= extraction.well_formed
            answer = extraction.answer or ""
            if len(answer) == 1 and answer in MOVES:
                state = world.next_states[state][MOVES.index(answer)]
                moves += answer
                reason = reason or extraction.reason
            else:
                moves += "?"
                reason = reason or extraction.reason or "an answer was not one move"
        return _Walk(world, state, moves, well_formed, reason)

    def drawn(self, problem: Problem, completions: Sequence[str]) -> str:
        """The map as text, with S where the walker stands."""
        return self._drawn(problem, self._walk(problem, completions))

    def _drawn(self, problem: Problem, walk: _Walk) -> str:
        cells = list(problem.question.replace("S", "."))
        row, column = divmod(walk.state, walk.world.width)
        cells[row * (walk.world.width + 1) + column] = "S"
        return "".join(cells)
