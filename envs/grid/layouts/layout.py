"""Maps: what a grid world looks like, from a name, a generator, a file or the text itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.envs import plugins
from gridzero.envs.grid.layouts import text_format, validation
from gridzero.envs.grid.layouts.generators import KINDS, Generator
from gridzero.envs.grid.layouts.named_maps import LIBRARY
from gridzero.envs.grid.layouts.tiles import DEFAULT_LEGEND, Tile
from gridzero.envs.suggestions import closest

__all__ = ["DEFAULT_LEGEND", "LAYOUTS", "Layout", "Tile", "register_layout"]

LAYOUTS: tuple[str, ...] = tuple(LIBRARY)
"""The names of gridzero's own layouts."""

REGISTERED: dict[str, tuple[str, str]] = {}
"""Layouts that were registered: the plug-in that did it, where one did, and the summary."""

MAX_BYTES = 32 << 20


@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """A map: which tile lies where, and the options of ``GridWorld`` that belong to it.

    Attributes:
        cells: (H, W) uint8, indices into ``legend``; read-only.
        legend: the tiles the map may use.
        name: a named layout's name, a generator's full specification, a file's stem, or ``"custom"``.
        settings: options of ``GridWorld`` (rewards, actions, slip, …), which explicit options override.

    Raises:
        ValueError: for cells that are not a table of indices into the legend, two tiles with one symbol, a tile that
            leads to a symbol that is not on the map, no cell to stand on, or a setting that is unknown or wrong.

    Example:
        >>> layout = Layout.load("zhao-3x3")
        >>> layout.height, layout.width, layout.settings["actions"]
        (3, 3, 5)
        >>> [tile.name for tile in layout.legend if tile.symbol == layout.text()[0]]
        ['free']
    """

    cells: NDArray[np.uint8]
    legend: tuple[Tile, ...] = DEFAULT_LEGEND
    name: str = "custom"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = np.asarray(self.cells)
        if given.ndim != 2 or given.size == 0 or given.dtype.kind not in "iu":
            raise ValueError(f"cells must be a table (H, W) of integers, not {given.dtype} of shape {given.shape}")
        if given.size > text_format.MAX_CELLS:
            raise ValueError(f"a map has at most {text_format.MAX_CELLS:,} cells, not {given.size:,}")
        if len(self.legend) > 256:
            raise ValueError(f"a map has at most 256 kinds of tiles, not {len(self.legend)}")
        if given.min() < 0 or given.max() >= len(self.legend):
            raise ValueError(f"cells must be indices into the legend, 0 to {len(self.legend) - 1}")
        cells = given.astype(np.uint8)
        cells.setflags(write=False)
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "legend", tuple(self.legend))
        object.__setattr__(self, "settings", dict(self.settings))
        for key, value in self.settings.items():
            text_format.check_setting(key, value)
        problem = validation.tile_problem(cells, self.legend)
        if problem is not None:
            raise ValueError(problem[1])

    def __repr__(self) -> str:
        return f"Layout({self.name!r}, {self.height}x{self.width})"

    def _repr_png_(self) -> bytes | None:
        """The map as a picture, in notebooks."""
        from gridzero.envs.grid.world import GridWorld

        return GridWorld(self)._repr_png_()

    @property
    def height(self) -> int:
        """H, the number of rows."""
        return int(self.cells.shape[0])

    @property
    def width(self) -> int:
        """W, the number of columns."""
        return int(self.cells.shape[1])

    def mask(self, flag: str) -> NDArray[np.bool_]:
        """Mask of the cells whose tile has a property.

        Args:
            flag: ``blocks``, ``target``, ``forbidden``, ``ends`` or ``start``.

        Returns:
            (H, W) bool.

        Example:
            >>> Layout.load("zhao-2x2").mask("forbidden")
            array([[False,  True],
                   [False, False]])
        """
        return np.array([getattr(tile, flag) for tile in self.legend], dtype=np.bool_)[self.cells]

    def where(self, symbol: str) -> NDArray[np.int64]:
        """The states (row · W + column, ascending) whose tile has this symbol."""
        indices = [index for index, tile in enumerate(self.legend) if tile.symbol == symbol]
        return np.flatnonzero(np.isin(self.cells.reshape(-1), indices))

    def with_tile(self, row: int, column: int, tile: Tile | str) -> Layout:
        """This map with another tile in one place.

        Args:
            row: from 0.
            column: from 0.
            tile: a tile, which joins the legend if it is new, or the symbol of one in the legend or the default legend.

        Raises:
            ValueError: for a place off the map, an unknown symbol, a tile whose symbol means something else here, or
                when the result is not a valid map.

        Example:
            >>> print(Layout.load("zhao-2x2").with_tile(0, 0, "#").text()[:5])
            #x
            .G
        """
        if not (0 <= row < self.height and 0 <= column < self.width):
            raise ValueError(
                f"there is no cell ({row}, {column}); the map has {self.height} rows, {self.width} columns"
            )
        if isinstance(tile, str):
            known = {known.symbol: known for known in (*DEFAULT_LEGEND, *self.legend)}
            if tile not in known:
                raise ValueError(f"{tile!r} is not a known symbol; there are {' '.join(known)}")
            tile = known[tile]
        for other in self.legend:
            if other.symbol == tile.symbol and other != tile:
                raise ValueError(f"{tile.symbol!r} is already the tile {other.name!r} on this map")
        legend = self.legend if tile in self.legend else (*self.legend, tile)
        if len(legend) > 256:
            raise ValueError(f"a map has at most 256 kinds of tiles, not {len(legend)}")
        cells = self.cells.copy()
        cells[row, column] = legend.index(tile)
        return replace(self, cells=cells, legend=legend)

    def text(self) -> str:
        r"""The text that :meth:`load` reads back as this map (or refuses, if an edit has cut off every target).

        Example:
            >>> Layout.load("S.#..\n....G").text()
            'S.#..\n....G\n\nname = "custom"\n'
        """
        return text_format.write(self.cells, self.legend, self.name, self.settings)

    @classmethod
    def load(cls, source: str | Path | Layout) -> Layout:
        r"""Load a map from a name, a text, a file or a generator: the first of these rules that applies.

        1. A ``Layout`` is itself; a ``Path`` is a file.
        2. A string with a line break is the map's text (``"S.G\n"``).
        3. A name in :data:`LAYOUTS`, or one that was registered, is that map.
        4. A generator's kind and a colon start a generated map: ``"maze:15x15"`` (height x width),
           ``"maze:15x15:7"`` (with a seed), ``"obstacles:20x20:7:0.4"`` (with a density).
        5. The path of a file that exists is that file.
        6. A module and a colon: the module is imported, and has registered the map of that name.
        7. What is left is the name of a map that an installed plug-in registers.

        Raises:
            ValueError: when no rule applies (with the closest names), or the map cannot be read (with line and column).
        """
        if isinstance(source, Layout):
            return source
        if isinstance(source, Path):
            return _load_file(source)
        if not isinstance(source, str):
            raise ValueError(f"a layout is a name, a path, a map's text or a Layout, not {type(source).__name__}")
        if "\n" in source or "\r" in source:
            return _from_text(source, "custom")
        if source in LIBRARY:
            return _from_text(LIBRARY[source], source)
        if source.partition(":")[0] in KINDS:
            generator = Generator.parse(source)
            return cls(generator.cells(), name=str(generator))
        try:
            if source and "\0" not in source and os.path.lexists(source):
                return _load_file(Path(source))
        except OSError:
            pass
        module, rest = plugins.split(source)
        if module is not None and re.match(r"\d+x\d+", rest):  # a size: it is a generator that was meant
            raise ValueError(f"no generator is called {module!r}; {_hint(module)}")
        if module is None and (source.endswith(".txt") or os.path.basename(source) != source):
            raise ValueError(f"there is no file {source}")
        name = plugins.resolve(source)
        if name not in LIBRARY:
            plugins.load_installed()
        if name in LIBRARY:
            return _from_text(LIBRARY[name], name)
        raise ValueError(f"no layout is called {name[:80]!r}; {_hint(name)}")


