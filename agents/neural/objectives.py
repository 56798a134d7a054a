"""Objectives of policy-gradient learning, as pure functions on tensors.

Everything is a batch of sequences: ``B`` of them, ``T`` steps long, an action being a move or a token. What is
per step has shape (B, T), and a boolean mask of that shape says which steps there are. Log-probabilities are in nats.
Time indices as in the literature: step t takes action a_t in state s_t, is paid r_t and leads to s_{t+1}.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Baseline = Literal["standardised", "centred", "leave-one-out"]
Estimator = Literal["k1", "k2", "k3"]
Normalisation = Literal["token", "sequence", "constant"]


def discounted_sums(terms: Tensor, factors: Tensor) -> Tensor:
    r"""Solve x_t = terms_t + factors_t · x_{t+1} backwards, with x_T = 0.

    Written as a scan that doubles its reach, so it takes log₂ T passes instead of T. A factor of 0 ends an episode.

    Args:
        terms: (..., T).
        factors: (..., T).

    Returns:
        (..., T).

    Source: Hillis and Steele (1986), Data parallel algorithms.

    >>> discounted_sums(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.5]))
    tensor([0.2500, 0.5000, 1.0000])
    """
    if terms.shape != factors.shape:
        raise ValueError(f"terms {tuple(terms.shape)} and factors {tuple(factors.shape)} must have one shape")
    length, reach = terms.shape[-1], 1
    while reach < length:
        further = torch.nn.functional.pad(terms[..., reach:], (0, reach))
        terms = terms + factors * further
        factors = factors * torch.nn.functional.pad(factors[..., reach:], (0, reach))
        reach *= 2
    return terms


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    done: Tensor,
    *,
    gamma: float,
    lambda_: float,
) -> Tensor:
    r"""Generalised advantage estimation.

    δ_t = r_t + γ v(s_{t+1}) (1 - terminated_t) - v(s_t),   Â_t = δ_t + γλ (1 - done_t) Â_{t+1}.

    A time limit is not a terminal state: where an episode is only cut off (done, not terminated) the successor keeps
    its value, and only the sum stops. The last step of the batch bootstraps in the same way. λ = 0 gives the
    temporal-difference error, λ = 1 the return minus the value.

    Args:
        rewards: r_t, (B, T).
        values: v(s_t), (B, T).
        next_values: v(s_{t+1}), (B, T), of the true successor, also where the episode ended.
        terminated: (B, T) bool, s_{t+1} is worth 0.
        done: (B, T) bool, step t + 1 belongs to another episode.
        gamma: γ, discount.
        lambda_: λ, weight of the longer returns.

    Returns:
        Â, (B, T). Adding ``values`` gives the λ-returns, the critic's targets.

    Source: Schulman et al. (2016), High-dimensional continuous control using GAE, eqs. 11-16;
    truncation: Pardo et al. (2018), Time limits in reinforcement learning, section 3.
    """
    errors = rewards + gamma * next_values * ~terminated - values
    return discounted_sums(errors, gamma * lambda_ * (~done).to(errors.dtype))


def exploration_bonus(visits: Tensor, coefficient: float) -> Tensor:
    r"""Bonus β/√n of a pair of state and action that was visited n times.

    Args:
        visits: n, any shape, at least 1.
        coefficient: β.

    Returns:
        As ``visits``, in float32.

    Source: Strehl and Littman (2008), An analysis of model-based interval estimation for Markov decision processes,
    section 3.2 (MBIE-EB).

    >>> exploration_bonus(torch.tensor([1, 4, 100]), 0.5)
    tensor([0.5000, 0.2500, 0.0500])
    """
    return coefficient * visits.to(torch.float32).rsqrt()


def group_advantages(rewards: Tensor, baseline: Baseline = "standardised", *, epsilon: float = 1e-6) -> Tensor:
    r"""Advantages of each member of a group over its group.

    - ``"standardised"``: (r_i - mean r) / (std r + ε), the group's own (population) standard deviation.
    - ``"centred"``: r_i - mean r, which does not favour questions that are nearly always or nearly never answered.
    - ``"leave-one-out"``: r_i - mean_{j≠i} r_j, an unbiased baseline; G/(G-1) times the centred one.

    Args:
        rewards: (..., G), total reward of each of a group's G sequences.
        baseline: which of the three.
        epsilon: ε.

    Returns:
        (..., G).

    Raises:
        ValueError: for groups of one, or another baseline.

    Source: Shao et al. (2024), DeepSeekMath, section 4.1.2; Liu et al. (2025), Understanding R1-Zero-like training
    (Dr. GRPO), section 3; Ahmadian et al. (2024), Back to basics (RLOO), eq. 7.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), "centred")
    tensor([ 0.7500, -0.2500, -0.2500, -0.2500])
    >>> group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), "leave-one-out")
    tensor([ 1.0000, -0.3333, -0.3333, -0.3333])
    """
    size = rewards.shape[-1]
    if size < 2:
        raise ValueError(f"a group needs at least 2 members, not {size}")
    centred = rewards - rewards.mean(dim=-1, keepdim=True)
    if baseline == "centred":
        return centred
    if baseline == "leave-one-out":
        return centred * (size / (size - 1))
    if baseline == "standardised":
        return centred / (rewards.std(dim=-1, keepdim=True, correction=0) + epsilon)
    raise ValueError(f"baseline {baseline!r} is not one of {', '.join(get_args(Baseline))}")


def state_advantages(
    returns: Tensor, states: Tensor, groups: Tensor, baseline: Baseline = "standardised", *, epsilon: float = 1e-6
) -> Tensor:
    r"""Advantages of each step over the steps that its group took in the same state.

    A_i = G_i - mean{G_j : j in i's group and state}, G being the return from a step on. What happened before, and
    where the others are meanwhile, makes no noise; a step in a state that its group saw only once counts nothing. As in
    :func:`group_advantages`, ``"standardised"`` divides by the deviation, the root mean square of the group's A, and
    ``"leave-one-out"`` takes the mean of the other steps.

    Args:
        returns: G, (N,).
        states: (N,) int64, at least 0.
        groups: (N,) int64, at least 0.
        baseline: which of the three.
        epsilon: ε, added to the deviation.

    Returns:
        (N,).

    Raises:
        ValueError: for another baseline.

    Source: Feng et al. (2025), Group-in-group policy optimization (GiGPO), the relative advantages of steps.

    >>> state_advantages(torch.tensor([3.0, 1.0, 5.0]), torch.tensor([7, 7, 8]), torch.zeros(3).long(), "centred")
    tensor([ 1., -1.,  0.])
    """
    _, place = torch.unique(groups * (states.max() + 1) + states, return_inverse=True)
    ones = torch.ones_like(returns)
    zeros = torch.zeros_like(returns)
    visits = zeros.index_add(0, place, ones)[place]
    advantages = returns - zeros.index_add(0, place, returns)[place] / visits
    if baseline == "centred":
        return advantages
    if baseline == "leave-one-out":
        return advantages * visits / (visits - 1).clamp(min=1)
    if baseline == "standardised":
        _, group = torch.unique(groups, return_inverse=True)
        squares = zeros.index_add(0, group, advantages.square()) / zeros.index_add(0, group, ones).clamp(min=1)
        return advantages / (squares.sqrt()[group] + epsilon)
    raise ValueError(f"baseline {baseline!r} is not one of {', '.join(get_args(Baseline))}")


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
    # The lesser of the products has the greater ratio where the advantage is negative: one bound counts at a time.
    least = torch.where(advantages < 0, 1 - clip, -math.inf)
    most = torch.where(advantages > 0, 1 + (clip if clip_high is None else clip_high), math.inf)
    return torch.clamp(ratios, least, most) * advantages


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


def overlong_penalty(lengths: Tensor, limit: int, margin: int) -> Tensor:
    r"""Penalty of a sequence that comes near the limit of its length, in the unit of a right answer.

    0 up to limit - margin, then falling linearly to -1 at the limit.

    Args:
        lengths: (B,), in steps.
        limit: L_max, where sequences are cut.
        margin: L_cache, at least 1.

    Returns:
        (B,), between -1 and 0.

    Source: Yu et al. (2025), DAPO, eq. 13.

    >>> overlong_penalty(torch.tensor([70, 80, 90, 100]), 100, 20)
    tensor([ 0.0000,  0.0000, -0.5000, -1.0000])
    """
    return -((lengths - (limit - margin)) / margin).clamp(0, 1) + 0.0


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
    loss = (values - returns).square()
    if clip is not None:
        if old_values is None:
            raise ValueError("clipping the value loss needs old_values")
        near = old_values + (values - old_values).clamp(-clip, clip)
        loss = torch.maximum(loss, (near - returns).square())
    return 0.5 * loss


def categorical_entropy(logits: Tensor) -> Tensor:
    r"""Entropy of a categorical distribution, -Σ_a π(a) log π(a), in nats.

    Args:
        logits: (..., A), up to a constant; -inf (or very negative) for what is not allowed.

    Returns:
        (...).

    >>> categorical_entropy(torch.zeros(4)).exp()
    tensor(4.)
    """
    log_probs = logits.log_softmax(dim=-1)
    probs = log_probs.exp()
    return -torch.where(probs > 0, probs * log_probs, torch.zeros_like(probs)).sum(dim=-1)


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
    old_log_probs: Tensor | None = None,
) -> Tensor:
    r"""Estimate of KL(π ‖ π_ref) from actions that π chose, per step.

    With l = log π(a|s) - log π_ref(a|s):

    - ``"k1"``: l; unbiased, of either sign. Its gradient is 0 in expectation, so it belongs in the reward.
    - ``"k2"``: ½ l²; biased, but its gradient is that of the KL divergence.
    - ``"k3"``: e^{-l} - 1 + l; unbiased, never negative. Its gradient is that of KL(π_ref ‖ π).

    These gradients are those of an estimate used as a loss on the policy's own actions. Given ``old_log_probs``, the
    estimate is multiplied by the importance ratio π/π_old, whose gradient makes those of k1 and k3 right: that of
    KL(π ‖ π_ref), and also after steps away from π_old.

    Args:
        log_probs: log π(a_t|s_t), (B, T), with gradient.
        reference_log_probs: log π_ref(a_t|s_t), (B, T).
        estimator: which of the three.
        old_log_probs: log π_old(a_t|s_t), (B, T), of the policy that acted.

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
    return estimate if old_log_probs is None else estimate * (log_probs - old_log_probs).exp()


def step_weights(
    mask: Tensor,
    normalisation: Normalisation = "token",
    *,
    length: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""The weight of each step in a sum over a batch of sequences.

    - ``"token"``: 1 / number of steps: every step weighs the same (DAPO; and PPO's minibatches).
    - ``"sequence"``: 1 / (number of sequences · steps of the sequence): the mean over sequences of their means, where a
      step of a long sequence weighs less (the first GRPO). Sequences without a step do not count.
    - ``"constant"``: 1 / (B · length): the steps weigh the same in every batch (Dr. GRPO).

    Args:
        mask: (B, T) bool, which steps there are.
        normalisation: which of the three.
        length: the constant; T unless given.
        dtype: of the weights.

    Returns:
        (B, T), 0 where there is no step.

    Raises:
        ValueError: for another normalisation, or a length below 1.

    Source: Shao et al. (2024), DeepSeekMath, eq. 3; Yu et al. (2025), DAPO, section 3.3; Liu et al. (2025), Dr. GRPO.
    """
    weights = mask.to(dtype)
    if normalisation == "token":
        return weights / weights.sum().clamp(min=1)
    if normalisation == "sequence":
        counts = weights.sum(dim=-1, keepdim=True)
        return weights / counts.clamp(min=1) / (counts > 0).sum().clamp(min=1)
    if normalisation == "constant":
        constant = mask.shape[-1] if length is None else length
        if constant < 1:
            raise ValueError(f"length must be at least 1, not {constant}")
        return weights / (mask.shape[0] * constant)
    raise ValueError(f"normalisation {normalisation!r} is not one of {', '.join(get_args(Normalisation))}")


def aggregate(
    per_step: Tensor, mask: Tensor, normalisation: Normalisation = "token", *, length: int | None = None
) -> Tensor:
    """Weighted sum over the unmasked steps: Σ per_step · :func:`step_weights`.

    Args:
        per_step: (B, T).
        mask: (B, T) bool, which steps there are; what the others hold, even NaN, has no influence.
        normalisation: how steps are weighed.
        length: for ``"constant"``.

    Returns:
        Scalar; 0 if there are no steps.

    >>> steps = torch.tensor([[4.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    >>> mask = torch.tensor([[True, False, False, False], [True, True, True, True]])
    >>> [round(aggregate(steps, mask, n).item(), 3) for n in ("token", "sequence", "constant")]
    [1.6, 2.5, 1.0]
    """
    weights = step_weights(mask, normalisation, length=length, dtype=per_step.dtype)
    return (per_step.masked_fill(~mask, 0.0) * weights).sum()
