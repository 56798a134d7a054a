"""Shortest paths on a grid world that is drawn as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.grid.layouts.generators import DENSITY, Generator
from gridzero.envs.grid.layouts.layout import Layout
from gridzero.envs.grid.layouts.tiles import DEFAULT_LEGEND, FREE, START, TARGET
from gridzero.envs.tasks import pictures
from gridzero.envs.tasks.numbers import shown
from gridzero.envs.tasks.task import PATIENCE, CommonOptions, Problem, Task, check_boolean, check_integer

if TYPE_CHECKING:
    from gridzero.envs.grid.model import GridModel

MOVES = "URDL"
"""Letters of the four actions of ``GridWorld``, in their order."""
FAR = -1
_LEGEND = DEFAULT_LEGEND[:4]  # free, wall, start, target
_INDICES = {tile.symbol: index for index, tile in enumerate(_LEGEND)}


@dataclass(frozen=True)
class World:
    """A map, under the dynamics of ``GridWorld``.

    Attributes:
        width: columns; a state is row · width + column.
        start: the state to start from.
        next_states: where each of the four moves leads from each state.
        distances: how many moves each state is from the target; -1 where it cannot be reached.
    """

    width: int
    start: int
    next_states: tuple[tuple[int, ...], ...]
    distances: tuple[int, ...]

    def best_move(self, state: int) -> int:
        """The first of the moves that lead closer to the target."""
        closer = self.distances[state] - 1
        return next(move for move, after in enumerate(self.next_states[state]) if self.distances[after] == closer)

    def shortest_path(self) -> str:
        """A shortest path from the start: the first of the best moves each time."""
        state, path = self.start, ""
        while self.distances[state] > 0:
            move = self.best_move(state)
            state, path = self.next_states[state][move], path + MOVES[move]
        return path


@lru_cache(maxsize=1024)
def world_of(text: str) -> World:
    """The world that a map's text draws."""
    from gridzero.envs.grid import move_kernels

    cells = np.array([[_INDICES[symbol] for symbol in row] for row in text.split("\n")], dtype=np.uint8)
    model = _example()
    words = np.empty((cells.size, len(MOVES)), dtype=np.uint64)
    move_kernels.compile_moves(cells, model.rules.directions, model.table.tiles, model.offsets, model.members, words)
    distances = move_kernels.distances_to(words, cells.reshape(-1) == TARGET)
    return World(
        cells.shape[1],
        int((cells == START).argmax()),
        tuple(map(tuple, (words & move_kernels.LOW).astype(np.int64).tolist())),
        tuple(distances.tolist()),
    )


@lru_cache(maxsize=1)
def _example() -> GridModel:
    """A model under the rules of all worlds."""
    from gridzero.envs.grid.model import GridModel, Rules

    return GridModel(Layout(np.array([[START, TARGET]]), _LEGEND), Rules())


