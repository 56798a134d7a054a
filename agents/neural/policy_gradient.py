"""Base of PPO, GRPO and REINFORCE: shared settings, acting, tables for small worlds, and state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.neural.batches import Minibatch, Rollout
from gridzero.agents.neural.choices import Schedule
from gridzero.agents.neural.collector import Collector
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.exploration import VisitCounts, check_countable, rows_of
from gridzero.agents.neural.objectives import exploration_bonus, kl_estimate
from gridzero.agents.neural.optimiser import Optimiser
from gridzero.agents.neural.policy import Policy
from gridzero.agents.neural.state_tables import StateTable
from gridzero.agents.neural.vectors import copies
from gridzero.agents.registry import PolicyRegistration, find_policy
from gridzero.agents.tabular.tabular import greedy_policy
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]
Terms = Mapping[str, torch.Tensor]
Batch = TypeVar("Batch", bound=Minibatch)
AnyRollout = TypeVar("AnyRollout", bound=Rollout)


class PolicyGradientAgent(Agent):
    """An agent that trains a :class:`Policy` by gradients.

    Args:
        env: a ``gym.Env``, which is made again several times (see :func:`~gridzero.agents.neural.vectors.copies`), or
            a ``VectorEnv``, which is taken as it is.
        config: of the subclass.
        seed: decides everything that is random.
        policy: the policy to train; by default the one that is registered for such spaces, as the config has it.

    Attributes:
        vector: the environments it learns in.
        network: the :class:`Policy` that it trains.
        collector: source of its experience.
        rng: the generator of everything the learner itself draws.
        steps: environment steps taken so far.
    """

    default_steps: int = 100_000
    config: Any
    critic: bool = False
    shared: bool = False
    seedable: bool = False

    def __init__(self, env: Any, config: Any, *, seed: int = 0, policy: Policy | None = None) -> None:
        super().__init__(env, config, seed=seed)
        if not isinstance(env, gym.Env | VectorEnv):
            raise ValueError(f"this agent learns from a Gymnasium environment, not from {type(env).__name__}")
        self.environment_seed, network_seed, own_seed = (
            int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(3)
        )
        self.vector = copies(env, self._wanted_envs(), asynchronous=config.asynchronous, seedable=self.seedable)
        self.rng = np.random.default_rng(own_seed)
        registration = policy_registration(self.vector)
        self.network: Policy = policy or registration.policy_class().build(
            self.vector, config, critic=self.critic, shared=self.shared, seed=network_seed
        )
        self.collector: Collector = registration.collector_class()(self.vector, self.environment_seed)
        if config.log_completions and not self.collector.texts:
            raise ValueError("log_completions is for language models; these episodes are no texts")
        self.collector.keeps_completions = config.log_completions
        self.visits: VisitCounts | None = None
        if config.exploration_bonus > 0:
            check_countable(self.vector.single_observation_space, "observations")
            check_countable(self.vector.single_action_space, "actions")
            if config.normalise_observations:
                raise ValueError("exploration_bonus counts observations as they are; leave normalise_observations out")
            self.visits = VisitCounts()
        if process_group().world_size > 1 and not self.network.parallel:
            raise ValueError(f"{type(self.network).__name__} learns in one process; start it without torchrun")
        usual = self.network.default_steps.get(type(self).__name__)
        if usual is not None:
            self.default_steps = usual
        self.optimiser = Optimiser(
            self.network.trained(), epsilon=config.adam_epsilon, max_norm=config.max_gradient_norm
        )
        self.steps = 0
        self._memory: torch.Tensor | None = None
        self._states = StateTable(env, masked=config.action_masks)

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that suit the policy of such environments better."""
        if not isinstance(env, gym.Env | VectorEnv):
            return {}
        policy: type[Policy] = policy_registration(env).policy_class()
        return policy.defaults(cls.__name__, env, fields)

    def _wanted_envs(self) -> int | None:
        wanted: int | None = self.config.num_envs
        if wanted is None or process_group().world_size == 1:
            return wanted
        return process_group().local_count(wanted, "environments")

    def _remaining(self) -> float:
        """The linear schedules' factor, from 1 to 0; 1 in training that is limited by seconds alone."""
        span = self.config.schedule_steps or self.planned_steps or self.default_steps
        return max(0.0, 1.0 - self.steps / span)

    def _factor(self, schedule: Schedule) -> float:
        return self._remaining() if schedule == "linear" else 1.0

    def _goes_on(self) -> bool:
        """Whether there is something left to learn with the linear schedules, if there are any."""
        linear = any(getattr(self.config, name) == "linear" for name in self.config._schedules())
        return not linear or self._remaining() > 0

    def _with_penalty(self, rollout: Rollout) -> tuple[torch.Tensor, float]:
        """Rewards (B, T) less β times k1, and the mean of k1: the divergence from the reference, in nats a step.

        Source: Ziegler et al. (2019), Fine-tuning language models from human preferences, eq. 2.
        """
        steps = rollout.steps
        kl = kl_estimate(rollout.log_probs, self.network.reference_log_probs(steps), "k1")
        kl = kl.masked_fill(~steps.mask, 0.0)
        return rollout.rewards - self.config.kl_coefficient * kl, float(steps.mean(kl))

    def _rescored(self, rollout: AnyRollout) -> tuple[AnyRollout, dict[str, float]]:
        """The rollout with log-probabilities that are scored as in learning, and their mean distance from its own."""
        if not self.config.rescore or len(rollout) == 0:
            return rollout, {}
        rows = max(1, (self.config.microbatch_size or self.config.minibatch_size) // rollout.mask.shape[1])
        with torch.no_grad():
            parts = [
                self.network.evaluate_actions(rollout.steps[slice(i, i + rows)]).log_probs
                for i in range(0, len(rollout), rows)
            ]
        scored = torch.cat(parts)
        distance = rollout.steps.mean((scored - rollout.log_probs).abs())
        return rollout.replace(log_probs=scored), {"rescoring_distance": float(distance)}

    def _completions(self) -> list[Mapping[str, Any]]:
        """Completions of the update, of all processes."""
        if not self.config.log_completions:
            return []
        return [one for part in process_group().all_gather(list(self.collector.completions())) for one in part]

    def _with_bonus(self, rollout: Rollout) -> tuple[torch.Tensor, dict[str, float]]:
        """Rewards (B, T) and the bonus for pairs that were seldom tried, and the mean bonus of a step to log."""
        if self.visits is None:
            return rollout.rewards, {}
        steps, mask = rollout.steps, rollout.mask
        rows = rows_of({name: leaf[mask] for name, leaf in steps.observations.items()}, steps.actions[mask])
        counts = torch.from_numpy(self.visits.visit(rows))
        bonus = exploration_bonus(counts, self.config.exploration_bonus * max(0.0, 2 * self._remaining() - 1))
        paid = torch.zeros_like(rollout.rewards).masked_scatter(mask, bonus)
        return rollout.rewards + paid, {"exploration_bonus": float(bonus.mean())}

    def _gradient_step(
        self, minibatch: Batch, loss: Callable[[Batch], tuple[torch.Tensor, Terms]], learning_rate: float
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """One gradient step over a minibatch, perhaps an empty one, in passes over its microbatches.

        Args:
            minibatch: the steps.
            loss: that of a microbatch, of which those of all are added up, and means over its steps to log.
            learning_rate: Adam's.

        Returns:
            The gradient's norm, and the means over the steps of the minibatch.
        """
        means: dict[str, float] = {}

        def losses() -> Iterator[torch.Tensor]:
            for microbatch in minibatch.microbatches(self.config.microbatch_size):
                of_microbatch, terms = loss(microbatch)
                yield of_microbatch
                share = 1.0 if microbatch is minibatch else microbatch.steps.count / minibatch.steps.count
                for name, term in terms.items():
                    means[name] = means.get(name, 0.0) + share * float(term)

        return self.optimiser.step(losses() if len(minibatch) else (), learning_rate), means

    # Acting

    def act(self, observations: Any, *, explore: bool = False, action_masks: NDArray[np.bool_] | None = None) -> Any:
        """Actions (N, …) for observations (N, …), as a vector environment takes them; texts for texts.

        A policy with a memory remembers from call to call; :meth:`reset_memory` tells it where episodes begin.

        Args:
            observations: a batch as a vector environment gives it, or a list.
            explore: draw from the policy instead of taking the most likely action.
            action_masks: (N, A) what is allowed, for a policy that was trained with masks.
        """
        rng = self.rng if explore else None
        actions, self._memory = self.network.act(observations, self._memory, rng, action_masks)
        return actions

    def reset_memory(self, episodes: NDArray[np.bool_] | None = None) -> None:
        """Empty the memory with which :meth:`act` goes on: in these (N,) environments, by default in all."""
        if episodes is None:
            self._memory = None
        elif self._memory is not None:
            self._memory = self._memory.masked_fill(torch.from_numpy(episodes).unsqueeze(1), 0.0)

    def action_probabilities(self, observations: Any, action_masks: NDArray[np.bool_] | None = None) -> FloatArray:
        """(N, A) probabilities of the actions that :meth:`act` chooses when it explores.

        Args:
            observations: as for :meth:`act`.
            action_masks: as for :meth:`act`.

        Raises:
            ValueError: where actions are not Discrete, or the policy is not a network without memory.
        """
        return np.asarray(self.network.action_probabilities(observations, action_masks).numpy(), dtype=np.float64)

    # Tables, for worlds whose states can be counted

    def exploring_policy_table(self) -> FloatArray:
        """(S, A) probabilities of the actions that :meth:`act` chooses when it explores."""
        self.network.check_table()  # before its states are visited
        return self.action_probabilities(*self._states.read())

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities of the actions that :meth:`act` chooses greedily: all on the most likely one."""
        return greedy_policy(self.exploring_policy_table())

    def action_values(self) -> FloatArray:
        """(S, A) one step of the model, then :meth:`state_values`.

        Raises:
            ValueError: without a model, or when the states cannot be counted.
        """
        return FiniteMDP.from_env(self.env).action_values(self.state_values(), self.config.gamma)

    def state_values(self) -> FloatArray:
        """(S,) exact values of :meth:`exploring_policy_table`; needs a model."""
        return FiniteMDP.from_env(self.env).policy_values(self.exploring_policy_table(), self.config.gamma)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Networks, normalisation, optimiser, generator and count of steps."""
        state = {
            "networks": {name: _array(tensor) for name, tensor in self.network.tensors().items()},
            "optimiser": {name: _array(tensor) for name, tensor in self.optimiser.state_dict().items()},
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
        }
        return state if self.visits is None else state | {"visits": self.visits.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when it is of other networks.
        """
        self.network.load_tensors(
            {name: torch.from_numpy(np.array(array)) for name, array in state["networks"].items()}
        )
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.steps = int(state["steps"])
        if self.visits is not None:
            self.visits.load_state_dict(state["visits"])

    def decide_together(self, decision: bool) -> bool:
        """The first process's decision, where several learn together."""
        return bool(process_group().all_gather(decision)[0])

    def save_artifacts(self, folder: Path) -> None:
        """Write the policy's own files: a language model in Hugging Face's format."""
        self.network.save_artifacts(folder)

    def load_artifacts(self, folder: Path) -> None:
        """Continue from the files that :meth:`save_artifacts` wrote into ``folder``."""
        self.network.load_artifacts(folder)


def policy_registration(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> PolicyRegistration:
    """The kind of policy that is trained in such an environment, by its spaces."""
    if isinstance(env, VectorEnv):
        return find_policy(env.single_observation_space, env.single_action_space)
    return find_policy(env.observation_space, env.action_space)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy as NumPy has it; half precision, which it lacks, as single."""
    tensor = tensor.detach().cpu()
    return np.array(tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy())
