"""Proximal policy optimisation, with the details that matter."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridzero.agents.learner import Update
from gridzero.agents.neural.batches import CriticMinibatch, Steps, ValuedRollout, minibatches
from gridzero.agents.neural.configs.ppo import PPOConfig
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.neural_agent import FloatArray
from gridzero.agents.neural.objectives import (
    actor_critic_loss,
    binding_clips,
    clipped_surrogate,
    discounted_sums,
    generalised_advantages,
    step_weights,
    value_loss,
)
from gridzero.agents.neural.policy import Policy
from gridzero.agents.neural.policy_gradient import PolicyGradientAgent
from gridzero.agents.neural.running_mean_std import RunningMeanStd


class PPO(PolicyGradientAgent):
    """Proximal policy optimisation.

    Each update goes on for ``rollout_steps`` in every environment, estimates advantages with the critic, and takes
    several passes of clipped-surrogate gradient steps over what it saw. A time limit is not a terminal state: the
    critic's value of the last state stands in for what was cut off.

    With ``epochs`` 1, a ``minibatch_size`` no smaller than the batch and ``normalise_advantages`` "none" every ratio is
    1 where its gradient is taken, and this is advantage actor-critic (A2C); ``gae_lambda`` 0 makes it learn from
    one-step errors.

    Source: Schulman et al. (2017), Proximal policy optimization algorithms; Huang et al. (2022), The 37 implementation
    details of PPO, whose names the config's fields have; Huang et al. (2022), A2C is a special case of PPO.
    """

    Config = PPOConfig
    config: PPOConfig
    critic = True

    def __init__(self, env: Any, config: PPOConfig, *, seed: int = 0, policy: Policy | None = None) -> None:
        self.shared = config.shared_network
        super().__init__(env, config, seed=seed, policy=policy)
        if process_group().world_size > 1 and (config.normalise_rewards or config.normalise_advantages == "minibatch"):
            raise ValueError("several processes need normalise_rewards off, and normalise_advantages batch or none")
        self.rollout_steps = config.rollout_steps or max(16, 2048 // self.vector.num_envs)
        self.reward_statistics = RunningMeanStd(1)
        self.reward_sums = torch.zeros(self.vector.num_envs)
        if config.kl_coefficient > 0:
            self.network.make_reference()

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per rollout; never ends, but with linear schedules when they do."""
        while self._goes_on():
            rollout = self.collector.rollout(self.network, self.rollout_steps, self.rng)
            rollout, distance = self._rescored(rollout)
            metrics = self.collector.metrics() | distance
            if self.config.kl_coefficient > 0:
                rewards, metrics["kl_to_reference"] = self._with_penalty(rollout)
                rollout = rollout.replace(rewards=rewards)
            rewards, bonus = self._with_bonus(rollout)
            rollout = rollout.replace(rewards=rewards)
            with self.network.watched(rollout.steps) as watched:
                metrics |= bonus | self._update(self._batch(rollout), rollout)
            metrics |= watched
            metrics = process_group().mean(metrics)
            self.steps += process_group().sum(int(rollout.env_steps.sum()))
            yield Update(self.steps, metrics, self.collector.samples(), self._completions())

    def metric_names(self) -> frozenset[str] | None:
        """Those of all such agents, of the critic and of the clipping."""
        names = super().metric_names()
        return (
            None
            if names is None
            else names
            | {
                "policy_loss",
                "value_loss",
                "approximate_kl",
                "clip_fraction",
                "explained_variance",
                "epochs",
            }
        )

    def _batch(self, rollout: ValuedRollout) -> CriticMinibatch:
        """The whole rollout with its advantages and the critic's targets."""
        config, steps = self.config, rollout.steps
        rewards = self._scaled(rollout) if config.normalise_rewards else rollout.rewards
        advantages = generalised_advantages(
            rewards,
            rollout.values,
            rollout.next_values,
            rollout.terminated,
            rollout.done,
            gamma=config.gamma,
            lambda_=config.gae_lambda,
        )
        returns = advantages + rollout.values
        if config.normalise_advantages == "batch":
            advantages = _standardised(advantages, steps)
        weights = step_weights(steps.mask, "token")
        return CriticMinibatch(steps, rollout.log_probs, advantages, weights, returns, rollout.values)

    def _scaled(self, rollout: ValuedRollout) -> Tensor:
        """Rewards over the running deviation of their discounted sums (37 details, detail for MuJoCo 6)."""
        rewards, ends = rollout.rewards, rollout.done
        # Forwards in time: S_t = r_t + γ S_{t-1}, from the sums that the last rollout left.
        first = rewards[:, :1] + self.config.gamma * self.reward_sums.unsqueeze(1)
        terms = torch.cat([first, rewards[:, 1:]], dim=1).flip(1)
        before = torch.cat([torch.ones_like(ends[:, :1]), ends[:, :-1]], dim=1)
        sums = discounted_sums(terms, self.config.gamma * (~before).float().flip(1)).flip(1)
        self.reward_sums = sums[:, -1] * ~ends[:, -1]
        self.reward_statistics.update(sums[rollout.mask].unsqueeze(1))
        return rewards / (self.reward_statistics.variance() + 1e-8).sqrt().float()

    def _update(self, batch: CriticMinibatch, rollout: ValuedRollout) -> dict[str, float]:
        """Several epochs of gradient steps over the batch, and the metrics of the last one."""
        config = self.config
        learning_rate = config.learning_rate * self._factor(config.learning_rate_schedule)
        clip = config.clip * self._factor(config.clip_schedule)
        bonus = config.entropy_coefficient * self._factor(config.entropy_schedule)
        mask, returns = rollout.mask, batch.returns
        if self.network.memoryless:
            batch = batch.single_steps()
        epochs, group = 0, process_group()
        kl = clipped = 0.0
        while epochs < config.epochs:
            epochs += 1
            kl = clipped = 0.0
            logged = epochs == config.epochs or config.target_kl is not None  # the last epoch's alone
            loss = functools.partial(self._loss, clip=clip, bonus=bonus, logged=logged)
            for minibatch in minibatches(batch, config.minibatch_size, self.rng):
                steps = minibatch.steps
                if config.normalise_advantages == "minibatch":
                    minibatch = minibatch.replace(advantages=_standardised(minibatch.advantages, steps))
                weight = group.fraction(steps.count) / max(1, steps.count)
                minibatch = minibatch.replace(weights=steps.mask * weight)
                norm, terms = self._gradient_step(minibatch, loss, learning_rate)
                share = steps.count / batch.steps.count
                kl += terms.pop("approximate_kl", 0.0) * share
                clipped += terms.pop("clip_fraction", 0.0) * share
            if config.target_kl is not None and group.mean({"kl": kl})["kl"] > 1.5 * config.target_kl:
                break
        spread = returns[mask].var(correction=0)
        unexplained = (returns - rollout.values)[mask].var(correction=0)
        return terms | {
            "gradient_norm": norm,
            "approximate_kl": kl,
            "clip_fraction": clipped,
            "explained_variance": float(1 - unexplained / spread) if spread > 0 else 0.0,
            "epochs": float(epochs),
            "learning_rate": learning_rate,
        }

    def _loss(
        self, batch: CriticMinibatch, *, clip: float, bonus: float, logged: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a weighted sum over the steps, and means over them where they are ``logged``."""
        config, steps = self.config, batch.steps
        scores = self.network.evaluate_with_values(steps)
        old_values = None if config.value_clip is None else batch.old_values
        loss = actor_critic_loss(
            scores.log_probs,
            scores.values,
            scores.entropies,
            old_log_probs=batch.old_log_probs,
            advantages=batch.advantages,
            returns=batch.returns,
            weights=batch.weights,
            clip=clip,
            value_coefficient=config.value_coefficient,
            entropy_coefficient=bonus,
            old_values=old_values,
            value_clip=config.value_clip,
        )
        if not logged:
            return loss, {}
        with torch.no_grad():
            log_ratio = scores.log_probs - batch.old_log_probs
            objective = clipped_surrogate(scores.log_probs, batch.old_log_probs, batch.advantages, clip=clip)
            errors = value_loss(scores.values, batch.returns, old_values=old_values, clip=config.value_clip)
            clipped = binding_clips(log_ratio, batch.advantages, clip=clip)
            terms = {
                "policy_loss": -steps.mean(objective),
                "value_loss": steps.mean(errors),
                "entropy": steps.mean(scores.entropies),
                "approximate_kl": steps.mean(torch.expm1(log_ratio) - log_ratio),
                "clip_fraction": steps.mean(clipped.float()),
            }
        return loss, terms

    def state_values(self) -> FloatArray:
        """(S,) the critic's values, in the environment's own units."""
        self.network.check_table()  # before its states are visited
        values = self.network.state_values(*self._states.read()).numpy().astype(np.float64)
        scale = float(self.reward_statistics.variance().sqrt()) if self.config.normalise_rewards else 1.0
        return np.asarray(values * scale)

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, generator, running statistics and the episodes under way."""
        statistics = {name: t.numpy().copy() for name, t in self.reward_statistics.state_dict().items()}
        return super().state_dict() | {
            "reward_statistics": statistics,
            "reward_sums": self.reward_sums.numpy().copy(),
            "collector": self.collector.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.reward_statistics.load_state_dict(
            {name: torch.from_numpy(np.array(array)) for name, array in state["reward_statistics"].items()}
        )
        self.reward_sums = torch.from_numpy(np.array(state["reward_sums"]))
        self.collector.load_state_dict(state["collector"])


def _standardised(advantages: Tensor, steps: Steps) -> Tensor:
    """Mean 0 and deviation 1 over the steps that exist, of all processes."""
    existing, group = advantages.reshape(-1) if steps.complete else advantages[steps.mask], process_group()
    if group.world_size == 1:
        deviation, mean = torch.std_mean(existing, correction=0)
    else:
        count = group.sum(len(existing))
        mean = group.all_reduce(existing.sum()) / count
        deviation = (group.all_reduce((existing - mean).square().sum()) / count).sqrt()
    return (advantages - mean) / (deviation + 1e-8)
