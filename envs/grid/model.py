"""The rules of a grid world, and the model of a map under them: its moves, its exact model, its action masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.grid import move_kernels as kernels
from gridzero.envs.grid.layouts.layout import Layout, Tile
from gridzero.envs.grid.layouts.text_format import check_setting
from gridzero.envs.mdp import FiniteMDP

ACTION_NAMES = ("up", "right", "down", "left")
STAY_NAME = "stay"
DIAGONAL_NAMES = ("up-right", "down-right", "down-left", "up-left")
_STRAIGHT = ((-1, 0), (0, 1), (1, 0), (0, -1))
_DIAGONAL = ((-1, 1), (1, 1), (1, -1), (-1, -1))
_CLOCKWISE = (0, 4, 1, 5, 2, 6, 3, 7)
_STEP, _FORBIDDEN, _TARGET, _TILES = 1, 3, 4, 5  # places in the palette; kernels.BOUNDARY_REWARD is 2


@dataclass(frozen=True)
class Rules:
    """The options of a grid world that, with its map, make the model.

    Attributes:
        reward_step: paid by a move that nothing else is said about.
        reward_target: paid on entering a target, also by staying on one.
        reward_forbidden: paid on entering a forbidden cell, or on trying to.
        reward_boundary: paid for bumping into the boundary or a blocking cell.
        forbidden_enterable: forbidden cells can be entered; else the agent stays where it was.
        target_terminal: targets end the episode.
        actions: 4 (up, right, down, left), 5 (and stay) or 8 (and up-right, down-right, down-left, up-left).
        slip: the probability that a move is replaced by another; staying never slips.
        slip_to: by which: ``"perpendicular"`` (either side, equally), ``"any"`` (any other, equally), ``"backward"``
            or ``"stay"``.
        start: ``None`` (the map's start cells if it has any, else as ``"random"``), ``"random"`` (any cell that one can
            stand on and go on from), a state, or (row, column).

    Raises:
        ValueError: for a value that is not allowed.
    """

    reward_step: float = 0.0
    reward_target: float = 1.0
    reward_forbidden: float = -1.0
    reward_boundary: float = -1.0
    forbidden_enterable: bool = True
    target_terminal: bool = True
    actions: int = 4
    slip: float = 0.0
    slip_to: str = "perpendicular"
    start: str | int | tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                value = value.item()
            if isinstance(value, list | tuple):
                value = tuple(int(part) if isinstance(part, np.integer) else part for part in value)
            check_setting(field.name, value)
            if field.name.startswith("reward") or field.name == "slip":
                value = float(value)
            elif field.name == "actions":
                value = int(value)
            object.__setattr__(self, field.name, value)

    @classmethod
    def resolve(cls, layout: Layout, given: Mapping[str, Any]) -> Rules:
        """Rules from the given options, else the map's settings, else the defaults; ``None`` counts as not given."""
        return cls(**{**layout.settings, **{key: value for key, value in given.items() if value is not None}})

    @property
    def action_names(self) -> tuple[str, ...]:
        """(A,) names of the actions."""
        return ACTION_NAMES + {4: (), 5: (STAY_NAME,), 8: DIAGONAL_NAMES}[self.actions]

    @cached_property
    def directions(self) -> NDArray[np.int64]:
        """(D, 2) rows and columns: of the actions first, then of what else a slip can lead to."""
        moves = list(_STRAIGHT)
        if self.actions == 8:
            moves += _DIAGONAL
        if self.actions == 5 or (self.slip > 0 and self.slip_to == "stay"):
            moves.append((0, 0))
        return np.array(moves, dtype=np.int64)

    @cached_property
    def alternatives(self) -> tuple[tuple[int, ...], ...]:
        """For each action, the directions that a slip leads to, equally likely; none for what never slips."""
        moves = 8 if self.actions == 8 else 4
        return tuple(self._alternatives(a, moves) if self.slip > 0 and a < moves else () for a in range(self.actions))

    def _alternatives(self, action: int, moves: int) -> tuple[int, ...]:
        if self.slip_to == "any":
            return tuple(d for d in range(moves) if d != action)
        if self.slip_to == "stay":
            return (len(self.directions) - 1,)
        place = _CLOCKWISE.index(action)
        turns = (4,) if self.slip_to == "backward" else (2, -2)
        return tuple(_CLOCKWISE[(place + turn) % 8] for turn in turns)

    @cached_property
    def choices(self) -> NDArray[np.int64]:
        """(A, 1+n) the directions an action can take: its own, then the alternatives; staying has only its own."""
        count = max(map(len, self.alternatives))
        return np.array([(a, *(others or [a] * count)) for a, others in enumerate(self.alternatives)], dtype=np.int64)

    @cached_property
    def chances(self) -> NDArray[np.float64]:
        """(A, 1+n) the probabilities of the ``choices``; of choices that are equal, the first one has it."""
        table = np.zeros(self.choices.shape)
        for action, others in enumerate(self.alternatives):
            table[action, 0] = 1 - self.slip if others else 1.0
            table[action, 1 : 1 + len(others)] = self.slip / len(others) if others else 0.0
        return table

    @cached_property
    def direction_chances(self) -> NDArray[np.float64]:
        """(A, D) the probabilities that an action takes each direction."""
        table = np.zeros((self.actions, len(self.directions)))
        np.add.at(table, (np.arange(self.actions)[:, None], self.choices), self.chances)
        return table

    @property
    def slip_threshold(self) -> int:
        """An action slips when 32 random bits are below this; exact to 2⁻³³."""
        return round(self.slip * 2**32)


