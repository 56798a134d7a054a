"""Vision towers of image-text models that are quicker here: pictures of one shape, all in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def patches_of(pictures: Tensor, size: int) -> Tensor:
    """Cut pictures into patches, row by row, with colors from -1 to 1.

    Args:
        pictures: (U, H, W, 3) uint8.
        size: p, of a patch's side.

    Returns:
        (U · H/p · W/p, 3, p, p) single precision.

    >>> patches_of(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), 4).shape
    torch.Size([4, 3, 4, 4])
    """
    count, height, width, _ = pictures.shape
    grid = pictures.view(count, height // size, size, width // size, size, 3).permute(0, 1, 3, 5, 2, 4)
    return grid.reshape(-1, 3, size, size).float() / 127.5 - 1


def kimi_features(model: Any, pictures: Tensor) -> Tensor:
    """Embeddings of pictures by the classes of Kimi-VL; each is of four patches that lie together.

    Transformers attends picture by picture, here all attend in one product; positions, which all share, are made once.

    Args:
        model: with a MoonViT and a projector.
        pictures: (U, H, W, 3) uint8.

    Returns:
        (U, n, D).

    Source: Kimi Team (2025), Kimi-VL technical report, section 2.1.
    """
    from transformers.vision_utils import get_vision_position_ids

    tower, projector = model.model.vision_tower, model.model.mm_projector
    size: int = tower.config.patch_size
    high, wide = tower.merge_kernel_size
    lower, right = -pictures.shape[1] % (size * high), -pictures.shape[2] % (size * wide)
    pictures = functional.pad(pictures, (0, 0, 0, right, 0, lower)) if lower or right else pictures
    count, rows, columns = len(pictures), pictures.shape[1] // size, pictures.shape[2] // size
    filters = tower.patch_embed.proj
    patches = patches_of(pictures, size).to(filters.weight.dtype)
    states = functional.linear(patches.flatten(1), filters.weight.flatten(1), filters.bias).view(
        count, rows * columns, -1
    )
    grid = torch.tensor([[1, rows, columns]], device=pictures.device)
    states = tower.patch_embed.pos_emb(states, grid)
    turns = tower.rotary_emb(states, get_vision_position_ids(grid, spatial_merge_size=1))
    cosines, sines = (part[:, : part.shape[1] // 2].to(states.dtype) for part in turns)  # the halves are alike
    for layer in tower.layers:
        states = states + _attend(layer.attn, layer.norm1(states), cosines, sines)
        states = states + layer.mlp(layer.norm2(states))
    states = tower.final_layernorm(states)
    merged = states.view(count, rows // high, high, columns // wide, wide, -1).transpose(2, 3)
    features: Tensor = projector(merged.reshape(-1, high * wide, merged.shape[-1]))
    return features.view(count, -1, features.shape[-1])


def _attend(attention: Any, states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """(U, n, D) self-attention within each picture, of queries and keys that are turned by their patch's place."""
    layers = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
    laid_out = functional.linear(states, weight, bias).view(*states.shape[:2], 3, -1, attention.head_dim)
    # (3, U, heads, n, d), in this order in memory too, which halves the time of what follows
    qkv = laid_out.permute(2, 0, 3, 1, 4).contiguous()
    a, b = qkv[:2].chunk(2, dim=-1)
    queries, keys = torch.cat([a * cosines - b * sines, b * cosines + a * sines], dim=-1)
    mixed = functional.scaled_dot_product_attention(queries, keys, qkv[2], scale=attention.scaling)
    projected: Tensor = attention.proj(mixed.transpose(1, 2).flatten(2))
    return projected
