"""Spaces of environments, and numbers for the elements of discrete ones."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

MOST_ELEMENTS = 100_000_000


def spaces_of(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation space and action space of an environment, or of one environment of a vector."""
    if isinstance(env, VectorEnv):
        return env.single_observation_space, env.single_action_space
    return env.observation_space, env.action_space


def outside(space: gym.Space[Any], element: Any, what: str = "observation space") -> ValueError:
    """The error of an environment that gave what is not in its space."""
    shown = " ".join(str(element).split())
    return ValueError(f"the environment's {what} is {space}; {shown:.60} is not in it")


class Numbering:
    """Numbers the elements of a discrete space 0 … n-1, the last component changing fastest.

    Takes ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` and ``Tuple`` spaces of these (Blackjack's, say).

    Args:
        space: the space of one environment, not the batched one.
        what: how errors call it.

    Raises:
        ValueError: for a space that is not discrete, or has too many elements.

    Example:
        >>> blackjack = gym.spaces.Tuple([gym.spaces.Discrete(32), gym.spaces.Discrete(11), gym.spaces.Discrete(2)])
        >>> numbering = Numbering(blackjack)
        >>> numbering.n, numbering.number((14, 10, 1)), numbering.element(329)
        (704, 329, (14, 10, 1))
    """

    def __init__(self, space: gym.Space[Any], what: str = "space") -> None:
        sizes, offsets = _components(space, what)
        self.space = space
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.offsets = np.asarray(offsets, dtype=np.int64)
        self.n = math.prod(sizes)
        if self.n > MOST_ELEMENTS:
            raise ValueError(
                f"the {what} has about 10^{math.log10(self.n):.0f} elements; a table takes at most {MOST_ELEMENTS:,}"
            )
        self.strides = np.append(np.cumprod(self.sizes[:0:-1])[::-1], 1).astype(np.int64)
        self.plain = isinstance(space, gym.spaces.Discrete) and int(space.start) == 0
        self._what = what
        self._limits = self.sizes.astype(np.uint64)  # as an unsigned number a negative one is above every limit

    def number(self, element: Any) -> int:
        """The number of one element.

        Raises:
            ValueError: for what is not in the space: tables are read, and written, without a further check.
        """
        if self.plain:
            number = int(element)
            if not 0 <= number < self.n:
                raise outside(self.space, element, self._what)
            return number
        flat = self._flat(element) - self.offsets
        if not (flat.view(np.uint64) < self._limits).all():
            raise outside(self.space, element, self._what)
        return int(flat @ self.strides)

    def numbers(self, batch: Any) -> NDArray[np.int64]:
        """The numbers (N,) of a batch as Gymnasium's vector environments give it, or of a list of N elements.

        Raises:
            ValueError: for what is not in the space: tables are read, and written, without a further check.
        """
        if self.plain:
            numbers = np.asarray(batch, dtype=np.int64)
            if not (numbers.view(np.uint64) < self._limits).all():
                raise outside(self.space, batch, self._what)
            return numbers
        if isinstance(self.space, gym.spaces.Tuple):
            if isinstance(batch, list):
                return np.array([self.number(element) for element in batch], dtype=np.int64)
            columns = [np.asarray(part, dtype=np.int64).reshape(len(part), -1) for part in batch]
            flat = np.concatenate(columns, axis=1)
        else:
            flat = np.asarray(batch, dtype=np.int64).reshape(len(batch), -1)
        flat = flat - self.offsets
        if not (flat.view(np.uint64) < self._limits).all():
            raise outside(self.space, batch, self._what)
        return flat @ self.strides

    def element(self, number: int) -> Any:
        """The element with this number, as the space's own type."""
        if self.plain:
            return int(number)
        flat = (int(number) // self.strides) % self.sizes + self.offsets
        return _element(self.space, list(flat))

    def elements(self, numbers: NDArray[np.int64]) -> Any:
        """The batch with these numbers (N,), as Gymnasium's vector environments take it."""
        if self.plain:
            return numbers
        flat = (numbers[:, None] // self.strides) % self.sizes + self.offsets
        if isinstance(self.space, gym.spaces.Discrete):
            return flat[:, 0]
        if isinstance(self.space, gym.spaces.Tuple):
            parts, column = [], 0
            for part in self.space.spaces:
                width = len(_components(part, "space")[0])
                block = flat[:, column : column + width]
                parts.append(block[:, 0] if isinstance(part, gym.spaces.Discrete) else block)
                column += width
            return tuple(parts)
        shape: tuple[int, ...] = self.space.shape or ()
        return flat.reshape((len(numbers), *shape)).astype(self.space.dtype)

    def _flat(self, element: Any) -> NDArray[np.int64]:
        if isinstance(self.space, gym.spaces.Tuple):
            return np.concatenate([np.asarray(part, dtype=np.int64).reshape(-1) for part in element])
        return np.asarray(element, dtype=np.int64).reshape(-1)


def _components(space: gym.Space[Any], what: str) -> tuple[list[int], list[int]]:
    if isinstance(space, gym.spaces.Discrete):
        return [int(space.n)], [int(space.start)]
    if isinstance(space, gym.spaces.MultiDiscrete):
        sizes = [int(n) for n in space.nvec.reshape(-1)]
        return sizes, [int(start) for start in space.start.reshape(-1)]
    if isinstance(space, gym.spaces.MultiBinary):
        cells = int(np.prod(space.shape))
        return [2] * cells, [0] * cells
    if isinstance(space, gym.spaces.Tuple):
        parts = [_components(part, what) for part in space.spaces]
        return [n for sizes, _ in parts for n in sizes], [o for _, offsets in parts for o in offsets]
    others = "; ppo takes others too" if isinstance(space, gym.spaces.Box) else ""
    raise ValueError(f"the agent needs a discrete {what}, not {space}{others}")


def _element(space: gym.Space[Any], flat: list[Any]) -> Any:
    if isinstance(space, gym.spaces.Discrete):
        return int(flat.pop(0))
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_element(part, flat) for part in space.spaces)
    cells = int(np.prod(space.shape or ()))
    values = [flat.pop(0) for _ in range(cells)]
    return np.asarray(values, dtype=space.dtype).reshape(space.shape or ())


def restored_action(space: gym.Space[Any], saved: Any) -> Any:
    """A saved action as the space has it."""
    if isinstance(space, gym.spaces.Tuple):
        return tuple(np.asarray(saved).tolist())
    return saved.item() if np.ndim(saved) == 0 and hasattr(saved, "item") else saved


def action_batch(space: gym.Space[Any], actions: list[Any]) -> Any:
    """The actions of N environments as a vector environment takes them."""
    out: Any = gym.vector.utils.create_empty_array(space, len(actions))
    return gym.vector.utils.concatenate(space, actions, out)
