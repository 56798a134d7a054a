"""Surrogates: what an update maximises in place of the return, by ratios of new to old probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    *,
    clip: float,
    clip_high: float | None = None,
) -> Tensor:
    r"""The clipped surrogate objective, to be maximised.

    min(ρ Â, clip(ρ, 1 - ε_low, 1 + ε_high) Â) with ρ = π(a|s) / π_old(a|s).

    Args:
        log_probs: log π(a_t|s_t), (B, T), with gradient.
        old_log_probs: of the policy that acted, (B, T).
        advantages: Â, (B, T), or anything that broadcasts to it.
        clip: ε_low.
        clip_high: ε_high; the same as ``clip`` unless given (clip-higher leaves room for unlikely actions to grow).

    Returns:
        (B, T).

    Source: Schulman et al. (2017), Proximal policy optimization, eq. 7; Yu et al. (2025), DAPO, section 3.1.

    >>> clipped_surrogate(torch.tensor([0.5]).log(), torch.tensor([0.25]).log(), torch.tensor([1.0]), clip=0.2)
    tensor([1.2000])
    """
    ratios = (log_probs - old_log_probs).exp()
    # One bound counts at a time: the upper one where the advantage is positive, the lower one where it is negative.
    most = torch.maximum(advantages * (1 - clip), advantages * (1 + (clip if clip_high is None else clip_high)))
    return torch.clamp(ratios * advantages, max=most)


def binding_clips(log_ratios: Tensor, advantages: Tensor, *, clip: float, clip_high: float | None = None) -> Tensor:
    r"""Steps whose clipped surrogate has no gradient: the ratio is past the bound that its advantage's sign sets.

    ρ > 1 + ε_high where Â > 0, ρ < 1 - ε_low where Â < 0. Past the other bound nothing is clipped.

    Args:
        log_ratios: log ρ, (B, T), of steps or of whole sequences.
        advantages: Â, (B, T), or anything that broadcasts to it.
        clip: ε_low.
        clip_high: ε_high; the same as ``clip`` unless given.

    Returns:
        (B, T) bool.

    >>> binding_clips(torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, 1.0, -1.0]), clip=0.2)
    tensor([ True, False, False,  True])
    """
    ratios = log_ratios.exp()
    high = ratios > 1 + (clip if clip_high is None else clip_high)
    return (high & (advantages > 0)) | ((ratios < 1 - clip) & (advantages < 0))


def truncated_importance_objective(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, *, clip_high: float
) -> Tensor:
    r"""REINFORCE with truncated importance weights (CISPO), to be maximised.

    sg[min(ρ, 1 + ε_high)] Â log π(a|s) with ρ = π(a|s) / π_old(a|s). Unlike the clipped surrogate, no step loses its
    gradient; only its weight is bounded.

    Args:
        log_probs: log π(a_t|s_t), (B, T), with gradient.
        old_log_probs: of the policy that acted, (B, T).
        advantages: Â, (B, T), or anything that broadcasts to it.
        clip_high: ε_high.

    Returns:
        (B, T).

    Source: MiniMax (2025), MiniMax-M1, eqs. 4-5.

    >>> truncated_importance_objective(
    ...     torch.tensor([0.5]).log(), torch.tensor([0.25]).log(), torch.tensor([1.0]), clip_high=0.2
    ... )
    tensor([-0.8318])
    """
    weights = (log_probs - old_log_probs).detach().exp().clamp(max=1 + clip_high)
    return weights * advantages * log_probs


def sequence_log_ratios(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Log of the length-normalised likelihood ratio of whole sequences (GSPO).

    log s = 1/|y| Σ_t [log π(y_t) - log π_old(y_t)], the same for each step of a sequence.

    Args:
        log_probs: (B, T), with gradient.
        old_log_probs: (B, T).
        mask: (B, T) bool, which steps there are; None: all.

    Returns:
        (B, T), the same along T.

    Source: Zheng et al. (2025), Group sequence policy optimization, eq. 7.

    >>> sequence_log_ratios(torch.tensor([[0.0, 1.0, 9.0]]), torch.zeros(1, 3), torch.tensor([[True, True, False]]))
    tensor([[0.5000, 0.5000, 0.5000]])
    """
    ratios = log_probs - old_log_probs
    if mask is None:
        return ratios.mean(dim=-1, keepdim=True).expand_as(ratios)
    counts = mask.sum(dim=-1, keepdim=True).clamp(min=1)
    return (ratios.masked_fill(~mask, 0.0).sum(dim=-1, keepdim=True) / counts).expand_as(ratios)


def trajectory_log_ratios(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    r"""Log of the likelihood ratio of whole sequences, Σ_t [log π(y_t) - log π_old(y_t)], the same for each step.

    Args:
        log_probs: (B, T), with gradient.
        old_log_probs: (B, T).
        mask: (B, T) bool, which steps there are.

    Returns:
        (B, T), the same along T.

    Source: Ahmadian et al. (2024), Back to basics, section 2.2: the whole completion is one action.

    >>> trajectory_log_ratios(torch.tensor([[0.0, 1.0, 9.0]]), torch.zeros(1, 3), torch.tensor([[True, True, False]]))
    tensor([[1., 1., 1.]])
    """
    ratios = log_probs - old_log_probs
    return ratios.masked_fill(~mask, 0.0).sum(dim=-1, keepdim=True).expand_as(ratios)


def value_loss(
    values: Tensor, returns: Tensor, *, old_values: Tensor | None = None, clip: float | None = None
) -> Tensor:
    r"""Half the squared error of the critic, per step.

    ½ (v - R)², or, clipped, ½ max[(v - R)², (v_old + clip(v - v_old, -ε, ε) - R)²].

    Args:
        values: v(s_t), (B, T), with gradient.
        returns: R, (B, T).
        old_values: v(s_t) when the steps were taken, (B, T); for clipping.
        clip: ε; no clipping if None.

    Returns:
        (B, T).

    Source: Huang et al. (2022), The 37 implementation details of PPO, detail 9.

    >>> value_loss(torch.tensor([3.0]), torch.tensor([1.0]))
    tensor([2.])
    """
    loss = torch.nn.functional.mse_loss(values, returns, reduction="none")
    if clip is not None:
        if old_values is None:
            raise ValueError("clipping the value loss needs old_values")
        near = old_values + (values - old_values).clamp(-clip, clip)
        loss = torch.maximum(loss, (near - returns).square())
    return 0.5 * loss
