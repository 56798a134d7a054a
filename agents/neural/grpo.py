"""Group relative policy optimisation: the other episodes of a group stand in for the critic."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gridzero.agents.learner import Update
from gridzero.agents.neural.batches import Minibatch, ReferenceMinibatch, Rollout, Steps, join, minibatches
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.objectives import (
    Baseline,
    Estimator,
    Normalisation,
    clipped_surrogate,
    discounted_sums,
    group_advantages,
    kl_estimate,
    overlong_penalty,
    sequence_log_ratios,
    state_advantages,
    step_weights,
    truncated_importance_objective,
)
from gridzero.agents.neural.policy import Policy
from gridzero.agents.neural.policy_gradient import PolicyGradientAgent, PolicyGradientConfig

Credit = Literal["outcome", "to-go", "state"]
Surrogate = Literal["clipped", "sequence", "truncated"]
Variant = Literal["grpo", "dr_grpo", "dapo", "gspo", "rloo", "cispo"]

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"baseline": "standardised", "credit": "outcome", "normalisation": "sequence", "surrogate": "clipped"},
    "dr_grpo": {"baseline": "centred", "credit": "outcome", "normalisation": "constant", "surrogate": "clipped"},
    "dapo": {
        "baseline": "standardised",
        "credit": "outcome",
        "normalisation": "token",
        "surrogate": "clipped",
        "clip_high": 0.28,
        "resampling": 3,
        "overlong_margin": 0.2,
    },
    "gspo": {
        "baseline": "standardised",
        "credit": "outcome",
        "normalisation": "sequence",
        "surrogate": "sequence",
        "clip": 3e-4,
        "clip_high": 4e-4,
    },
    "rloo": {
        "baseline": "leave-one-out",
        "credit": "outcome",
        "normalisation": "constant",
        "surrogate": "clipped",
        "epochs": 1,
    },
    "cispo": {
        "baseline": "standardised",
        "credit": "outcome",
        "normalisation": "token",
        "surrogate": "truncated",
        "clip_high": 1.0,
    },
}
"""What each variant of the literature sets; every field may still be set otherwise."""


@dataclass(frozen=True)
class GRPOConfig(PolicyGradientConfig):
    """Settings of GRPO."""

    variant: Variant | None = None
    """Defaults of a variant: "grpo" (DeepSeekMath), "dr_grpo", "dapo", "gspo", "rloo" or "cispo"."""
    groups: int = 8
    """Initial states in an update."""
    group_size: int = 8
    """G, episodes from each of them."""
    baseline: Baseline = "standardised"
    """Advantages in a group: "standardised" (DeepSeekMath), "centred" (Dr. GRPO) or "leave-one-out"."""
    credit: Credit = "to-go"
    """What a step is credited with: its episode's "outcome" (DeepSeekMath), or the return from it on, less the group's
    mean at its time: "to-go", or in its "state" (GiGPO; by default where observations are choices)."""
    normalisation: Normalisation = "token"
    """How steps weigh: each "token" the same (DAPO), by "sequence" (DeepSeekMath), or by a "constant" (Dr. GRPO)."""
    epochs: int = 2
    """Passes over the steps of an update."""
    clip_high: float | None = None
    """The upper ε, where it is not the lower one (clip-higher, DAPO)."""
    surrogate: Surrogate = "clipped"
    """"clipped" ratios of each step (PPO), of whole sequences: "sequence" (GSPO), or "truncated" weights (CISPO)."""
    resampling: int = 0
    """Groups that all got the same return are replaced by new ones, in up to so many more rounds (DAPO)."""
    overlong_margin: float = 0.0
    """Share of episode_limit before its end in which episodes pay for their length, up to 1 at the limit (DAPO)."""
    skip_flat_groups: bool | None = None
    """Leave out groups that all got the same return; by default where they have no gradient: no bonus, no KL."""
    kl_coefficient: float = 0.0
    """β, weight of the divergence from the reference policy; 0: no reference."""
    kl_estimator: Estimator = "k3"
    """"k1", "k2" or "k3"."""
    kl_importance_weighted: bool = True
    """Multiply the estimate by π/π_old, which makes the gradients of k1 and k3 those of KL(π ‖ π_ref)."""
    kl_in_reward: bool = False
    """Take β log π/π_ref from the rewards, as PPO does, which credits earlier steps with it; else it is in the loss."""
    reference_updates: int = 0
    """The policy becomes its own reference again after this many updates; 0: the initial policy stays it."""
    episode_limit: int = 1000
    """Longer episodes are cut here."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        super().__post_init__()
        optional = ("clip_high",) if self.clip_high is not None else ()
        least = ("kl_coefficient", "reference_updates", "resampling")
        self._check([("overlong_margin", 0.0, 1.0)], ("groups", "epochs", "episode_limit", *optional), least)
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, not {self.group_size}")
        if self.num_envs not in (None, self.groups * self.group_size):
            raise ValueError(f"num_envs must be groups · group_size, {self.groups * self.group_size}, or left out")
        self._choose(
            {
                "baseline": Baseline,
                "credit": Credit,
                "normalisation": Normalisation,
                "kl_estimator": Estimator,
                "surrogate": Surrogate,
            }
        )
        if self.variant is not None:
            self._choose({"variant": Variant})


