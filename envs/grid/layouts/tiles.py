"""Tiles, the kinds of cells of a grid world, and the symbols that every map understands."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One kind of cell.

    Attributes:
        symbol: how maps write it, one printable character.
        name: what it is, in a word or two.
        blocks: it is never entered; moving into it is like moving into the boundary.
        target: entering it pays ``reward_target``, and ends the episode if ``target_terminal``.
        forbidden: entering it pays ``reward_forbidden``; if not ``forbidden_enterable`` the agent stays where it was.
        ends: entering it always ends the episode.
        start: an episode may start here.
        reward: paid on entering, instead of what the options say.
        sends_to: entering it puts the agent at once on a cell with this symbol (any of them, equally likely).
        leads_to: every action taken here leads to the one cell with this symbol (A to A′ in Sutton & Barto, ex. 3.5).
        leaving_reward: what such an action pays.
        wind: (rows, columns) added to every move that starts here, clipped at the edge.

    Raises:
        ValueError: for a symbol that is not one printable character, a number that is not finite, or properties that
            contradict each other.

    Example:
        >>> Tile("~", "mud", reward=-5.0).reward
        -5.0
    """

    symbol: str
    name: str
    blocks: bool = False
    target: bool = False
    forbidden: bool = False
    ends: bool = False
    start: bool = False
    reward: float | None = None
    sends_to: str | None = None
    leads_to: str | None = None
    leaving_reward: float | None = None
    wind: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        check_symbol(self.symbol)
        for field in ("blocks", "target", "forbidden", "ends", "start"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field} of tile {self.symbol!r} must be true or false, not {getattr(self, field)!r}")
        for field in ("reward", "leaving_reward"):
            value = getattr(self, field)
            if value is not None and not is_number(value):
                raise ValueError(f"{field} of tile {self.symbol!r} must be a finite number, not {value!r}")
        for field in ("sends_to", "leads_to"):
            if getattr(self, field) is not None:
                check_symbol(getattr(self, field))
        if not (isinstance(self.wind, tuple) and len(self.wind) == 2 and all(isinstance(w, int) for w in self.wind)):
            raise ValueError(f"wind of tile {self.symbol!r} must be two integers, (rows, columns), not {self.wind!r}")
        self._check_contradictions()

    def _check_contradictions(self) -> None:
        entered = (self.target, self.forbidden, self.ends, self.start, self.sends_to, self.leads_to)
        if self.blocks and any(entered):
            raise ValueError(f"tile {self.symbol!r} blocks, so it cannot be a target, a start or anything else entered")
        if self.sends_to is not None and (self.ends or self.leads_to is not None or self.start):
            raise ValueError(f"nobody stays on tile {self.symbol!r}, which sends_to; it cannot end, start or lead_to")
        if self.leads_to is not None and self.ends:
            raise ValueError(f"tile {self.symbol!r} cannot both end the episode and lead_to")
        if self.leaving_reward is not None and self.leads_to is None:
            raise ValueError(f"leaving_reward of tile {self.symbol!r} needs leads_to")


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number, not a bool, that a float can hold.

    >>> [is_number(value) for value in (1, -0.5, True, "1", float("nan"), 10**400)]
    [True, True, False, False, False, False]
    """
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def check_symbol(symbol: object) -> None:
    """Raise ``ValueError`` unless ``symbol`` is one printable character that stands on its own."""
    if not isinstance(symbol, str) or len(symbol) != 1:
        raise ValueError(f"a tile's symbol is one character, not {symbol!r}")
    if symbol.isspace() or not symbol.isprintable():
        raise ValueError(f"a tile's symbol must be printable and not a space, not {symbol!r}")
    if unicodedata.category(symbol).startswith("M"):
        raise ValueError(f"a tile's symbol must stand on its own; {symbol!r} combines with the character before it")


DEFAULT_LEGEND: tuple[Tile, ...] = (
    Tile(".", "free"),
    Tile("#", "wall", blocks=True),
    Tile("S", "start", start=True),
    Tile("G", "target", target=True),
    Tile("x", "forbidden", forbidden=True),
    Tile("F", "frozen"),
    Tile("H", "hole", ends=True),
    Tile("^", "wind up", wind=(-1, 0)),
    Tile(">", "wind right", wind=(0, 1)),
    Tile("v", "wind down", wind=(1, 0)),
    Tile("<", "wind left", wind=(0, -1)),
    *(Tile(str(strength), f"wind up {strength}", wind=(-strength, 0)) for strength in range(1, 10)),
)
"""The tiles that every map understands; ``F`` and ``H`` read Gymnasium's FrozenLake maps as they are."""

FREE, WALL, START, TARGET = range(4)
"""Their indices in :data:`DEFAULT_LEGEND`, for generators."""
