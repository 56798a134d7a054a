"""Action values in one cell: a wedge for each move, a disc in the middle for actions that do not move."""

from __future__ import annotations

import math

import numpy as np
import pygame
from numpy.typing import NDArray

from gridzero.envs.rendering import sprites
from gridzero.envs.rendering.colors import RGB

CORE = 0.2
"""The radius of the middle, in units of the cell's side."""

Line = tuple[float, float, float, float]


class Wedges:
    """The partition of a cell's pixels among the actions.

    Moves share the cell by direction: four of them as triangles, eight as octants. Actions that stay share a disc in
    the middle, split into sectors when there are several.

    Args:
        moves: (rows, columns) of each action.
        cell: the side of a cell in pixels.

    Attributes:
        actions: (cell, cell) the action that each pixel shows.
        centres: (A, 2) x and y of where each action's number goes, in units of the cell's side.
        widths: (A,) the room that it has there, in the same units.
    """

    def __init__(self, moves: tuple[tuple[int, int], ...], cell: int) -> None:
        self.cell = cell
        going = [a for a, move in enumerate(moves) if move != (0, 0)]
        staying = [a for a, move in enumerate(moves) if move == (0, 0)]
        at = (np.arange(cell) + 0.5) / cell - 0.5
        x, y = np.meshgrid(at, at)
        self.centres = np.full((len(moves), 2), 0.5)
        self.widths = np.full(len(moves), 0.28 if len(going) > 4 else 0.38)
        self.actions = np.zeros((cell, cell), dtype=np.intp)
        self._lines: tuple[Line, ...] = ()
        if going:
            headings = np.array([math.atan2(moves[a][0], moves[a][1]) for a in going])
            away = np.abs((np.arctan2(y, x)[..., None] - headings + math.pi) % (2 * math.pi) - math.pi)
            self.actions = np.asarray(going)[away.argmin(axis=-1)]
            reach = 0.36 if len(going) > 4 else 0.32
            for a, heading in zip(going, headings, strict=True):
                edge = max(abs(math.cos(heading)), abs(math.sin(heading)))
                self.centres[a] = 0.5 + reach * np.array([math.cos(heading), math.sin(heading)]) / edge
            self._lines = tuple(_boundary(angle, CORE if staying else 0.0) for angle in _between(headings))
        if staying:
            beside = [a for a in going if moves[a][0] == 0]
            self.widths[beside] = np.minimum(self.widths[beside], 0.28)
            self.widths[staying] = 1.7 * CORE / len(staying)
            inside = np.hypot(x, y) < CORE
            sector = ((np.arctan2(y, x) + math.pi) / (2 * math.pi) * len(staying)).astype(np.intp) % len(staying)
            if len(staying) == 2:
                sector = (x > 0).astype(np.intp)
                self.centres[staying] = [[0.5 - CORE / 2, 0.5], [0.5 + CORE / 2, 0.5]]
                self._lines = (*self._lines, (0.5, 0.5 - CORE, 0.5, 0.5 + CORE))
            self.actions = np.where(inside, np.asarray(staying)[sector], self.actions)
        self._core = bool(staying)
        self._outlines: list[pygame.Surface] | None = None

    def paint(self, pixels: NDArray[np.uint32], colors: NDArray[np.uint32]) -> None:
        """Fill (H·cell, W·cell) pixels from the colours (H, W, A) of all actions."""
        rows, columns, _ = colors.shape
        block = colors[:, :, self.actions]
        pixels.reshape(rows, self.cell, columns, self.cell)[:] = block.transpose(0, 2, 1, 3)

    def outlines(self, color: RGB, rim: RGB) -> list[pygame.Surface]:
        """For each action a sprite of a cell's size: the edge of its wedge."""
        if self._outlines is None:
            thickness = max(1, self.cell // 50)
            regions = [self.actions == action for action in range(len(self.centres))]
            self._outlines = [_outline(region, thickness, color, rim) for region in regions]
        return self._outlines

    def lines(self, color: RGB) -> list[tuple[pygame.Surface, int]]:
        """Sprites, each with its offset from the cell's corner, of the lines between wedges."""
        found = [(sprites.spokes(self._lines, self.cell, color, 0.55), 0)] if self._lines else []
        if self._core:
            circle = sprites.ring(round(CORE * self.cell), 1, color, 0.55)
            found.append((circle, (self.cell - circle.get_width()) // 2))
        return found


def _outline(region: NDArray[np.bool_], thickness: int, color: RGB, rim: RGB) -> pygame.Surface:
    """The edge of a region of a cell's pixels, with a thin light line inside it, readable on every color."""
    cell, inner = len(region), _eroded(region, thickness)
    surface = pygame.Surface((cell, cell), pygame.SRCALPHA, 32)
    for pixels, paint in ((region & ~inner, color), (inner & ~_eroded(inner, 1), rim)):
        layer = pygame.Surface((cell, cell), pygame.SRCALPHA, 32)
        layer.fill((*paint, 255))
        alpha = pygame.surfarray.pixels_alpha(layer)
        alpha[:] = np.where(pixels.T, 255, 0)
        del alpha
        surface.blit(layer, (0, 0))
    return surface.premul_alpha()


def _eroded(region: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """The pixels whose neighbours, so many away along rows and columns, belong to the region too."""
    padded = np.pad(region, by)
    size = len(region)
    moved = [padded[by + dy : by + dy + size, by + dx : by + dx + size] for dy in (-by, 0, by) for dx in (-by, 0, by)]
    return np.asarray(np.logical_and.reduce(moved))


def _between(headings: NDArray[np.float64]) -> list[float]:
    """The angles halfway between neighbouring headings."""
    ordered = np.sort(headings)
    following = np.append(ordered[1:], ordered[0] + 2 * math.pi)
    return [float(angle) for angle in (ordered + following) / 2]


def _boundary(angle: float, inner: float) -> Line:
    """A line outwards along ``angle``, from ``inner`` away from the centre to the cell's edge."""
    cosine, sine = math.cos(angle), math.sin(angle)
    outer = 0.5 / max(abs(cosine), abs(sine))
    return (0.5 + inner * cosine, 0.5 + inner * sine, 0.5 + outer * cosine, 0.5 + outer * sine)
