"""What PPO and GRPO know of a policy: it collects sequences and scores them.

Whether an action is a move or a token is the policy's affair.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gridzero.agents.neural.distributed import own_part, world


@dataclass(frozen=True)
class Trajectories:
    """A batch of B sequences of T steps.

    What is not needed any more, or not yet known, is None.

    Attributes:
        observations: name → (B, T, …), or whatever else with B rows the policy scores actions by.
        actions: (B, T, …).
        log_probs: (B, T), of the policy that acted.
        mask: (B, T) bool, which steps there are; what the others hold means nothing. None: all of them.
        rewards: (B, T).
        terminated: (B, T) bool, the step's successor is worth 0.
        done: (B, T) bool, the step was the last of an episode, or only led to another one.
        starts: (B, T) bool, the step was the first of an episode.
        memory: (B, M), what a policy with a memory brought along to the first step.
        values: (B, T), the critic's, of the steps' states.
        next_values: (B, T), of their true successors.
        advantages: (B, T).
        returns: (B, T), the critic's targets.
        reference_log_probs: (B, T), of the reference policy.
        weights: (B, T), the weight of each step in a loss; they sum to 1.
        env_steps: (B,), steps that the environment took; None: one for each step there is.
    """

    observations: Mapping[str, Tensor]
    actions: Tensor
    log_probs: Tensor
    mask: Tensor | None = None
    rewards: Tensor | None = None
    terminated: Tensor | None = None
    done: Tensor | None = None
    starts: Tensor | None = None
    memory: Tensor | None = None
    values: Tensor | None = None
    next_values: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    reference_log_probs: Tensor | None = None
    weights: Tensor | None = None
    env_steps: Tensor | None = None

    def __len__(self) -> int:
        return len(self.actions)

    def __getitem__(self, rows: Tensor | slice) -> Trajectories:
        """Some of the sequences."""
        return self._map(lambda tensor: tensor[rows])

    def replace(self, **changes: Any) -> Trajectories:
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)

    def without(self, *names: str) -> Trajectories:
        """A copy with these fields None."""
        return self.replace(**dict.fromkeys(names))

    def single_steps(self) -> Trajectories:
        """The steps there are, each as a sequence of its own: (N, 1).

        For policies whose scores of a step depend on nothing before it.
        """
        kept = None if self.mask is None or bool(self.mask.all()) else self.mask.reshape(-1).nonzero().squeeze(-1)

        def cut(tensor: Tensor) -> Tensor:
            steps = tensor.reshape(-1, 1, *tensor.shape[2:])
            return steps if kept is None else steps[kept]

        return self.without("memory", "starts", "mask", "env_steps")._map(cut)

    def steps(self) -> int:
        """How many steps there are."""
        return self.log_probs.numel() if self.mask is None else int(self.mask.sum())

    def pieces(self, steps: int | None) -> Iterator[Trajectories]:
        """All sequences once, in order, in the fewest equal parts that have ``steps`` steps or fewer on average."""
        count = 1 if steps is None else min(len(self), -(-self.steps() // steps))
        if count == 1:
            yield self
            return
        for i in range(count):
            yield self[slice(i * len(self) // count, (i + 1) * len(self) // count)]

    def mean(self, per_step: Tensor) -> Tensor:
        """Mean of (B, T) numbers over the steps there are."""
        return per_step.mean() if self.mask is None else per_step[self.mask].mean()

    def environment_steps(self) -> int:
        """How many steps the environment took."""
        if self.env_steps is not None:
            return int(self.env_steps.sum())
        return self.steps()

    @staticmethod
    def join(parts: Sequence[Trajectories]) -> Trajectories:
        """The sequences of all parts, the shorter ones padded with steps that are not there."""
        length = max(part.actions.shape[1] for part in parts)
        if any(part.mask is None and part.actions.shape[1] < length for part in parts):
            raise ValueError("sequences of different lengths need masks")

        def together(tensors: Sequence[Tensor]) -> Tensor:
            if tensors[0].ndim == 1:
                return torch.cat(list(tensors))
            longest = max(tensor.shape[1] for tensor in tensors)
            padded = [
                torch.nn.functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1]))
                for tensor in tensors
            ]
            return torch.cat(padded)

        names = parts[0].observations
        observations = {name: together([part.observations[name] for part in parts]) for name in names}
        rest = {
            name: together([getattr(part, name) for part in parts])
            for name, value in vars(parts[0]).items()
            if isinstance(value, Tensor)
        }
        return Trajectories(observations, **rest)

    def _map(self, function: Any) -> Trajectories:
        observations = {name: function(tensor) for name, tensor in self.observations.items()}
        rest = {name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Trajectories(observations, **rest)


@dataclass(frozen=True)
class Scores:
    """What a policy says of the steps of :class:`Trajectories`, with gradients.

    Attributes:
        log_probs: (B, T).
        entropies: (B, T), in nats.
        values: (B, T); None without a critic.
    """

    log_probs: Tensor
    entropies: Tensor
    values: Tensor | None = None


class Policy(nn.Module):
    """A policy that can be trained by PPO and GRPO.

    Attributes:
        memoryless: whether a step's scores depend on nothing before it, so that sequences may be cut into steps.
        parallel: whether several processes may train it together.
        Options: the dataclass of the policy's own options, which the config's ``policy`` has; None: there are none.
        default_steps: class of the agent → its usual budget with this policy, where it is another one.
    """

    memoryless: bool = False
    parallel: ClassVar[bool] = False
    Options: ClassVar[type[Any] | None] = None
    default_steps: ClassVar[Mapping[str, int]] = {}

    @classmethod
    def defaults(cls, agent: str, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of an agent's config whose defaults are others with this policy.

        Args:
            agent: the name of its class.
            env: the environment it is for.
            fields: what is set.
        """
        return {}

    @classmethod
    @abstractmethod
    def build(cls, vector: Any, config: Any, *, critic: bool, shared: bool, seed: int) -> Policy:
        """A new policy for a vector of environments.

        Args:
            vector: the environments.
            config: the agent's.
            critic: whether to have one.
            shared: whether the critic shares the actor's body, where there is a choice.
            seed: decides the initial weights.

        Raises:
            ValueError: for settings or environments it does not take.
        """

    @abstractmethod
    def rollout(self, env: Any, steps: int, rng: np.random.Generator) -> Trajectories:
        """Go on in each environment of ``env`` for ``steps`` steps, wherever its episode is.

        Returns:
            Trajectories with rewards, terminated, done, values and next_values.
        """

    @abstractmethod
    def episodes(self, env: Any, groups: int, size: int, limit: int, rng: np.random.Generator) -> Trajectories:
        """Whole episodes, each group of ``size`` from one initial state, one group after the other.

        Args:
            env: where to act.
            groups: how many, over all processes that learn together; ``env`` has this one's share of them.
            size: G, episodes in a group.
            limit: longer episodes are cut here.
            rng: draws the initial states and the actions.

        Returns:
            Trajectories of groups · size sequences, with rewards and done.
        """

    @abstractmethod
    def evaluate(self, trajectories: Trajectories) -> Scores:
        """Score the actions taken, with gradients."""

    def answer(self, observations: Any, rng: np.random.Generator | None) -> Any:
        """Actions for a batch of observations; the most likely ones without a generator.

        Raises:
            ValueError: where the policy has another way to act.
        """
        raise ValueError(f"{type(self).__name__} does not act on observations alone")

    @abstractmethod
    def make_reference(self) -> None:
        """Keep the policy as it is now as the reference."""

    @abstractmethod
    def reference_log_probs(self, trajectories: Trajectories) -> Tensor:
        """(B, T) log-probabilities of the reference, without gradients."""

    def metrics(self) -> dict[str, float]:
        """What else is worth logging of the episodes collected last."""
        return {}

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A few of the episodes collected last, to be read, as JSON holds them."""
        return ()

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps among its tensors."""
        return dict(self.state_dict())

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from :meth:`tensors`.

        Raises:
            ValueError: when they are of another network.
        """
        if any(name.startswith("reference.") for name in tensors):
            self.make_reference()
        try:
            self.load_state_dict(dict(tensors))
        except RuntimeError as error:
            raise ValueError(
                "the state is of other networks than these: " + str(error).splitlines()[1].strip()
            ) from error

    def save_artifacts(self, folder: Path) -> None:
        """Write what has a file format of its own into a checkpoint's folder."""

    def load_artifacts(self, folder: Path) -> None:
        """Continue from the files that :meth:`save_artifacts` wrote into ``folder``."""

    def trained(self) -> list[nn.Parameter]:
        """The parameters that learning changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def minibatches(batch: Trajectories, steps: int, rng: np.random.Generator) -> Iterator[Trajectories]:
    """All sequences once, in random order, in equal parts of about ``steps`` steps.

    Where several processes learn together, they are parts of all processes' sequences, of which each has its own,
    perhaps none.
    """
    here = world()
    counts, lengths = zip(*here.gather([len(batch), batch.actions.shape[1]]), strict=True)
    total = sum(counts)
    parts = min(total, max(1, round(total * max(lengths) / steps)))
    order = rng.permutation(total)
    for i in range(parts):
        yield batch[own_part(order[i * total // parts : (i + 1) * total // parts], counts, here.rank)]