def register_layout(name: str, text: str, summary: str = "") -> None:
    """Make a map known by name, for ``GridWorld(layout=name)`` and ``--env.layout``.

    Args:
        name: lower case, words joined by hyphens.
        text: the map, its legend and its settings, as in a file.
        summary: a few words for ``gridzero list``.

    Raises:
        ValueError: for a text that is not a map, a name of one of gridzero's own layouts, or one with a line break.
    """
    if name in LAYOUTS or name in KINDS or "\n" in name or not name:
        raise ValueError(f"a layout cannot be registered as {name!r}")
    _from_text(text, name)
    LIBRARY[name] = text
    REGISTERED[name] = (plugins.origin(), summary)


def _from_text(text: str, name: str) -> Layout:
    parsed = text_format.parse(text, name)
    return Layout(parsed.cells, parsed.legend, parsed.name, parsed.settings)


def _load_file(path: Path) -> Layout:
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder, not a map")
        if not path.exists():
            raise ValueError(f"there is no file {path}")
        if not path.is_file():
            raise ValueError(f"{path} is not a regular file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is too large for a map: at most {MAX_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a map: it is not UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise ValueError(f"{path} is not a map: it is binary")
    try:
        return _from_text(text, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _hint(name: str) -> str:
    if os.path.isfile(f"{name}.txt"):
        return f"did you mean the file {name}.txt?"
    kinds = [f"{kind}:HEIGHTxWIDTH" for kind in KINDS]
    everything = f"there are {', '.join([*LIBRARY, *kinds])}, files, and texts of more than one line"
    shown = dict(zip(KINDS, kinds, strict=True))
    return closest(name.partition(":")[0], [*LIBRARY, *KINDS], everything, shown=shown)
