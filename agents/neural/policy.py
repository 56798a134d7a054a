"""Policy interface of PPO and GRPO: a policy acts, scores steps and saves itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.agents.neural.batches import Steps


@dataclass(frozen=True)
class Scores:
    """Scores of steps, with gradients.

    Attributes:
        log_probs: (B, T), of the actions taken.
        entropies: (B, T), in nats.
    """

    log_probs: Tensor
    entropies: Tensor


@dataclass(frozen=True)
class ValuedScores(Scores):
    """Scores of steps by an actor and a critic, with gradients.

    Attributes:
        values: (B, T).
    """

    values: Tensor


class Policy(nn.Module):
    """A policy that can be trained by PPO and GRPO.

    Attributes:
        memoryless: whether a step's scores depend on nothing before it, so that sequences may be split into steps.
        observes_states: whether a step's observation tells its state, so that states recur and can be compared.
        parallel: whether several processes may train it together.
        Options: the dataclass of the policy's own options, which the config's ``policy`` has; None: there are none.
        default_steps: class of the agent → its usual budget with this policy, where it is another one.
        watches: names in what :meth:`watched` gives.
    """

    memoryless: bool = False
    observes_states: ClassVar[bool] = False
    parallel: ClassVar[bool] = False
    Options: ClassVar[type[Any] | None] = None
    default_steps: ClassVar[Mapping[str, int]] = {}
    watches: ClassVar[frozenset[str]] = frozenset()

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

    def unused(self) -> Mapping[str, str]:
        """Fields of the agent's config that do nothing with such spaces, each with what makes it so."""
        return {}

    @abstractmethod
    def act(
        self,
        observations: Any,
        memory: Tensor | None,
        rng: np.random.Generator | None,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[Any, Tensor]:
        """Choose actions for a batch of observations.

        Args:
            observations: N, as a vector environment gives them, or a list.
            memory: (N, M), the recurrent memory so far; None: empty.
            rng: draws the actions; the most likely ones without it.
            action_masks: (N, A), what is allowed, for policies with masks.

        Returns:
            Actions as a vector environment takes them, and the memory after them.
        """

    @abstractmethod
    def evaluate_actions(self, steps: Steps) -> Scores:
        """Score the actions taken, with gradients."""

    @abstractmethod
    def evaluate_with_values(self, steps: Steps) -> ValuedScores:
        """Score the actions taken and value the states, with gradients; needs a critic."""

    def check_table(self) -> None:
        """Raise ValueError where the policy has no table over the states of an environment."""
        raise ValueError(f"{type(self).__name__} has no table of states")

    def action_probabilities(self, observations: Any, action_masks: NDArray[np.bool_] | None = None) -> Tensor:
        """(N, A) probabilities of Discrete actions for a batch of observations.

        Raises:
            ValueError: where actions are not Discrete, or depend on more than the observation.
        """
        raise ValueError(f"{type(self).__name__} has no table of states")

    def state_values(self, observations: Any, action_masks: NDArray[np.bool_] | None = None) -> Tensor:
        """(N,) the critic's values for a batch of observations.

        Raises:
            ValueError: without a critic that values observations.
        """
        raise ValueError(f"{type(self).__name__} has no table of states")

    @contextmanager
    def watched(self, steps: Steps) -> Iterator[dict[str, float]]:
        """Watch the policy learn from some steps; when the block ends, the dictionary has what there is to log."""
        yield {}

    @abstractmethod
    def make_reference(self) -> None:
        """Keep the policy as it is now as the reference."""

    @abstractmethod
    def reference_log_probs(self, steps: Steps) -> Tensor:
        """(B, T) log-probabilities of the reference, without gradients."""

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint keeps."""
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
