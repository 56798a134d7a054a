"""The sizes of a Llama language model, as ``config.json`` of a folder in Hugging Face's format holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

CONFIG = "config.json"
# What else a configuration may say: these values, or nothing about the model.
_USUAL: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "mlp_bias": False,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rope_scaling": None,
    "use_cache": True,
}
_SAYS_NOTHING = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "rope_parameters"}


@dataclass
class LlamaConfig:
    """Sizes of a model, under the names that they have in ``config.json``.

    Attributes:
        vocab_size: V, tokens.
        hidden_size: D, of the residual stream.
        intermediate_size: of the layer inside an MLP.
        num_hidden_layers: how many layers.
        num_attention_heads: H, queries of each token.
        num_key_value_heads: K, keys and values of each; a divisor of H.
        head_dim: d, of each; even.
        max_position_embeddings: the longest sequence it is meant for.
        rms_norm_eps: is added to mean squares.
        rope_theta: base of the rotary positions' frequencies.
        tie_word_embeddings: whether the output layer is the embedding.
        initializer_range: standard deviation of random weights.
        pad_token_id, bos_token_id, eos_token_id: marks; there may be several of the end.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    model_type = "llama"
    hidden_act = "silu"

    @staticmethod
    def of(settings: Any) -> LlamaConfig | None:
        """The configuration that a ``config.json`` holds; None where it is of another model, or asks for more."""
        if not isinstance(settings, dict) or settings.get("model_type") != "llama":
            return None
        if any(settings[name] != usual for name, usual in _USUAL.items() if name in settings):
            return None
        rotation = settings.get("rope_parameters") or {}
        if not isinstance(rotation, dict) or rotation.get("rope_type", "default") != "default":
            return None
        found = {name: value for name, value in settings.items() if name not in {*_USUAL, *_SAYS_NOTHING}}
        found |= {name: value for name, value in rotation.items() if name != "rope_type"}
        heads, size = (found.get(name) for name in ("num_attention_heads", "hidden_size"))
        if type(heads) is not int or type(size) is not int or heads < 1 or size % heads:
            return None
        defaults = {"num_key_value_heads": heads, "head_dim": size // heads}
        found |= {name: usual for name, usual in defaults.items() if found.get(name) is None}
        found = {"bos_token_id": 1, "eos_token_id": 2} | found
        return LlamaConfig(**found) if _sound(found) else None

    def to_dict(self) -> dict[str, Any]:
        """The contents of ``config.json``."""
        own = asdict(self)
        rotation = {"rope_theta": own.pop("rope_theta"), "rope_type": "default"}
        usual = {name: value for name, value in _USUAL.items() if name != "rope_scaling"}
        return {**usual, **own, "rope_parameters": rotation}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` alone."""
        write_json(Path(folder) / CONFIG, self.to_dict())

    def get_text_config(self, decoder: bool = True) -> LlamaConfig:
        """Itself: there is nothing but text."""
        return self

    @property
    def per_layer_config(self) -> list[LlamaConfig]:
        """The configuration of each layer, by which transformers' caches find out that all keep everything."""
        return [self] * self.num_hidden_layers


def _sound(found: Mapping[str, Any]) -> bool:
    """Whether settings are those of a :class:`LlamaConfig`, of the right types."""
    ends = found["eos_token_id"]
    marks = [found.get("pad_token_id"), found["bos_token_id"], *(ends if isinstance(ends, list) else [ends])]
    return (
        found.keys() <= {field.name for field in fields(LlamaConfig)}
        and all(type(found.get(name)) is int and found[name] > 0 for name in _SIZES)
        and found["num_attention_heads"] % found["num_key_value_heads"] == found["head_dim"] % 2 == 0
        and all(type(found.get(name, 1.0)) in (int, float) for name in _NUMBERS)
        and type(found.get("tie_word_embeddings", False)) is bool
        and all(mark is None or type(mark) is int for mark in marks)
    )


_SIZES = [field.name for field in fields(LlamaConfig) if field.default is MISSING]
_NUMBERS = ("rms_norm_eps", "rope_theta", "initializer_range")


def write_json(path: Path, settings: Mapping[str, Any]) -> None:
    """Write settings as Hugging Face's libraries do."""
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
