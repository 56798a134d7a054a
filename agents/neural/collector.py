"""Collectors: step environments with a policy and batch what happened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from gridzero.agents.action_masks import allowed_actions
from gridzero.agents.autoreset import merged_info
from gridzero.agents.interaction import Interaction
from gridzero.agents.neural.batches import Rollout, Steps, ValuedRollout
from gridzero.agents.neural.networks.mlp_policy import MLPPolicy


class Collector(ABC):
    """Source of a policy's experience in a vector of environments.

    Args:
        vector: the environments.
        seed: decides their episodes, where a rollout does not draw them.

    Attributes:
        texts: whether episodes are texts, so that :meth:`completions` can have them.
        keeps_completions: whether it does.
    """

    texts: ClassVar[bool] = False
    keeps_completions = False

    def __init__(self, vector: VectorEnv[Any, Any, Any], seed: int) -> None:
        self.vector = vector
        self.seed = seed

    @abstractmethod
    def rollout(self, policy: Any, steps: int, rng: np.random.Generator) -> ValuedRollout:
        """Go on in each environment for ``steps`` steps, wherever its episode is.

        Args:
            policy: with a critic.
            steps: T.
            rng: draws the actions.
        """

    @abstractmethod
    def episodes(self, policy: Any, groups: int, size: int, limit: int, rng: np.random.Generator) -> Rollout:
        """Whole episodes, each group of ``size`` from one initial state, one group after the other.

        Args:
            policy: acts.
            groups: how many this process collects; groups · size is at most the vector's number of environments.
            size: G, episodes in a group.
            limit: longer episodes are cut off.
            rng: draws the initial states and the actions.

        Returns:
            Groups · size sequences.
        """

    def metrics(self) -> dict[str, float]:
        """Metrics of the episodes collected last."""
        return {}

    def metric_names(self) -> frozenset[str] | None:
        """Names that metrics can have, * for any end; None where that is not known."""
        return None

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A few of the episodes collected last, to be read, as JSON holds them."""
        return ()

    def completions(self) -> Sequence[Mapping[str, Any]]:
        """All texts collected since this was last asked, where :attr:`keeps_completions`, as JSON holds them."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """The episodes under way; empty where every rollout begins new ones."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027  (most have none)
        """Continue from ``state``."""


