"""Observation spaces of the text environments, a text or a picture and a text, and access to batches of them."""

from __future__ import annotations

import copy
import string
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

LONGEST = 1 << 24
"""Most characters of an observation or action."""
_SAMPLED = 64


class AnyText(gym.spaces.Text):
    """Every string of up to so many characters, whatever they are; samples are printable and short.

    Args:
        max_length: characters.
        seed: of the samples.

    Example:
        >>> "2 + 2 = ?\N{SNOWMAN}" in AnyText(20), "2" * 21 in AnyText(20)
        (True, False)
    """

    def __init__(self, max_length: int = LONGEST, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=0, charset=string.printable, seed=seed)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string of at most ``max_length`` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A string of at most 64 printable characters, unless a mask or probabilities say another length."""
        if mask is None and probability is None:
            mask = (int(self.np_random.integers(min(_SAMPLED, self.max_length) + 1)), None)
        return super().sample(mask, probability)

    def __deepcopy__(self, memo: dict[int, Any]) -> AnyText:
        """A space with a generator of its own and the same characters, as large vectors have many copies."""
        space = copy.copy(self)
        space._np_random = copy.deepcopy(self._np_random, memo)
        return space

    def __repr__(self) -> str:
        return f"AnyText({self.max_length})"


class Scene(gym.spaces.Dict):
    """A picture and a text: ``{"image": (H, W, 3) uint8, "text": str}``.

    Args:
        shape: (H, W, 3).

    Example:
        >>> Scene((8, 8, 3))["text"]
        AnyText(16777216)
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__({"image": gym.spaces.Box(0, 255, shape, np.uint8), "text": AnyText()})


def one_of(observations: Any, i: int) -> Any:
    """The observation of environment i among those of all, which are a sequence or a dictionary of sequences."""
    if isinstance(observations, dict):
        return {name: values[i] for name, values in observations.items()}
    return observations[i]


def texts_and_pictures(observations: Any) -> tuple[list[str], list[NDArray[np.uint8] | None]]:
    """The texts of N observations, and their pictures, None where they are of text alone.

    Args:
        observations: N, as a vector environment gives them, or a list of single ones.

    >>> texts_and_pictures(("1+1=", "1+2="))
    (['1+1=', '1+2='], [None, None])
    """
    if isinstance(observations, dict):
        return list(observations["text"]), list(observations["image"])
    rows = list(observations)
    if rows and isinstance(rows[0], dict):
        return [row["text"] for row in rows], [row["image"] for row in rows]
    return rows, [None] * len(rows)
