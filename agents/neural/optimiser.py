"""Adam over one flat vector of all parameters, one operation where there would be one a tensor; Muon for matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.muon import Muon


class Optimiser:
    """Adam with the gradient's norm clipped, and master weights in single precision.

    The parameters become views of one vector, and so do their gradients, which halves the cost of a step for small
    networks. Their values do not change, and ``state_dict`` of their module works as before. Parameters in half
    precision have a vector of their own: a step changes their master weights, single precision in :attr:`vector`, to
    which they are then rounded; else a small learning rate would change nothing of them.

    Args:
        parameters: each keeps its place as long as nothing assigns its ``data``.
        epsilon: of Adam.
        max_norm: of the gradient of all parameters together; 0 for no clipping.
        betas: decay of the averages of gradients and of their squares.
        weight_decay: the share of each weight that a step at learning rate 1 takes away (AdamW).
        matrices: those of the parameters that take Muon's steps in place of Adam's; see
            :class:`~gridzero.agents.neural.muon.Muon`.

    Attributes:
        vector: the weights that Adam changes, those of parameters in half precision first.
        gradient: of them.

    Source: Huang et al. (2022), The 37 implementation details of PPO, details 3 (Adam's ε) and 11 (gradient clipping);
    Micikevicius et al. (2018), Mixed precision training, section 3.1 (master weights).
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        epsilon: float,
        max_norm: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        matrices: Sequence[nn.Parameter] = (),
    ) -> None:
        rounded = [parameter for parameter in parameters if parameter.element_size() < 4]
        exact = [parameter for parameter in parameters if parameter.element_size() >= 4]
        flat = [parameter.detach().reshape(-1) for parameter in rounded + exact]
        precision = exact[0].dtype if exact else torch.float32
        self.vector = nn.Parameter(torch.cat([part.to(precision) for part in flat]))
        self.gradient = torch.zeros_like(self.vector)
        self.max_norm = max_norm
        self._rounded = torch.cat(flat[: len(rounded)]) if rounded else self.vector.new_empty(0)
        self._rounded_gradient = torch.zeros_like(self._rounded)
        _lay_out(rounded, self._rounded, self._rounded_gradient)
        count = len(self._rounded)
        _lay_out(exact, self.vector.data[count:], self.gradient[count:])
        chosen, order = {id(matrix) for matrix in matrices}, rounded + exact
        places = zip(order, _parts(self.vector.data, order), _parts(self.gradient, order), strict=True)
        self.muon = Muon([(values, own) for parameter, values, own in places if id(parameter) in chosen])
        self._settings: dict[str, Any] = {
            "eps": epsilon,
            "beta1": betas[0],
            "beta2": betas[1],
            "weight_decay": weight_decay,
        }
        self._moments: dict[str, Tensor] = {}

    def step(self, losses: Iterable[Tensor], learning_rate: float) -> float:
        """One step down the gradient of the sum of ``losses``; returns the gradient's norm before clipping.

        Each is taken, and what it holds let go, before the next, so that an iterator may make one at a time. Where
        several processes learn together, the sum is of the losses of all of them.
        """
        self.gradient.zero_()
        count = len(self._rounded)
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation for it
            if count:  # added up in single precision
                self.gradient[:count] += self._rounded_gradient
                self._rounded_gradient.zero_()
        process_group().all_reduce(self.gradient)
        norm = float(torch.linalg.vector_norm(self.gradient))
        if 0 < self.max_norm < norm:
            self.gradient.mul_(self.max_norm / norm)
        self.muon.step(learning_rate)
        self._adam(learning_rate)
        if count:
            self._rounded.copy_(self.vector.data[:count])
        return norm

    @torch.no_grad()
    def _adam(self, learning_rate: float) -> None:
        """A step of Adam by torch's function: for small networks, its class would take longer than the step."""
        if not self._moments:  # who only acts needs none
            self._moments = {
                "step": self.gradient.new_zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(self.gradient),
                "exp_avg_sq": torch.zeros_like(self.gradient),
            }
        averages, squares, step = ([self._moments[name]] for name in ("exp_avg", "exp_avg_sq", "step"))
        adamw(
            [self.vector], [self.gradient], averages, squares, [], step,
            fused=True, amsgrad=False, maximize=False, lr=learning_rate, **self._settings,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Adam's moments and step count, Muon's momenta, and the master weights of parameters in half precision."""
        state = dict(self._moments)
        if state and len(self._rounded):
            state["master"] = self.vector.detach()[: len(self._rounded)]
        if state and self.muon.count:
            state["momenta"] = self.muon.state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, with the parameters as they were then.

        Raises:
            ValueError: when it lacks the master weights.
        """
        self._moments = {}
        device, count = self.vector.device, len(self._rounded)
        if not state:
            self.vector.data[:count] = self._rounded
            return
        if count and "master" not in state:
            raise ValueError("the optimiser's state has no master weights for parameters in half precision")
        tensors = {name: torch.as_tensor(value).clone().to(device) for name, value in state.items()}
        if count:
            self.vector.data[:count] = tensors.pop("master")
        if self.muon.count:
            self.muon.load(tensors.pop("momenta"))
        self._moments = tensors


def _lay_out(parameters: Sequence[nn.Parameter], values: Tensor, gradients: Tensor) -> None:
    """Make parameters and their gradients views of these vectors."""
    for parameter, own, gradient in zip(
        parameters, _parts(values, parameters), _parts(gradients, parameters), strict=True
    ):
        parameter.data, parameter.grad = own, gradient


def _parts(vector: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The views of a vector that are the parameters', one after the other."""
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
