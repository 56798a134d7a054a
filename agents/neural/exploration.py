"""Count-based exploration: a reward for what was seldom tried, where observations and actions can be counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor


class VisitCounts:
    """Visits of each pair of an observation and an action.

    A pair is kept as a 64-bit hash of its whole numbers: among a million pairs the chance that any two share one is
    below 3e-8.

    Example:
        >>> visits = VisitCounts()
        >>> rows = np.array([[4, 0], [4, 1], [4, 0]])
        >>> visits.visit(rows).tolist(), visits.visit(rows[:1]).tolist()
        ([2, 1, 2], [3])
    """

    def __init__(self) -> None:
        self.keys = np.zeros(0, dtype=np.uint64)
        self.counts = np.zeros(0, dtype=np.int64)

    def visit(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Count rows (N, D) of whole numbers and give the visits (N,) of each so far, these included."""
        keys, inverse, new = np.unique(_hashes(rows), return_inverse=True, return_counts=True)
        merged, place = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([self.counts, new]), minlength=len(merged))
        self.keys, self.counts = merged, counts.astype(np.int64)
        return np.asarray(self.counts[place[len(place) - len(keys) :]][inverse])

    def state_dict(self) -> dict[str, NDArray[np.int64]]:
        """Keys and counts."""
        return {"keys": self.keys.view(np.int64).copy(), "counts": self.counts.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.keys = np.array(state["keys"], dtype=np.int64).view(np.uint64)
        self.counts = np.array(state["counts"], dtype=np.int64)


def rows_of(observations: Mapping[str, Tensor], actions: Tensor) -> NDArray[np.int64]:
    """Observations, name → (N, …), and actions (N, …) of whole numbers as rows (N, D)."""
    parts = [
        tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(1) for tensor in (*observations.values(), actions)
    ]
    return np.asarray(torch.cat([part.to(torch.int64) for part in parts], dim=1).numpy())


def check_countable(space: gym.Space[Any], what: str) -> None:
    """Raise ValueError unless the elements of a space are whole numbers."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            check_countable(part, what)
    elif not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) and not (
        isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.integer)
    ):
        raise ValueError(f"exploration_bonus counts {what} of whole numbers, and cannot count those of {space}")


def _hashes(rows: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """(N,) a 64-bit hash of each row (N, D): splitmix64's finalizer over one column after the other."""
    from gridzero.envs.random_streams import GOLDEN, mix_array  # here, as it imports numba

    hashes = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.astype(np.int64).view(np.uint64).T:
        hashes = mix_array(hashes + column + GOLDEN)
    return hashes
