"""Causal language models: tiny ones, the parts of any model, gradient checkpointing and value heads.

A model is one of Hugging Face's transformers, or a :class:`~gridzero.llm_rl.models.llama.Llama`, which looks like one.
Two functions take it apart, so that logits need not exist: :func:`hidden_states` runs everything before the output
layer, :func:`output_head` gives that layer, which
:func:`~gridzero.llm_rl.scoring.token_log_probs.token_log_probs` takes.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gridzero.llm_rl.models.llama import Llama, LlamaModel
from gridzero.llm_rl.models.llama_config import LlamaConfig
from gridzero.llm_rl.models.virtual_tokens import VirtualTokens

Architecture = Literal["llama", "qwen3", "deepseek_v3"]


def tiny_model(
    vocabulary_size: int,
    *,
    width: int,
    layers: int,
    heads: int,
    positions: int,
    architecture: Architecture = "llama",
    tied: bool = True,
    seed: int = 0,
) -> Any:
    """A small decoder-only transformer with random weights, in single precision.

    Tokens 0 and 1 are padding and end, as in :class:`~gridzero.envs.tasks.vocabulary.Vocabulary`.

    Args:
        vocabulary_size: V.
        width: D, of the residual stream; an even multiple of ``heads``. The gated layers between are 8/3 as wide.
        layers: how many.
        heads: of attention, in each layer.
        positions: the longest sequence it is meant for.
        architecture: "llama"; "qwen3", which normalises queries and keys; or "deepseek_v3": keys and values from a
            narrow latent vector, and from the second layer on a mixture of eight experts, of which each token is sent
            to two, beside one for all.
        tied: whether the output layer is the embedding.
        seed: decides the weights.

    Raises:
        ValueError: for another architecture, or sizes that do not fit.

    Source: Touvron et al. (2023), LLaMA, section 2.2; Yang et al. (2025), Qwen3 technical report, section 2;
    DeepSeek-AI (2024), DeepSeek-V3, section 2.1; Kimi Team (2025), Muon is scalable for LLM training (Moonlight).

    >>> model = tiny_model(22, width=32, layers=2, heads=4, positions=64)
    >>> sum(weight.numel() for weight in model.parameters())
    25952
    """
    config = tiny_config(
        vocabulary_size,
        width=width,
        layers=layers,
        heads=heads,
        positions=positions,
        architecture=architecture,
        tied=tied,
    )
    with seeded(seed):
        if isinstance(config, LlamaConfig):
            return Llama(config).train(False)
        import transformers

        auto: Any = transformers.AutoModelForCausalLM
        return auto.from_config(config).train(False)


def tiny_config(
    vocabulary_size: int,
    *,
    width: int,
    layers: int,
    heads: int,
    positions: int,
    architecture: Architecture = "llama",
    tied: bool = True,
) -> Any:
    """The configuration of :func:`tiny_model`, whose arguments it takes."""
    if architecture not in get_args(Architecture):
        raise ValueError(f"architecture must be one of {', '.join(get_args(Architecture))}, not {architecture!r}")
    for name, number in (("vocabulary_size", vocabulary_size), ("layers", layers), ("positions", positions)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
    if heads < 1 or width < 1 or width % (2 * heads):
        raise ValueError(f"width must be an even multiple of heads, not {width} with {heads} heads")
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": width,
        "intermediate_size": -(-width // 3) * 8,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "max_position_embeddings": positions,
        "tie_word_embeddings": tied,
        # Hugging Face's 0.02 is for wide models; narrow ones learn twice as fast from weights as large as this.
        "initializer_range": width**-0.5,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    if architecture == "llama":
        return LlamaConfig(**sizes)
    import transformers

    if architecture == "qwen3":
        return transformers.Qwen3Config(**sizes)
    if width % (4 * heads):
        raise ValueError(f"width must be a multiple of 4 · heads, not {width} with {heads} heads")
    size = sizes.pop("head_dim")
    return transformers.DeepseekV3Config(
        **sizes,
        moe_intermediate_size=-(-width // 24) * 16,  # about 2/3, in sizes that grouped products take
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=min(1, layers - 1),
        routed_scaling_factor=2.446,
        q_lora_rank=None,
        kv_lora_rank=width // 2,
        qk_nope_head_dim=size // 2,
        qk_rope_head_dim=size // 2,
        v_head_dim=size,
    )


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generators, from which libraries draw, within the ``with`` block, and restore them after it."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def unwrapped(model: Any) -> Any:
    """The model itself, where it is wrapped for adapters; they stay in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def max_positions(model: Any) -> int | None:
    """Number of positions that a model's configuration tells; None where it tells none."""
    positions: int | None = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return positions


