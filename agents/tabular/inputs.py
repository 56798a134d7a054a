"""Inputs of feature maps: observations of any Box or discrete space as points of the unit cube."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.spaces import Numbering

FloatArray = NDArray[np.float64]


class BoxInputs:
    """The components of a Box, scaled by its bounds; beyond them a component counts as on the bound.

    Args:
        space: of one environment.
        clip: bounds a component that the space leaves unbounded to -clip … clip.

    Raises:
        ValueError: when a component has no bounds and ``clip`` is None.

    Attributes:
        dimensions: D.
        unbounded: whether a component has no bounds of its own.

    Example:
        >>> space = gym.spaces.Box(np.array([-1.2, -0.07]), np.array([0.6, 0.07]), dtype=np.float64)
        >>> inputs = BoxInputs(space, clip=None)
        >>> inputs(np.array([[-1.2, 0.0], [0.6, 9.0]]))
        array([[0. , 0.5],
               [1. , 1. ]])
    """

    def __init__(self, space: gym.spaces.Box, clip: float | None) -> None:
        low, high = (np.asarray(bound, dtype=np.float64).reshape(-1) for bound in (space.low, space.high))
        # Some environments write the largest number where they mean none.
        unbounded = (low < -1e30) | (high > 1e30)
        self.unbounded = bool(unbounded.any())
        if self.unbounded and clip is None:
            which = ", ".join(str(i) for i in np.flatnonzero(unbounded)[:8])
            raise ValueError(
                f"observations have no bounds in component {which}, and features need some; clip=3 would count them as "
                "3 above it and as -3 below"
            )
        self._low = np.where(unbounded, -float(clip or 0), low)
        self._scale = 1 / np.maximum(np.where(unbounded, float(clip or 0), high) - self._low, np.finfo(np.float64).tiny)
        self.dimensions = low.size

    def __call__(self, observations: Any) -> FloatArray:
        """Points (N, D) of a batch of observations.

        Raises:
            ValueError: for an observation that is not a number: it has no features.
        """
        batch = np.asarray(observations, dtype=np.float64).reshape(len(observations), -1)
        points = np.minimum(np.maximum((batch - self._low) * self._scale, 0.0), 1.0)
        if np.isnan(points).any():
            raise ValueError("the environment returned an observation that is not a number")
        return np.asarray(points)


class DiscreteInputs:
    """The components of a discrete space, the smallest at 0 and the largest at 1; those of a cell: row and column.

    Args:
        numbering: of the space.
        grid: (height, width) where the states are the cells of a grid, row by row.

    Attributes:
        dimensions: D.

    Example:
        >>> DiscreteInputs(Numbering(gym.spaces.Discrete(15)), grid=(3, 5))(np.array([0, 7, 13]))
        array([[0.  , 0.  ],
               [0.5 , 0.5 ],
               [1.  , 0.75]])
    """

    def __init__(self, numbering: Numbering, grid: tuple[int, int] | None = None) -> None:
        sizes = np.asarray(numbering.sizes if grid is None else grid, dtype=np.int64)
        strides = np.append(np.cumprod(sizes[:0:-1])[::-1], 1)
        self._sizes, self._strides = sizes, strides.astype(np.int64)
        self.dimensions = len(sizes)

    def __call__(self, states: NDArray[np.int64]) -> FloatArray:
        """Points (N, D) of the numbers of states (N,)."""
        components = (states[:, None] // self._strides) % self._sizes
        return np.asarray(components / np.maximum(self._sizes - 1, 1))


def grid_shape(env: Any, states: int) -> tuple[int, int] | None:
    """(height, width) of an environment whose states are the cells of a grid, row by row; None for any other.

    Example:
        >>> grid_shape(gym.make("CliffWalking-v1"), 48), grid_shape(gym.make("Blackjack-v1"), 704)
        ((4, 12), None)
    """
    inner = env.envs[0].unwrapped if hasattr(env, "envs") else getattr(env, "unwrapped", env)
    layout = getattr(inner, "layout", None)
    for shape in (
        getattr(getattr(layout, "cells", None), "shape", None),
        getattr(getattr(inner, "desc", None), "shape", None),
        getattr(inner, "shape", None),
    ):
        if isinstance(shape, tuple) and len(shape) == 2 and shape[0] * shape[1] == states:
            return int(shape[0]), int(shape[1])
    return None
