"""Operations of a transformer on packed steps, with gradients; on a CPU by compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.cpu_kernels import attention
from gridzero.llm_rl.cpu_kernels import elementwise as kernels
from gridzero.llm_rl.scoring.packing import Packing

# On a processor, sequences up to this long attend faster with all their weights in memory.
_SHORT = 128


def side_by_side(layers: Sequence[Any], states: Tensor) -> Tensor:
    """(N, outputs) the outputs of several linear layers for the same states, by one product if they are plain."""
    plain = all(type(layer) is nn.Linear for layer in layers)
    biases = [layer.bias for layer in layers if layer.bias is not None] if plain else []
    if not plain or len(biases) not in (0, len(layers)):
        return torch.cat([layer(states) for layer in layers], dim=-1)
    return functional.linear(
        states, torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None
    )


def attend(qkv: Tensor, heads: int, rotation: tuple[Tensor, Tensor], packing: Packing, scale: float) -> Tensor:
    """(N, H · d) what each step of packed sequences takes from itself and those before it in its sequence.

    Queries and keys are turned by their positions first: the halves a and b become a cos - b sin and b cos + a sin.

    Args:
        qkv: (N, H + 2K, d) queries, keys and values; H a multiple of K.
        heads: H.
        rotation: cosines and sines, (N, d / 2) each.
        packing: which sequences have which steps.
        scale: of the products of queries and keys.

    Source: Su et al. (2021), RoFormer, section 3.4; Vaswani et al. (2017), Attention is all you need, section 3.2.1.
    """
    short = max(places.shape[1] for places in packing.parts) <= _SHORT
    if short and _compiled("attention", qkv):
        cosines, sines = (part.to(qkv.dtype) for part in rotation)
        attended: Tensor = _Attended.apply(qkv.contiguous(), heads, cosines, sines, packing, scale)  # type: ignore[no-untyped-call]  # torch's
        return attended
    key_heads = (qkv.shape[1] - heads) // 2
    turned, values = torch.split(qkv, [heads + key_heads, key_heads], dim=1)
    every = torch.cat([_turned(turned, *rotation), values], dim=1)
    parts = []
    for places in packing.parts:
        laid_out = functional.embedding(places, every.flatten(1)).view(*places.shape, *every.shape[1:]).transpose(1, 2)
        q, k, v = torch.split(laid_out, [heads, key_heads, key_heads], dim=1)
        mixed = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=heads != key_heads
        )
        parts.append(mixed.transpose(1, 2).reshape(-1, heads * mixed.shape[-1]))
    return torch.cat(parts)[packing.part_indices]


def _compiled(part: str, tensor: Tensor) -> bool:
    """Whether compiled loops exist for such tensors and are switched on."""
    known = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    return known and cpu_kernels.enabled(part)


def _turned(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """(N, H, d) vectors, each turned by its (N, d / 2) cosines and sines."""
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    a, b = (vectors.float() if vectors.element_size() == 2 else vectors).chunk(2, dim=-1)
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], dim=-1).to(vectors.dtype)


class _Attended(torch.autograd.Function):
    """Softmax attention as it is written: A = softmax(s Q Kᵀ), O = A V.

    ∂/∂V = Aᵀ G, and with D = A (G Vᵀ - rowsum(A G Vᵀ)), ∂/∂Q = s D K and ∂/∂K = s Dᵀ Q.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, heads: int, cosines: Tensor, sines: Tensor, packing: Packing, scale: float
    ) -> Tensor:
        n, vectors, d = qkv.shape
        key_heads = (vectors - heads) // 2
        attended = qkv.new_empty(n, heads, d)
        before, saved = 0, []
        for places in packing.parts:
            size, length = places.shape
            laid_out = [qkv.new_empty(size, count, length, d) for count in (heads, key_heads, key_heads)]
            attention.unpack(*(part.numpy() for part in (qkv, cosines, sines, places, *laid_out)))
            q, k, v = (part.view(size * key_heads, -1, d) for part in laid_out)
            shares = torch.bmm(q, k.transpose(1, 2))
            attention.causal_softmax(shares.numpy(), scale)
            mixed = torch.bmm(shares, v).view(size, heads, length, d)
            attention.pack(mixed.numpy(), packing.part_indices.numpy(), before, attended.numpy())
            before += places.numel()
            saved += [q, k, v, shares]
        ctx.shape, ctx.heads, ctx.scale, ctx.packing = qkv.shape, heads, scale, packing
        ctx.save_for_backward(cosines, sines, *saved)
        return attended.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cosines, sines, *saved = ctx.saved_tensors
        n, _, d = ctx.shape
        gradient = gradient.contiguous().view(n, ctx.heads, d)
        of_qkv, before = gradient.new_zeros(ctx.shape), 0
        for i, places in enumerate(ctx.packing.parts):
            q, k, v, shares = saved[4 * i : 4 * i + 4]
            size, length = places.shape
            of_mixed = gradient.new_zeros(size, ctx.heads, length, d)
            attention.pack_gradient(gradient.numpy(), ctx.packing.part_indices.numpy(), before, of_mixed.numpy())
            of_mixed, before = of_mixed.view(q.shape), before + places.numel()
            of_scores = torch.bmm(of_mixed, v.transpose(1, 2))
            attention.causal_softmax_gradient(shares.numpy(), of_scores.numpy(), ctx.scale)
            of_each = (
                torch.bmm(of_scores, k),
                torch.bmm(of_scores.transpose(1, 2), q),
                torch.bmm(shares.transpose(1, 2), of_mixed),
            )
            laid_out = [part.view(size, -1, length, d) for part in of_each]
            attention.unpack_gradient(*(part.numpy() for part in (*laid_out, cosines, sines, places, of_qkv)))
        return of_qkv, None, None, None, None, None