class EnvironmentCollector(Collector):
    """Collector of an :class:`MLPPolicy` in environments of numbers.

    Only the actor runs on the way. Values and log-probabilities come from one pass over all steps at the end, so they
    are the very ones that the policy's scores are.

    Attributes:
        interaction: the episodes under way.
        memory: (N, M), the recurrent memories of the environments.
        starting: (N,) bool, their next observation is the first of an episode.
    """

    def __init__(self, vector: VectorEnv[Any, Any, Any], seed: int) -> None:
        super().__init__(vector, seed)
        self.interaction = Interaction(vector, seed)
        self.memory = torch.zeros(0, 0)
        self.starting = np.zeros(0, dtype=np.bool_)

    def rollout(self, policy: MLPPolicy, steps: int, rng: np.random.Generator) -> ValuedRollout:
        """Go on in each environment for ``steps`` steps; see :meth:`Collector.rollout`."""
        env = self.interaction
        env.start()
        if len(self.starting) != env.num_envs:
            self.memory = torch.zeros(env.num_envs, policy.memory_size)
            self.starting = np.ones(env.num_envs, dtype=np.bool_)
        start = self.memory

        def allowed() -> NDArray[np.bool_] | None:
            return env.action_masks(policy.actions.outputs) if policy.masked else None

        records: list[tuple[dict[str, Tensor], NDArray[Any], Any, NDArray[np.bool_]]] = []
        cut: list[tuple[int, int, Any, Tensor]] = []
        for t in range(steps):
            observations = policy.raw(env.observations, allowed())
            self.memory = _begin(self.memory, self.starting)
            actions, self.memory = policy.step(policy.standardise(observations), self.memory, rng)
            transition = env.step(policy.actions.to_env(actions))
            records.append((observations, actions, transition, self.starting))
            if env.mode is AutoresetMode.NEXT_STEP:
                # The last observation of an episode is followed by a step that only resets.
                self.starting = ~transition.valid
            else:
                self.starting = transition.done
                only_cut = np.flatnonzero(transition.truncated & ~transition.terminated).tolist()
                cut += [
                    (i, t, _row(env.observation_space, transition.next_observations, i), self.memory[i])
                    for i in only_cut
                ]
        transitions = [record[2] for record in records]
        last = policy.raw(env.observations, allowed())
        raw = {name: torch.stack([record[0][name] for record in records] + [last[name]], dim=1) for name in last}
        observations = policy.standardise(raw)
        taken = _stacked([record[1] for record in records])
        mask = _stacked([t.valid for t in transitions])
        starts = _stacked([record[3] for record in records] + [self.starting])
        # One step more, for the value of what follows the last one.
        longer = Steps(
            observations,
            torch.cat([taken, taken[:, -1:]], dim=1),
            torch.cat([mask, mask[:, -1:]], dim=1),
            starts,
            start,
        )
        with torch.no_grad():
            scores = policy.evaluate_with_values(longer)
        policy.update_statistics({name: tensor[:, :-1] for name, tensor in raw.items()}, mask)
        next_values = scores.values[:, 1:].clone()
        if cut:
            rows, times, finals, memories = zip(*cut, strict=True)
            masks = None if not policy.masked else np.ones((len(cut), policy.actions.outputs), dtype=np.bool_)
            next_values[list(rows), list(times)] = policy.values(
                policy.read(list(finals), masks), torch.stack(memories)
            )
        return ValuedRollout(
            longer.map(lambda tensor: tensor[:, :-1]).replace(memory=start),
            scores.log_probs[:, :-1],
            rewards=_stacked([t.rewards for t in transitions]).float(),
            terminated=_stacked([t.terminated for t in transitions]),
            # A step that only resets must not pass on what the next episode brings.
            done=_stacked([t.done | ~t.valid for t in transitions]),
            env_steps=mask.sum(dim=1),
            values=scores.values[:, :-1],
            next_values=next_values,
        )

    def episodes(self, policy: MLPPolicy, groups: int, size: int, limit: int, rng: np.random.Generator) -> Rollout:
        """Whole episodes in groups; see :meth:`Collector.episodes`.

        The members of a group are reset with one seed, so they start in one state and meet the same chance as long as
        they act alike. As a member's actions do not depend on what chance has in store, the group's mean is still an
        unbiased baseline, and a better one.
        """
        env: Any = self.vector
        seeds = np.zeros(self.vector.num_envs, dtype=np.int64)
        seeds[: groups * size] = np.repeat(rng.integers(2**31, size=groups), size)
        current, info = env.reset(seed=seeds.tolist())
        alive = np.arange(len(seeds)) < groups * size  # the other environments stand by
        memory = torch.zeros(len(seeds), policy.memory_size)
        seen: list[dict[str, Tensor]] = []
        columns: list[tuple[NDArray[Any], ...]] = []  # actions, rewards, mask, terminated, done
        while alive.any() and len(columns) < limit:
            masks = allowed_actions(env, info, policy.actions.outputs) if policy.masked else None
            observations = policy.raw(current, masks)
            actions, memory = policy.step(policy.standardise(observations), memory, rng)
            current, rewards, terminated, truncated, info = env.step(policy.actions.to_env(actions))
            done = terminated | truncated
            seen.append(observations)
            columns.append((actions, np.where(alive, rewards, 0.0), alive, terminated & alive, done & alive))
            alive = alive & ~done
            if done.any() and env.metadata.get("autoreset_mode") is AutoresetMode.DISABLED:
                current, begun = env.reset(options={"reset_mask": done})
                info = merged_info(info, begun, done)
        raw = {name: torch.stack([observations[name] for observations in seen], dim=1) for name in seen[0]}
        taken, paid, mask, terminated, done = (_stacked(column) for column in zip(*columns, strict=True))
        starts = torch.zeros_like(mask)
        starts[:, 0] = True
        steps = Steps(policy.standardise(raw), taken, mask, starts, torch.zeros(len(seeds), policy.memory_size))
        with torch.no_grad():
            log_probs = policy.evaluate_actions(steps).log_probs
        policy.update_statistics(raw, mask)
        rollout = Rollout(steps, log_probs, paid.float(), terminated, done, mask.sum(dim=1))
        return rollout[: groups * size]

    def metrics(self) -> dict[str, float]:
        """Means over the episodes that ended since this was last asked."""
        return self.interaction.metrics()

    def metric_names(self) -> frozenset[str]:
        """Those of episodes."""
        return self.interaction.METRICS

    def state_dict(self) -> dict[str, Any]:
        """The episodes under way, with their recurrent memories."""
        return {
            "interaction": self.interaction.state_dict(),
            "memory": self.memory.numpy().copy(),
            "starting": self.starting.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.interaction.load_state_dict(state["interaction"])
        self.memory = torch.from_numpy(np.array(state["memory"]))
        self.starting = np.array(state["starting"], dtype=np.bool_)


def _stacked(columns: Sequence[NDArray[Any]]) -> Tensor:
    """(B, T, …) from T columns (B, …)."""
    return torch.from_numpy(np.stack(columns, axis=1))


def _begin(memory: Tensor, starting: NDArray[np.bool_]) -> Tensor:
    """Empty the memories where an episode begins."""
    if memory.shape[1] == 0 or not starting.any():
        return memory
    return memory.masked_fill(torch.from_numpy(starting).unsqueeze(1), 0.0)


def _row(space: gym.Space[Any], batch: Any, index: int) -> Any:
    """One environment's observation out of a batch."""
    if isinstance(space, gym.spaces.Dict):
        return {key: _row(part, batch[key], index) for key, part in space.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_row(part, parts, index) for part, parts in zip(space.spaces, batch, strict=True))
    return batch[index]
