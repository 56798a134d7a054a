"""Entropies and estimates of the divergence from a reference policy."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from gridzero.agents.neural.choices import Estimator


def categorical_entropy(logits: Tensor, dim: int = -1) -> Tensor:
    r"""Entropy of a categorical distribution, -Σ_a π(a) log π(a), in nats.

    Args:
        logits: (..., A), up to a constant; -inf (or very negative) for what is not allowed.
        dim: the dimension of the A alternatives, if it is not the last one.

    Returns:
        (...).

    >>> categorical_entropy(torch.zeros(4)).exp()
    tensor(4.)
    """
    log_probs = logits.log_softmax(dim=dim)
    probs = log_probs.exp()
    return -torch.where(probs > 0, probs * log_probs, torch.zeros_like(probs)).sum(dim=dim)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    r"""Entropy of a normal distribution with independent components, Σ_i ½ log(2πe) + log σ_i, in nats.

    Args:
        log_std: log σ, (..., D).

    Returns:
        (...).
    """
    return (log_std + 1.4189385332046727).sum(dim=-1)


def kl_estimate(
    log_probs: Tensor,
    reference_log_probs: Tensor,
    estimator: Estimator = "k3",
    *,
    log_ratios: Tensor | None = None,
) -> Tensor:
    r"""Estimate of KL(π ‖ π_ref) from actions that π chose, per step.

    With l = log π(a|s) - log π_ref(a|s):

    - ``"k1"``: l; unbiased, of either sign. Its gradient is 0 in expectation, so it belongs in the reward.
    - ``"k2"``: ½ l²; biased, but its gradient is that of the KL divergence.
    - ``"k3"``: e^{-l} - 1 + l; unbiased, never negative. Its gradient is that of KL(π_ref ‖ π).

    These gradients are those of an estimate used as a loss on the policy's own actions. Given ``log_ratios``, the
    estimate is multiplied by the importance ratio ρ = π/π_old, so that it holds after steps away from π_old, too. For
    k1 and k3 the ratio's own gradient belongs to it and makes theirs that of KL(π ‖ π_ref); k2's is that already, so
    its ratio is a mere weight.

    Args:
        log_probs: log π(a_t|s_t), (B, T), with gradient.
        reference_log_probs: log π_ref(a_t|s_t), (B, T).
        estimator: which of the three.
        log_ratios: log ρ, (B, T), of the steps or of whole sequences; None: the actions are the policy's own.

    Returns:
        (B, T).

    Raises:
        ValueError: for another estimator.

    Source: Schulman (2020), Approximating KL divergence; DeepSeekMath, eq. 4 (k3); Tang and Munos (2025), On a few
    pitfalls in KL divergence gradient estimation for RL (the gradients).

    >>> kl_estimate(torch.tensor([0.5]).log(), torch.tensor([0.25]).log(), "k3")
    tensor([0.1931])
    """
    log_ratio = log_probs - reference_log_probs
    if estimator == "k1":
        estimate = log_ratio
    elif estimator == "k2":
        estimate = 0.5 * log_ratio.square()
    elif estimator == "k3":
        estimate = torch.expm1(-log_ratio) + log_ratio
    else:
        raise ValueError(f"estimator {estimator!r} is not one of {', '.join(get_args(Estimator))}")
    if log_ratios is None:
        return estimate
    return estimate * (log_ratios.detach() if estimator == "k2" else log_ratios).exp()
