"""Group relative policy optimisation: the other episodes of a group stand in for the critic."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from gridzero.agents.learner import Update
from gridzero.agents.neural.batches import (
    OUTCOMES,
    JudgedRollout,
    Minibatch,
    ReferenceMinibatch,
    Rollout,
    Steps,
    join,
    minibatches,
)
from gridzero.agents.neural.choices import Baseline
from gridzero.agents.neural.configs.grpo import VARIANTS, GRPOConfig, Variant
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.objectives import (
    binding_clips,
    clipped_surrogate,
    discounted_sums,
    group_advantages,
    kl_estimate,
    overlong_penalty,
    sequence_log_ratios,
    state_advantages,
    step_weights,
    trajectory_log_ratios,
    truncated_importance_objective,
)
from gridzero.agents.neural.policy import Policy
from gridzero.agents.neural.policy_gradient import PolicyGradientAgent

__all__ = ["GRPO", "VARIANTS", "GRPOConfig"]


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
        wanted = self._wanted_envs(config)
        if self.vector.num_envs != wanted:
            needed = f"{self._own_groups()} groups of {config.group_size} need {wanted} environments"
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

    def _wanted_envs(self, config: GRPOConfig) -> int:
        return process_group().local_count(config.groups, "groups") * config.group_size

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per set of groups; never ends, but with linear schedules when they do."""
        config = self.config
        while self._goes_on():
            rollout, taken, metrics = self._collect()
            with self.network.watched(rollout.steps) as watched:
                metrics |= self._update(rollout, self._advantages(rollout))
            metrics |= watched
            metrics = process_group().mean(metrics)
            self.steps += process_group().sum(taken)
            self.updates += 1
            if config.kl_coefficient > 0 and config.reference_updates and self.updates % config.reference_updates == 0:
                self.network.make_reference()
            yield Update(self.steps, metrics, self.collector.samples(), self._completions())

    def metric_names(self) -> frozenset[str] | None:
        """Those of all such agents, of whole episodes, of groups and of the clipping."""
        names = super().metric_names()
        return None if names is None else names | OUTCOMES | {"groups_alike", "approximate_kl", "clip_fraction"}

    def _collect(self) -> tuple[Rollout, int, dict[str, float]]:
        """Groups of episodes, the environment's steps, and metrics of the groups drawn first.

        Dynamic sampling draws as many groups again as are flat, and keeps all of those that are not. Of several
        processes, each replaces the flat groups of its own, until none has any.

        Source: Yu et al. (2025), DAPO, section 3.2, eq. 11.
        """
        config = self.config
        rollout = self._episodes(self._own_groups())
        taken = int(rollout.env_steps.sum())
        metrics = self._outcomes(rollout) | self.collector.metrics()
        for _ in range(config.resampling):
            flat = self._undecided(rollout)
            if not any(process_group().all_gather(bool(flat.any()))):
                break
            more = self._episodes(int(flat.sum()))
            taken += int(more.env_steps.sum())
            rollout = join([rollout[self._rows((~flat).nonzero().squeeze(-1))], more])
        rollout, distance = self._rescored(rollout)
        metrics |= distance
        if config.kl_coefficient > 0 and config.kl_in_reward:
            rewards, metrics["kl_to_reference"] = self._with_penalty(rollout)
            rollout = rollout.replace(rewards=rewards)
        rewards, bonus = self._with_bonus(rollout)
        return rollout.replace(rewards=rewards), taken, metrics | bonus

    def _episodes(self, groups: int) -> Rollout:
        config = self.config
        return self.collector.episodes(self.network, groups, config.group_size, config.episode_limit, self.rng)

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
        return _equal(self._rewards(rollout).sum(dim=1), self.config.group_size)

    def _undecided(self, rollout: Rollout) -> Tensor:
        """(groups,) bool, all of the group are right or all wrong; without verdicts, all got the same return."""
        if isinstance(rollout, JudgedRollout):
            return _equal(rollout.correct, self.config.group_size)
        return self._flat(rollout)

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
            if config.baseline == "batch-standardised":
                return _over_processes(totals, config.baseline).reshape(-1, 1).expand_as(rewards)
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
        batch = Minibatch(steps, rollout.log_probs, advantages, self._weights(rollout))
        in_loss = config.kl_coefficient > 0 and not config.kl_in_reward
        skip = config.skip_flat_groups
        if skip is None:
            skip = bonus == 0 and not in_loss
        kept = self._counted(rollout)
        if skip:
            kept = kept & ~self._flat(rollout).repeat_interleave(config.group_size)
        if not kept.all():
            batch = batch[kept]
        metrics = {"learning_rate": learning_rate}
        if process_group().sum(len(batch)) == 0:
            return metrics
        if in_loss:
            batch = self._with_reference(batch)
        if self.network.memoryless and config.surrogate in ("clipped", "truncated"):
            batch = batch.single_steps()
        for _ in range(config.epochs):
            parts = list(minibatches(batch, config.minibatch_size, self.rng))
            for minibatch in parts:
                minibatch = minibatch.replace(weights=minibatch.weights * len(parts))
                # The bonus is a mean over steps, whatever the normalisation of the objective is.
                step_bonus = bonus / max(1, process_group().sum(minibatch.steps.count)) if bonus else 0.0
                loss = functools.partial(self._loss, clip_factor=clip_factor, step_bonus=step_bonus)
                norm, terms = self._gradient_step(minibatch, loss, learning_rate)
                metrics |= terms
        return metrics | {"gradient_norm": norm}

    def _with_reference(self, batch: Minibatch) -> ReferenceMinibatch:
        steps = batch.steps
        scores = self.network.reference_log_probs(steps) if len(batch) else torch.zeros_like(batch.old_log_probs)
        return ReferenceMinibatch(steps, batch.old_log_probs, batch.advantages, batch.weights, scores)

    def _weights(self, rollout: Rollout) -> Tensor:
        """(B, T) of each step, so that those of all processes add up to 1, before truncated episodes are masked.

        As in TRL, masked tokens are no tokens, but masked sequences are among the number of sequences.
        """
        config, mask = self.config, rollout.mask
        if config.normalisation == "token":
            mask = mask & self._counted(rollout).unsqueeze(1)
        weights = step_weights(mask, config.normalisation, length=config.episode_limit)
        of_one = {"token": int(mask.sum()), "sequence": int(mask.any(dim=1).sum()), "constant": len(mask)}
        return weights * process_group().fraction(of_one[config.normalisation])

    def _counted(self, rollout: Rollout) -> Tensor:
        """(B,) bool, the episodes that have a part in the loss."""
        ended = rollout.done.any(dim=1)
        return ended if self.config.mask_truncated else torch.ones_like(ended)

    def _loss(self, batch: Minibatch, *, clip_factor: float, step_bonus: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a weighted sum over the steps, and means over them to log."""
        config, steps = self.config, batch.steps
        scores = self.network.evaluate_actions(steps)
        low = config.clip * clip_factor
        high = low if config.clip_high is None else config.clip_high * clip_factor
        log_probs, old = scores.log_probs, batch.old_log_probs
        of_steps = log_probs - old
        log_ratios = of_steps
        if config.surrogate == "sequence":
            log_ratios = sequence_log_ratios(log_probs, old, steps.mask)
        elif config.surrogate == "trajectory":
            log_ratios = trajectory_log_ratios(log_probs, old, steps.mask)
        if config.surrogate == "truncated":
            objective = truncated_importance_objective(log_probs, old, batch.advantages, clip_high=high)
            clipped = (of_steps.detach().exp() > 1 + high) & (batch.advantages != 0)
        else:
            objective = clipped_surrogate(log_ratios + old, old, batch.advantages, clip=low, clip_high=high)
            clipped = binding_clips(log_ratios.detach(), batch.advantages, clip=low, clip_high=high)
        terms = {"entropy": steps.mean(scores.entropies)}
        if isinstance(batch, ReferenceMinibatch):
            weighing = log_ratios if config.kl_importance_weighted else None
            kl = kl_estimate(log_probs, batch.reference_log_probs, config.kl_estimator, log_ratios=weighing)
            objective = objective - config.kl_coefficient * kl
            terms["kl_to_reference"] = steps.mean(kl)
        log_ratio = of_steps.detach()
        terms["approximate_kl"] = steps.mean(torch.expm1(log_ratio) - log_ratio)
        of_sequences = config.surrogate in ("sequence", "trajectory")
        terms["clip_fraction"] = (
            (clipped & steps.mask).any(dim=1).float().mean() if of_sequences else steps.mean(clipped.float())
        )
        losses = -objective * batch.weights
        if step_bonus:
            losses = losses - step_bonus * scores.entropies
        if not steps.complete:
            losses = losses.masked_fill(~steps.mask, 0.0)
        return losses.sum(), {name: term.detach() for name, term in terms.items()}

    def _outcomes(self, rollout: Rollout) -> dict[str, float]:
        spread = rollout.rewards.sum(dim=1).reshape(-1, self.config.group_size).std(dim=1, correction=0)
        return rollout.outcomes() | {"groups_alike": float((spread == 0).float().mean())}

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes; updates begin with new episodes, so there are none under way."""
        return super().state_dict() | {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.updates = int(state["updates"])


def _equal(outcomes: Tensor, size: int) -> Tensor:
    """(groups,) bool, the outcomes (groups · size,) of the group are equal."""
    groups = outcomes.reshape(-1, size)
    return (groups == groups[:, :1]).all(dim=1)


def _over_processes(totals: Tensor, baseline: Baseline) -> Tensor:
    """Advantages (groups, G) of this process's groups among those of all processes."""
    group = process_group()
    gathered = group.all_gather(totals.tolist())
    first = sum(map(len, gathered[: group.rank]))
    together = totals.new_tensor([row for rows in gathered for row in rows])
    return group_advantages(together, baseline)[first : first + len(totals)]


def _states(steps: Steps) -> Tensor:
    """(N,) a number for the observation of each step that exists, equal for equal ones."""
    states = torch.zeros(steps.count, dtype=torch.int64)
    for leaf in steps.observations.values():
        rows = leaf[steps.mask].flatten(1)
        rows = rows.squeeze(1) if rows.shape[1] == 1 else rows  # sorting numbers is much faster than sorting rows
        _, values = torch.unique(rows, dim=0 if rows.ndim == 2 else None, return_inverse=True)
        _, states = torch.unique(states * (values.max() + 1) + values, return_inverse=True)
    return states
