"""What a transformer does between its matrices, with gradients, in fewer passes over memory than its modules take."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# On a processor, sequences up to this long attend faster with all their weights in memory.
_SHORT = 128


def turned(queries: Tensor, keys: Tensor, values: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """(N, H + 2K, d) queries and keys, turned by their positions, and the values, side by side.

    The halves a and b of a vector become a cos - b sin and b cos + a sin. These stand next to each other, as parts of
    complex numbers: attention does not mind in which order queries and keys have their entries.

    Args:
        queries: (N, H, d).
        keys: (N, K, d).
        values: (N, K, d).
        cosines: (N, 1, d / 2).
        sines: (N, 1, d / 2).

    Source: Su et al. (2021), RoFormer, section 3.4.
    """
    found: Tensor = _Turned.apply(queries, keys, values, cosines, sines)  # type: ignore[no-untyped-call]  # torch's
    return found


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        heads, half = queries.shape[1], queries.shape[2] // 2
        ctx.counts = heads, keys.shape[1]
        single = torch.promote_types(queries.dtype, torch.float32)
        rotation = torch.complex(cosines.to(single), sines.to(single))
        ctx.save_for_backward(rotation)
        every = queries.new_empty(len(queries), heads + 2 * keys.shape[1], 2 * half, dtype=single)
        numbers = _numbers(every)
        for vectors, place in ((queries, 0), (keys, heads)):
            vectors = vectors.to(single)
            torch.complex(
                vectors[..., :half], vectors[..., half:], out=numbers[:, place : place + vectors.shape[1]]
            ).mul_(rotation)
        every[:, heads + keys.shape[1] :] = values
        return every.to(queries.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (rotation,) = ctx.saved_tensors
        heads, key_heads = ctx.counts
        numbers = _numbers(gradient[:, : heads + key_heads].to(rotation.real.dtype)) * rotation.conj()
        both = torch.cat([numbers.real, numbers.imag], dim=-1).to(gradient.dtype)
        return both[:, :heads], both[:, heads:], gradient[:, heads + key_heads :], None, None


def _numbers(pairs: Tensor) -> Tensor:
    """(…, d) as d / 2 complex numbers."""
    return torch.view_as_complex(pairs.view(*pairs.shape[:-1], -1, 2))


def attend(made: Tensor, heads: int, scale: float) -> Tensor:
    """(B, L, H · d) what each step takes from itself and those before it.

    Args:
        made: (B, L, H + 2K, d) queries, keys and values; H a multiple of K.
        heads: H.
        scale: of the products of queries and keys.
    """
    key_heads = (made.shape[2] - heads) // 2
    if made.device.type == "cpu" and made.shape[1] <= _SHORT:
        found: Tensor = _Attended.apply(made, heads, scale)  # type: ignore[no-untyped-call]  # torch's
        return found
    queries, keys, values = torch.split(made.transpose(1, 2), [heads, key_heads, key_heads], dim=1)
    attended = functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=True, scale=scale, enable_gqa=heads != key_heads
    )
    return attended.transpose(1, 2).flatten(2)


class _Attended(torch.autograd.Function):
    """Softmax attention as it is written: A = softmax(s Q Kᵀ), O = A V.

    ∂/∂V = Aᵀ G, and with D = A (G Vᵀ - rowsum(A G Vᵀ)), ∂/∂Q = s D K and ∂/∂K = s Dᵀ Q.
    """

    @staticmethod
    def forward(ctx: Any, made: Tensor, heads: int, scale: float) -> Tensor:
        length, key_heads = made.shape[1], (made.shape[2] - heads) // 2
        ctx.sizes, ctx.scale = (heads, key_heads), scale
        queries, keys, values = (
            _by_head(made[:, :, :heads], key_heads),
            *(_by_head(made[:, :, heads + i * key_heads : heads + (i + 1) * key_heads], key_heads) for i in (0, 1)),
        )
        later = made.new_full((length, length), -math.inf).triu(1).repeat(heads // key_heads, 1)
        attention = torch.baddbmm(later, queries, keys.transpose(1, 2), alpha=scale).softmax(-1)
        ctx.save_for_backward(queries, keys, values, attention)
        return _by_step(torch.bmm(attention, values), length, key_heads).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, attention = ctx.saved_tensors
        heads, key_heads = ctx.sizes
        length = gradient.shape[1]
        of_mixed = _by_head(gradient.view(len(gradient), length, heads, -1), key_heads)
        of_attention = torch.bmm(of_mixed, values.transpose(1, 2))
        # The softmax's own gradient.
        of_scores = torch._softmax_backward_data(of_attention, attention, -1, attention.dtype).mul_(ctx.scale)
        parts = (
            torch.bmm(of_scores, keys),
            torch.bmm(of_scores.transpose(1, 2), queries),
            torch.bmm(attention.transpose(1, 2), of_mixed),
        )
        return torch.cat([_by_step(part, length, key_heads) for part in parts], dim=2), None, None


def _by_head(vectors: Tensor, key_heads: int) -> Tensor:
    """(B, L, H, d) → (B · K, H / K · L, d): the queries of a key head one after the other."""
    size, length, _, d = vectors.shape
    return vectors.reshape(size, length, key_heads, -1, d).permute(0, 2, 3, 1, 4).reshape(size * key_heads, -1, d)


def _by_step(vectors: Tensor, length: int, key_heads: int) -> Tensor:
    """Back from :func:`_by_head`."""
    apart = vectors.view(-1, key_heads, vectors.shape[1] // length, length, vectors.shape[2])
    return apart.permute(0, 3, 1, 2, 4).flatten(2, 3)


def gated(gates: Tensor, values: Tensor) -> Tensor:
    """silu(gates) · values, elementwise.

    Source: Shazeer (2020), GLU variants improve transformer, eq. 6 (SwiGLU).
    """
    found: Tensor = _Gated.apply(gates, values)  # type: ignore[no-untyped-call]  # torch's
    return found


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(gates, values)
        return functional.silu(gates).mul_(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, values = ctx.saved_tensors
        of_gates = gradient * values
        torch.ops.aten.silu_backward.grad_input(of_gates, gates, grad_input=of_gates)
        return of_gates, functional.silu(gates).mul_(gradient)


def normalise(module: Any, states: Tensor) -> Tensor:
    """What the RMSNorm does, in single precision with fewer operations."""
    if states.dtype != torch.float32 or module.weight.dtype != torch.float32:
        found: Tensor = module(states)
        return found
    normed: Tensor = _Normalised.apply(states, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed


class _Normalised(torch.autograd.Function):
    """RMSNorm, y = w x r with r = 1 / sqrt(mean x² + ε).

    ∂/∂x = r (g w - x r² mean(g w x)), ∂/∂w = Σ g x r.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
        scale = scale.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
        normed: Tensor = states * scale
        ctx.save_for_backward(normed, weight, scale)
        found: Tensor = normed * weight
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight, scale = ctx.saved_tensors
        of_weight = None
        product = gradient * normed
        if ctx.needs_input_grad[1]:
            of_weight = product.sum(dim=0)
        along: Tensor = (product @ weight).unsqueeze(-1).div_(normed.shape[-1])
        of_normed: Tensor = gradient * weight
        return of_normed.addcmul_(normed, along, value=-1.0).mul_(scale), of_weight, None
