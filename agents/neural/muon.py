"""Muon's steps: the momentum of a matrix's gradient, made orthogonal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the same singular vectors, whose singular values are about 1.

    With G = U S Vᵀ, it is near U Vᵀ: a Newton–Schulz iteration X ← a X + (b A + c A²) X, A = X Xᵀ, takes all singular
    values but tiny ones to between 0.68 and 1.14 in five rounds, and needs nothing but products.

    Args:
        matrices: (N, R, C).

    Source: Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks; Bernstein and Newhouse
    (2024), Old optimizer, new norm: an anthology.

    >>> torch.linalg.svdvals(orthogonal(torch.tensor([[[9.0, 1.0], [2.0, -3.0]]]))).numpy().round(1)
    array([[1.1, 0.8]], dtype=float32)
    """
    a, b, c = _COEFFICIENTS
    states: Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    tall = matrices.shape[1] > matrices.shape[2]
    if tall:
        states = states.mT
    for _ in range(_ITERATIONS):
        products = states @ states.mT
        states = a * states + (b * products + c * products @ products) @ states
    return states.mT if tall else states


class Muon:
    """Orthogonal steps of matrices, those of one shape together.

    The step is η · 0.2 √max(R, C) times the orthogonal matrix nearest to Nesterov's momentum of the gradient, which
    moves an entry as far as Adam usually does, so that both go by one learning rate.

    Args:
        matrices: their values and gradients, views (R, C) each; they keep their places.

    Attributes:
        count: of matrices.

    Source: Liu et al. (2025), Muon is scalable for LLM training (Moonlight), equations 1 and 4.
    """

    def __init__(self, matrices: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.count = len(matrices)
        groups: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for values, gradients in matrices:
            groups.setdefault(values.shape, []).append((values, gradients))
        self._groups = list(groups.values())
        self._momenta = [torch.zeros_like(torch.stack([own for own, _ in group])) for group in self._groups]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take a step, and set the gradients to 0: another optimiser of the same matrices has nothing left to do."""
        for group, momenta in zip(self._groups, self._momenta, strict=True):
            gradients = torch.stack([own for _, own in group])
            momenta.lerp_(gradients, 1 - MOMENTUM)
            directions = orthogonal(gradients.lerp(momenta, MOMENTUM))
            factor = -learning_rate * 0.2 * max(directions.shape[1:]) ** 0.5
            for (values, own), direction in zip(group, directions, strict=True):
                values.add_(direction, alpha=factor)
                own.zero_()

    def state(self) -> Tensor:
        """The momenta, one vector."""
        return torch.cat([momenta.flatten() for momenta in self._momenta])

    def load(self, state: Tensor) -> None:
        """Continue from :meth:`state`."""
        parts = torch.split(state, [momenta.numel() for momenta in self._momenta])
        for momenta, own in zip(self._momenta, parts, strict=True):
            momenta.copy_(own.view_as(momenta))


def hidden_matrices(model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Those parameters that are matrices, but for tables of embeddings and the output layer of a model of texts."""
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    known = {id(table) for table in tables} | {id(getattr(head, "weight", None))}
    return [one for one in parameters if one.ndim == 2 and id(one) not in known]
