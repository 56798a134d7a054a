"""A policy for any environment of numbers: perceptrons, small convolutions for images, an optional recurrent core."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.agents.neural.batches import Steps
from gridzero.agents.neural.choices import Activation, Memory
from gridzero.agents.neural.networks.distributions import Categoricals, Gaussian, distribution
from gridzero.agents.neural.networks.encoders import Observations, initialise, is_image
from gridzero.agents.neural.networks.torsos import Torso
from gridzero.agents.neural.policy import Policy, Scores, ValuedScores
from gridzero.agents.neural.running_mean_std import RunningMeanStd
from gridzero.agents.spaces import spaces_of

ACTION_MASK = "action mask"


class MLPPolicy(Policy):
    """Actor and, if asked, critic, for environments of numbers.

    Args:
        observation_space: of one environment.
        action_space: of one environment.
        hidden: widths of the hidden layers.
        activation: after each of them.
        memory: recurrent core after the hidden layers.
        critic: whether to have one.
        shared: one torso for actor and critic instead of one each.
        convolutions: read images by convolutions; else as plain numbers.
        normalise: standardise numbers in observations by running mean and deviation.
        masked: take only the actions that action masks allow.
        log_std: initial log σ of continuous actions.
        seed: decides the initial weights.

    Attributes:
        reader: turns observations into tensors.
        actions: the distribution over actions.
        memoryless: whether there is no recurrent core.
        masked: whether it takes only allowed actions.
    """

    observes_states = True

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        hidden: Sequence[int] = (64, 64),
        activation: Activation = "tanh",
        memory: Memory = "none",
        critic: bool = True,
        shared: bool = False,
        convolutions: bool = True,
        normalise: bool = False,
        masked: bool = False,
        log_std: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.reader = Observations(observation_space, convolutions=convolutions)
        self.actions = distribution(action_space, log_std)
        if masked and not isinstance(self.actions, Categoricals):
            raise ValueError(f"action masks need Discrete, MultiDiscrete or MultiBinary actions, not {action_space}")
        self.memoryless = memory == "none"
        self.masked = masked
        leaves = self.reader.leaves
        self.actor = Torso(leaves, hidden, activation, memory, generator)
        self.action_head = nn.Linear(self.actor.width, self.actions.outputs)
        initialise(self.action_head, 0.01, generator)
        self.critic: Torso | None = None
        self.value_head: nn.Linear | None = None
        if critic:
            self.critic = self.actor if shared else Torso(leaves, hidden, activation, memory, generator)
            self.value_head = nn.Linear(self.critic.width, 1)
            initialise(self.value_head, 1.0, generator)
        sizes = {name: int(np.prod(leaf.shape)) for name, leaf in leaves.items() if _is_numeric(leaf)}
        self.statistics = nn.ModuleDict()
        self._statistics: dict[str, RunningMeanStd] = {}
        if normalise:
            self._statistics = {name: RunningMeanStd(size) for name, size in sizes.items()}
            self.statistics.update(
                {name.replace(".", "/"): statistics for name, statistics in self._statistics.items()}
            )
        self.reference: MLPPolicy | None = None

    @classmethod
    def defaults(cls, agent: str, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that depend on the spaces of observations and actions.

        Where observations are choices, states recur, and GRPO can compare what was done in them. Gaussian actions
        explore by their own deviation, which an entropy bonus would make grow without end, and the numbers observed
        beside them have scales of their own (Huang et al., 2022, The 37 implementation details of PPO, details for
        continuous actions).
        """
        observations, actions = spaces_of(env)
        defaults: dict[str, Any] = {}
        if isinstance(actions, gym.spaces.Box):
            defaults |= {"entropy_coefficient": 0.0, "normalise_observations": True}
        recur = isinstance(observations, gym.spaces.Discrete | gym.spaces.MultiDiscrete)
        if agent == "GRPO" and recur and fields.get("memory", "none") == "none":
            defaults["credit"] = "state"
        return defaults

    @classmethod
    def build(
        cls, vector: VectorEnv[Any, Any, Any], config: Any, *, critic: bool, shared: bool, seed: int
    ) -> MLPPolicy:
        """A policy as the config of PPO or GRPO has it; see :meth:`Policy.build`."""
        if config.policy:
            raise ValueError(f"policies of networks take no options of their own, such as {next(iter(config.policy))}")
        return cls(
            vector.single_observation_space,
            vector.single_action_space,
            hidden=config.hidden,
            activation=config.activation,
            memory=config.memory,
            critic=critic,
            shared=shared,
            convolutions=config.convolutions,
            normalise=config.normalise_observations,
            masked=config.action_masks,
            log_std=config.initial_log_std,
            seed=seed,
        )

    def unused(self) -> Mapping[str, str]:
        """Fields of the settings that do nothing with these observations and actions, each with what makes it so."""
        unused = {} if isinstance(self.actions, Gaussian) else {"initial_log_std": "actions that are choices"}
        if not self.reader.images:
            unused["convolutions"] = "observations without images"
        if not any(map(_is_numeric, self.reader.leaves.values())):
            unused["normalise_observations"] = "observations without numbers"
        return unused

    @property
    def torsos(self) -> list[Torso]:
        """The actor's, and the critic's if it has its own."""
        return [self.actor] if self.critic is None or self.critic is self.actor else [self.actor, self.critic]

    @property
    def memory_size(self) -> int:
        """M, numbers in the memory of one environment."""
        return sum(torso.memory_size for torso in self.torsos)

    def read(self, observations: Any, masks: NDArray[np.bool_] | None = None) -> dict[str, Tensor]:
        """Named tensors (N, …) as the networks take them, for a batch of observations."""
        return self.standardise(self.raw(observations, masks))

    def raw(self, observations: Any, masks: NDArray[np.bool_] | None = None) -> dict[str, Tensor]:
        """Named tensors (N, …) as :meth:`read` gives them, before they are standardised."""
        tensors = self.reader.tensors(observations)
        if masks is not None:
            masks = masks.reshape(len(masks), -1)
            possible = masks.any(axis=1, keepdims=True)  # not so in a state without a move, such as a terminal one
            tensors[ACTION_MASK] = torch.from_numpy(masks | ~possible)
        return tensors

    def standardise(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Numbers less their running mean, over their running deviation, if the policy normalises."""
        if not self._statistics:
            return tensors
        return tensors | {name: statistics.standardise(tensors[name]) for name, statistics in self._statistics.items()}

    def outputs(self, features: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
        """The numbers that make the action distribution, with what is not allowed made impossible."""
        return _allowed(self.action_head(features), observations)

    def act(
        self,
        observations: Any,
        memory: Tensor | None,
        rng: np.random.Generator | None,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[Any, Tensor]:
        """Choose actions for a batch of observations; see :meth:`Policy.act`."""
        read = self.read(observations, action_masks)
        size = len(next(iter(read.values())))
        if memory is None or len(memory) != size:
            memory = torch.zeros(size, self.memory_size)
        actions, memory = self.step(read, memory, rng)
        return self.actions.to_env(actions), memory

    @torch.no_grad()
    def step(
        self,
        observations: Mapping[str, Tensor],
        memory: Tensor,
        rng: np.random.Generator | None,
    ) -> tuple[NDArray[Any], Tensor]:
        """Actions (N, D) for tensors as :meth:`read` gives them, and the memories (N, M) after them.

        The most likely actions without a generator.
        """
        if self.memoryless:
            outputs, after = self.actor.through(self.action_head, observations), memory
        else:
            features, after = self.actor.step(observations, memory[:, : self.actor.memory_size])
            outputs = self.action_head(features)
            if len(self.torsos) == 2 and self.critic is not None:
                _, critics = self.critic.step(observations, memory[:, self.actor.memory_size :])
                after = torch.cat([after, critics], dim=-1)
        outputs = _allowed(outputs, observations)
        return self.actions.mode(outputs) if rng is None else self.actions.sample(outputs, rng), after

    def evaluate_actions(self, steps: Steps) -> Scores:
        """Score the actions taken, with gradients."""
        return self._scores(steps, self._through(self.actor, self.action_head, steps))

    def evaluate_with_values(self, steps: Steps) -> ValuedScores:
        """Score the actions taken and value the states, with gradients.

        Raises:
            ValueError: without a critic.
        """
        critic, value_head = self._critic()
        if critic is self.actor:
            features = self._features(critic, steps)
            outputs, values = self.action_head(features), value_head(features)
        else:
            outputs = self._through(self.actor, self.action_head, steps)
            values = self._through(critic, value_head, steps)
        scores = self._scores(steps, outputs)
        return ValuedScores(scores.log_probs, scores.entropies, values.squeeze(-1))

    def _scores(self, steps: Steps, outputs: Tensor) -> Scores:
        return Scores(*self.actions.score(_allowed(outputs, steps.observations), steps.actions))

    def _through(self, torso: Torso, head: nn.Module, steps: Steps) -> Tensor:
        """Apply a torso and then a head, step by step where the torso has a memory; (B, T, outputs of the head)."""
        if torso.core is None:
            return torso.through(head, steps.observations)
        return torch.as_tensor(head(self._features(torso, steps)))

    def _critic(self) -> tuple[Torso, nn.Linear]:
        if self.critic is None or self.value_head is None:
            raise ValueError("this policy has no critic")
        return self.critic, self.value_head

    def _features(self, torso: Torso, steps: Steps) -> Tensor:
        if torso.core is None:
            return torch.as_tensor(torso(steps.observations))
        start = 0 if torso is self.actor else self.actor.memory_size
        memory = steps.memory[:, start : start + torso.memory_size]
        return torso.unroll(steps.observations, steps.starts, memory)

    def check_table(self) -> None:
        """Raise ValueError for a policy with a memory, whose actions depend on more than the state."""
        if not self.memoryless:
            raise ValueError("a policy with a memory has no table of states")

    @torch.no_grad()
    def action_probabilities(self, observations: Any, action_masks: NDArray[np.bool_] | None = None) -> Tensor:
        """(N, A) probabilities of Discrete actions for a batch of observations; see the base class."""
        self.check_table()
        if not isinstance(self.actions, Categoricals) or self.actions.choices != 1:
            raise ValueError("only Discrete actions have a table")
        read = self.read(observations, action_masks)
        return self.actions.probabilities(self.outputs(self.actor(read), read)).squeeze(-2)

    def state_values(self, observations: Any, action_masks: NDArray[np.bool_] | None = None) -> Tensor:
        """(N,) the critic's values for a batch of observations; see the base class."""
        self.check_table()
        read = self.read(observations, action_masks)
        return self.values(read, torch.zeros(len(next(iter(read.values()))), 0))

    @torch.no_grad()
    def values(self, observations: Mapping[str, Tensor], memory: Tensor) -> Tensor:
        """(N,) the critic's values of single states, given the memories (N, M) before them."""
        critic, value_head = self._critic()
        start = 0 if critic is self.actor else self.actor.memory_size
        features, _ = critic.step(observations, memory[:, start : start + critic.memory_size])
        return torch.as_tensor(value_head(features).squeeze(-1))

    def update_statistics(self, raw: Mapping[str, Tensor], mask: Tensor) -> None:
        """Update the running statistics that observations are standardised by.

        Only after a batch is collected and scored: within one, the same observation always reads the same.

        Args:
            raw: name → (B, T, …), before they are standardised.
            mask: (B, T) bool, the steps that exist.
        """
        for name, statistics in self._statistics.items():
            statistics.update(raw[name][mask])

    def make_reference(self) -> None:
        """Keep the policy as it is now as the reference."""
        self.reference = None
        self.reference = copy.deepcopy(self).requires_grad_(False)

    def reference_log_probs(self, steps: Steps) -> Tensor:
        """(B, T) log-probabilities of the reference, without gradients."""
        if self.reference is None:
            raise ValueError("there is no reference; make_reference() keeps one")
        with torch.no_grad():
            return self.reference.evaluate_actions(steps).log_probs


def _allowed(outputs: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
    """Outputs with what an action mask among the observations does not allow made impossible."""
    mask = observations.get(ACTION_MASK)
    return outputs if mask is None else outputs.masked_fill(~mask, -1e9)


def _is_numeric(leaf: gym.Space[Any]) -> TypeGuard[gym.spaces.Box]:
    """Whether a leaf of observations has numbers that can be standardised."""
    return isinstance(leaf, gym.spaces.Box) and not is_image(leaf)
