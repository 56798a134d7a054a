"""Stages of a batch: steps that a policy scores, the rollout that a collector returns, minibatches that a loss reads.

Each stage has all of its fields. Sequences are rows: B of them, T steps each, and a mask of the steps that exist.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from gridzero.agents.neural.distributed import own_part, process_group

OUTCOMES = frozenset({"episode_return", "episode_length", "cut_episodes"})
"""Names in :meth:`Rollout.outcomes`."""


class Rows:
    """A dataclass whose fields have B rows each: tensors (B, …), mappings of tensors, or other rows."""

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """Select some of the sequences."""
        return self.map(lambda tensor: tensor[rows])

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every tensor."""
        fields: Mapping[str, Any] = self.__dataclass_fields__  # type: ignore[attr-defined]
        return type(self)(*[_map(getattr(self, name), function) for name in fields])

    def replace(self, **changes: Any) -> Self:
        """Copy with other values of some fields."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Rows):
        return value.map(function)
    if isinstance(value, Mapping):
        return {name: function(tensor) for name, tensor in value.items()}
    return function(value)


@dataclass(frozen=True)
class Steps(Rows):
    """Steps of B sequences, as a policy scores them.

    Attributes:
        observations: name → (B, T, …), or whatever else with B rows the policy scores actions by.
        actions: (B, T, …).
        mask: (B, T) bool, the steps that exist; values elsewhere mean nothing.
        starts: (B, T) bool, the step was the first of an episode.
        memory: (B, M), the recurrent memory before the first step; M is 0 without one.
    """

    observations: Mapping[str, Tensor]
    actions: Tensor
    mask: Tensor
    starts: Tensor
    memory: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    @cached_property
    def count(self) -> int:
        """Number of steps that exist."""
        return int(self.mask.sum())

    @property
    def complete(self) -> bool:
        """Whether every step exists."""
        return self.count == self.mask.numel()

    def mean(self, per_step: Tensor) -> Tensor:
        """Mean of (B, T) numbers over the steps that exist."""
        return per_step.mean() if self.complete else per_step[self.mask].mean()


@dataclass(frozen=True)
class Rollout(Rows):
    """Sequences that a collector returns.

    Attributes:
        steps: observations and actions.
        log_probs: (B, T), of the policy that acted.
        rewards: (B, T).
        terminated: (B, T) bool, the step's successor is worth 0.
        done: (B, T) bool, the step was the last of an episode, or only led to another one.
        env_steps: (B,), steps that the environment took.
    """

    steps: Steps
    log_probs: Tensor
    rewards: Tensor
    terminated: Tensor
    done: Tensor
    env_steps: Tensor

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, the steps that exist."""
        return self.steps.mask

    def outcomes(self) -> dict[str, float]:
        """Means over the episodes, where sequences are whole ones: return, length, share that was cut off."""
        return {
            "episode_return": float(self.rewards.sum(dim=1).mean()),
            "episode_length": float(self.mask.sum(dim=1).float().mean()),
            "cut_episodes": float(1 - self.done.any(dim=1).float().mean()),
        }


@dataclass(frozen=True)
class JudgedRollout(Rollout):
    """Whole episodes with the environment's verdicts.

    Attributes:
        correct: (B,) bool, the verifier found the episode's answer right.
    """

    correct: Tensor


@dataclass(frozen=True)
class ValuedRollout(Rollout):
    """Sequences with the critic's values.

    Attributes:
        values: (B, T), of the steps' states.
        next_values: (B, T), of their true successors.
    """

    values: Tensor
    next_values: Tensor


@dataclass(frozen=True)
class Minibatch(Rows):
    """Steps that a policy's loss reads.

    Attributes:
        steps: observations and actions.
        old_log_probs: (B, T), of the policy that acted.
        advantages: (B, T).
        weights: (B, T), the weight of each step in the loss.
    """

    steps: Steps
    old_log_probs: Tensor
    advantages: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.steps)

    def microbatches(self, steps: int | None) -> Iterator[Self]:
        """All sequences once, in order, in the fewest equal parts that have ``steps`` steps or fewer on average."""
        count = 1 if steps is None else min(len(self), -(-self.steps.count // steps))
        if count == 1:
            yield self
            return
        for i in range(count):
            yield self[slice(i * len(self) // count, (i + 1) * len(self) // count)]

    def single_steps(self) -> Self:
        """Split into the steps that exist, each a sequence of its own: (N, 1).

        For policies whose scores of a step depend on nothing before it.
        """
        mask, complete = self.steps.mask.reshape(-1), self.steps.complete

        def split(tensor: Tensor) -> Tensor:
            steps = tensor.reshape(-1, 1, *tensor.shape[2:])
            return steps if complete else steps[mask]

        exists = torch.ones(self.steps.count, 1, dtype=torch.bool)
        observations = {name: split(tensor) for name, tensor in self.steps.observations.items()}
        steps = Steps(observations, split(self.steps.actions), exists, exists, torch.zeros(len(exists), 0))
        rest = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "steps"}
        return type(self)(steps=steps, **{name: split(tensor) for name, tensor in rest.items()})


@dataclass(frozen=True)
class CriticMinibatch(Minibatch):
    """Steps that an actor's and a critic's loss read.

    Attributes:
        returns: (B, T), the critic's targets.
        old_values: (B, T), the critic's values when the steps were taken.
    """

    returns: Tensor
    old_values: Tensor


@dataclass(frozen=True)
class ReferenceMinibatch(Minibatch):
    """Steps that a policy's loss reads, with their log-probabilities under the reference policy.

    Attributes:
        reference_log_probs: (B, T).
    """

    reference_log_probs: Tensor


_Minibatch = TypeVar("_Minibatch", bound=Minibatch)


def minibatches(batch: _Minibatch, steps: int, rng: np.random.Generator) -> Iterator[_Minibatch]:
    """All sequences once, in random order, in equal parts of about ``steps`` steps.

    Where several processes learn together, they are parts of all processes' sequences, of which each has its own,
    perhaps none.
    """
    group = process_group()
    counts, lengths = zip(*group.all_gather([len(batch), batch.steps.mask.shape[1]]), strict=True)
    total = sum(counts)
    parts = min(total, max(1, round(total * max(lengths) / steps)))
    order = rng.permutation(total)
    if group.world_size == 1:  # shuffled once, of which parts are views
        shuffled = batch[torch.from_numpy(order)]
        for i in range(parts):
            yield shuffled[slice(i * total // parts, (i + 1) * total // parts)]
        return
    for i in range(parts):
        yield batch[own_part(order[i * total // parts : (i + 1) * total // parts], counts, group.rank)]


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """Sequences of several rollouts in one, the shorter ones padded with steps that do not exist."""

    def together(values: Sequence[Any]) -> Any:
        if isinstance(values[0], Rows):
            fields = [field.name for field in dataclasses.fields(values[0])]  # type: ignore[arg-type]
            return type(values[0])(**{name: together([getattr(value, name) for value in values]) for name in fields})
        if isinstance(values[0], Mapping):
            return {name: together([value[name] for value in values]) for name in values[0]}
        if values[0].ndim == 1:
            return torch.cat(list(values))
        longest = max(tensor.shape[1] for tensor in values)
        padded = [
            torch.nn.functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1]))
            for tensor in values
        ]
        return torch.cat(padded)

    joined: Rollout = together(rollouts)
    return joined