class TileTable:
    """Table of a legend's tiles under the rules, for the compiled functions.

    Attributes:
        tiles: (L, 7) int32, columns as :mod:`gridzero.envs.grid.move_kernels` names them; the groups are filled in by
            map.
        palette: the rewards that moves can pay.
        terminal: (L,) bool, it ends the episode, or nobody gets there.
        startable: (L,) bool, an episode can start there.
        preferred_starts: (L,) bool, the map says that it does, and the rules do not object.
    """

    def __init__(self, legend: tuple[Tile, ...], rules: Rules) -> None:
        self.legend = legend
        self.palette = np.array(
            [0.0, rules.reward_step, rules.reward_boundary, rules.reward_forbidden, rules.reward_target]
            + [tile.reward or 0.0 for tile in legend]
            + [tile.leaving_reward or 0.0 for tile in legend]
        )
        self.tiles = np.full((len(legend), 7), -1, dtype=np.int32)
        for index, tile in enumerate(legend):
            row = self.tiles[index]
            row[kernels.FLAGS] = (
                kernels.BLOCKS * tile.blocks
                | kernels.BOUNCES * (tile.forbidden and not rules.forbidden_enterable)
                | kernels.ENDS * (tile.ends or (tile.target and rules.target_terminal))
                | kernels.TARGET * tile.target
            )
            row[kernels.WIND_ROWS], row[kernels.WIND_COLUMNS] = tile.wind
            if tile.reward is not None:
                row[kernels.ENTERING] = _TILES + index
            else:
                row[kernels.ENTERING] = _TARGET if tile.target else _FORBIDDEN if tile.forbidden else _STEP
            if tile.leaving_reward is not None:
                row[kernels.LEAVING] = _TILES + len(legend) + index
        flags = self.tiles[:, kernels.FLAGS]
        sends = np.array([tile.sends_to is not None for tile in legend])
        self.terminal = (flags & (kernels.BLOCKS | kernels.ENDS)) != 0
        self.startable = ((flags & (kernels.BLOCKS | kernels.BOUNCES | kernels.ENDS)) == 0) & ~sends
        marked = np.array([tile.start and rules.start is None for tile in legend])
        self.preferred_starts = self.startable & marked


