"""Running mean and standard deviation, for normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningMeanStd(nn.Module):
    """Mean and variance of all that it has seen, exactly, in float64 buffers (so they are saved with the policy).

    Until it has seen something the mean is 0 and the variance 1.

    Args:
        size: number of components.

    Source: Chan et al. (1979), Updating formulae and a pairwise algorithm for computing sample variances.

    Example:
        >>> statistics = RunningMeanStd(1)
        >>> statistics.update(torch.tensor([[1.0], [2.0]])); statistics.update(torch.tensor([[6.0]]))
        >>> statistics.mean.item(), round(statistics.variance().item(), 3)
        (3.0, 4.667)
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))

    def update(self, rows: Tensor) -> None:
        """Take in rows (N, size)."""
        if len(rows) == 0:
            return
        rows = rows.to(torch.float64)
        mean = rows.mean(dim=0)
        squares = (rows - mean).square().sum(dim=0)
        total = self.count + len(rows)
        shift = mean - self.mean
        self.squares += squares + shift.square() * self.count * len(rows) / total
        self.mean += shift * len(rows) / total
        self.count.copy_(total)

    def variance(self) -> Tensor:
        """(size,) population variance."""
        return torch.where(self.count > 0, self.squares / self.count.clamp(min=1), torch.ones_like(self.squares))

    def standardise(self, values: Tensor, limit: float = 10.0) -> Tensor:
        """(values - mean) / deviation, clipped to ± ``limit``, in float32."""
        scale = (self.variance() + 1e-8).rsqrt()
        return ((values - self.mean) * scale).clamp(-limit, limit).to(torch.float32)