def gated(gates: Tensor, values: Tensor) -> Tensor:
    """silu(gates) · values, elementwise.

    Source: Shazeer (2020), GLU variants improve transformer, eq. 6 (SwiGLU).
    """
    if not _compiled("gates", gates) or gates.dtype != values.dtype:
        return functional.silu(gates) * values
    gated_values: Tensor = _Gated.apply(gates.contiguous(), values.contiguous())  # type: ignore[no-untyped-call]  # torch's
    return gated_values


class _Gated(torch.autograd.Function):
    """y = x s v, with s = 1 / (1 + exp -x). ∂/∂x = g v (s + x s (1 - s)), ∂/∂v = g x s."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(gates, values)
        out = torch.empty_like(gates)
        kernels.gate(*(part.view(-1).numpy() for part in (gates, values, out)))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, values = ctx.saved_tensors
        of_gates, of_values = torch.empty_like(gates), torch.empty_like(values)
        each = (gradient.contiguous(), gates, values, of_gates, of_values)
        kernels.gate_gradient(*(part.view(-1).numpy() for part in each))
        return of_gates, of_values


def add_and_normalise(module: Any, states: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of two (N, D), and what an RMSNorm makes of it.

    Source: Zhang and Sennrich (2019), Root mean square layer normalization, eq. 4.
    """
    if not _compiled("norms", states) or states.dtype != module.weight.dtype:
        states = states + update
        return states, module(states)
    summed, normed = _Normalised.apply(states, update, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]  # torch's
    return summed, normed


class _Normalised(torch.autograd.Function):
    """y = w x r of the sum x, with r = 1 / sqrt(mean x² + ε).

    ∂/∂x = r (g w - x r² mean(g w x)), ∂/∂w = Σ g x r.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, update: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        summed, normed, scales = torch.empty_like(states), torch.empty_like(states), states.new_empty(len(states))
        kernels.add_and_normalise(
            states.numpy(),
            update.numpy(),
            weight.detach().numpy(),
            epsilon,
            summed.numpy(),
            scales.numpy(),
            normed.numpy(),
        )
        ctx.save_for_backward(summed, weight, scales)
        return summed, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_summed: Tensor, of_normed: Tensor) -> tuple[Tensor | None, ...]:
        summed, weight, scales = ctx.saved_tensors
        of_states, of_weight = torch.empty_like(summed), torch.zeros_like(weight)
        given = (of_summed, of_normed, summed, weight.detach(), scales, of_states, of_weight)
        kernels.normalisation_gradient(*(part.numpy() for part in given))
        return of_states, of_states, of_weight if ctx.needs_input_grad[2] else None, None