def vocabulary_size(model: Any) -> int:
    """Number of tokens of text that a model's configuration tells."""
    return int(model.config.get_text_config(decoder=True).vocab_size)


# The parts


def text_prefix(model: Any) -> str:
    """Prefix of the names of the text layers, in a model that has a vision tower inside; else empty."""
    sees = getattr(model, "pictures", None) is not None and hasattr(model.base_model, "language_model")
    return f"{model.base_model_prefix}.language_model." if sees else ""


class OutputHead(NamedTuple):
    """The last layer: logits are scale · (hidden · weight + bias), capped where there is a cap.

    Attributes:
        weight: (V, D).
        bias: (V,), where there is one.
        scale: multiplies.
        soft_cap: cap, for cap · tanh(logits / cap).
    """

    weight: Tensor
    bias: Tensor | None
    scale: float
    soft_cap: float | None


def output_head(model: Any) -> OutputHead:
    """The output layer of a causal model, adapted or not.

    Raises:
        ValueError: when it has none, or one that is not a plain matrix: quantised, or adapted.
    """
    causal = unwrapped(model)
    layer = causal.get_output_embeddings()
    if type(layer) is not nn.Linear:
        found = "none" if layer is None else f"a {type(layer).__name__}"
        raise ValueError(f"the output layer of {type(causal).__name__} must be a plain matrix; it is {found}")
    config = causal.config.get_text_config()
    bias: Tensor | None = layer.bias
    pictures = getattr(causal, "pictures", None)
    if pictures is not None and pictures.own:
        never = layer.weight.new_zeros(len(layer.weight))
        never[list(pictures.own)] = NEVER
        bias = never if bias is None else bias + never
    scale = next((number(config) for names, number in _SCALES.items() if config.model_type in names), 1.0)
    return OutputHead(layer.weight, bias, float(scale), getattr(config, "final_logit_softcapping", None))


NEVER = -1e4
"""The logit of a token that is never drawn."""


