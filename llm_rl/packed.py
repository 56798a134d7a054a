"""Hidden states of many sequences without padding, prompts that several begin with read once, with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gridzero.llm_rl.llama_weights import plain_llama, rotations


@dataclass(frozen=True)
class Packing:
    """Where the tokens of B sequences are in a row of N without padding.

    Attributes:
        tokens: (N,), what the model reads.
        positions: (N,), each token's place in its sequence.
        places: (B, L), where in the row each sequence has its tokens; what is after its end means nothing.
        owned: (N,), where in the (B · L) the row's tokens are.
    """

    tokens: Tensor
    positions: Tensor
    places: Tensor
    owned: Tensor

    @classmethod
    def of(cls, tokens: Tensor, prompt_lengths: Tensor, lengths: Tensor) -> Packing:
        """Lay out sequences, each prompt once.

        Args:
            tokens: (B, L), padded on the right.
            prompt_lengths: (B,), at least 1.
            lengths: (B,), of prompts and what follows.
        """
        steps = torch.arange(tokens.shape[1])
        rows = np.ascontiguousarray(tokens.numpy())
        seen: dict[bytes, int] = {}
        owners = torch.tensor(
            [
                seen.setdefault(row[:length].tobytes(), i)
                for i, (row, length) in enumerate(zip(rows, prompt_lengths.tolist(), strict=True))
            ]
        )
        in_prompt = steps < prompt_lengths.unsqueeze(1)
        own = (steps < lengths.unsqueeze(1)) & (~in_prompt | (owners == torch.arange(len(tokens))).unsqueeze(1))
        numbers = (own.reshape(-1).cumsum(0) - 1).reshape(own.shape)
        places = torch.where(in_prompt, numbers[owners], numbers).clamp(min=0)
        return cls(tokens[own], steps.expand_as(own)[own], places, own.reshape(-1).nonzero().squeeze(-1))

    def to(self, device: torch.device) -> Packing:
        """The same, there."""
        return Packing(*(tensor.to(device) for tensor in (self.tokens, self.positions, self.places, self.owned)))


def packed_states(model: Any, packing: Packing) -> Tensor | None:
    """What the output layer is applied to, (N, D), with gradients.

    For models of the Llama family, adapters included; None for others. All but attention treats each token for itself,
    and so need not know whose it is.

    Args:
        model: a causal model, adapted by peft or not.
        packing: of the sequences.
    """
    inner = plain_llama(model, packing.places.shape[1])
    if inner is None:
        return None
    backbone = inner.model
    states = backbone.embed_tokens(packing.tokens)
    halves = [table[packing.positions].to(states.dtype) for table in rotations(model, packing.places.shape[1])]
    cosines, sines = halves[0].repeat(1, 2).unsqueeze(1), torch.cat([-halves[1], halves[1]], dim=1).unsqueeze(1)
    for block in backbone.layers:
        normed = _normalise(block.input_layernorm, states)
        states = states + _attend(block.self_attn, normed, cosines, sines, packing)
        states = states + block.mlp(_normalise(block.post_attention_layernorm, states))
    return _normalise(backbone.norm, states)


def _attend(attention: Any, states: Tensor, cosines: Tensor, sines: Tensor, packing: Packing) -> Tensor:
    size = attention.head_dim
    queries, keys, values = (
        project(states).view(len(states), -1, size)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if hasattr(attention, "q_norm"):
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    heads, key_heads = queries.shape[1], keys.shape[1]
    each: Tensor = _Turned.apply(queries, keys, values, cosines, sines)  # type: ignore[no-untyped-call]  # torch's
    padded = functional.embedding(packing.places, each.flatten(1))
    padded = padded.view(*packing.places.shape, -1, size).transpose(1, 2)
    queries, keys, values = torch.split(padded, [heads, key_heads, key_heads], dim=1)
    attended = functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=True, scale=attention.scaling, enable_gqa=heads != key_heads
    )
    flat = attended.transpose(1, 2).reshape(-1, heads * size)
    found: Tensor = attention.o_proj(flat[packing.owned])
    return found


class _Turned(torch.autograd.Function):
    """Rotary positions: queries and keys turned, and the values, side by side.

    The halves of a vector are turned against each other, (a, b) → (a cos - b sin, b cos + a sin); back by -sin.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        ctx.counts = [queries.shape[1], keys.shape[1], values.shape[1]]
        every = torch.cat([queries, keys, values], dim=1)
        _turn(every[:, : sum(ctx.counts[:2])], cosines, sines)
        return every

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cosines, sines = ctx.saved_tensors
        gradient = gradient.clone()
        _turn(gradient[:, : sum(ctx.counts[:2])], cosines, -sines)
        return *torch.split(gradient, ctx.counts, dim=1), None, None


def _turn(vectors: Tensor, cosines: Tensor, sines: Tensor) -> None:
    """In place; the sines of the first half are negative."""
    swapped = vectors.view(*vectors.shape[:-1], 2, -1).flip(-2).view(vectors.shape).mul_(sines)
    vectors.mul_(cosines).add_(swapped)


def _normalise(module: Any, states: Tensor) -> Tensor:
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
