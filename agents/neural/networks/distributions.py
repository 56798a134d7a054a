"""Distributions over actions of any space."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.agents.neural.networks.categorical_scores import categorical_scores
from gridzero.agents.neural.objectives import gaussian_entropy

_FORBIDDEN = -1e9


class ActionDistribution(nn.Module):
    """A distribution over actions, given a network's outputs.

    Inside, an action is a row of numbers, (..., D); :meth:`to_env` turns a batch into what the environment takes.

    Attributes:
        outputs: how many numbers the network must give.
    """

    outputs: int

    @abstractmethod
    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        """Draw actions (N, D) for outputs (N, outputs)."""

    @abstractmethod
    def mode(self, outputs: Tensor) -> NDArray[Any]:
        """The most likely actions (N, D)."""

    @abstractmethod
    def score(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (...) of actions (..., D), and entropies (...), in nats."""

    @abstractmethod
    def to_env(self, actions: NDArray[Any]) -> Any:
        """The batch (N, …) as a vector environment takes it."""


class Categoricals(ActionDistribution):
    """Independent choices: ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` actions.

    Args:
        space: of one environment.
    """

    columns: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) -> None:
        super().__init__()
        self.space = space
        if isinstance(space, spaces.Discrete):
            self.sizes, self.start = np.array([space.n]), np.array([space.start])
        elif isinstance(space, spaces.MultiDiscrete):
            self.sizes, self.start = space.nvec.reshape(-1), space.start.reshape(-1)
        else:
            self.sizes, self.start = np.full(int(np.prod(space.shape)), 2), np.zeros(1, dtype=np.int64)
        self.outputs, self.choices, self.most = int(self.sizes.sum()), len(self.sizes), int(self.sizes.max())
        offsets = np.cumsum(self.sizes) - self.sizes
        numbers = np.arange(self.most)
        # Shorter choices are padded with a column that is never chosen.
        table = np.where(numbers < self.sizes[:, None], offsets[:, None] + numbers, self.outputs)
        self.even = bool((self.sizes == self.most).all())
        self.register_buffer("columns", torch.from_numpy(table.reshape(-1)), persistent=False)

    def logits(self, outputs: Tensor) -> Tensor:
        """(..., outputs) as (..., choices, most alternatives)."""
        if not self.even:
            padded = torch.nn.functional.pad(outputs, (0, 1), value=_FORBIDDEN)
            outputs = padded.index_select(-1, self.columns)
        return outputs.reshape(*outputs.shape[:-1], self.choices, self.most)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(..., choices, most alternatives)."""
        return self.logits(outputs).softmax(dim=-1)

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[np.int64]:
        """Sample by the inverse of the cumulative distribution, one uniform number a choice."""
        cumulative = np.add.accumulate(self.probabilities(outputs).numpy(), axis=-1, dtype=np.float64)
        thresholds = rng.random((*cumulative.shape[:-1], 1)) * cumulative[..., -1:]
        return np.asarray(np.add.reduce(thresholds >= cumulative, axis=-1, dtype=np.int64))

    def mode(self, outputs: Tensor) -> NDArray[np.int64]:
        """The most likely alternative of each choice."""
        return np.asarray(self.logits(outputs).argmax(dim=-1).numpy())

    def score(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the choices."""
        if self.choices == 1:
            return categorical_scores(outputs, actions.squeeze(-1))
        log_probs, entropies = categorical_scores(self.logits(outputs), actions)
        return log_probs.sum(dim=-1), entropies.sum(dim=-1)

    def to_env(self, actions: NDArray[Any]) -> Any:
        """The batch as the space has it."""
        numbers = actions + self.start
        if isinstance(self.space, spaces.Discrete):
            return numbers[:, 0]
        return numbers.reshape(len(actions), *(self.space.shape or ())).astype(self.space.dtype)


class Gaussian(ActionDistribution):
    """Independent normal distributions: ``Box`` actions. The deviations do not depend on the state.

    A finite box is scaled to [-1, 1]; actions are clipped to the box only on their way to the environment.

    Args:
        space: of one environment.
        log_std: the initial log σ.

    Source: Huang et al. (2022), The 37 implementation details of PPO, details for continuous actions 1-4.
    """

    def __init__(self, space: spaces.Box, log_std: float) -> None:
        super().__init__()
        self.space = space
        self.outputs = int(np.prod(space.shape))
        self.log_std = nn.Parameter(torch.full((self.outputs,), log_std))
        finite = space.is_bounded("both")
        self.low, self.high = space.low.reshape(-1), space.high.reshape(-1)
        self.centre = (self.high + self.low) / 2 if finite else np.zeros(self.outputs)
        self.radius = (self.high - self.low) / 2 if finite else np.ones(self.outputs)

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[np.float32]:
        """Mean plus deviation times a standard normal number."""
        noise = rng.standard_normal(outputs.shape, dtype=np.float32)
        return np.asarray(outputs.numpy() + self.log_std.detach().exp().numpy() * noise)

    def mode(self, outputs: Tensor) -> NDArray[np.float32]:
        """The mean."""
        return np.asarray(outputs.numpy())

    def score(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of the actions as drawn, before clipping."""
        standard = (actions - outputs) * (-self.log_std).exp()
        constant = self.log_std.sum() + 0.5 * self.outputs * math.log(2 * math.pi)
        log_probs = -0.5 * standard.square().sum(dim=-1) - constant
        return log_probs, gaussian_entropy(self.log_std).expand(log_probs.shape)

    def to_env(self, actions: NDArray[Any]) -> Any:
        """The batch, clipped to the space."""
        scaled = np.clip(self.centre + self.radius * actions, self.low, self.high)
        return scaled.reshape(len(actions), *self.space.shape).astype(self.space.dtype)


def distribution(space: gym.Space[Any], log_std: float) -> ActionDistribution:
    """The distribution for an action space.

    Raises:
        ValueError: for a space that has none here.
    """
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return Categoricals(space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Gaussian(space, log_std)
    raise ValueError(f"actions may be Discrete, MultiDiscrete, MultiBinary or a Box of floats, not {space}")
