"""A policy for any environment of numbers: perceptrons, small convolutions for images, an optional recurrent core."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.agents.interaction import Interaction
from gridzero.agents.neural.networks.distributions import Categoricals, distribution
from gridzero.agents.neural.networks.encoders import Observations, initialise, is_image
from gridzero.agents.neural.networks.torsos import Activation, Memory, Tower
from gridzero.agents.neural.policy import Policy, Scores, Trajectories
from gridzero.agents.neural.running_mean_std import RunningMoments

ACTION_MASK = "action mask"


class MLPPolicy(Policy):
    """Actor and, if asked, critic.

    Args:
        observation_space: of one environment.
        action_space: of one environment.
        hidden: widths of the hidden layers.
        activation: after each of them.
        memory: recurrent core after the hidden layers.
        critic: whether to have one.
        shared: one body for actor and critic instead of one each.
        normalise: standardise numbers in observations by running moments.
        masked: take only the actions that ``env.unwrapped.action_masks()`` allows.
        log_std: initial log σ of continuous actions.
        seed: decides the initial weights.

    Attributes:
        state: (N, M) memories of the environments of :meth:`rollout`; M is 0 without a recurrent core.
        starting: (N,) bool, their next observation is the first of an episode.
    """

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
        normalise: bool = False,
        masked: bool = False,
        log_std: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.reader = Observations(observation_space)
        self.actions = distribution(action_space, log_std)
        if masked and not isinstance(self.actions, Categoricals):
            raise ValueError(f"action masks need Discrete, MultiDiscrete or MultiBinary actions, not {action_space}")
        self.memoryless = memory == "none"
        self.masked = masked
        leaves = self.reader.leaves
        self.actor = Tower(leaves, hidden, activation, memory, generator)
        self.action_head = nn.Linear(self.actor.width, self.actions.outputs)
        initialise(self.action_head, 0.01, generator)
        self.critic: Tower | None = None
        self.value_head: nn.Linear | None = None
        if critic:
            self.critic = self.actor if shared else Tower(leaves, hidden, activation, memory, generator)
            self.value_head = nn.Linear(self.critic.width, 1)
            initialise(self.value_head, 1.0, generator)
        sizes = {
            name: int(np.prod(leaf.shape))
            for name, leaf in leaves.items()
            if isinstance(leaf, gym.spaces.Box) and not is_image(leaf)
        }
        self.moments = nn.ModuleDict()
        self._moments: dict[str, RunningMoments] = {}
        if normalise:
            self._moments = {name: RunningMoments(size) for name, size in sizes.items()}
            self.moments.update({name.replace(".", "/"): moments for name, moments in self._moments.items()})
        self.reference: MLPPolicy | None = None
        self.state = torch.zeros(0, self.memory_size)
        self.starting = np.zeros(0, dtype=np.bool_)

    @classmethod
    def defaults(cls, agent: str, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that depend on the spaces of observations and actions.

        Where observations are choices, states recur, and GRPO can compare what was done in them. Gaussian actions
        explore by their own deviation, which an entropy bonus would make grow without end, and the numbers observed
        beside them have scales of their own (Huang et al., 2022, The 37 implementation details of PPO, details for
        continuous actions).
        """
        single = "single_" if isinstance(env, VectorEnv) else ""
        observations, actions = getattr(env, single + "observation_space"), getattr(env, single + "action_space")
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
            normalise=config.normalise_observations,
            masked=config.action_masks,
            log_std=config.initial_log_std,
            seed=seed,
        )

    @property
    def towers(self) -> list[Tower]:
        """The actor's, and the critic's if it has its own."""
        return [self.actor] if self.critic is None or self.critic is self.actor else [self.actor, self.critic]

    @property
    def memory_size(self) -> int:
        """M, numbers in the memory of one environment."""
        return sum(tower.memory_size for tower in self.towers)

    def read(self, observations: Any, masks: NDArray[np.bool_] | None = None) -> dict[str, Tensor]:
        """Named tensors (N, …) as the networks take them, for a batch of observations."""
        return self.standardise(self.raw(observations, masks))

    def raw(self, observations: Any, masks: NDArray[np.bool_] | None = None) -> dict[str, Tensor]:
        """What :meth:`read` gives, before it is standardised."""
        tensors = self.reader.tensors(observations)
        if masks is not None:
            masks = masks.reshape(len(masks), -1)
            masks[~masks.any(axis=1)] = True  # a state without a move, such as a terminal one
            tensors[ACTION_MASK] = torch.from_numpy(masks)
        return tensors

    def standardise(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Numbers less their running mean, over their running deviation, if the policy normalises."""
        if not self._moments:
            return tensors
        return tensors | {name: moments.standardise(tensors[name]) for name, moments in self._moments.items()}

    def masks(self, env: Any) -> NDArray[np.bool_] | None:
        """(N, A) what is allowed now in each environment; None unless the policy is masked."""
        if not self.masked:
            return None
        if hasattr(env.unwrapped, "action_masks"):
            return np.array(env.unwrapped.action_masks(), dtype=np.bool_, ndmin=2)
        if not hasattr(env, "call"):
            raise ValueError(f"{type(env.unwrapped).__name__} has no action_masks()")
        try:
            return np.stack([np.asarray(mask, dtype=np.bool_) for mask in env.call("action_masks")])
        except AttributeError as error:
            raise ValueError("the environments have no action_masks()") from error

    def outputs(self, features: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
        """The numbers that make the action distribution, with what is not allowed made impossible."""
        outputs: Tensor = self.action_head(features)
        mask = observations.get(ACTION_MASK)
        return outputs if mask is None else outputs.masked_fill(~mask, -1e9)

    @torch.no_grad()
    def act(
        self,
        observations: Mapping[str, Tensor],
        memory: Tensor,
        rng: np.random.Generator | None,
    ) -> tuple[NDArray[Any], Tensor]:
        """Actions (N, D) and the memories after them; the most likely actions without a generator."""
        features, after = self.actor.step(observations, memory[:, : self.actor.memory_size])
        outputs = self.outputs(features, observations)
        actions = self.actions.mode(outputs) if rng is None else self.actions.sample(outputs, rng)
        if self.memoryless:
            return actions, memory
        if len(self.towers) == 2 and self.critic is not None:
            _, critics = self.critic.step(observations, memory[:, self.actor.memory_size :])
            after = torch.cat([after, critics], dim=-1)
        return actions, after

    def evaluate(self, trajectories: Trajectories) -> Scores:
        """Score the actions taken, with gradients."""
        features = self._features(self.actor, trajectories)
        outputs = self.outputs(features, trajectories.observations)
        log_probs, entropies = self.actions.score(outputs, trajectories.actions)
        if self.critic is None or self.value_head is None:
            return Scores(log_probs, entropies)
        if self.critic is not self.actor:
            features = self._features(self.critic, trajectories)
        return Scores(log_probs, entropies, self.value_head(features).squeeze(-1))

    def _features(self, tower: Tower, trajectories: Trajectories) -> Tensor:
        if tower.core is None:
            return torch.as_tensor(tower(trajectories.observations))
        assert trajectories.starts is not None
        assert trajectories.memory is not None
        start = 0 if tower is self.actor else self.actor.memory_size
        memory = trajectories.memory[:, start : start + tower.memory_size]
        return tower.unroll(trajectories.observations, trajectories.starts, memory)

    @torch.no_grad()
    def values(self, observations: Mapping[str, Tensor], memory: Tensor) -> Tensor:
        """(N,) the critic's values of single states, given the memories (N, M) before them."""
        assert self.critic is not None
        assert self.value_head is not None
        start = 0 if self.critic is self.actor else self.actor.memory_size
        features, _ = self.critic.step(observations, memory[:, start : start + self.critic.memory_size])
        return torch.as_tensor(self.value_head(features).squeeze(-1))

    def rollout(self, env: Interaction, steps: int, rng: np.random.Generator) -> Trajectories:
        """Go on in each environment for ``steps`` steps; see :meth:`Policy.rollout`.

        Only the actor runs on the way. Values and log-probabilities come from one pass over all steps at the end, so
        they are the very ones that :meth:`evaluate` gives.
        """
        env.start()
        if len(self.starting) != env.num_envs:
            self.state = torch.zeros(env.num_envs, self.memory_size)
            self.starting = np.ones(env.num_envs, dtype=np.bool_)
        start = self.state
        records: list[tuple[dict[str, Tensor], NDArray[Any], Any, NDArray[np.bool_]]] = []
        cut: list[tuple[int, int, Any, Tensor]] = []
        for t in range(steps):
            observations = self.raw(env.observations, self.masks(env.env))
            self.state = _begin(self.state, self.starting)
            actions, self.state = self.act(self.standardise(observations), self.state, rng)
            transition = env.step(self.actions.to_env(actions))
            records.append((observations, actions, transition, self.starting))
            if env.mode is AutoresetMode.NEXT_STEP:
                # The last observation of an episode is followed by a step that only resets.
                self.starting = ~transition.valid
            else:
                self.starting = transition.done
                only_cut = np.flatnonzero(transition.truncated & ~transition.terminated).tolist()
                cut += [(i, t, _row(transition.next_observations, i), self.state[i]) for i in only_cut]
        last = self.raw(env.observations, self.masks(env.env))
        observations = {
            name: torch.stack([record[0][name] for record in records] + [last[name]], dim=1) for name in last
        }
        seen = {name: observations[name][:, :-1] for name in self._moments}
        observations = self.standardise(observations)
        starts = np.stack([record[3] for record in records] + [self.starting], axis=1)
        transitions = [record[2] for record in records]
        fields = {
            "terminated": torch.from_numpy(np.stack([t.terminated for t in transitions], axis=1)),
            # A step that only resets must not pass on what the next episode brings.
            "done": torch.from_numpy(np.stack([t.done | ~t.valid for t in transitions], axis=1)),
            "rewards": torch.from_numpy(np.stack([t.rewards for t in transitions], axis=1)).float(),
        }
        taken = torch.from_numpy(np.stack([record[1] for record in records], axis=1))
        longer = Trajectories(
            observations,
            torch.cat([taken, taken[:, -1:]], dim=1),
            torch.empty(0),
            torch.empty(0),
            starts=torch.from_numpy(starts),
            memory=start,
        )
        with torch.no_grad():
            scores = self.evaluate(longer)
        mask = torch.from_numpy(np.stack([t.valid for t in transitions], axis=1))
        self.update_moments(seen, mask)
        values = scores.values
        next_values = None
        if values is not None:
            next_values = values[:, 1:].clone()
            if cut:
                rows, times, finals, memories = zip(*cut, strict=True)
                masks = None if not self.masked else np.ones((len(cut), self.actions.outputs), dtype=np.bool_)
                found = self.values(self.read(list(finals), masks), torch.stack(memories))
                next_values[list(rows), list(times)] = found
            values = values[:, :-1]
        return Trajectories(
            {name: tensor[:, :-1] for name, tensor in observations.items()},
            taken,
            scores.log_probs[:, :-1],
            mask,
            starts=longer.starts[:, :-1] if longer.starts is not None else None,
            memory=start,
            values=values,
            next_values=next_values,
            **fields,
        )

    def update_moments(self, seen: Mapping[str, Tensor], mask: Tensor) -> None:
        """Only after a batch is collected and scored: within one, the same observation always reads the same."""
        for name, moments in self._moments.items():
            moments.update(seen[name][mask])

    def episodes(
        self, env: VectorEnv[Any, Any, Any], groups: int, size: int, limit: int, rng: np.random.Generator
    ) -> Trajectories:
        """Whole episodes in groups; see :meth:`Policy.episodes`.

        The members of a group are reset with one seed, so they start in one state and meet the same chance as long as
        they act alike. As a member's actions do not depend on what chance has in store, the group's mean is still an
        unbiased baseline, and a better one.

        Args:
            env: groups · size environments, each to be reset with a seed of its own.
            groups: how many.
            size: episodes in a group.
            limit: longer episodes are cut here.
            rng: draws the seeds and the actions.
        """
        seeds = np.repeat(rng.integers(2**31, size=groups), size)
        current, _ = env.reset(seed=seeds.tolist())  # type: ignore[arg-type]  # these take one for each environment
        alive = np.ones(len(seeds), dtype=np.bool_)
        memory = torch.zeros(len(seeds), self.memory_size)
        records: list[tuple[dict[str, Tensor], NDArray[Any], NDArray[np.float64], NDArray[np.bool_], Any]] = []
        while alive.any() and len(records) < limit:
            observations = self.raw(current, self.masks(env))
            actions, memory = self.act(self.standardise(observations), memory, rng)
            current, rewards, terminated, truncated, _ = env.step(self.actions.to_env(actions))
            done = terminated | truncated
            records.append((observations, actions, np.where(alive, rewards, 0.0), alive, done & alive))
            alive = alive & ~done
            if done.any() and env.metadata.get("autoreset_mode") is AutoresetMode.DISABLED:
                current, _ = env.reset(options={"reset_mask": done})
        seen = {name: torch.stack([record[0][name] for record in records], dim=1) for name in records[0][0]}
        mask = torch.from_numpy(np.stack([record[3] for record in records], axis=1))
        starts = torch.zeros_like(mask)
        starts[:, 0] = True
        taken = torch.from_numpy(np.stack([record[1] for record in records], axis=1))
        trajectories = Trajectories(
            self.standardise(seen),
            taken,
            torch.empty(0),
            mask,
            rewards=torch.from_numpy(np.stack([record[2] for record in records], axis=1)).float(),
            done=torch.from_numpy(np.stack([record[4] for record in records], axis=1)),
            starts=starts,
            memory=torch.zeros(len(seeds), self.memory_size),
        )
        with torch.no_grad():
            log_probs = self.evaluate(trajectories).log_probs
        self.update_moments(seen, mask)
        return trajectories.replace(log_probs=log_probs)

    def make_reference(self) -> None:
        """Keep the policy as it is now as the reference."""
        self.reference = None
        self.reference = copy.deepcopy(self).requires_grad_(False)

    def reference_log_probs(self, trajectories: Trajectories) -> Tensor:
        """(B, T) log-probabilities of the reference, without gradients."""
        if self.reference is None:
            raise ValueError("there is no reference; make_reference() keeps one")
        with torch.no_grad():
            return self.reference.evaluate(trajectories).log_probs


def _begin(memory: Tensor, starting: NDArray[np.bool_]) -> Tensor:
    """The memories, empty where an episode begins."""
    if memory.shape[1] == 0 or not starting.any():
        return memory
    return memory.masked_fill(torch.from_numpy(starting).unsqueeze(1), 0.0)


def _row(batch: Any, index: int) -> Any:
    """One environment's observation out of a batch."""
    if isinstance(batch, Mapping):
        return {key: _row(part, index) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_row(part, index) for part in batch)
    return batch[index]
