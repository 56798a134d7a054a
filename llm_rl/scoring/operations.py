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
    known = qkv.device.type == "cpu" and qkv.dtype in (torch.float32, torch.float64)
    if short and known and cpu_kernels.enabled("attention"):
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


def _turned(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """(N, H, d) vectors, each turned by its (N, d / 2) cosines and sines."""
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    a, b = (vectors.float() if vectors.element_size() == 2 else vectors).chunk(2, dim=-1)
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], dim=-1).to(vectors.dtype)


class _Attended(torch.autograd.Function):
    """Softmax attention with all its weights in memory: A = softmax(s Q Kᵀ), O = A V.

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
