"""PPO's loss of an actor and a critic, with its gradient in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def actor_critic_loss(
    log_probs: Tensor,
    values: Tensor,
    entropies: Tensor,
    *,
    old_log_probs: Tensor,
    advantages: Tensor,
    returns: Tensor,
    weights: Tensor,
    clip: float,
    value_coefficient: float,
    entropy_coefficient: float,
    old_values: Tensor | None = None,
    value_clip: float | None = None,
) -> Tensor:
    r"""Σ w (c_v L_v - L_π - c_H H), with the clipped surrogate L_π, the critic's loss L_v and the entropy H.

    It is what :func:`clipped_surrogate` and :func:`value_loss` make, as one operation for autograd in place of a dozen:
    ∂L_π/∂log π = ρ Â where the clip does not bind, ∂L_v/∂v = v - R where the clipped value's error is not the larger
    one, else 0.

    Args:
        log_probs: log π(a_t|s_t), (B, T), with gradient.
        values: v(s_t), (B, T), with gradient.
        entropies: H, (B, T), with gradient.
        old_log_probs: of the policy that acted, (B, T).
        advantages: Â, (B, T).
        returns: R, (B, T).
        weights: w, (B, T).
        clip: ε of the surrogate.
        value_coefficient: c_v.
        entropy_coefficient: c_H.
        old_values: v(s_t) when the steps were taken, (B, T); for clipping.
        value_clip: ε of the values; no clipping if None.

    Returns:
        Scalar.

    Source: Schulman et al. (2017), Proximal policy optimization, eq. 9.

    >>> one = torch.ones(1, 1)
    >>> actor_critic_loss(
    ...     0 * one, 3 * one, 2 * one, old_log_probs=0 * one, advantages=one, returns=one, weights=one, clip=0.2,
    ...     value_coefficient=0.5, entropy_coefficient=0.1,
    ... )
    tensor(-0.2000)
    """
    loss: Tensor = _ActorCriticLoss.apply(
        log_probs, values, entropies, old_log_probs, advantages, returns, weights, clip, value_coefficient,
        entropy_coefficient, old_values, value_clip,
    )  # type: ignore[no-untyped-call]  # fmt: skip
    return loss


class _ActorCriticLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        log_probs: Tensor,
        values: Tensor,
        entropies: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        returns: Tensor,
        weights: Tensor,
        clip: float,
        value_coefficient: float,
        entropy_coefficient: float,
        old_values: Tensor | None,
        value_clip: float | None,
    ) -> Tensor:
        products = (log_probs - old_log_probs).exp_().mul_(advantages)
        most = torch.add(advantages, advantages.abs(), alpha=clip)
        slopes = errors = values - returns
        if value_clip is not None and old_values is not None:
            moved = (values - old_values).clamp(-value_clip, value_clip)
            clipped = old_values + moved - returns
            larger = clipped.abs() > errors.abs()
            slopes = errors * ~(larger & (moved.abs() >= value_clip))
            errors = torch.where(larger, clipped, errors)
        losses = torch.addcmul(entropies * -entropy_coefficient, errors, errors, value=0.5 * value_coefficient)
        losses -= torch.minimum(products, most)
        products *= products <= most
        ctx.save_for_backward(products, slopes, weights)
        ctx.coefficients = value_coefficient, entropy_coefficient
        return (losses * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        products, slopes, weights = ctx.saved_tensors
        value_coefficient, entropy_coefficient = ctx.coefficients
        weights = weights * gradient
        of_entropies = weights * -entropy_coefficient if entropy_coefficient else None
        return (products * weights).neg_(), (slopes * weights).mul_(value_coefficient), of_entropies, *[None] * 9
