"""A model with adapters, of which they alone learn, in the file format of Hugging Face's peft."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gridzero.llm_rl.models.adapted_layers import (
    NAME,
    AdaptedLayer,
    BottleneckLayer,
    IA3Layer,
    LoRALayer,
    is_linear,
)
from gridzero.llm_rl.models.llama_config import write_json
from gridzero.llm_rl.models.virtual_tokens import VirtualTokens

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PROMPT = "prompt_embeddings"
# What a configuration says of each kind of adapters …
_USED: Mapping[str, frozenset[str]] = {
    "LORA": frozenset({"r", "lora_alpha", "use_rslora", "target_modules"}),
    "IA3": frozenset({"target_modules", "feedforward_modules"}),
    "BOTTLENECK": frozenset({"r", "target_modules"}),
    "PREFIX_TUNING": frozenset({"num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim"}),
    "PROMPT_TUNING": frozenset({"num_virtual_tokens", "token_dim"}),
}
_NUMBERS = frozenset({"r", "lora_alpha", "num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim"})
# … and what else it may say, which changes nothing here: models act without dropout, and weights come from the file.
_SAYS_NOTHING = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "encoder_hidden_size", "fan_in_fan_out", "inference_mode",
        "init_ia3_weights", "layers_pattern", "lora_dropout", "megatron_core", "num_attention_heads", "num_layers",
        "peft_type", "peft_version", "prompt_tuning_init", "qalora_group_size", "revision", "tokenizer_kwargs",
        "tokenizer_name_or_path",
    }
)  # fmt: skip
_USUAL: Mapping[str, Sequence[Any]] = {
    "bias": ["none"],
    "init_lora_weights": [True, "gaussian"],
    "num_transformer_submodules": [1],
    "task_type": ["CAUSAL_LM"],
}


class AdaptedModel(nn.Module):
    """A model with adapters in its layers, or with virtual tokens before what it reads.

    It has the parameter names of peft's ``PeftModel``, and of its methods those that are needed here, and computes the
    same bit for bit, without peft, which takes long to import. Other attributes are those of its model.

    Args:
        model: a causal model, whose layers are changed in place.
        settings: the contents of ``adapter_config.json``, which :func:`is_known` must know.

    Attributes:
        active_peft_config: the settings.

    >>> from gridzero.llm_rl.models.causal import tiny_model
    >>> model = tiny_model(22, width=32, layers=2, heads=4, positions=64)
    >>> lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    >>> adapted = AdaptedModel(model, lora)
    >>> [name for name, weight in adapted.named_parameters() if weight.requires_grad][0]
    'base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight'
    """

    def __init__(self, model: Any, settings: Mapping[str, Any]) -> None:
        super().__init__()
        named = {"base_model_name_or_path": getattr(model, "name_or_path", None)}
        self.active_peft_config = SimpleNamespace(**{**settings, **named})
        self.active_adapter = NAME
        model.requires_grad_(False)
        if "target_modules" in settings:
            for name in _targets(model, settings["target_modules"]):
                _replace(model, name, _adapted(settings, name, model.get_submodule(name)))
        self.base_model = nn.ModuleDict({"model": model})
        if "num_virtual_tokens" in settings:
            parts = 2 * settings["num_layers"] if settings["peft_type"] == "PREFIX_TUNING" else 1
            learned = nn.Embedding(settings["num_virtual_tokens"], parts * settings["token_dim"])
            self.prompt_encoder = nn.ModuleDict({NAME: nn.ModuleDict({"embedding": learned.to(model.device)})})

    def __getattr__(self, name: str) -> Any:
        """A part of this module, or else what the model has of that name."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_model":  # there is none yet
                raise
            return getattr(self.get_base_model(), name)

    @property
    def peft_config(self) -> dict[str, Any]:
        """The settings, by the name of the adapters."""
        return {NAME: self.active_peft_config}

    def get_base_model(self) -> Any:
        """The model, with the adapters in its layers."""
        return self.base_model["model"]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """Run the model on tokens, after its virtual tokens where it has some.

        Args:
            input_ids: (B, T) tokens.
            attention_mask: (B, T), 0 where there is padding.
            options: of the model's own forward pass.

        Returns:
            The model's output; with a learned prompt of n tokens its logits are (B, n + T, V).
        """
        model, virtual = self.get_base_model(), VirtualTokens.of(self)
        if virtual is None:
            return model(input_ids=input_ids, attention_mask=attention_mask, **options)
        if attention_mask is not None:
            attention_mask = torch.cat([attention_mask.new_ones(len(input_ids), virtual.count), attention_mask], dim=1)
        options["attention_mask"] = attention_mask
        if virtual.embeddings is not None:
            states = model.get_input_embeddings()(input_ids)
            prompts = virtual.embeddings.expand(len(input_ids), -1, -1).to(states.dtype)
            return model(inputs_embeds=torch.cat([prompts, states], dim=1), **options)
        cache = virtual.prefix_cache(model.config, len(input_ids), model.dtype)
        return model(input_ids=input_ids, past_key_values=cache, **options)

    def adapted_layers(self) -> dict[str, AdaptedLayer]:
        """The layers that have adapters, by their names in the model."""
        return adapted_layers(self.get_base_model())

    @torch.no_grad()
    def merge_and_unload(self) -> Any:
        """The model with the adapters in its weights, which this is no longer."""
        model = self.get_base_model()
        for name, layer in self.adapted_layers().items():
            effective = layer.effective()
            if effective is None:
                raise ValueError(f"a {type(layer).__name__} cannot be merged")
            for own, value in zip(("weight", "bias"), effective, strict=True):
                if value is not None:
                    parameter = getattr(layer.base_layer, own)
                    parameter.data = value.to(parameter.dtype)
            _replace(model, name, layer.base_layer)
        return model

    # On disk

    def adapter_weights(self) -> dict[str, nn.Parameter]:
        """The adapters' weights, by their names in files."""
        if "prompt_encoder" in self._modules:
            embedding: Any = self.prompt_encoder[NAME]
            return {_PROMPT: embedding["embedding"].weight}
        layers = self.adapted_layers().items()
        return {
            f"base_model.model.{name}.{own}".replace(f".{NAME}", ""): weight
            for name, layer in layers
            for own, weight in layer.named_parameters()
            if not own.startswith("base_layer.")
        }

    @torch.no_grad()
    def load_adapter_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Give the adapters the weights in a file.

        Raises:
            ValueError: when they do not fit.
        """
        own = self.adapter_weights()
        if weights.keys() != own.keys():
            raise ValueError("its adapters are of other layers")
        for name, weight in own.items():
            if weight.shape != weights[name].shape:
                shapes = f"{tuple(weights[name].shape)}, not {tuple(weight.shape)}"
                raise ValueError(f"its adapters are of other sizes: {name} is {shapes}")
            weight.copy_(weights[name])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write settings and adapters into a folder, as peft reads them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ADAPTER_CONFIG, vars(self.active_peft_config) | {"inference_mode": True})
        weights = {name: weight.detach().contiguous() for name, weight in self.adapter_weights().items()}
        save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def is_known(settings: Mapping[str, Any], model: nn.Module) -> bool:
    """Whether settings ask for nothing beyond what :class:`AdaptedModel` does; peft knows more."""
    used = _USED.get(str(settings.get("peft_type")), frozenset[str]())
    numbers = [settings.get(name) for name in used & _NUMBERS]
    if not used or any(not isinstance(number, int | float) or number <= 0 for number in numbers):
        return False
    known = used | _SAYS_NOTHING
    if any(name not in known and value and value not in _USUAL.get(name, ()) for name, value in settings.items()):
        return False
    return "target_modules" not in used or _are_linear(model, settings)


def _are_linear(model: nn.Module, settings: Mapping[str, Any]) -> bool:
    """Whether all that settings name as layers to adapt are linear layers, and none of them experts."""
    wanted = settings.get("target_modules")
    found = [_targets(model, one) for one in ([[name] for name in wanted] if isinstance(wanted, list) else [wanted])]
    layers = (model.get_submodule(name) for names in found for name in names)
    # peft translates the names of experts, which share their weights in one array.
    mixed = any(".experts." in name for name, _ in model.named_parameters())
    return all(found) and all(map(is_linear, layers)) and (not mixed or settings["peft_type"] == "BOTTLENECK")


def _targets(model: nn.Module, wanted: Any) -> list[str]:
    """The modules that a list of names, or of ends of names, or a pattern of whole names means."""
    return [name for name, _ in model.named_modules() if _is_meant(name, wanted)]


def _is_meant(name: str, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in wanted or ())


def _adapted(settings: Mapping[str, Any], name: str, layer: nn.Module) -> AdaptedLayer:
    """A layer with the adapter that settings ask for."""
    match settings["peft_type"]:
        case "LORA":
            rank, root = settings["r"], settings.get("use_rslora")
            return LoRALayer(layer, rank, settings["lora_alpha"] / (math.sqrt(rank) if root else rank))
        case "IA3":
            return IA3Layer(layer, inputs=_is_meant(name, settings.get("feedforward_modules")))
        case _:
            return BottleneckLayer(layer, settings["r"])


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLayer]:
    """The layers of a model that have adapters, by their names."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, AdaptedLayer)}


def without_adapters(model: Any) -> Any:
    """A model whose layers have lost their adapters, in place."""
    for name, layer in adapted_layers(model).items():
        _replace(model, name, layer.base_layer)
    return model


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)
