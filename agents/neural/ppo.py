"""Proximal policy optimisation, with the details that matter."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gridzero.agents.interaction import Interaction
from gridzero.agents.learner import Update
from gridzero.agents.neural.distributed import world
from gridzero.agents.neural.networks.mlp_policy import MLPPolicy
from gridzero.agents.neural.objectives import (
    clipped_surrogate,
    discounted_sums,
    generalised_advantages,
    step_weights,
    value_loss,
)
from gridzero.agents.neural.policy import Policy, Trajectories, minibatches
from gridzero.agents.neural.policy_gradient import FloatArray, PolicyGradientAgent, PolicyGradientConfig
from gridzero.agents.neural.running_mean_std import RunningMoments

Advantages = Literal["minibatch", "batch", "none"]


@dataclass(frozen=True)
class PPOConfig(PolicyGradientConfig):
    """Settings of PPO."""

    rollout_steps: int | None = None
    """Steps in each environment between updates; by default 2048 over all environments, but at least 16 in each."""
    epochs: int = 6
    """Passes over the steps of an update."""
    gae_lambda: float = 0.95
    """λ of generalised advantage estimation: 0 trusts the critic, 1 the returns."""
    normalise_advantages: Advantages = "batch"
    """Advantages get mean 0 and deviation 1 over each "minibatch", over the "batch", or not: "none"."""
    value_coefficient: float = 0.5
    """Weight of the critic's loss."""
    value_clip: float | None = None
    """The critic's values count only this near to those when the steps were taken; None: as they are."""
    target_kl: float | None = None
    """An update stops once the policy is 1.5 times this far, in nats, from the one that acted; None: never."""
    normalise_rewards: bool = True
    """Divide rewards by the running deviation of their discounted sum."""
    kl_coefficient: float = 0.0
    """β: each step pays β log π/π_ref for straying from the initial policy (RLHF); 0: no reference."""
    shared_network: bool = False
    """One body for actor and critic instead of one each."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense, with what does."""
        super().__post_init__()
        optional = tuple(
            name for name in ("rollout_steps", "value_clip", "target_kl") if getattr(self, name) is not None
        )
        self._check([("gae_lambda", 0.0, 1.0)], ("epochs", *optional), ("value_coefficient", "kl_coefficient"))
        self._choose({"normalise_advantages": Advantages})