class GridPath(Task):
    r"""The moves of a shortest path from S to G on a map with walls, ``RRDD``.

    The question is the map as :class:`~gridzero.envs.Layout` reads it; the answer is letters, U, R, D, L, with
    nothing between them. The dynamics of :class:`~gridzero.envs.grid.world.GridWorld` judge it: it is right when its
    last move, and none before, enters the target, and no shorter path does. Any shortest path is right.

    The work is a breadth-first search from the target that is written down, so that each token follows from a few near
    it: the map again and again, each row after its number, until the start has a move. Each time the free cells beside
    those that have one get the move to them. Then it follows the moves from the start, naming each place by two digits,
    row and column. On ``S.#`` above ``..G``: ``0S.#1.RG0SD#1RRG0RD#1RRG:00R01D11R12``.

    With ``pixels`` the map is shown as a picture, and the text does not have it.

    Args:
        height: rows, 2 to 10.
        width: columns, 2 to 10.
        kind: how walls are laid: "obstacles", "maze", "rooms" or "empty"; see
            :class:`~gridzero.envs.grid.layouts.generators.Generator`. Start and target lie anywhere,
            with a way between them.
        density: for "obstacles", the probability of a wall.
        pixels: the side of a tile in a picture of the map, an even number up to 64; 0: the map is text.
        transcribe: whether thoughts begin with the map as text; the share that is right is reported, as "transcribed".
        search: whether the work shows how the path is found; without, it names the places of start and target, then
            each move and the place it leads to: ``00>12:R01D11R12``.
        common: see :class:`Task`.

    Example:
        >>> task = GridPath()
        >>> problem = Problem("S.#\n..G", "RDR")
        >>> for answer in ("DRR", "UDRR", "RRDD", "R"):
        ...     task.check(problem, answer)
        (True, 'right')
        (False, 'it reaches the target in 4 moves, a shortest path in 3')
        (False, 'it does not reach the target')
        (False, 'it does not reach the target')
    """

    name = "grid-path"
    explanation = (
        "On this map S is the start, G the target, . free and # a wall. Write the moves of a shortest path from S to G "
        "as letters, U for up, R for right, D for down, L for left, with nothing between them:"
    )
    characters = "0123456789.#SGURDL\n>:"

    def __init__(
        self,
        *,
        height: int = 4,
        width: int = 4,
        kind: str = "obstacles",
        density: float = DENSITY,
        pixels: int = 0,
        transcribe: bool = False,
        search: bool = True,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        self.height = check_integer("height", height, 2, 10)
        self.width = check_integer("width", width, 2, 10)
        self.generator = Generator(kind, height, width, density=density)
        self.kind, self.density = kind, density
        self.pixels = check_integer("pixels", pixels, 0, pictures.LARGEST)
        if self.pixels % 2:
            raise ValueError(f"pixels must be even, not {pixels}")
        self.transcribe, self.search = check_boolean("transcribe", transcribe), check_boolean("search", search)
        self.measured = ("transcribed",) if transcribe else ()
        if self.pixels:
            self.picture_shape = (self.height * self.pixels, self.width * self.pixels, 3)
            self.picture_tile = self.pixels

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        for _ in range(PATIENCE):
            cells = self.generator.with_seed(int(rng.integers(2**63))).cells()
            cells[(cells == START) | (cells == TARGET)] = FREE
            start, target = rng.choice(np.flatnonzero(cells == FREE), size=2, replace=False)
            cells.flat[start], cells.flat[target] = START, TARGET
            question = "\n".join("".join(DEFAULT_LEGEND[cell].symbol for cell in row) for row in cells)
            if self.solvable(question):
                return Problem(question, world_of(question).shortest_path())
        raise ValueError(f"{self.generator} hardly ever has two places that are connected")

    def solvable(self, question: str) -> bool:
        """Whether the start leads to the target."""
        world = world_of(question)
        return world.distances[world.start] != FAR

    def picture(self, problem: Problem, completions: Sequence[str] = ()) -> NDArray[np.uint8]:
        """The map, each cell a tile.

        Raises:
            ValueError: without ``pixels``.
        """
        if self.picture_shape is None:
            raise ValueError("the map is shown as text; pixels=8 makes pictures")
        return pictures.map_picture(self.drawn(problem, completions), self.pixels)

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        wrong = answer.strip(MOVES)
        if wrong:
            return False, f"{shown(wrong[0])} is not one of the moves {' '.join(MOVES)}"
        world = world_of(problem.question)
        state = world.start
        for count, letter in enumerate(answer, 1):
            state = world.next_states[state][MOVES.index(letter)]
            if world.distances[state] == 0:
                if count < len(answer):
                    return False, f"it goes on after reaching the target in {count} moves"
                shortest = world.distances[world.start]
                if count > shortest:
                    return False, f"it reaches the target in {count} moves, a shortest path in {shortest}"
                return True, "right"
        return False, "it does not reach the target"

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        world = world_of(problem.question)
        state, steps = world.start, []
        for letter in problem.reference:
            state = world.next_states[state][MOVES.index(letter)]
            steps.append(letter + _place(world, state))
        start = _place(world, world.start)
        head = f"{_searched(problem.question)}:{start}" if self.search else f"{start}>{_place(world, state)}:"
        work = head + "".join(steps)
        given = self.given(problem, completions)
        return f"{given}\n{work}" if given else work

    def given(self, problem: Problem, completions: Sequence[str] = ()) -> str:
        """The map as text, with ``transcribe``."""
        return self.drawn(problem, completions) if self.transcribe else ""

    def guess(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """Some moves towards the target as if there were no walls; nobody counted them."""
        world = world_of(problem.question)
        target = next(state for state, distance in enumerate(world.distances) if distance == 0)
        (row, column), (from_row, from_column) = (divmod(state, world.width) for state in (target, world.start))
        letters = ["D" if row > from_row else "U", "R" if column > from_column else "L"]
        return "".join(rng.choice(letters, size=rng.integers(1, self.height + self.width - 1)))


def _searched(text: str) -> str:
    r"""Maps of a breadth-first search from the target, as :class:`GridPath` writes them.

    >>> _searched("S.#\n..G")
    '0S.#1.RG0SD#1RRG0RD#1RRG'
    """
    world = world_of(text)
    cells, written = list(text.replace("\n", "")), []
    for steps in range(1, world.distances[world.start] + 1):
        for state in (state for state, distance in enumerate(world.distances) if distance == steps):
            cells[state] = MOVES[world.best_move(state)]
        rows = ("".join(cells[first : first + world.width]) for first in range(0, len(cells), world.width))
        written += [f"{number}{row}" for number, row in enumerate(rows)]
    return "".join(written)


def _place(world: World, state: int) -> str:
    row, column = divmod(state, world.width)
    return f"{row}{column}"


def transcription(problem: Problem, completions: Sequence[str]) -> list[float]:
    r"""The share of a map's cells that a completion writes down rightly, at the first place where it writes one.

    >>> transcription(Problem("S.#\n..G", "DRR"), ["<think>S.#\n..G\n00>12", "S..\n..#", "DRR"])
    [1.0, 0.6666666666666666, 0.0]
    """
    shares = []
    for completion in completions:
        begin = min((i for i in map(completion.find, pictures.SYMBOLS) if i >= 0), default=len(completion))
        written = completion[begin : begin + len(problem.question)]
        right = sum(a == b for a, b in zip(written, problem.question, strict=False) if b != "\n")
        shares.append(right / (len(problem.question) - problem.question.count("\n")))
    return shares


def transcribed(problem: Problem, completions: Sequence[str]) -> list[float]:
    r"""1 for a completion that writes all cells of a map down rightly; see :func:`transcription`.

    >>> transcribed(Problem("S.#\n..G", "DRR"), ["<think>S.#\n..G\n00>12", "S..\n..#", "DRR"])
    [1.0, 0.0, 0.0]
    """
    return [float(share == 1) for share in transcription(problem, completions)]
