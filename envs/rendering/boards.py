"""The grid of an environment: its cells, how they look, and where things are now.

Nothing here draws, and nothing touches an environment's generator.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.mdp import FiniteMDP
from gridzero.envs.rendering import colors
from gridzero.envs.rendering.colors import RGB

if TYPE_CHECKING:
    from gridzero.envs.grid.layouts.tiles import Tile

Move = tuple[int, int]
LARGEST_MAP = 10_000
"""Most cells of a map whose optimum is computed for the panel, within some hundredths of a second."""
STEP_LIMIT = 1000
"""Steps of the optimum where the environment has no time limit, as in evaluations."""


@dataclass(frozen=True)
class Face:
    """Appearance of a cell.

    Attributes:
        color: its fill where no heat map covers it, and the frame around it where one does.
        letter: shown in its corner.
        wind: (rows, columns) that every move from here is blown.
        reward: a reward of its own, shown in its corner.
    """

    color: RGB
    letter: str = ""
    wind: Move = (0, 0)
    reward: float | None = None


@dataclass(frozen=True)
class Ground:
    """Appearance of all cells.

    Attributes:
        faces: the kinds there are.
        kinds: (H, W) indices into ``faces``.
        solid: (H, W) bool, cells that carry no value (walls, cells where the episode ends): heat maps and arrows leave
            them out.
    """

    faces: tuple[Face, ...]
    kinds: NDArray[np.intp]
    solid: NDArray[np.bool_]


@dataclass(frozen=True)
class Marker:
    """A thing on a cell that comes and goes: a passenger, a destination."""

    row: int
    column: int
    color: RGB
    label: str


class Board(ABC):
    """The grid of one environment. A subclass says how to read that kind of environment.

    Attributes:
        env: the unwrapped environment.
        height: rows.
        width: columns.
        moves: (rows, columns) of each action; (0, 0) for one that does not move.
        labels: a letter for each action that does not move, "" for the others.
    """

    height: int
    width: int
    moves: tuple[Move, ...]
    labels: tuple[str, ...]

    def __init__(self, env: Any) -> None:
        self.env = env
        self._model: FiniteMDP | None = None

    def key(self) -> object:
        """Object that is replaced by another one when the cells look different."""
        return self.env

    @abstractmethod
    def ground(self) -> Ground:
        """Appearance of the cells at present."""

    def states(self) -> NDArray[np.intp]:
        """(H·W,) the state that each cell stands for now."""
        return np.arange(self.height * self.width)

    def position(self) -> int:
        """The cell that the agent is on, after a reset."""
        return int(self.env.s)

    def agents(self) -> list[int]:
        """The cells that agents are on; none before the first reset."""
        return [self.position()] if hasattr(self.env, "s") else []

    def success(self, reward: float, terminated: bool) -> bool:
        """Whether an episode that ended so was a success, where the environment does not say."""
        return terminated and reward > 0

    def expected_return(self, limit: int, policy: NDArray[np.float64] | None) -> float | None:
        """The expected return of a policy (S, A) within ``limit`` steps, by default of the best; None if not known."""
        mdp = self.model()
        if mdp is None or (policy is not None and policy.shape != (mdp.num_states, mdp.num_actions)):
            return None
        return float(mdp.start @ mdp.finite_horizon_values(limit, policy=policy))

    def model(self) -> FiniteMDP | None:
        """The exact model, where the environment has a table of transitions."""
        if self._model is None and not hasattr(self.env, "num_envs"):
            with contextlib.suppress(ValueError):
                self._model = FiniteMDP.from_env(self.env)
        return self._model

    def seen(self) -> NDArray[np.bool_] | None:
        """(H, W) what the agent sees; None where that is everything, or nothing that has a place."""
        return None

    def allowed(self) -> NDArray[np.bool_] | None:
        """(S, A) actions that masks allow; None where there are none."""
        return None

    def thin_walls(self) -> list[tuple[int, int]]:
        """(row, column) of each wall between a cell and the one to its right."""
        return []

    def markers(self) -> list[Marker]:
        """Things on cells."""
        return []


class FrozenLakeBoard(Board):
    """Gymnasium's FrozenLake, any map."""

    moves = ((0, -1), (1, 0), (0, 1), (-1, 0))
    labels = ("", "", "", "")

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.height, self.width = env.desc.shape

    def ground(self) -> Ground:
        """Ice, start, holes and goal."""
        faces = (Face(colors.ICE), Face(colors.ICE, "S"), Face(colors.WATER), Face(colors.TARGET, "G"))
        kinds = sum((self.env.desc == letter) * index for index, letter in enumerate((b"F", b"S", b"H", b"G")))
        return Ground(faces, np.asarray(kinds), np.isin(self.env.desc, (b"H", b"G")))


