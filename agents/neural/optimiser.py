"""Adam over one flat vector of all parameters: one operation where there would be one for each tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gridzero.agents.neural.distributed import process_group


class Optimiser:
    """Adam with the gradient's norm clipped.

    The parameters become views of one vector, and so do their gradients, which halves the cost of a step for small
    networks. Their values do not change, and ``state_dict`` of their module works as before.

    Args:
        parameters: of one type; each keeps its place as long as nothing assigns its ``data``.
        epsilon: of Adam.
        max_norm: of the gradient of all parameters together; 0 for no clipping.
        betas: decay of the averages of gradients and of their squares.
        weight_decay: the share of each weight that a step at learning rate 1 takes away (AdamW).

    Source: Huang et al. (2022), The 37 implementation details of PPO, details 3 (Adam's ε) and 11 (gradient clipping).
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        epsilon: float,
        max_norm: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        self.vector = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
        self.gradient = torch.zeros_like(self.vector)
        self.vector.grad = self.gradient
        self.max_norm = max_norm
        offset = 0
        for parameter in parameters:
            end = offset + parameter.numel()
            parameter.data = self.vector.data[offset:end].view_as(parameter)
            parameter.grad = self.gradient[offset:end].view_as(parameter)
            offset = end
        self.adam = torch.optim.AdamW([self.vector], eps=epsilon, betas=betas, weight_decay=weight_decay, fused=True)

    def step(self, losses: Iterable[Tensor], learning_rate: float) -> Tensor:
        """One step down the gradient of the sum of ``losses``; returns the gradient's norm before clipping.

        Each is taken, and what it holds let go, before the next, so that an iterator may make one at a time. Where
        several processes learn together, the sum is of the losses of all of them.
        """
        self.gradient.zero_()
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation for it
        process_group().all_reduce(self.gradient)
        norm: Tensor = torch.linalg.vector_norm(self.gradient)
        if self.max_norm > 0:
            self.gradient.mul_((self.max_norm / (norm + 1e-6)).clamp(max=1.0))
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Adam's moments and step count."""
        return dict(self.adam.state.get(self.vector, {}))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.adam.state.clear()
        if state:
            self.adam.state[self.vector] = {name: torch.as_tensor(value).clone() for name, value in state.items()}
