"""Observations of any space, as named tensors, and the first layer of a network that reads them."""

from __future__ import annotations

import functools
import itertools
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.agents.spaces import outside

Leaf = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Space[str]
_NUMBERS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
TEXT_FEATURES = 256
"""Numbers that a text is read as."""


class Observations:
    """Turns batches of observations into named tensors, one for each leaf of the space.

    Takes ``Box``, ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, texts, and ``Dict`` and ``Tuple`` of these, nested.
    Numbers become float32 (images stay as they are), choices become int64 counted from 0, texts what
    :func:`text_features` makes of them.

    Args:
        space: of one environment.
        convolutions: whether images are for convolutions; else they are plain numbers, which suits symbols.

    Attributes:
        leaves: name → space.
        images: names of those that convolutions can read.

    Raises:
        ValueError: for a space that a network cannot read, such as ``Sequence``.

    Example:
        >>> space = spaces.Dict(position=spaces.MultiDiscrete([3, 4]), speed=spaces.Box(-1, 1, (2,)))
        >>> reader = Observations(space)
        >>> {name: tuple(t.shape) for name, t in reader.tensors([space.sample() for _ in range(5)]).items()}
        {'position': (5, 2), 'speed': (5, 2)}
    """

    def __init__(self, space: gym.Space[Any], *, convolutions: bool = True) -> None:
        self.space = space
        self.leaves: dict[str, Leaf] = dict(_leaves(space, ""))
        self.images = [name for name, leaf in self.leaves.items() if is_image(leaf)]
        if not convolutions:
            flat = {name: spaces.flatten_space(self.leaves[name]) for name in self.images}
            self.leaves |= cast(dict[str, Leaf], flat)
        self._plain = len(self.leaves) == 1 and not isinstance(space, spaces.Dict | spaces.Tuple)

    def tensors(self, observations: Any) -> dict[str, Tensor]:
        """Name → (N, …), for a batch as vector environments give it, or a list of single observations."""
        if isinstance(observations, list):
            empty: Any = gym.vector.utils.create_empty_array(self.space, len(observations))
            observations = gym.vector.utils.concatenate(self.space, observations, empty)
        if self._plain:
            ((name, leaf),) = self.leaves.items()
            return {name: _tensor(leaf, observations)}
        return {name: _tensor(self.leaves[name], array) for name, array in _arrays(self.space, observations, "")}


