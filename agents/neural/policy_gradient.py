"""Base of PPO, GRPO and REINFORCE: shared settings, schedules, rewards and gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import gymnasium as gym
import torch
from gymnasium.vector import AsyncVectorEnv, VectorEnv

from gridzero.agents.neural.batches import Minibatch, Rollout
from gridzero.agents.neural.choices import Schedule
from gridzero.agents.neural.collector import Collector
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.exploration import VisitCounts, check_countable, rows_of
from gridzero.agents.neural.neural_agent import NeuralAgent, agent_seeds, check_environment
from gridzero.agents.neural.objectives import exploration_bonus, kl_estimate
from gridzero.agents.neural.policy import Policy
from gridzero.agents.neural.vectors import copies
from gridzero.agents.registry import find_policy
from gridzero.agents.spaces import spaces_of

Terms = Mapping[str, torch.Tensor]
Batch = TypeVar("Batch", bound=Minibatch)
AnyRollout = TypeVar("AnyRollout", bound=Rollout)


class PolicyGradientAgent(NeuralAgent):
    """An agent that trains a :class:`Policy` by gradients of an objective over its own rollouts.

    Args:
        env: a ``gym.Env``, which is made again several times (see :func:`~gridzero.agents.neural.vectors.copies`), or
            a ``VectorEnv``, which is taken as it is.
        config: of the subclass.
        seed: decides everything that is random.
        policy: the policy to train; by default the one that is registered for such spaces, as the config has it.

    Attributes:
        critic: whether the policy has a critic.
        shared: whether that shares the actor's body.
        seedable: whether each environment must take a seed of its own at a reset.
        collector: source of its experience.
        visits: counts for the exploration bonus; None without it.
    """

    default_steps: int = 100_000
    critic: bool = False
    shared: bool = False
    seedable: bool = False

    def __init__(self, env: Any, config: Any, *, seed: int = 0, policy: Policy | None = None) -> None:
        check_environment(env)
        _, network_seed, _ = agent_seeds(seed)
        vector = copies(env, self._wanted_envs(config), asynchronous=config.asynchronous, seedable=self.seedable)
        registration = find_policy(*spaces_of(vector))
        network: Policy = policy or registration.policy_class().build(
            vector, config, critic=self.critic, shared=self.shared, seed=network_seed
        )
        super().__init__(env, config, seed=seed, vector=vector, network=network)
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
        usual = self.network.default_steps.get(type(self).__name__)
        if usual is not None:
            self.default_steps = usual

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that suit the policy of such environments better."""
        if not isinstance(env, gym.Env | VectorEnv):
            return {}
        policy: type[Policy] = find_policy(*spaces_of(env)).policy_class()
        return policy.defaults(cls.__name__, env, fields)

    def unused(self) -> Mapping[str, str]:
        """Those of the policy, and processes for environments that one vector steps."""
        native = {} if isinstance(self.vector.unwrapped, AsyncVectorEnv) else {"asynchronous": "a native vector"}
        return {**native, **self.network.unused()}

    def _wanted_envs(self, config: Any) -> int | None:
        """Number of environments of this process; None where the environment decides."""
        wanted: int | None = config.num_envs
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
        return "linear" not in self.config.schedules() or self._remaining() > 0

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

    def metric_names(self) -> frozenset[str] | None:
        """Those of the collector, of the policy, and of gradient steps; None where the collector does not know."""
        collected = self.collector.metric_names()
        if collected is None:
            return None
        names = {"entropy", "gradient_norm", "learning_rate"} | collected | self.network.watches
        if getattr(self.config, "rescore", False):
            names.add("rescoring_distance")
        if getattr(self.config, "kl_coefficient", 0) > 0:
            names.add("kl_to_reference")
        if self.visits is not None:
            names.add("exploration_bonus")
        return frozenset(names)

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
    ) -> tuple[float, dict[str, float]]:
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

    def state_dict(self) -> dict[str, Any]:
        """State of the network and its training, and the visits that the exploration bonus counts."""
        state = super().state_dict()
        return state if self.visits is None else state | {"visits": self.visits.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when it is of other networks.
        """
        super().load_state_dict(state)
        if self.visits is not None:
            self.visits.load_state_dict(state["visits"])
