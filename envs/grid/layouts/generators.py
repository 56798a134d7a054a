"""Generated maps of any size: always with a start and a target, always solvable, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.suggestions import closest

KINDS: Final[tuple[str, ...]] = ("empty", "maze", "obstacles", "rooms")
"""Kinds of generated maps; a kind's index is its code in the compiled functions."""

EXPLANATIONS: Final[Mapping[str, str]] = {
    "empty": "no walls",
    "maze": "a perfect maze, exactly one path between any two free cells; best with odd sizes",
    "obstacles": "each cell is a wall with probability DENSITY, less the fewest that must go to solve it",
    "rooms": "rectangular rooms, a door in each dividing wall",
}
"""Each kind in a few words."""

DENSITY = 0.3
MAX_SIDE = 4096
_SPECIFICATION = re.compile(r"(\d{1,9})x(\d{1,9})(?::(\d{0,20}))?(?::([0-9.eE+-]+))?")


@dataclass(frozen=True)
class Generator:
    """Generator of a map, as the text ``KIND:HEIGHTxWIDTH[:SEED[:DENSITY]]`` describes it.

    - ``empty``: no walls.
    - ``maze``: a perfect maze, exactly one path between any two free cells. Junctions lie on even rows and columns
      (from 0), so odd sizes fill the map and even ones end in a wall.
    - ``obstacles``: each cell is a wall with probability ``density``, less the fewest that must go to solve it.
    - ``rooms``: rectangular rooms, a door in each dividing wall.

    The start is top left, the target bottom right (for mazes of even size, the last junction).

    Attributes:
        kind: one of :data:`KINDS`.
        height: rows, 2 to 4096 (a 1-row map is allowed if it has at least 2 columns, and the other way round).
        width: columns, likewise.
        seed: 0 to 2⁶⁴ - 1; different seeds give different maps.
        density: for ``obstacles``, the probability of a wall, 0 to 1.

    Raises:
        ValueError: for anything else.

    Example:
        >>> generator = Generator.parse("maze:5x9:7")
        >>> generator.cells().shape, str(generator)
        ((5, 9), 'maze:5x9:7')
    """

    kind: str
    height: int
    width: int
    seed: int = 0
    density: float = DENSITY

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no generator is called {self.kind!r}; {closest(self.kind, KINDS)}")
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE and self.height * self.width >= 2):
            raise ValueError(
                f"a generated map has 1 to {MAX_SIDE} rows and columns and at least 2 cells, "
                f"not {self.height}x{self.width}"
            )
        if self.kind == "maze" and self.height < 3 and self.width < 3:
            raise ValueError(f"a maze needs at least 3 rows or 3 columns, not {self.height}x{self.width}")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"a generator's seed goes from 0 to 2^64 - 1, not {self.seed}")
        if not 0 <= self.density <= 1:
            raise ValueError(f"a generator's density must be between 0 and 1, not {self.density}")

    @classmethod
    def parse(cls, text: str) -> Generator:
        """Read ``KIND:HEIGHTxWIDTH``, optionally with ``:SEED`` and, for obstacles, ``:DENSITY``."""
        kind, _, rest = text.partition(":")
        match = _SPECIFICATION.fullmatch(rest)
        if match is None or (match[4] is not None and kind != "obstacles"):
            example = f"{kind}:15x15:7" + (":0.3" if kind == "obstacles" else "")
            raise ValueError(f"cannot read {text[:80]!r}; write kind, height x width and seed, such as {example}")
        try:
            density = DENSITY if match[4] is None else float(match[4])
        except ValueError:
            raise ValueError(f"the density in {text[:80]!r} is not a number") from None
        return cls(kind, int(match[1]), int(match[2]), int(match[3] or 0), density)

    def __str__(self) -> str:
        density = f":{self.density!r}" if self.kind == "obstacles" else ""
        return f"{self.kind}:{self.height}x{self.width}:{self.seed}{density}"

    def with_seed(self, seed: int) -> Generator:
        """Generator like this one with another seed."""
        return replace(self, seed=seed)

    def cells(self) -> NDArray[np.uint8]:
        """The map (H, W), as indices into the default legend."""
        return generate(self.kind, self.height, self.width, self.seed, self.density)


def generate(kind: str, height: int, width: int, key: int, density: float = DENSITY) -> NDArray[np.uint8]:
    """A map, straight from the compiled functions, without checks.

    Args:
        kind: one of :data:`KINDS`.
        height: rows.
        width: columns.
        key: 0 to 2⁶⁴ - 1, decides all that is random.
        density: for ``obstacles``, the probability of a wall.

    Returns:
        (H, W) uint8, indices into ``DEFAULT_LEGEND``.
    """
    from gridzero.envs.grid.layouts.generator_kernels import generate_into

    cells = np.empty((height, width), dtype=np.uint8)
    generate_into(KINDS.index(kind), cells, np.uint64(key), density)
    return cells
