"""Forward pass over many sequences without padding, in which a prompt shared by several is read once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gridzero.llm_rl.decoding.llama_weights import plain_llama, rotations
from gridzero.llm_rl.models.causal import checkpointed
from gridzero.llm_rl.scoring.operations import attend, side_by_side
from gridzero.llm_rl.scoring.packing import Packing


def packed_forward(model: Any, packing: Packing) -> Tensor | None:
    """Hidden states before the output layer, (N, D), with gradients.

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
    cosines, sines = (table[packing.positions] for table in rotations(model, packing.places.shape[1]))
    again = torch.is_grad_enabled() and bool(checkpointed(backbone))
    for block in backbone.layers:
        if again:
            states = checkpoint(_block, block, states, (cosines, sines), packing, use_reentrant=False)
        else:
            states = _block(block, states, (cosines, sines), packing)
    normed_states: Tensor = backbone.norm(states)
    return normed_states


def _block(block: Any, states: Tensor, rotation: tuple[Tensor, Tensor], packing: Packing) -> Tensor:
    """One layer of the model: attention, then the gated layers."""
    states = states + _attend(block.self_attn, block.input_layernorm(states), rotation, packing)
    normed, mlp = block.post_attention_layernorm(states), block.mlp
    after: Tensor = states + mlp.down_proj(functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
    return after


def _attend(attention: Any, states: Tensor, rotation: tuple[Tensor, Tensor], packing: Packing) -> Tensor:
    qkv = side_by_side((attention.q_proj, attention.k_proj, attention.v_proj), states)
    qkv = qkv.view(len(states), -1, attention.head_dim)
    heads = attention.q_proj.out_features // attention.head_dim
    if hasattr(attention, "q_norm"):
        key_heads = (qkv.shape[1] - heads) // 2
        queries, keys, values = torch.split(qkv, [heads, key_heads, key_heads], dim=1)
        qkv = torch.cat([attention.q_norm(queries), attention.k_norm(keys), values], dim=1)
    projected: Tensor = attention.o_proj(attend(qkv, heads, rotation, packing, attention.scaling))
    return projected
