"""A figure: a picture, and its numbers beside the published ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One number, or a few that belong together, as published and as computed.

    Attributes:
        quantity: in words.
        published: as printed; None for what only a curve shows.
        ours: as computed.
        agrees: whether they are the same within what the source gives; None where nothing is published.
    """

    quantity: str
    published: str | None
    ours: str
    agrees: bool | None

    def __post_init__(self) -> None:
        if self.agrees is not None:
            object.__setattr__(self, "agrees", bool(self.agrees))  # NumPy's are neither True nor False


@dataclass(frozen=True, eq=False)
class Figure:
    """What a figure's module makes.

    Attributes:
        picture: a Matplotlib figure.
        rows: of its table.
        source: book or paper, and where in it.
    """

    picture: Any
    rows: Sequence[Row]
    source: str


def compare(quantity: str, published: float, ours: float, tolerance: float) -> Row:
    """A row for one number; it agrees within an absolute tolerance.

    Example:
        >>> compare("value", 0.5, 0.54, 0.05).agrees
        True
    """
    digits = max(0, 1 - math.floor(math.log10(tolerance))) if tolerance < 1 else 1
    text = f"{ours:,.{digits}f}"
    return Row(quantity, f"{published:,g} ± {tolerance:g}", text, abs(published - ours) <= tolerance)


def compare_all(quantity: str, published: ArrayLike, ours: ArrayLike, tolerance: float) -> Row:
    """A row for a whole array, such as the values of all states: it agrees if every number does."""
    expected, actual = np.asarray(published, dtype=float), np.asarray(ours, dtype=float)
    off = np.abs(expected - actual)
    return Row(
        quantity,
        f"{expected.size} numbers ± {tolerance:g}",
        f"differ by {off.max():.3g} at most",
        bool((off <= tolerance).all()),
    )


def claim(quantity: str, published: str, ours: str, agrees: bool) -> Row:
    """A row for a statement in words."""
    return Row(quantity, published, ours, agrees)


def shown(quantity: str, ours: str) -> Row:
    """A row for a number with which nothing published is compared."""
    return Row(quantity, None, ours, None)


def panels(count: int, *, columns: int = 2, width: float = 4.6, height: float = 3.6) -> tuple[Any, list[Any]]:
    """An empty picture with axes beside and below each other, in inches."""
    from gridzero.plotting.figure import canvas

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    picture = canvas(width * columns, height * rows)
    axes = list(picture.subplots(rows, columns, squeeze=False).ravel())
    for spare in axes[count:]:
        spare.remove()
    return picture, axes[:count]


def add_legend(axes: Any, **options: Any) -> None:
    """Draw a faint grid and the legend, with Matplotlib's options of legends."""
    axes.grid(alpha=0.3)
    axes.legend(**options)


ARROWS = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}
"""Up, right, down, left as (x, y) in rows and columns that grow down and right."""


def draw_grid(
    axes: Any,
    values: np.ndarray,
    policy: np.ndarray | None = None,
    *,
    forbidden: Iterable[tuple[int, int]] = (),
    target: tuple[int, int] | None = None,
    title: str = "",
    digits: int = 1,
) -> None:
    """Draw the state values of a grid world, and the actions of a policy as arrows.

    Args:
        axes: to draw on.
        values: (height, width); NaN where there is no state.
        policy: (height, width, A) probabilities of up, right, down, left and, if there is a fifth, stay.
        forbidden: cells (row, column) in orange.
        target: the cell in blue.
        title: above the grid.
        digits: after the point.
    """
    height, width = values.shape
    colors = np.ones((height, width, 3))
    for row, column in forbidden:
        colors[row, column] = (1.0, 0.80, 0.45)
    if target is not None:
        colors[target] = (0.60, 0.85, 1.0)
    colors[np.isnan(values)] = 0.35
    axes.imshow(colors)
    for row in range(height):
        for column in range(width):
            if np.isnan(values[row, column]):
                continue
            text = f"{values[row, column]:.{digits}f}"
            if policy is None:
                axes.text(column, row, text, ha="center", va="center", fontsize=8)
                continue
            axes.text(column + 0.46, row + 0.40, text, ha="right", va="bottom", fontsize=7)
            taken = np.flatnonzero(policy[row, column] > 1e-9)
            for action in taken:
                length = 0.26 * math.sqrt(policy[row, column, action])
                if action in ARROWS:
                    x, y = ARROWS[int(action)]
                    back = 0.17 if len(taken) == 1 else 0.0  # a single arrow, head and all, is centred
                    head = {"head_width": 0.1, "head_length": 0.08, "color": "#1f6f43", "lw": 0.8}
                    axes.arrow(column - 0.08 - x * back, row - 0.12 - y * back, x * length, y * length, **head)
                else:
                    axes.plot(column - 0.08, row - 0.12, "o", ms=5, mfc="none", mec="#1f6f43")
    axes.set_xticks(np.arange(-0.5, width), labels=[])
    axes.set_yticks(np.arange(-0.5, height), labels=[])
    axes.tick_params(length=0)
    axes.grid(color="0.7", lw=0.6)
    axes.set_title(title, fontsize=9)
