"""Objectives of learning from demonstrations, preferences and teachers, as pure functions on tensors.

Sequences are B pairs (y_w preferred to y_l) or N tokens; log-probabilities are in nats, those of a sequence sums over
its tokens. Every loss is returned for each pair or token, so that the caller decides how they are averaged.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid


def sft(log_probs: Tensor) -> Tensor:
    r"""Cross-entropy of supervised fine-tuning: L = -log π(y_t | x, y_<t).

    Args:
        log_probs: (N,), of the tokens of completions.

    Returns:
        (N,).

    Source: Ouyang et al. (2022), Training language models to follow instructions with human feedback, section 3.5.
    """
    return -log_probs


def bradley_terry(chosen: Tensor, rejected: Tensor, probabilities: Tensor | None = None) -> Tensor:
    r"""Negative log-likelihood of preferences under the Bradley–Terry model.

    L = -p log σ(r_w - r_l) - (1 - p) log σ(r_l - r_w),   p = 1 without soft labels.

    Args:
        chosen: r_w, (B,), rewards of what was preferred.
        rejected: r_l, (B,).
        probabilities: p, (B,), the probability that the chosen one is preferred.

    Returns:
        (B,).

    Source: Bradley and Terry (1952), Rank analysis of incomplete block designs; Ouyang et al. (2022), eq. 1.

    >>> bradley_terry(torch.tensor([2.0]), torch.tensor([2.0]))
    tensor([0.6931])
    """
    return _two_sided(chosen - rejected, probabilities)


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    probabilities: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Direct preference optimisation, with soft labels and smoothing (cDPO).

    h = β [(log π(y_w) - log π_ref(y_w)) - (log π(y_l) - log π_ref(y_l))],
    L = -q log σ(h) - (1 - q) log σ(-h),   q = p (1 - ε) + (1 - p) ε.

    Where p = σ(r(y_w) - r(y_l)) and pairs cover all completions, the minimum is π* ∝ π_ref exp(r / β).

    Args:
        chosen: log π(y_w), (B,).
        rejected: log π(y_l), (B,).
        reference_chosen: log π_ref(y_w), (B,).
        reference_rejected: log π_ref(y_l), (B,).
        beta: β.
        probabilities: p, (B,), the probability that the chosen one is preferred; 1 without.
        label_smoothing: ε, from 0 to 0.5.

    Returns:
        (B,).

    Source: Rafailov et al. (2023), Direct preference optimization, eq. 7; Mitchell (2023), A note on DPO with noisy
    preferences and relationship to IPO (cDPO).
    """
    margins = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    return _two_sided(margins, _smoothed(margins, probabilities, label_smoothing))


def ipo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    tau: float,
    probabilities: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Identity preference optimisation: a squared loss, which does not drive certain preferences to infinity.

    h = (log π(y_w) - log π_ref(y_w)) - (log π(y_l) - log π_ref(y_l)),
    L = q (h - 1/(2τ))² + (1 - q) (h + 1/(2τ))²,   q as in :func:`dpo`.

    Over pairs drawn from μ the minimum is π ∝ π_ref exp(P(y ≻ μ) / τ), P(y ≻ μ) being the probability that y is
    preferred to a completion of μ. Log-probabilities are sums over tokens, as in the paper; TRL takes means.

    Args:
        chosen: log π(y_w), (B,).
        rejected: log π(y_l), (B,).
        reference_chosen: log π_ref(y_w), (B,).
        reference_rejected: log π_ref(y_l), (B,).
        tau: τ.
        probabilities: p, (B,), the probability that the chosen one is preferred; 1 without.
        label_smoothing: ε, from 0 to 0.5.

    Returns:
        (B,).

    Source: Azar et al. (2023), A general theoretical paradigm to understand learning from human preferences, eqs. 6
    and 17.
    """
    margins = (chosen - reference_chosen) - (rejected - reference_rejected)
    q = _smoothed(margins, probabilities, label_smoothing)
    target = 1 / (2 * tau)
    return q * (margins - target).square() + (1 - q) * (margins + target).square()


def reverse_kl(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Divergence of a student from its teacher: KL(π ‖ π_T) = Σ_v π(v) (log π(v) - log π_T(v)).

    On the student's own samples its gradient, which is not propagated through the sampling, is that of on-policy
    distillation; it seeks the teacher's modes.

    Args:
        logits: of the student, (N, V).
        teacher_logits: of the teacher, (N, V).

    Returns:
        (N,), in nats.

    Source: Gu et al. (2023), MiniLLM, section 2.1; Agarwal et al. (2023), On-policy distillation of language models
    (GKD), eq. 4 with β → 1.

    >>> reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([0.])
    """
    own, teacher = log_softmax(logits, dim=-1), log_softmax(teacher_logits, dim=-1)
    return (own.exp() * (own - teacher)).sum(dim=-1)


def calibration_gap(probabilities: Tensor, outcomes: Tensor, bins: int = 10) -> float:
    r"""Expected calibration error: the mean distance between what is predicted and what happens.

    Σ_b |B_b| / N · |mean of the predictions in B_b - mean of the outcomes in B_b|, B_b being bins of equal width.

    Args:
        probabilities: (N,), predictions.
        outcomes: (N,), 0 or 1, or the true probabilities.
        bins: how many.

    Source: Guo et al. (2017), On calibration of modern neural networks, eq. 3.

    >>> calibration_gap(torch.tensor([0.75, 0.75]), torch.tensor([1.0, 0.0]))
    0.25
    """
    places = (probabilities * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, places, (probabilities - outcomes).double())
    return float(gaps.abs().sum() / len(probabilities))


def _two_sided(margins: Tensor, probabilities: Tensor | None) -> Tensor:
    """-q log σ(h) - (1 - q) log σ(-h)."""
    if probabilities is None:
        return -logsigmoid(margins)
    return -probabilities * logsigmoid(margins) - (1 - probabilities) * logsigmoid(-margins)


def _smoothed(margins: Tensor, probabilities: Tensor | None, smoothing: float) -> Tensor:
    p = torch.ones_like(margins) if probabilities is None else probabilities
    return p * (1 - smoothing) + (1 - p) * smoothing