def following_positions(model: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    """(B,) position of what follows sequences of these lengths (B,), in tokens (B, T) padded on either side.

    It is their length, but where the model gives several parts of a picture the same one.
    """
    pictures = getattr(unwrapped(model), "pictures", None)
    if pictures is None or not pictures.spared:
        return lengths
    shown = (tokens >= pictures.first).sum(-1) // pictures.parts
    positions: Tensor = lengths - shown * pictures.spared
    return positions


# Families that scale their logits, each by a number of its own.
_SCALES: Mapping[tuple[str, ...], Callable[[Any], float]] = {
    ("cohere", "cohere2", "cohere2_moe"): lambda config: config.logit_scale,
    (
        "granite",
        "granite_swa",
        "granitemoe",
        "granitemoe_swa",
        "granitemoehybrid",
        "granitemoeshared",
    ): lambda config: 1 / config.logits_scaling,
    ("hyperclovax",): lambda config: config.logits_scaling,
    ("falcon_h1",): lambda config: config.lm_head_multiplier,
}


def hidden_states(
    model: Any, tokens: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
) -> Tensor:
    """Hidden states of a causal model before its output layer.

    Args:
        model: a causal model, adapted or not. Virtual tokens, where it has some, are read before each sequence.
        tokens: (B, T).
        attention_mask: (B, T), 0 where there is padding. Padding on the right needs none: nothing before it sees it.
        position_ids: (B, T); by default they count from the first token that is not padding.

    Returns:
        (B, T, D); the state at t decides the token at t + 1.
    """
    virtual = VirtualTokens.of(model)
    causal = unwrapped(model)
    backbone = causal.base_model
    inputs: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
    if virtual is not None:
        begins = tokens.new_zeros(len(tokens)) if attention_mask is None else attention_mask.long().argmax(-1)
        inserted, places = virtual.insert(tokens, begins)
        inputs = {"inputs_embeds": virtual.embed(causal.get_input_embeddings(), inserted, places), "use_cache": False}
        if virtual.keys is not None:
            inputs |= {"past_key_values": virtual.cache(causal.config, places), "use_cache": True}
        if attention_mask is not None:
            attention_mask = virtual.insert(attention_mask, begins)[0].masked_fill(places, 1)
        if position_ids is not None:
            position_ids = virtual.insert(position_ids, begins)[0] + virtual.count
            position_ids = torch.where(places, places.cumsum(-1) - 1, position_ids)
    if attention_mask is not None and position_ids is None:
        position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    if position_ids is not None and _takes_positions(type(backbone)):
        inputs["position_ids"] = position_ids
    # In training mode layers drop every cache, and with it a prefix.
    with contextlib.nullcontext() if virtual is not None and virtual.keys is not None else _checkpointing(backbone):
        states: Tensor = backbone(attention_mask=attention_mask, **inputs).last_hidden_state
    return states if virtual is None else states[~places].view(*tokens.shape, -1)


def checkpoint_gradients(model: Any) -> None:
    """Let a model compute the inside of its layers again in the backward pass, instead of keeping it.

    Raises:
        ValueError: for a model that cannot.

    Source: Chen et al. (2016), Training deep nets with sublinear memory cost, section 4.
    """
    recompute: Any = functools.partial(checkpoint, use_reentrant=False)
    inner = unwrapped(model)
    if isinstance(inner, Llama):
        inner.model.recompute = recompute
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(f"{type(inner).__name__} has no gradient checkpointing")
    for layer in layers:
        # Not by the model's own method, whose hook on the embedding would make it another kind of model.
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = recompute
        for name in [name for name, value in vars(layer).items() if "drop" in name and isinstance(value, float)]:
            setattr(layer, name, 0.0)  # there is no dropout here, though the layer will believe that it is trained


def checkpointed(model: Any) -> list[nn.Module]:
    """Layers whose inside is computed again in the backward pass."""
    if isinstance(model, LlamaModel):
        return [*model.layers] if model.recompute else []
    return [layer for layer in model.modules() if getattr(layer, "_gradient_checkpointing_func", None) is not None]


@contextmanager
def _checkpointing(backbone: Any) -> Iterator[None]:
    """Put the layers that checkpoint in training mode, without which they do not, but nothing inside them."""
    layers = checkpointed(backbone) if torch.is_grad_enabled() else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def _takes_positions(backbone: type) -> bool:
    """Whether a model takes position numbers; some derive them from the mask."""
    return "position_ids" in inspect.signature(backbone.forward).parameters  # type: ignore[attr-defined]  # of a module


def check_model(model: Any) -> None:
    """Check on two short sequences that a model is causal, and that its parts give its logits.

    Raises:
        ValueError: when what it says of a token depends on later ones, or its logits are made in another way.
    """
    head = output_head(model)
    size = len(head.weight)
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=head.weight.device) % size
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[:, -tokens.shape[1] :].float()  # virtual tokens have some too
        states = hidden_states(model, tokens)
        ours = nn.functional.linear(states, head.weight, head.bias).float() * head.scale
    if head.soft_cap is not None:
        ours = head.soft_cap * torch.tanh(ours / head.soft_cap)
    # Half precision keeps two or three digits, which matrices multiplied in other shapes need not share.
    tolerance = (1e-3 if states.element_size() >= 4 else 0.05) * float(logits.abs().max())
    name = type(unwrapped(model)).__name__
    if not torch.allclose(logits[0, :3], logits[1, :3], rtol=0, atol=tolerance):
        raise ValueError(f"{name} is not a causal language model: what it says of a token depends on later ones")
    if not torch.allclose(ours, logits, rtol=0, atol=tolerance):
        raise ValueError(f"{name} makes its logits in a way that is not known here")


class ValueHead(nn.Module):
    """A critic on the hidden states of a model: v(s_t) = w · h_t + b in single precision, at first 0 everywhere."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(output_head(model).weight.shape[1], 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Values (...) of states (..., D)."""
        values: Tensor = self.linear(hidden.float())
        return values.squeeze(-1)
