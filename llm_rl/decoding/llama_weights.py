"""The weights of models of the Llama family, adapters included, for decoding without the modules around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gridzero.llm_rl.models.adapted_layers import AdaptedLayer
from gridzero.llm_rl.models.causal import unwrapped
from gridzero.llm_rl.models.image_text import SeeingEmbedding
from gridzero.llm_rl.models.llama import Llama

# RMSNorm, rotary positions, grouped queries, SwiGLU; Qwen2 has biases, Qwen3 normalises queries and keys.
_FAMILY = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
# Rotary positions whose frequencies do not depend on how long the sequence is.
_FIXED_ROTATIONS = {"default", "linear", "llama3", "yarn"}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Linear:
    """A linear layer: weight · x + bias.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,), where there is one.
    """

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Layer:
    """The weights of a layer; H queries and K keys of size d are of H · d and K · d outputs.

    Attributes:
        q_proj, k_proj, v_proj, o_proj: of the attention.
        gate_proj, up_proj, down_proj: of the gated layers.
        attention_norm: (D,), before the attention.
        gated_norm: (D,), before the gated layers.
        q_norm: (d,), of each query; None: they are not normalised.
        k_norm: (d,), of each key.
    """

    q_proj: Linear
    k_proj: Linear
    v_proj: Linear
    o_proj: Linear
    gate_proj: Linear
    up_proj: Linear
    down_proj: Linear
    attention_norm: Tensor
    gated_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None


@dataclass(frozen=True)
class LlamaWeights:
    """The weights of a model.

    Attributes:
        embedding: (V, D).
        layers: one after the other.
        norm: (D,), before the output layer.
        head: the output layer.
        epsilon: of the RMSNorms.
        heads: H, queries.
        key_heads: K, keys and values.
        size: d, of each.
    """

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Linear
    epsilon: float
    heads: int
    key_heads: int
    size: int

    @staticmethod
    def of(model: Any, length: int) -> LlamaWeights | None:
        """The weights of a model, or None where they do not say all of what it does.

        Adapters are brought into the weights, so weights in half precision, where small changes would vanish, must not
        have any.

        Args:
            model: a causal model, adapted by peft or not.
            length: of the longest sequence.
        """
        inner = plain_llama(model, length)
        if inner is None:
            return None
        layers = []
        for block in inner.model.layers:
            attention = block.self_attn
            linears: dict[str, Linear] = {}
            for name in _PROJECTIONS:
                linear = _linear(getattr(attention if hasattr(attention, name) else block.mlp, name))
                if linear is None:
                    return None
                linears[name] = linear
            layers.append(
                Layer(
                    **linears,
                    attention_norm=block.input_layernorm.weight,
                    gated_norm=block.post_attention_layernorm.weight,
                    q_norm=attention.q_norm.weight if hasattr(attention, "q_norm") else None,
                    k_norm=attention.k_norm.weight if hasattr(attention, "k_norm") else None,
                )
            )
        head = _linear(inner.lm_head)
        embedding = inner.model.embed_tokens
        if head is None or type(embedding) not in (nn.Embedding, SeeingEmbedding):
            return None
        if len({parameter.dtype for parameter in inner.parameters()}) > 1:
            return None
        return LlamaWeights(
            embedding=embedding.weight,
            layers=tuple(layers),
            norm=inner.model.norm.weight,
            head=head,
            epsilon=inner.config.rms_norm_eps,
            heads=inner.config.num_attention_heads,
            key_heads=inner.config.num_key_value_heads,
            size=inner.model.layers[0].self_attn.head_dim,
        )


def rotations(model: Any, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (positions, d / 2) each, by which the halves of queries and keys are turned."""
    inner = unwrapped(model)
    device = inner.lm_head.weight.device
    cosines, sines = inner.model.rotary_emb(
        torch.empty(0, dtype=torch.float32, device=device), torch.arange(positions, device=device).unsqueeze(0)
    )
    half = cosines.shape[-1] // 2
    return cosines[0, :, :half], sines[0, :, :half]


def plain_llama(model: Any, length: int) -> Any:
    """The model without the wrapping for adapters, if it is of the family and does nothing beyond it; else None.

    Virtual tokens, where there are some, are the caller's to insert.

    Args:
        model: a causal model, adapted by peft or not.
        length: of the longest sequence; a window of attention must not be shorter.
    """
    inner = unwrapped(model)
    kind = type(inner)
    theirs = kind.__name__ in _FAMILY and kind.__module__.startswith("transformers.models.")
    if kind is not Llama and not theirs:
        return None
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return None
    one_device = len({parameter.device for parameter in inner.parameters()}) == 1
    return inner if one_device and _plain(inner.config, length) else None


def _plain(config: Any, length: int) -> bool:
    """Whether the configuration asks for nothing beyond the weights."""
    rotation = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    windows = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    window = getattr(config, "sliding_window", None) if windows else None
    return (
        config.hidden_act == "silu"
        and rotation.get("rope_type", "default") in _FIXED_ROTATIONS
        and (window is None or window >= length)
    )


def _linear(module: Any) -> Linear | None:
    """The weight and bias of a layer with its adapters; None if it is something else."""
    if type(module) is nn.Linear:
        return Linear(module.weight, module.bias)
    if isinstance(module, AdaptedLayer):
        weights = module.effective() if _is_exact(module.base_layer) else None
        return None if weights is None else Linear(*weights)
    base, kind = getattr(module, "base_layer", None), type(module).__module__
    if type(base) is not nn.Linear or not kind.startswith(("peft.tuners.lora.", "peft.tuners.ia3.")):
        return None
    if module.disable_adapters:
        return None if module.merged else Linear(base.weight, base.bias)
    weight, bias = base.weight, base.bias
    if not module.merged:
        if not _is_exact(base):
            return None
        for adapter in module.active_adapters:
            if adapter in getattr(module, "ia3_l", ()):
                scale = module.ia3_l[adapter]  # (1, inputs) of the last layer of an MLP, (outputs, 1) of others
                weight = weight * scale
                bias = bias if bias is None or module.is_feedforward else bias * scale.flatten()
            elif adapter in getattr(module, "lora_A", ()):
                if module.lora_bias.get(adapter) or adapter in module.lora_variant:
                    return None
                weight = weight + module.get_delta_weight(adapter)
    return Linear(weight, bias)


def _is_exact(layer: Any) -> bool:
    """Whether a layer is plain, and not of half precision, where small changes of its weight would vanish."""
    return type(layer) is nn.Linear and layer.weight.element_size() >= 4