class PPO(PolicyGradientAgent):
    """Proximal policy optimisation.

    Each update goes on for ``rollout_steps`` in every environment, estimates advantages with the critic, and takes
    several passes of clipped-surrogate gradient steps over what it saw. A time limit is not a terminal state: the
    critic's value of the last state stands in for what was cut off.

    Source: Schulman et al. (2017), Proximal policy optimization algorithms; Huang et al. (2022), The 37 implementation
    details of PPO, whose names the config's fields have.
    """

    Config = PPOConfig
    config: PPOConfig
    critic = True

    def __init__(self, env: Any, config: PPOConfig, *, seed: int = 0, policy: Policy | None = None) -> None:
        self.shared = config.shared_network
        super().__init__(env, config, seed=seed, policy=policy)
        if world().size > 1 and (config.normalise_rewards or config.normalise_advantages == "minibatch"):
            raise ValueError("several processes need normalise_rewards off, and normalise_advantages batch or none")
        self.interaction = Interaction(self.vector, self.environment_seed)
        self.rollout_steps = config.rollout_steps or max(16, 2048 // self.interaction.num_envs)
        self.reward_moments = RunningMoments(1)
        self.reward_sums = torch.zeros(self.interaction.num_envs)
        if config.kl_coefficient > 0:
            self.network.make_reference()

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per rollout; never ends, but with linear schedules when they do."""
        while self._goes_on():
            trajectories = self.network.rollout(self.interaction, self.rollout_steps, self.rng)
            taken = trajectories.environment_steps()
            metrics = self.interaction.metrics() | self.network.metrics()
            trajectories = trajectories.without("env_steps")
            if self.config.kl_coefficient > 0:
                trajectories, kl = self._with_penalty(trajectories)
                metrics["kl_to_reference"] = kl
            trajectories, bonus = self._with_bonus(trajectories)
            metrics |= bonus | self._improve(self._with_advantages(trajectories))
            metrics = world().mean(metrics)
            self.steps += world().total(taken)
            yield Update(self.steps, metrics, self.network.samples())

    def _with_advantages(self, trajectories: Trajectories) -> Trajectories:
        t, config = trajectories, self.config
        assert t.rewards is not None
        assert t.values is not None
        assert t.next_values is not None
        assert t.terminated is not None
        assert t.done is not None
        assert t.mask is not None
        rewards = self._scaled(t) if config.normalise_rewards else t.rewards
        advantages = generalised_advantages(
            rewards,
            t.values,
            t.next_values,
            t.terminated,
            t.done,
            gamma=config.gamma,
            lambda_=config.gae_lambda,
        )
        returns = advantages + t.values
        if config.normalise_advantages == "batch":
            advantages = _standardised(advantages, t.mask)
        return t.replace(advantages=advantages, returns=returns)

    def _scaled(self, t: Trajectories) -> Tensor:
        """Rewards over the running deviation of their discounted sums (37 details, detail for MuJoCo 6)."""
        assert t.rewards is not None
        assert t.done is not None
        assert t.mask is not None
        ends = t.done
        # Forwards in time: S_t = r_t + γ S_{t-1}, from the sums that the last rollout left.
        first = t.rewards[:, :1] + self.config.gamma * self.reward_sums.unsqueeze(1)
        terms = torch.cat([first, t.rewards[:, 1:]], dim=1).flip(1)
        before = torch.cat([torch.ones_like(ends[:, :1]), ends[:, :-1]], dim=1)
        sums = discounted_sums(terms, self.config.gamma * (~before).float().flip(1)).flip(1)
        self.reward_sums = sums[:, -1] * ~ends[:, -1]
        self.reward_moments.update(sums[t.mask].unsqueeze(1))
        return t.rewards / (self.reward_moments.variance() + 1e-8).sqrt().float()

    def _improve(self, trajectories: Trajectories) -> dict[str, float]:
        config, t = self.config, trajectories
        learning_rate = config.learning_rate * self._factor(config.learning_rate_schedule)
        clip = config.clip * self._factor(config.clip_schedule)
        bonus = config.entropy_coefficient * self._factor(config.entropy_schedule)
        batch = t.without("rewards", "terminated", "done", "next_values")
        if config.value_clip is None:
            batch = batch.without("values")
        if self.network.memoryless:
            batch = batch.single_steps()
        loss = functools.partial(self._loss, clip=clip, bonus=bonus)
        epochs, here = 0, world()
        kl = clipped = 0.0
        while epochs < config.epochs:
            epochs += 1
            kl = clipped = 0.0
            for part in minibatches(batch, config.minibatch_size, self.rng):
                if config.normalise_advantages == "minibatch":
                    assert part.advantages is not None
                    part = part.replace(advantages=_standardised(part.advantages, part.mask))
                there = torch.ones_like(part.log_probs, dtype=torch.bool) if part.mask is None else part.mask
                part = part.replace(weights=step_weights(there, "token") * here.share_of(part.steps()))
                norm, terms = self._descend(part, loss, learning_rate)
                kl += terms.pop("approximate_kl", 0.0) * part.steps() / batch.steps()
                clipped += terms.pop("clip_fraction", 0.0) * part.steps() / batch.steps()
            if config.target_kl is not None and here.mean({"kl": kl})["kl"] > 1.5 * config.target_kl:
                break
        assert t.values is not None
        assert t.returns is not None
        spread = t.returns[t.mask].var(correction=0)
        unexplained = (t.returns - t.values)[t.mask].var(correction=0)
        return terms | {
            "gradient_norm": float(norm),
            "approximate_kl": kl,
            "clip_fraction": clipped,
            "explained_variance": float(1 - unexplained / spread) if spread > 0 else 0.0,
            "epochs": float(epochs),
            "learning_rate": learning_rate,
        }

    def _loss(self, part: Trajectories, *, clip: float, bonus: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a weighted sum over the steps, and means over them to log."""
        config, weights = self.config, part.weights
        assert weights is not None
        assert part.advantages is not None
        assert part.returns is not None
        scores = self.network.evaluate(part)
        assert scores.values is not None
        objective = clipped_surrogate(scores.log_probs, part.log_probs, part.advantages, clip=clip)
        errors = value_loss(scores.values, part.returns, old_values=part.values, clip=config.value_clip)
        losses = config.value_coefficient * errors - objective
        if bonus:
            losses = losses - bonus * scores.entropies
        with torch.no_grad():
            log_ratio = scores.log_probs - part.log_probs
            ratio = torch.expm1(log_ratio)
            terms = {
                "policy_loss": -part.mean(objective),
                "value_loss": part.mean(errors),
                "entropy": part.mean(scores.entropies),
                "approximate_kl": part.mean(ratio - log_ratio),
                "clip_fraction": part.mean((ratio.abs() > clip).float()),
            }
        return (losses * weights).sum(), terms

    def state_values(self) -> FloatArray:
        """(S,) the critic's values, in the environment's own units."""
        policy, read = self._mlp(), self._table()
        values = policy.values(read, torch.zeros(len(next(iter(read.values()))), 0)).numpy().astype(np.float64)
        scale = float(self.reward_moments.variance().sqrt()) if self.config.normalise_rewards else 1.0
        return np.asarray(values * scale)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        moments = {name: t.numpy().copy() for name, t in self.reward_moments.state_dict().items()}
        state = super().state_dict() | {"reward_moments": moments}
        if isinstance(self.network, MLPPolicy):  # others begin each rollout with new episodes
            state["interaction"] = self.interaction.state_dict()
            state["reward_sums"] = self.reward_sums.numpy().copy()
            state["memory"] = self.network.state.numpy().copy()
            state["starting"] = self.network.starting.copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.reward_moments.load_state_dict(
            {name: torch.from_numpy(np.array(array)) for name, array in state["reward_moments"].items()}
        )
        if isinstance(self.network, MLPPolicy):
            self.interaction.load_state_dict(state["interaction"])
            self.reward_sums = torch.from_numpy(np.array(state["reward_sums"]))
            self.network.state = torch.from_numpy(np.array(state["memory"]))
            self.network.starting = np.array(state["starting"], dtype=np.bool_)


def _flat(per_step: Tensor, mask: Tensor | None) -> Tensor:
    """The steps there are, in a row."""
    return per_step.reshape(-1) if mask is None else per_step[mask]


def _standardised(advantages: Tensor, mask: Tensor | None) -> Tensor:
    """Mean 0 and deviation 1 over the steps there are, of all processes."""
    there, here = _flat(advantages, mask), world()
    if here.size == 1:
        deviation, mean = torch.std_mean(there, correction=0)
    else:
        count = here.total(len(there))
        mean = here.add(there.sum()) / count
        deviation = (here.add((there - mean).square().sum()) / count).sqrt()
    return (advantages - mean) / (deviation + 1e-8)