class GRPO(PolicyGradientAgent):
    """Group relative policy optimisation.

    Each update plays ``groups`` groups of ``group_size`` episodes, a group's from one initial state, and takes the
    group's mean return for the baseline, so that no critic is needed. Episodes may differ in length.

    Source: Shao et al. (2024), DeepSeekMath, section 4.1; Liu et al. (2025), Understanding R1-Zero-like training
    (Dr. GRPO); Yu et al. (2025), DAPO; Zheng et al. (2025), GSPO; Ahmadian et al. (2024), RLOO; MiniMax (2025), CISPO;
    Feng et al. (2025), GiGPO.
    """

    Config = GRPOConfig
    config: GRPOConfig
    seedable = True
    default_steps: int = 400_000

    def __init__(self, env: Any, config: GRPOConfig, *, seed: int = 0, policy: Policy | None = None) -> None:
        super().__init__(env, config, seed=seed, policy=policy)
        if self.vector.num_envs != self._wanted_envs():
            needed = f"{self._own_groups()} groups of {config.group_size} need {self._wanted_envs()} environments"
            raise ValueError(f"{needed}, not {self.vector.num_envs}")
        if config.credit == "state" and not self.network.observes_states:
            raise ValueError("credit must be outcome or to-go for policies of text, where no state recurs")
        self.updates = 0
        if config.kl_coefficient > 0:
            self.network.make_reference()

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults of the policy, then those of the variant."""
        variant = fields.get("variant")
        if variant is not None and variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, not {variant!r}")
        return {**super().defaults(env, fields), **(VARIANTS[variant] if variant else {})}

    def _own_groups(self) -> int:
        """Groups of this process."""
        return process_group().local_count(self.config.groups, "groups")

    def _wanted_envs(self) -> int:
        return self._own_groups() * self.config.group_size

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per set of groups; never ends, but with linear schedules when they do."""
        config = self.config
        while self._goes_on():
            rollout, taken, metrics = self._collect()
            metrics |= self._update(rollout, self._advantages(rollout))
            metrics = process_group().mean(metrics)
            self.steps += process_group().sum(taken)
            self.updates += 1
            if config.kl_coefficient > 0 and config.reference_updates and self.updates % config.reference_updates == 0:
                self.network.make_reference()
            yield Update(self.steps, metrics, self.collector.samples())

    def _collect(self) -> tuple[Rollout, int, dict[str, float]]:
        """Groups of episodes, the environment's steps, and metrics of them.

        Of several processes, each replaces the flat groups of its own, until none has any.
        """
        config = self.config
        groups = self._own_groups()
        rollout = self._episodes()
        taken = int(rollout.env_steps.sum())
        metrics = self._outcomes(rollout) | self.collector.metrics()
        for _ in range(config.resampling):
            flat = self._flat(rollout)
            if not any(process_group().all_gather(bool(flat.any()))):
                break
            more = self._episodes()
            taken += int(more.env_steps.sum())
            wanted = int(flat.sum())
            varied = (~self._flat(more)).nonzero().squeeze(-1)[:wanted]
            keep = torch.cat([(~flat).nonzero().squeeze(-1), groups + varied])
            both = torch.cat([keep, flat.nonzero().squeeze(-1)[: groups - len(keep)]])
            rollout = join([rollout, more])[self._rows(both)]
        if config.kl_coefficient > 0 and config.kl_in_reward:
            rewards, metrics["kl_to_reference"] = self._with_penalty(rollout)
            rollout = rollout.replace(rewards=rewards)
        rewards, bonus = self._with_bonus(rollout)
        return rollout.replace(rewards=rewards), taken, metrics | bonus

    def _episodes(self) -> Rollout:
        config = self.config
        return self.collector.episodes(self.network, config.groups, config.group_size, config.episode_limit, self.rng)

    def _rewards(self, rollout: Rollout) -> Tensor:
        """(B, T) rewards of the environment, less the penalty of an episode for its length."""
        margin = round(self.config.overlong_margin * self.config.episode_limit)
        if margin == 0:
            return rollout.rewards
        lengths = rollout.mask.sum(dim=1)
        rewards = rollout.rewards.clone()
        rewards[torch.arange(len(rollout)), lengths - 1] += overlong_penalty(lengths, self.config.episode_limit, margin)
        return rewards

    def _flat(self, rollout: Rollout) -> Tensor:
        """(groups,) bool, all of the group got the same return."""
        totals = self._rewards(rollout).sum(dim=1).reshape(-1, self.config.group_size)
        return totals.amax(dim=1) == totals.amin(dim=1)

    def _rows(self, groups: Tensor) -> Tensor:
        """The sequences of some groups."""
        size = self.config.group_size
        return (groups.unsqueeze(1) * size + torch.arange(size)).reshape(-1)

    def _advantages(self, rollout: Rollout) -> Tensor:
        """(B, T)."""
        config = self.config
        rewards, mask = self._rewards(rollout), rollout.mask
        to_go = discounted_sums(rewards, torch.full_like(rewards, config.gamma))
        if config.credit == "outcome":
            totals = to_go[:, 0].reshape(-1, config.group_size)
            return group_advantages(totals, config.baseline).reshape(-1, 1).expand_as(rewards)
        if config.credit == "state":
            groups = torch.arange(self._own_groups()).repeat_interleave(config.group_size).unsqueeze(1).expand_as(mask)
            found = state_advantages(to_go[mask], _states(rollout.steps), groups[mask], config.baseline)
            return torch.zeros_like(to_go).masked_scatter(mask, found)
        # Each time step has a mean of its own, where who has finished has nothing left to win; the group has one
        # deviation, lest the last steps, which differ by little, count as much as the first.
        shape = (self._own_groups(), config.group_size, -1)
        means: Baseline = "centred" if config.baseline == "standardised" else config.baseline
        advantages = group_advantages(to_go.reshape(shape).transpose(1, 2), means).transpose(1, 2)
        if config.baseline == "standardised":
            exists = mask.reshape(shape)
            squares = (advantages.square() * exists).sum(dim=(1, 2), keepdim=True)
            advantages = advantages / ((squares / exists.sum(dim=(1, 2), keepdim=True)).sqrt() + 1e-6)
        return advantages.reshape(rewards.shape)

    def _update(self, rollout: Rollout, advantages: Tensor) -> dict[str, float]:
        """Several epochs of gradient steps over the rollout, and the metrics of the last one."""
        config, steps = self.config, rollout.steps
        learning_rate = config.learning_rate * self._factor(config.learning_rate_schedule)
        clip_factor = self._factor(config.clip_schedule)
        bonus = config.entropy_coefficient * self._factor(config.entropy_schedule)
        batch = Minibatch(steps, rollout.log_probs, advantages, self._weights(steps.mask))
        in_loss = config.kl_coefficient > 0 and not config.kl_in_reward
        skip = config.skip_flat_groups
        if skip is None:
            skip = bonus == 0 and not in_loss
        if skip:
            batch = batch[self._rows((~self._flat(rollout)).nonzero().squeeze(-1))]
        metrics = {"learning_rate": learning_rate}
        if process_group().sum(len(batch)) == 0:
            return metrics
        if in_loss:
            batch = self._with_reference(batch)
        if self.network.memoryless and config.surrogate != "sequence":
            batch = batch.single_steps()
        loss = functools.partial(self._loss, clip_factor=clip_factor, bonus=bonus)
        for _ in range(config.epochs):
            parts = list(minibatches(batch, config.minibatch_size, self.rng))
            for minibatch in parts:
                minibatch = minibatch.replace(weights=minibatch.weights * len(parts))
                norm, terms = self._gradient_step(minibatch, loss, learning_rate)
                metrics |= terms
        return metrics | {"gradient_norm": float(norm)}

    def _with_reference(self, batch: Minibatch) -> ReferenceMinibatch:
        steps = batch.steps
        scores = self.network.reference_log_probs(steps) if len(batch) else torch.zeros_like(batch.old_log_probs)
        return ReferenceMinibatch(steps, batch.old_log_probs, batch.advantages, batch.weights, scores)

    def _weights(self, mask: Tensor) -> Tensor:
        """(B, T) of each step, so that those of all processes add up to 1."""
        weights = step_weights(mask, self.config.normalisation, length=self.config.episode_limit)
        group = process_group()
        if group.world_size == 1:
            return weights
        of_one = {"token": int(mask.sum()), "sequence": int(mask.any(dim=1).sum()), "constant": len(mask)}
        return weights * group.fraction(of_one[self.config.normalisation])

    def _loss(self, batch: Minibatch, *, clip_factor: float, bonus: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a weighted sum over the steps, and means over them to log."""
        config, steps = self.config, batch.steps
        scores = self.network.evaluate_actions(steps)
        low = config.clip * clip_factor
        high = low if config.clip_high is None else config.clip_high * clip_factor
        log_probs, old = scores.log_probs, batch.old_log_probs
        if config.surrogate == "truncated":
            objective = truncated_importance_objective(log_probs, old, batch.advantages, clip_high=high)
        else:
            log_ratios = log_probs - old
            if config.surrogate == "sequence":
                log_ratios = sequence_log_ratios(log_probs, old, steps.mask)
            objective = clipped_surrogate(log_ratios + old, old, batch.advantages, clip=low, clip_high=high)
        if bonus:
            objective = objective + bonus * scores.entropies
        terms = {"entropy": steps.mean(scores.entropies)}
        if isinstance(batch, ReferenceMinibatch):
            acted = old if config.kl_importance_weighted else None
            kl = kl_estimate(log_probs, batch.reference_log_probs, config.kl_estimator, old_log_probs=acted)
            objective = objective - config.kl_coefficient * kl
            terms["kl_to_reference"] = steps.mean(kl)
        log_ratio = (log_probs - old).detach()
        ratio = torch.expm1(log_ratio)
        terms["approximate_kl"] = steps.mean(ratio - log_ratio)
        terms["clip_fraction"] = steps.mean(((ratio > high) | (ratio < -low)).float())
        if not steps.complete:
            objective = objective.masked_fill(~steps.mask, 0.0)
        return -(objective * batch.weights).sum(), {name: term.detach() for name, term in terms.items()}

    def _outcomes(self, rollout: Rollout) -> dict[str, float]:
        totals = rollout.rewards.sum(dim=1)
        spread = totals.reshape(-1, self.config.group_size).std(dim=1, correction=0)
        return {
            "episode_return": float(totals.mean()),
            "episode_length": float(rollout.mask.sum(dim=1).float().mean()),
            "cut_episodes": float(1 - rollout.done.any(dim=1).float().mean()),
            "groups_alike": float((spread == 0).float().mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs; updates begin with new episodes, so there are none under way."""
        return super().state_dict() | {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.updates = int(state["updates"])


def _states(steps: Steps) -> Tensor:
    """(N,) a number for the observation of each step that exists, equal for equal ones."""
    states = torch.zeros(steps.count, dtype=torch.int64)
    for leaf in steps.observations.values():
        rows = leaf[steps.mask].flatten(1)
        rows = rows.squeeze(1) if rows.shape[1] == 1 else rows  # sorting numbers is much faster than sorting rows
        _, values = torch.unique(rows, dim=0 if rows.ndim == 2 else None, return_inverse=True)
        _, states = torch.unique(states * (values.max() + 1) + values, return_inverse=True)
    return states
