"""The maps of grid worlds as they change: regenerated, saved, restored; and the tables of a batch of maps."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.grid import step_kernels as kernels
from gridzero.envs.grid.layouts.generators import KINDS, Generator
from gridzero.envs.grid.layouts.layout import Layout, Tile
from gridzero.envs.grid.model import GridModel, Rules, free_moves
from gridzero.envs.random_streams import mix


def generator_of(layout: Layout, rules: Rules) -> Generator:
    """The generator whose map this is.

    Raises:
        ValueError: when it is not generated, or the start is a fixed cell, which another map may have walled in.
    """
    if layout.name.partition(":")[0] not in KINDS:
        raise ValueError(f"regenerate needs a generated layout, such as maze:15x15; {layout.name!r} is not one")
    if rules.start not in (None, "random"):
        raise ValueError(f"with regenerate, start must be None or 'random', not {rules.start!r}")
    return Generator.parse(layout.name)


def generated(generator: Generator, bits: int) -> Layout:
    """A new map of the generator, with a seed that is a hash of ``bits``, the draw of the reset."""
    generator = generator.with_seed(mix(bits))
    return Layout(generator.cells(), name=str(generator))


def layout_state(layout: Layout) -> dict[str, Any]:
    """A map as plain values; unlike its text it may have a target out of reach, as edited maps do."""
    return {
        "cells": layout.cells.copy(),
        "legend": [dataclasses.asdict(tile) for tile in layout.legend],
        "name": layout.name,
        "settings": dict(layout.settings),
    }


def layout_from(state: str | Mapping[str, Any]) -> Layout:
    """The map that :func:`layout_state` described, or that has this name."""
    if isinstance(state, str):
        return Layout.load(state)
    legend = tuple(Tile(**{**tile, "wind": tuple(tile["wind"])}) for tile in state["legend"])
    return Layout(np.asarray(state["cells"]), legend, state["name"], state["settings"])


def check_cell(model: GridModel, cell: Any) -> int:
    """A cell as an int.

    Raises:
        ValueError: unless it is one that an agent can be on.
    """
    try:
        index = operator.index(cell)
    except TypeError:
        raise ValueError(f"a state is an integer or what get_state gave, not {cell!r}") from None
    if not 0 <= index < len(model.moves):
        raise ValueError(f"states go from 0 to {len(model.moves) - 1}, not {index}")
    tile = model.layout.legend[model.layout.cells.reshape(-1)[index]]
    if tile.blocks:
        raise ValueError(f"nobody can be on {divmod(index, model.layout.width)}: it is the tile {tile.name!r}")
    return index


class MapTables:
    """Tables for the steps of N environments: of one map that all share, or of one map each.

    Args:
        model: of the map, or of one such as each will have.
        count: M, 1 or N.
        own: each environment has its own.

    Attributes:
        maps: (M, H, W) uint8.
        moves: (M, S, A, 1+n) uint64, :meth:`GridModel.expanded` of each.
        starts: (M, ≤ S) uint64, landing words of the cells to start on.
        start_counts: (M,) uint64, how many of them count.
    """

    def __init__(self, model: GridModel, count: int, *, own: bool) -> None:
        self.model = model
        self.own = own
        self.maps = np.repeat(model.layout.cells[None], count, axis=0)
        self.moves = np.repeat(model.expanded()[None], count, axis=0) if own else model.expanded()[None]
        self.starts = np.zeros((count, model.layout.cells.size if own else len(model.starts)), dtype=np.uint64)
        self.starts[:, : len(model.starts)] = model.starts
        self.start_counts = np.full(count, len(model.starts), dtype=np.uint64)

    def renew(self, generator: Generator, lanes: NDArray[np.void], which: NDArray[np.int64]) -> None:
        """New maps for the environments that are about to reset, keyed by the draw that their reset will make."""
        rules, model, table = self.model.rules, self.model, self.model.table
        kernels.renew_maps(
            lanes,
            which,
            KINDS.index(generator.kind),
            generator.density,
            rules.directions,
            rules.choices,
            table.tiles,
            model.offsets,
            model.members,
            table.preferred_starts,
            table.startable,
            self.maps,
            self.moves,
            self.starts,
            self.start_counts,
        )

    def restore(self, maps: NDArray[np.uint8]) -> None:
        """Replace the maps by saved ones (M, H, W).

        Raises:
            ValueError: when they are of another number or size.
        """
        if maps.shape != self.maps.shape:
            raise ValueError(f"the state has maps {maps.shape}; these environments need {self.maps.shape}")
        layouts = (dataclasses.replace(self.model.layout, cells=cells) for cells in maps)
        models = [GridModel(layout, self.model.rules, like=self.model) for layout in layouts]
        for i, model in enumerate(models):
            self.maps[i] = model.layout.cells
            self.moves[i] = model.expanded()
            self.starts[i, : len(model.starts)] = model.starts
            self.start_counts[i] = len(model.starts)

    def tiles(self, cells: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """(N,) the index of the tile under each of N agents on ``cells``."""
        maps = self.maps.reshape(len(self.maps), -1)
        return np.asarray(maps[np.arange(len(cells)) if self.own else 0, cells])

    def masks(self, cells: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """(N, A) False where an action bumps; all True where every one would."""
        if not self.own:
            return np.asarray(self.model.masks[cells])
        return free_moves(self.moves[np.arange(len(cells)), cells, :, 0])
