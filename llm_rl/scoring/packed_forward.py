"""Forward pass over many sequences without padding, in which a prompt shared by several is read once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gridzero.llm_rl.decoding.llama_weights import plain_llama, rotations
from gridzero.llm_rl.models.causal import checkpointed
from gridzero.llm_rl.models.virtual_tokens import VirtualTokens
from gridzero.llm_rl.scoring.operations import attend, side_by_side
from gridzero.llm_rl.scoring.packing import Packing


def packed_forward(model: Any, packing: Packing) -> Tensor | None:
    """Hidden states before the output layer, (N, D), with gradients.

    For models of the Llama family, adapters included; None for others. All but attention treats each token for itself,
    and so need not know whose it is.

    Args:
        model: a causal model, adapted by peft or not.
        packing: of the sequences; virtual tokens, where the model has some, are put before all of them, once.
    """
    virtual = VirtualTokens.of(model)
    count = 0 if virtual is None else virtual.count
    inner = plain_llama(model, count + packing.places.shape[1])
    if inner is None:
        return None
    packing = packing.after(count) if count else packing
    backbone = inner.model
    states = backbone.embed_tokens(packing.tokens)
    cosines, sines = (table[packing.positions] for table in rotations(model, packing.places.shape[1]))
    if virtual is not None and virtual.embeddings is not None:
        states = torch.cat([virtual.embeddings.to(states.dtype), states[count:]])
    prefixes: list[Tensor | None] = [None] * len(backbone.layers)
    if virtual is not None and virtual.keys is not None and virtual.values is not None:
        cosines[:count], sines[:count] = 1, 0  # a prefix is turned already
        prefixes = [*torch.cat([virtual.keys, virtual.values], dim=2).to(states.dtype)]
    again = torch.is_grad_enabled() and bool(checkpointed(backbone))
    for block, prefix in zip(backbone.layers, prefixes, strict=True):
        if again:
            states = checkpoint(_block, block, states, (cosines, sines), packing, prefix, use_reentrant=False)
        else:
            states = _block(block, states, (cosines, sines), packing, prefix)
    normed_states: Tensor = backbone.norm(states)
    return normed_states[count:]


def _block(
    block: Any, states: Tensor, rotation: tuple[Tensor, Tensor], packing: Packing, prefix: Tensor | None
) -> Tensor:
    """One layer of the model: attention, then the gated layers."""
    states = states + _attend(block.self_attn, block.input_layernorm(states), rotation, packing, prefix)
    normed, mlp = block.post_attention_layernorm(states), block.mlp
    after: Tensor = states + mlp.down_proj(functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
    return after


def _attend(
    attention: Any, states: Tensor, rotation: tuple[Tensor, Tensor], packing: Packing, prefix: Tensor | None
) -> Tensor:
    """Attention of a layer, in which the first n tokens have learned keys and values (n, 2K, d), if there are some."""
    qkv = side_by_side((attention.q_proj, attention.k_proj, attention.v_proj), states)
    qkv = qkv.view(len(states), -1, attention.head_dim)
    heads = attention.q_proj.out_features // attention.head_dim
    if hasattr(attention, "q_norm"):
        key_heads = (qkv.shape[1] - heads) // 2
        queries, keys, values = torch.split(qkv, [heads, key_heads, key_heads], dim=1)
        qkv = torch.cat([attention.q_norm(queries), attention.k_norm(keys), values], dim=1)
    if prefix is not None:
        count = len(prefix)
        qkv = torch.cat([torch.cat([qkv[:count, :heads], prefix], dim=1), qkv[count:]])
    projected: Tensor = attention.o_proj(attend(qkv, heads, rotation, packing, attention.scaling))
    return projected
