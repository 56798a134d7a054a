"""REINFORCE: the policy gradient from the returns of whole episodes, with or without a baseline."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gridzero.agents.learner import Update
from gridzero.agents.neural.batches import OUTCOMES, Minibatch, Rollout
from gridzero.agents.neural.configs.reinforce import ReinforceConfig
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.objectives import discounted_sums, group_advantages, step_weights, value_loss
from gridzero.agents.neural.policy import Policy, ValuedScores
from gridzero.agents.neural.policy_gradient import PolicyGradientAgent


class Reinforce(PolicyGradientAgent):
    r"""REINFORCE: θ ← θ + α Σ_t (G_t - b_t) ∇ log π(a_t|s_t), the mean over episodes, by one step of Adam.

    Each update plays an episode in every environment. None of the baselines changes what the gradient is in
    expectation: the value depends on the state alone, the mean on other episodes.

    Source: Williams (1992), Simple statistical gradient-following algorithms; Sutton & Barto, sections 13.3 and 13.4;
    Zhao, algorithm 9.1 (without baseline).

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("reinforce", "FrozenLake-v1", gamma=0.9)
        >>> next(agent.learn()).metrics["episode_length"] < 100
        True
    """

    Config = ReinforceConfig
    config: ReinforceConfig
    seedable = True

    def __init__(self, env: Any, config: ReinforceConfig, *, seed: int = 0, policy: Policy | None = None) -> None:
        self.critic = config.baseline == "value"
        super().__init__(env, config, seed=seed, policy=policy)
        if config.baseline == "mean" and self.vector.num_envs < 2:
            raise ValueError("baseline mean compares episodes: it needs at least 2 environments")

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per set of episodes; never ends, but with linear schedules when they do."""
        while self._goes_on():
            rollout = self.collector.episodes(
                self.network, self.vector.num_envs, 1, self.config.episode_limit, self.rng
            )
            metrics = rollout.outcomes() | self.collector.metrics()
            rewards, bonus = self._with_bonus(rollout)
            metrics = process_group().mean(metrics | bonus | self._update(rollout.replace(rewards=rewards)))
            self.steps += process_group().sum(int(rollout.env_steps.sum()))
            yield Update(self.steps, metrics, self.collector.samples(), self._completions())

    def metric_names(self) -> frozenset[str] | None:
        """Those of all such agents, of whole episodes and of the critic."""
        names = super().metric_names()
        return None if names is None else names | OUTCOMES | ({"value_loss"} if self.critic else set())

    def _update(self, rollout: Rollout) -> dict[str, float]:
        """One gradient step over the episodes, and its metrics."""
        config, group = self.config, process_group()
        returns = discounted_sums(rollout.rewards, torch.full_like(rollout.rewards, config.gamma))
        if config.baseline == "mean":
            returns = group_advantages(returns.T, "leave-one-out").T
        weights = step_weights(rollout.mask, "constant", length=1) * group.fraction(len(rollout))
        if config.discount_states:
            weights = weights * config.gamma ** torch.arange(weights.shape[1])
        # What the critic says is taken from the returns where it is asked, in the loss.
        batch = Minibatch(rollout.steps, rollout.log_probs, returns, weights)
        if self.network.memoryless:
            batch = batch.single_steps()
        bonus = config.entropy_coefficient * self._factor(config.entropy_schedule)
        step_bonus = bonus / group.sum(rollout.steps.count) if bonus else 0.0
        learning_rate = config.learning_rate * self._factor(config.learning_rate_schedule)
        norm, terms = self._gradient_step(batch, functools.partial(self._loss, step_bonus=step_bonus), learning_rate)
        return terms | {"gradient_norm": norm, "learning_rate": learning_rate}

    def _loss(self, batch: Minibatch, *, step_bonus: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a weighted sum over the steps, and means over them to log."""
        steps, advantages = batch.steps, batch.advantages
        scores = self.network.evaluate_with_values(steps) if self.critic else self.network.evaluate_actions(steps)
        terms = {"entropy": steps.mean(scores.entropies)}
        losses = torch.zeros_like(scores.log_probs)
        if isinstance(scores, ValuedScores):
            errors = value_loss(scores.values, advantages)
            terms["value_loss"] = steps.mean(errors)
            losses = self.config.value_coefficient * errors
            advantages = advantages - scores.values.detach()
        losses = (losses - advantages * scores.log_probs) * batch.weights
        if step_bonus:
            losses = losses - step_bonus * scores.entropies
        if not steps.complete:
            losses = losses.masked_fill(~steps.mask, 0.0)
        return losses.sum(), {name: term.detach() for name, term in terms.items()}
