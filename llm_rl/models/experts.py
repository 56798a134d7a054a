"""Mixtures of experts: which experts tokens are sent to, how evenly, and biases of the routers that even it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gridzero.agents.neural.distributed import process_group
from gridzero.llm_rl.models.causal import hidden_states
from gridzero.llm_rl.models.peft import is_adapted


def routers(model: nn.Module) -> list[Any]:
    """The routers of a model that choose experts by their scores plus a bias, as those of DeepSeek-V3 do."""
    return [one for one in model.modules() if isinstance(getattr(one, "e_score_correction_bias", None), Tensor)]


@contextmanager
def recorded_experts(model: nn.Module) -> Iterator[list[Tensor]]:
    """Record the experts (N, k) that each router chooses for the tokens of each pass within the ``with`` block."""
    chosen: list[Tensor] = []

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        chosen.append(next(part for part in output if part.dtype == torch.long).detach())

    handles = [router.register_forward_hook(record) for router in routers(model)]
    try:
        yield chosen
    finally:
        for handle in handles:
            handle.remove()


def maximal_violation(loads: Tensor) -> float:
    r"""How much more than its share the busiest expert gets: the mean over layers of max_i load_i / mean load - 1.

    Args:
        loads: (layers, experts), tokens that each expert was sent.

    Source: Wang et al. (2024), Auxiliary-loss-free load balancing strategy for mixture-of-experts, eq. 4 (MaxVio).

    >>> maximal_violation(torch.tensor([[2.0, 2.0], [4.0, 0.0]]))
    0.5
    """
    loads = loads.double()
    return float((loads.amax(-1) / loads.mean(-1) - 1).mean())


def agreement(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """The share of experts chosen before, (N, k) in each layer, that are chosen after, too.

    Source: Zheng et al. (2025), Group sequence policy optimization, section 5.3.

    >>> agreement([torch.tensor([[0, 1], [2, 3]])], [torch.tensor([[1, 0], [2, 1]])])
    0.75
    """
    kept = [(one.unsqueeze(-1) == two.unsqueeze(-2)).any(-1).float() for one, two in zip(before, after, strict=True)]
    return float(torch.stack(kept).mean())


@torch.no_grad()
def experts_of(model: Any, tokens: Tensor, mask: Tensor) -> list[Tensor]:
    """The experts (N, k) that each router of a causal model chooses for the N tokens of (B, T) that the mask has."""
    with recorded_experts(model) as chosen:
        hidden_states(model, tokens)
    return [layer[mask.reshape(-1)] for layer in chosen]


def loads_of(model: nn.Module, chosen: Sequence[Tensor]) -> Tensor:
    """(layers, experts) how often each expert is among those chosen, (N, k) in each layer."""
    counts = [
        torch.bincount(layer.reshape(-1), minlength=len(router.e_score_correction_bias))
        for router, layer in zip(routers(model), chosen, strict=True)
    ]
    return torch.stack(counts)


class ExpertBalance:
    """Balancing by biases: after each gradient step b_i += γ sign(mean load - load_i), without any loss of its own.

    The biases decide which experts are chosen, not what they count. transformers leaves them as they are. So does this
    where adapters learn, and the experts do not.

    Args:
        model: a causal model; without routers there is nothing to do.
        rate: γ; 0: only measure. Tiny models learn in hundreds of steps; DeepSeek-V3 took 0.001.

    Source: Wang et al. (2024), Auxiliary-loss-free load balancing strategy for mixture-of-experts, algorithm 1;
    DeepSeek-AI (2024), DeepSeek-V3, section 2.1.2.
    """

    def __init__(self, model: Any, rate: float = 2e-2) -> None:
        self.model, self.routers = model, routers(model)
        self.rate = 0.0 if is_adapted(model) else rate
        self.loads: Tensor | None = None
        for router in self.routers:  # halves would lose what is added
            router.e_score_correction_bias = router.e_score_correction_bias.float()

    @contextmanager
    def counting(self, lengths: Sequence[int]) -> Iterator[None]:
        """Count the tokens of one pass within the ``with`` block: sequences of these lengths, padded on the right."""
        if not self.routers:
            yield
            return
        with recorded_experts(self.model) as chosen:
            yield
        sizes = torch.tensor(lengths, device=chosen[0].device)
        mask = (torch.arange(max(lengths), device=sizes.device) < sizes.unsqueeze(-1)).reshape(-1)
        loads = loads_of(self.model, [layer[mask] for layer in chosen])
        self.loads = loads if self.loads is None else self.loads + loads

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> dict[str, float]:
        """Move the biases by what was counted since the last step, γ times a factor, and say how uneven that was."""
        if not self.routers:
            return {}
        counts = process_group().all_gather(None if self.loads is None else self.loads.tolist())
        self.loads = None
        loads = torch.tensor([one for one in counts if one is not None], dtype=torch.float64).sum(0)
        for router, load in zip(self.routers, loads, strict=True):
            bias = router.e_score_correction_bias
            bias += factor * self.rate * torch.sign(load.mean() - load).to(bias)
        return {"expert_violation": maximal_violation(loads)}
