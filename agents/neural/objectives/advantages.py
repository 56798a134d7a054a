"""Advantages: returns, their baselines, and what is added to rewards for exploring or for length."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from gridzero.agents.neural.choices import Baseline


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
    - ``"batch-standardised"``: (r_i - mean r) / (std of all rewards of all groups + ε): easy and hard questions keep
      their proportions, and a group of nearly equal rewards is not blown up.
    - ``"centred"``: r_i - mean r, which does not favour questions that are nearly always or nearly never answered.
    - ``"leave-one-out"``: r_i - mean_{j≠i} r_j, an unbiased baseline; G/(G-1) times the centred one.

    Args:
        rewards: (..., G), total reward of each of a group's G sequences.
        baseline: which of the four.
        epsilon: ε.

    Returns:
        (..., G).

    Raises:
        ValueError: for groups of one, or another baseline.

    Source: Shao et al. (2024), DeepSeekMath, section 4.1.2; Liu et al. (2025), Understanding R1-Zero-like training
    (Dr. GRPO), section 3; Ahmadian et al. (2024), Back to basics (RLOO), eq. 7; Liu et al. (2025), Part I: Tricks or
    traps (Lite PPO), section 4.1.3 (the batch's deviation).

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
    if baseline == "batch-standardised":
        return centred / (rewards.std(correction=0) + epsilon)
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
        baseline: "standardised", "centred" or "leave-one-out".
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
    raise ValueError(f"baseline {baseline!r} of states is not one of standardised, centred, leave-one-out")


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
