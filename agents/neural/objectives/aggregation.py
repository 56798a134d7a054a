"""Weights of steps in a loss over sequences of different lengths."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from gridzero.agents.neural.choices import Normalisation


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
