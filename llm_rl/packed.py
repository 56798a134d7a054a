"""Hidden states of many sequences without padding, prompts that several begin with read once, with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
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
    cosines, sines = (
        table[packing.positions].unsqueeze(1).to(states.dtype) for table in rotations(model, packing.places.shape[1])
    )
    for block in backbone.layers:
        normed = block.input_layernorm(states)
        states = states + _attend(block.self_attn, normed, cosines, sines, packing)
        states = states + block.mlp(block.post_attention_layernorm(states))
    found: Tensor = backbone.norm(states)
    return found


def _attend(attention: Any, states: Tensor, cosines: Tensor, sines: Tensor, packing: Packing) -> Tensor:
    size = attention.head_dim
    queries, keys, values = (
        project(states).view(len(states), -1, size)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if hasattr(attention, "q_norm"):
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    heads, key_heads = queries.shape[1], keys.shape[1]
    turned = _turn(torch.cat([queries, keys], dim=1), cosines, sines)
    each = torch.cat([turned, values], dim=1)
    padded = functional.embedding(packing.places, each.flatten(1))
    padded = padded.view(*packing.places.shape, -1, size).transpose(1, 2)
    queries, keys, values = torch.split(padded, [heads, key_heads, key_heads], dim=1)
    attended = functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=True, scale=attention.scaling, enable_gqa=heads != key_heads
    )
    flat = attended.transpose(1, 2).reshape(-1, heads * size)
    found: Tensor = attention.o_proj(flat[packing.owned])
    return found


def _turn(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions: the halves of each vector are turned against each other."""
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)
