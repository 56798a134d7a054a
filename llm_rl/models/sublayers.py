"""The sublayers of a transformer's blocks, found in any model: attention and MLP."""

from __future__ import annotations

from typing import Any

from torch import nn

from gridzero.llm_rl.models.adapted_layers import features, is_linear
from gridzero.llm_rl.models.causal import text_prefix


def sublayer_outputs(model: Any) -> tuple[list[str], list[str]]:
    """The last linear layer of each attention and of each MLP of a transformer, by their full names.

    Raises:
        ValueError: for a model whose blocks are not an attention and an MLP of linear layers.
    """
    config = model.config.get_text_config(decoder=True)
    blocks = _blocks(model, config.num_hidden_layers)
    attention, mlp = [], []
    for name, block in blocks:
        own: dict[str, str] = {}  # the last linear layer of each sublayer
        for place, layer in block.named_modules():
            if is_linear(layer):
                # Some families have the two layers of the MLP in the block itself.
                sublayer, dot, _ = place.partition(".")
                own[sublayer if dot else ""] = place
        last = [f"{name}.{place}" for place in own.values()]
        layers = [model.get_submodule(place) for place in last]
        if len(last) != 2 or any(features(layer)[1] != config.hidden_size for layer in layers):
            raise ValueError(f"the blocks of {type(model).__name__} are not an attention and an MLP of linear layers")
        attention.append(last[0])
        mlp.append(last[1])
    return attention, mlp


def _blocks(model: nn.Module, count: int) -> list[tuple[str, nn.Module]]:
    """The blocks of a transformer, by their names."""
    inside = text_prefix(model)
    for name, module in model.named_modules():
        if name.startswith(inside) and isinstance(module, nn.ModuleList) and len(module) == count:
            return [(f"{name}.{number}", block) for number, block in enumerate(module)]
    raise ValueError(f"{type(model).__name__} has no list of {count} blocks")