class CliffWalkingBoard(Board):
    """Gymnasium's CliffWalking."""

    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    labels = ("", "", "", "")

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.height, self.width = env.shape

    def ground(self) -> Ground:
        """Floor, cliff, start and goal, which is the last cell."""
        faces = (Face(colors.FLOOR), Face(colors.PIT), Face(colors.FLOOR, "S"), Face(colors.TARGET, "G"))
        kinds = np.array(self.env._cliff, dtype=np.intp)
        kinds.flat[int(self.env.start_state_index)] = 2
        kinds.flat[-1] = 3
        return Ground(faces, kinds, (kinds == 1) | (kinds == 3))

    def success(self, reward: float, terminated: bool) -> bool:
        """Only the goal ends an episode."""
        return terminated


class TaxiBoard(Board):
    """Gymnasium's Taxi: the slice of its 500 states with the passenger and the destination as they are now."""

    height = width = 5
    moves = ((1, 0), (-1, 0), (0, 1), (0, -1), (0, 0), (0, 0))
    labels = ("", "", "", "", "P", "D")
    _DEPOTS: tuple[RGB, ...] = ((214, 69, 65), (60, 150, 90), (205, 160, 20), (58, 110, 190))

    def ground(self) -> Ground:
        """Floor, and the four depots."""
        depots = [
            Face(colors.mix(color, colors.FLOOR, 0.55), letter)
            for color, letter in zip(self._DEPOTS, "RGYB", strict=True)
        ]
        kinds = np.zeros((5, 5), dtype=np.intp)
        for index, place in enumerate(self.env.locs, start=1):
            kinds[place] = index
        return Ground((Face(colors.FLOOR), *depots), kinds, np.zeros((5, 5), dtype=np.bool_))

    def _now(self) -> tuple[int, int, int, int]:
        row, column, passenger, destination = self.env.decode(int(getattr(self.env, "s", 0)))
        return int(row), int(column), int(passenger), int(destination)

    def states(self) -> NDArray[np.intp]:
        """The taxi on each cell, the rest as it is; once the passenger has arrived, as it was on the way."""
        _, _, passenger, destination = self._now()
        passenger = 4 if passenger == destination else passenger
        return np.arange(25) * 20 + passenger * 4 + destination

    def position(self) -> int:
        """The taxi's cell."""
        return int(self.env.s) // 20

    def thin_walls(self) -> list[tuple[int, int]]:
        """The bars of the map."""
        inner = self.env.desc[1:6, 2:10:2]
        return [(int(row), int(column)) for row, column in np.argwhere(inner == b"|")]

    def markers(self) -> list[Marker]:
        """The passenger, waiting or aboard, and the destination."""
        if not hasattr(self.env, "s"):
            return []
        row, column, passenger, destination = self._now()
        place = self.env.locs[passenger] if passenger < 4 else (row, column)
        goal = self.env.locs[destination]
        return [
            Marker(goal[0], goal[1], self._DEPOTS[destination], "destination"),
            Marker(place[0], place[1], colors.INK, "passenger"),
        ]


