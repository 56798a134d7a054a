"""Feature maps for linear function approximation: an observation becomes a few numbered features and their values.

Equation and section numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_FEATURES = 10_000_000


class Features(NamedTuple):
    """The feature vectors x of N observations, without the zeros they are known to have.

    Attributes:
        indices: (N, k) numbers of the features, all different within a row.
        values: (N, k) their values.
    """

    indices: IntArray
    values: FloatArray


class FeatureMap(ABC):
    """Turns points of the unit cube into feature vectors.

    Args:
        dimensions: D of the cube.

    Attributes:
        size: d, the length of a feature vector.
        active: k, how many of its entries may differ from 0.
        tilings: T of tile coding, 1 of the others.

    Raises:
        ValueError: when there would be more than :data:`MOST_FEATURES` features.
    """

    size: int
    active: int
    tilings: int = 1

    @abstractmethod
    def __call__(self, points: FloatArray) -> Features:
        """Feature vectors of points (N, D), each coordinate between 0 and 1."""

    @abstractmethod
    def constant(self, value: float) -> FloatArray:
        """Weights (d,) that give this value everywhere."""

    def dense(self, points: FloatArray) -> FloatArray:
        """Feature vectors with all their zeros, (N, d)."""
        indices, values = self(points)
        matrix = np.zeros((len(indices), self.size))
        np.put_along_axis(matrix, indices, values, axis=1)
        return matrix


def _checked_size(size: int, what: str, dimensions: int) -> int:
    if size > MOST_FEATURES:
        raise ValueError(
            f"{what} in {dimensions} dimensions make about 10^{math.log10(size):.0f} features; "
            f"at most {MOST_FEATURES:,} are allowed"
        )
    return size


class Aggregation(FeatureMap):
    """State aggregation: one feature for each of equally large boxes, 1 inside (section 9.3).

    Args:
        dimensions: D.
        groups: boxes along each dimension.

    Example:
        >>> Aggregation(1, groups=10)(np.array([[0.0], [0.34], [1.0]])).indices.ravel()
        array([0, 3, 9])
    """

    active = 1

    def __init__(self, dimensions: int, groups: int) -> None:
        self.groups = groups
        self.size = _checked_size(groups**dimensions, f"{groups} groups a dimension", dimensions)
        self._strides = groups ** np.arange(dimensions)[::-1]

    def __call__(self, points: FloatArray) -> Features:
        """One feature for each point (N, D)."""
        boxes = np.minimum((points * self.groups).astype(np.int64), self.groups - 1)
        return Features((boxes @ self._strides)[:, None], np.ones((len(points), 1)))

    def constant(self, value: float) -> FloatArray:
        """All weights alike."""
        return np.full(self.size, value)


class TileCoding(FeatureMap):
    """Tile coding: several grids over the cube, each shifted; in each, the tile that the point is in (section 9.5.4).

    Tiling t is shifted by t (1, 3, 5, …) / T of a tile along the dimensions, as is recommended there (Miller & Glanz
    1996): asymmetric shifts leave no diagonal artefacts.

    Args:
        dimensions: D.
        tilings: T.
        tiles: so many of a tiling's tiles cover the cube along each dimension; a shifted one needs one more.

    Example:
        >>> coding = TileCoding(2, tilings=8, tiles=8)
        >>> coding.size, coding.active
        (648, 8)
    """

    def __init__(self, dimensions: int, tilings: int, tiles: int) -> None:
        self.tilings, self.tiles = tilings, tiles
        self._each = (tiles + 1) ** dimensions
        self.size = _checked_size(tilings * self._each, f"{tilings} tilings of {tiles} tiles a dimension", dimensions)
        self.active = tilings
        # A shift by whole tiles would only number them anew.
        self.shifts = (np.arange(tilings)[:, None] * (1 + 2 * np.arange(dimensions)) % tilings) / tilings
        self._strides = (tiles + 1) ** np.arange(dimensions)[::-1]
        self._first = np.arange(tilings) * self._each

    def __call__(self, points: FloatArray) -> Features:
        """One tile of each tiling for each point (N, D)."""
        tiles = (points[:, None, :] * self.tiles + self.shifts).astype(np.int64)
        return Features(tiles @ self._strides + self._first, np.ones((len(points), self.tilings)))

    def constant(self, value: float) -> FloatArray:
        """All weights alike."""
        return np.full(self.size, value / self.tilings)


class _Dense(FeatureMap):
    """A feature map all of whose features may differ from 0; the first is 1 everywhere."""

    def __init__(self, size: int) -> None:
        self.size = self.active = size
        self._indices = np.arange(size)

    @abstractmethod
    def _values(self, points: FloatArray) -> FloatArray:
        """(N, d)."""

    def __call__(self, points: FloatArray) -> Features:
        """All features of points (N, D)."""
        return Features(np.tile(self._indices, (len(points), 1)), self._values(points))

    def constant(self, value: float) -> FloatArray:
        """All on the feature that is 1 everywhere."""
        weights = np.zeros(self.size)
        weights[0] = value
        return weights


class Polynomial(_Dense):
    r"""All products $x_1^{c_1} \cdots x_D^{c_D}$ of total degree at most ``order``, each x between -1 and 1.

    Sutton & Barto, section 9.5.1; this choice of products, the lowest degrees first, is Zhao's (section 8.2.4).

    Args:
        dimensions: D.
        order: the highest degree.

    Example:
        1, y, x, y², xy, x² at the middle of the left edge (y = 0, x = -1):

        >>> Polynomial(2, order=2)(np.array([[0.5, 0.0]])).values
        array([[ 1.,  0., -1.,  0., -0.,  1.]])
    """

    def __init__(self, dimensions: int, order: int) -> None:
        super().__init__(_checked_size(math.comb(dimensions + order, order), f"degrees up to {order}", dimensions))
        self.exponents = np.zeros((self.size, dimensions), dtype=np.int64)
        products = (
            chosen
            for degree in range(order + 1)
            for chosen in itertools.combinations_with_replacement(range(dimensions), degree)
        )
        for row, chosen in zip(self.exponents, products, strict=True):
            np.add.at(row, list(chosen), 1)

    def _values(self, points: FloatArray) -> FloatArray:
        return np.asarray(((2 * points - 1)[:, None, :] ** self.exponents).prod(axis=2))


class Fourier(_Dense):
    r"""$\cos(\pi\, c^\top x)$ for all integer vectors c from 0 to ``order`` (eq. 9.18; Konidaris et al. 2011).

    Args:
        dimensions: D.
        order: the highest frequency along each dimension, in half periods.

    Example:
        >>> Fourier(2, order=1)(np.array([[1.0, 0.0]])).values
        array([[ 1.,  1., -1., -1.]])
    """

    def __init__(self, dimensions: int, order: int) -> None:
        super().__init__(_checked_size((order + 1) ** dimensions, f"frequencies up to {order}", dimensions))
        grid = np.indices((order + 1,) * dimensions).reshape(dimensions, -1)
        self.frequencies = grid.T.astype(np.float64)

    def _values(self, points: FloatArray) -> FloatArray:
        return np.asarray(np.cos(np.pi * (points @ self.frequencies.T)))