def _leaves(space: gym.Space[Any], path: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key, part in _parts(space):
            yield from _leaves(part, f"{path}.{key}" if path else key)
    elif isinstance(space, _NUMBERS) or is_text(space):
        yield path or "observation", space
    else:
        raise ValueError(
            "a network reads Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict and Tuple spaces, not "
            f"{path or 'this'}: {space}; a wrapper such as gymnasium.wrappers:FilterObservation chooses what is read"
        )


def _parts(space: spaces.Dict | spaces.Tuple[Any]) -> list[tuple[str, gym.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        return list(space.spaces.items())
    return [(str(i), part) for i, part in enumerate(space.spaces)]


def _arrays(space: gym.Space[Any], batch: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key, part in _parts(space):
            index = key if isinstance(space, spaces.Dict) else int(key)
            yield from _arrays(part, batch[index], f"{path}.{key}" if path else key)
    else:
        yield path or "observation", batch


def _tensor(leaf: Leaf, batch: Any) -> Tensor:
    if is_text(leaf):
        return torch.from_numpy(np.stack([text_features(text) for text in batch]))
    array: NDArray[Any] = np.asarray(batch)
    if is_image(leaf):
        return torch.from_numpy(np.ascontiguousarray(array))
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        choices = (array - leaf.start).astype(np.int64).reshape(len(array), -1)
        limits = np.asarray(leaf.n if isinstance(leaf, spaces.Discrete) else leaf.nvec).reshape(-1).astype(np.uint64)
        if not (choices.view(np.uint64) < limits).all():  # of tables of codes, a wrong row would be read
            raise outside(leaf, batch)
        return torch.from_numpy(choices)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32).reshape(len(array), -1))


def is_image(leaf: gym.Space[Any]) -> TypeGuard[spaces.Box]:
    """Whether a leaf is read by convolutions: a ``Box`` of three dimensions, or of two in bytes."""
    if not isinstance(leaf, spaces.Box):
        return False
    return len(leaf.shape) == 3 or (len(leaf.shape) == 2 and leaf.dtype == np.uint8)


def is_text(space: gym.Space[Any]) -> TypeGuard[spaces.Space[str]]:
    """Whether a space is of texts: Gymnasium's ``Text``, or one of a library's own, such as MiniGrid's missions."""
    return space.dtype is not None and space.dtype.kind == "U"


@functools.lru_cache(4096)
def text_features(text: str) -> NDArray[np.float32]:
    """(256,) how often each word, and each pair of words in a row, is in a text, hashed; of norm 1.

    Source: Weinberger et al. (2009), Feature hashing for large scale multitask learning.

    Example:
        >>> red, blue = text_features("go to the red door"), text_features("go to the blue door")
        >>> round(float(red @ red), 1), round(float(red @ blue), 1)
        (1.0, 0.7)
    """
    words = text.lower().split()
    features = np.zeros(TEXT_FEATURES, dtype=np.float32)
    for part in [*words, *(f"{one} {other}" for one, other in itertools.pairwise(words))]:
        features[zlib.crc32(part.encode()) % TEXT_FEATURES] += 1
    return features / max(1.0, float(np.linalg.norm(features)))


class Reader(nn.Module):
    """The first layer: the sum of what each leaf contributes, before the activation.

    It is the linear layer on the concatenation of the numbers, the one-hot codes of the choices, and the features that
    a small convolutional network finds in images; one-hot codes are looked up, not multiplied.

    Args:
        leaves: name → space, from :class:`Observations`.
        width: of the output.
    """

    def __init__(self, leaves: Mapping[str, Leaf], width: int) -> None:
        super().__init__()
        self.names = list(leaves)
        self.parts = nn.ModuleList([_part(leaf, width) for leaf in leaves.values()])

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Name → (..., shape of the leaf) gives (..., width)."""
        total: Tensor = self.parts[0](observations[self.names[0]])
        for name, part in zip(self.names[1:], self.parts[1:], strict=True):
            total = total + part(observations[name])
        return total


def _part(leaf: Leaf, width: int) -> nn.Module:
    if is_image(leaf):
        return ImageReader(leaf, width)
    if isinstance(leaf, spaces.Discrete):
        return ChoiceReader([int(leaf.n)], width)
    if isinstance(leaf, spaces.MultiDiscrete):
        return ChoiceReader([int(n) for n in leaf.nvec.reshape(-1)], width)
    return nn.Linear(TEXT_FEATURES if is_text(leaf) else int(np.prod(leaf.shape or ())), width)


class ChoiceReader(nn.Module):
    """A linear layer on one-hot codes: the sum of one row of a table for each choice."""

    offsets: Tensor

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)
        self.single = len(sizes) == 1
        self.register_buffer("offsets", torch.tensor([0, *np.cumsum(sizes[:-1])]), persistent=False)

    def forward(self, choices: Tensor) -> Tensor:
        """(..., number of choices) gives (..., width)."""
        if self.single:
            return torch.as_tensor(self.table(choices.squeeze(-1)))
        return torch.as_tensor(self.table(choices + self.offsets).sum(dim=-2))


class ImageReader(nn.Module):
    """Convolutions over an image, then a linear layer.

    Small images, such as symbolic grids, keep their resolution, or half of it; frames of 36 pixels and more go through
    the network of Mnih et al. (2015). Rows × columns × channels is understood, unless the first dimension is much the
    smallest. Bytes are scaled by the highest value of the space.
    """

    def __init__(self, leaf: spaces.Box, width: int) -> None:
        super().__init__()
        shape = leaf.shape if len(leaf.shape) == 3 else (*leaf.shape, 1)
        self.flat = len(leaf.shape) == 2
        self.channels_first = shape[0] < 16 <= min(shape[1:])
        rows, columns = shape[1:] if self.channels_first else shape[:2]
        channels = shape[0] if self.channels_first else shape[2]
        self.scale = 1.0 / float(leaf.high.max()) if leaf.dtype == np.uint8 else 1.0
        if min(rows, columns) >= 36:
            plan = [(32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0)]
        else:
            stride = 2 if min(rows, columns) >= 16 else 1
            plan = [(16, 3, stride, 1), (32, 3, stride, 1)]
        layers: list[nn.Module] = []
        for filters, kernel, stride, padding in plan:
            layers += [nn.Conv2d(channels, filters, kernel, stride, padding), nn.ReLU()]
            channels = filters
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            example = torch.zeros(1, shape[0] if self.channels_first else shape[2], rows, columns)
            found = self.convolutions(example).shape[1]
        self.linear = nn.Linear(found, width)

    def forward(self, images: Tensor) -> Tensor:
        """(..., shape of the image) gives (..., width)."""
        dims = 2 if self.flat else 3
        batch = images.shape[:-dims]
        stacked = images.reshape(-1, *images.shape[-dims:])
        if self.flat:
            stacked = stacked.unsqueeze(-1)
        if not self.channels_first:
            stacked = stacked.permute(0, 3, 1, 2)
        features = self.linear(self.convolutions(stacked.float() * self.scale))
        return torch.as_tensor(features.reshape(*batch, -1))


def initialise(module: nn.Module, gain: float, generator: torch.Generator) -> None:
    """Orthogonal weights with this gain, biases 0, in every layer of ``module`` but recurrent ones.

    A table of one-hot codes is the transpose of a linear layer's weights, and is drawn like it.

    Source: Huang et al. (2022), The 37 implementation details of PPO, detail 2.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.orthogonal_(
                layer.weight,
                gain * math.sqrt(max(1.0, layer.num_embeddings / layer.embedding_dim)),
                generator=generator,
            )