class GridModel:
    """A map under given rules: every move of every cell, and the finite MDP they make.

    Args:
        layout: the map.
        rules: the options.
        like: a model under the same rules, whose work on the legend is used again if the legend is the same.

    Attributes:
        moves: (S, D) uint64 words as :mod:`gridzero.envs.grid.move_kernels` describes them.
        starts: (n,) uint64, landing words of the cells to start on, equally likely.
        offsets: (G+1,) where each group of landing cells begins in ``members``.
        members: landing words.

    Raises:
        ValueError: when no episode can start.
    """

    def __init__(self, layout: Layout, rules: Rules, like: GridModel | None = None) -> None:
        self.layout = layout
        self.rules = rules
        known = like.table if like is not None else None
        self.table: TileTable = known if known and known.legend == layout.legend else TileTable(layout.legend, rules)
        tiles = self.table.tiles.copy()
        self.offsets, self.members = self._groups(tiles)
        self.moves = np.empty((layout.cells.size, len(rules.directions)), dtype=np.uint64)
        kernels.compile_moves(layout.cells, rules.directions, tiles, self.offsets, self.members, self.moves)
        self.starts = self._start_words(tiles)

    def _groups(self, tiles: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Number the symbols that tiles on the map send or lead to; fills the tile table's columns in."""
        members: dict[str, NDArray[np.int64]] = {}
        legend = self.layout.legend
        if any(tile.sends_to or tile.leads_to for tile in legend):
            present = np.unique(self.layout.cells)
            for index in present:
                for column, symbol in (
                    (kernels.SENDS_TO, legend[index].sends_to),
                    (kernels.LEADS_TO, legend[index].leads_to),
                ):
                    if symbol is not None:
                        members.setdefault(symbol, self.layout.where(symbol))
                        tiles[index, column] = list(members).index(symbol)
        offsets = np.cumsum([0, *(len(states) for states in members.values())]).astype(np.int64)
        states = np.concatenate([np.empty(0, dtype=np.int64), *members.values()])
        return offsets, kernels.landings(states, self.layout.cells, tiles)

    def _start_words(self, tiles: NDArray[np.int32]) -> NDArray[np.uint64]:
        cells, start, table = self.layout.cells, self.rules.start, self.table
        if start is None or start == "random":
            words = np.empty(cells.size, dtype=np.uint64)
            count = kernels.start_words(cells, tiles, table.preferred_starts, table.startable, words)
            if count == 0:
                raise ValueError("no episode can start: every cell of the map blocks or ends it")
            return words[:count].copy()
        height, width = cells.shape
        if isinstance(start, tuple):
            row, column = start
            if row >= height or column >= width:
                raise ValueError(f"start {start} is not on the map; it has {height} rows and {width} columns")
            state = row * width + column
        else:
            state = int(start)
            if state >= cells.size:
                raise ValueError(f"start {state} is not on the map; states go from 0 to {cells.size - 1}")
        tile = cells.reshape(-1)[state]
        if not table.startable[tile]:
            name = self.layout.legend[tile].name
            raise ValueError(f"no episode can start on {divmod(state, width)}: it is the tile {name!r}")
        return kernels.landings(np.array([state], dtype=np.int64), cells, tiles)

    @cached_property
    def mdp(self) -> FiniteMDP:
        """The exact model; blocked cells are terminal states that nothing leads to."""
        start = np.zeros(len(self.moves))
        start[(self.starts & kernels.LOW).astype(np.int64)] = 1 / len(self.starts)
        terminal = self.table.terminal[self.layout.cells.reshape(-1)]
        groups = self.offsets.size - 1
        outcomes = self._merged_outcomes() if len(self.members) > groups else self._listed_outcomes()
        return FiniteMDP(*outcomes, terminal, start)

    def _listed_outcomes(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Successors, probabilities and rewards where every move has one landing: hardly more memory than the moves."""
        rules, (states, count) = self.rules, self.moves.shape
        actions, choices = rules.choices.shape
        shared = choices > 1 and count <= 2 * choices  # one list of all directions, unless an action takes few of them
        directions = np.arange(count)[None] if shared else rules.choices
        chances = rules.direction_chances if shared else rules.chances
        successors = np.empty((states, *directions.shape), dtype=np.int32)
        rewards = np.empty((states, actions))
        kernels.list_outcomes(self.moves, directions, chances, self.table.palette, successors, rewards)
        shape = (states, *chances.shape)
        return np.broadcast_to(successors, shape), np.broadcast_to(chances, shape), rewards

    def _merged_outcomes(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Successors, probabilities and rewards where a move can land on any of a group of cells."""
        rules, states, actions = self.rules, len(self.moves), self.rules.actions
        slips = np.array([rules.slip if directions else 0.0 for directions in rules.alternatives])
        common = (self.moves, rules.choices, slips, self.table.palette, self.offsets, self.members)
        nothing = np.empty((0, 0, 0))
        outcomes = kernels.merge_outcomes(*common, nothing.astype(np.int32), nothing, np.empty((0, 0)))
        successors = np.empty((states, actions, outcomes), dtype=np.int32)
        successors[:] = np.arange(states, dtype=np.int32)[:, None, None]
        probabilities = np.zeros((states, actions, outcomes))
        rewards = np.zeros((states, actions))
        kernels.merge_outcomes(*common, successors, probabilities, rewards)
        return successors, probabilities, rewards

    def expanded(self) -> NDArray[np.uint64]:
        """(S, A, 1+n) the word of every choice of every action: what a step of a batch looks up."""
        return np.take(self.moves, self.rules.choices, axis=1)

    def outcomes(self, state: int, action: int) -> list[tuple[float, int]]:
        """The (probability, word of the move) pairs of an action, as the rules have them, unmerged."""
        directions = self.rules.alternatives[action]
        words = self.moves[state].tolist()
        if not directions:
            return [(1.0, words[action])]
        slip = self.rules.slip
        return [(1 - slip, words[action]), *((slip / len(directions), words[d]) for d in directions)]

    @cached_property
    def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:  # noqa: N802 - Gymnasium's name
        """Gymnasium's table: ``P[s][a]`` lists (probability, next state, reward, terminated), equal outcomes merged."""
        return {s: {a: self._listed(s, a) for a in range(self.rules.actions)} for s in range(len(self.moves))}

    def _listed(self, state: int, action: int) -> list[tuple[float, int, float, bool]]:
        merged: dict[tuple[int, float, bool], float] = {}
        for probability, word in self.outcomes(state, action):
            reward = self.reward(word)
            landings = self.landings(word)
            for landing in landings:
                key = (landing & _LOW, reward, bool(landing & _TERMINAL))
                merged[key] = merged.get(key, 0.0) + probability / len(landings)
        return [(p, *key) for key, p in merged.items() if p > 0]

    def reward(self, word: int) -> float:
        """Reward of a move."""
        return float(self.table.palette[word >> 32 & 0xFFFF])

    def landings(self, word: int) -> list[int]:
        """The landing words that a move can lead to, equally likely."""
        if not word & _SPREAD:
            return [word]
        group = word & _LOW
        return [int(member) for member in self.members[self.offsets[group] : self.offsets[group + 1]]]

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(S, A) False where an action bumps into the boundary or a blocking cell; all True where every one would."""
        return free_moves(self.moves[:, : self.rules.actions])


def free_moves(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(N, A) which moves do not bump; all, where every one would."""
    free: NDArray[np.bool_] = (words & kernels.BUMP) == 0
    free[~free.any(axis=1)] = True
    return free


_LOW, _TERMINAL, _SPREAD = int(kernels.LOW), int(kernels.TERMINAL), int(kernels.SPREAD)