class GridWorldBoard(Board):
    """gridzero's own grid worlds, scalar or vector."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.height, self.width = env.layout.cells.shape
        self.moves = tuple((rows, columns) for rows, columns in env.rules.directions[: env.rules.actions].tolist())
        self.labels = ("",) * len(self.moves)

    def key(self) -> object:
        """The layout: an edit and a new map put another in its place."""
        return self.env.layout

    def ground(self) -> Ground:
        """Appearance of the cells by the legend of the layout."""
        layout = self.env.layout
        faces = tuple(self.face(tile) for tile in layout.legend)
        solid = self.env.mdp.terminal[: layout.cells.size].reshape(layout.cells.shape)
        return Ground(faces, layout.cells.astype(np.intp), solid)

    def position(self) -> int:
        """The agent's cell."""
        return int(self.env.cell)

    def agents(self) -> list[int]:
        """One cell, or one for each environment of a vector."""
        if not hasattr(self.env, "num_envs"):
            return [self.position()]
        cells: list[int] = self.env.cells.tolist()
        return cells

    def model(self) -> FiniteMDP | None:
        """The model of the map as it is now; None beyond ``LARGEST_MAP`` cells."""
        if self.height * self.width > LARGEST_MAP:
            return None
        mdp: FiniteMDP = self.env.mdp
        return mdp

    def seen(self) -> NDArray[np.bool_] | None:
        """(H, W) the window of the observation around the agent; None for other observations."""
        size = getattr(self.env.observer, "size", None)
        cells = self.agents()
        if size is None or len(cells) != 1:
            return None
        row, column = divmod(cells[0], self.width)
        rows, columns = np.ogrid[: self.height, : self.width]
        return np.asarray((abs(rows - row) <= size // 2) & (abs(columns - column) <= size // 2))

    def allowed(self) -> NDArray[np.bool_] | None:
        """(S, A) moves that lead somewhere."""
        return np.asarray(self.env.model.masks)

    def face(self, tile: Tile) -> Face:
        """Appearance of a tile."""
        return Face(_color(tile), _letter(tile), tile.wind, tile.reward)

    def reward(self, tile: Tile) -> float:
        """Reward for entering a tile: its own, else that of the options."""
        if tile.reward is not None:
            return float(tile.reward)
        option = "target" if tile.target else "forbidden" if tile.forbidden else "step"
        return float(getattr(self.env.rules, f"reward_{option}"))

    def palette(self) -> list[Tile]:
        """Wall, free, forbidden, target and hole, then what else the map has, but for copies with another reward."""
        from gridzero.envs.grid.layouts.tiles import DEFAULT_LEGEND

        known = {tile.symbol: tile for tile in DEFAULT_LEGEND}
        common = [known[symbol] for symbol in "#.xGH"]
        used = [self.env.layout.legend[index] for index in np.unique(self.env.layout.cells)]
        others = [tile for tile in used if tile.symbol not in "#.xGHF" and ord(tile.symbol) < 0x100]
        return common + others


def _color(tile: Tile) -> RGB:
    if tile.blocks:
        return colors.WALL
    if tile.target:
        return colors.TARGET
    if tile.forbidden:
        return colors.FORBIDDEN
    if tile.sends_to is not None or tile.leads_to is not None:
        return colors.JUMP
    if tile.ends:
        return colors.PIT if (tile.reward or 0) < 0 else colors.WATER if not tile.reward else colors.TARGET
    return colors.FLOOR


def _letter(tile: Tile) -> str:
    plain = (
        tile.blocks or tile.symbol in ".#FHx" or any(tile.wind) or tile.symbol.isdigit() or ord(tile.symbol) >= 0x100
    )
    return "" if plain else tile.symbol


def find_board(env: Any) -> Board | None:
    """The board of an environment, wrapped or not; None where it is no grid that can be drawn."""
    inner = env.unwrapped
    if hasattr(getattr(inner, "layout", None), "legend"):
        return GridWorldBoard(inner)
    if hasattr(inner, "_cliff"):
        return CliffWalkingBoard(inner)
    if hasattr(inner, "locs") and hasattr(inner, "decode"):
        return TaxiBoard(inner)
    if hasattr(inner, "desc") and hasattr(inner, "ncol"):
        return FrozenLakeBoard(inner)
    return None


def board_of(env: Any) -> Board:
    """The board of an environment, wrapped or not.

    Raises:
        ValueError: when it is not a grid that can be drawn.
    """
    board = find_board(env)
    if board is None:
        name = type(env.unwrapped).__name__
        raise ValueError(f"{name} has no grid: only GridWorld, FrozenLake, CliffWalking and Taxi have")
    return board
