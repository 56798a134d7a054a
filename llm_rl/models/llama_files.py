"""Llama language models on disk, in Hugging Face's format, and as transformers' own class."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gridzero.llm_rl.models.llama import GENERATION, WEIGHTS, Llama
from gridzero.llm_rl.models.llama_config import CONFIG, LlamaConfig

_HEAD, _TABLE = "lm_head.weight", "model.embed_tokens.weight"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def read_llama(folder: Path, dtype: torch.dtype | None = None) -> Llama | None:
    """The model in a folder; None where it is another one than :class:`~gridzero.llm_rl.models.llama.Llama`.

    Args:
        folder: with ``config.json`` and safetensors, in one file or several.
        dtype: of the weights; None: that of the configuration, or else of the file.

    Raises:
        ValueError: for weights that are missing, or do not fit the configuration.
        OSError: for a file that cannot be read.
    """
    settings = json.loads((folder / CONFIG).read_text())
    config = LlamaConfig.of(settings)
    files = _weight_files(folder)
    if config is None or files is None:
        return None
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= load_file(file)
    said = str(settings.get("dtype") or settings.get("torch_dtype") or "").removeprefix("torch.")
    if any(weight.dtype not in _DTYPES.values() for weight in weights.values()) or (said and said not in _DTYPES):
        return None
    model = Llama(config, torch.device("meta"))
    expected = model.state_dict()
    if config.tie_word_embeddings:
        del expected[_HEAD]
    missing, unknown = sorted(expected.keys() - weights.keys()), weights.keys() - expected.keys()
    if missing:
        raise ValueError(f"it lacks weights: {', '.join(missing[:3])}, …")
    if unknown:
        return None
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            shapes = f"{tuple(weight.shape)}, not {tuple(expected[name].shape)} as {CONFIG} has it"
            raise ValueError(f"its weights do not fit: {name} is {shapes}")
    dtype = dtype or _DTYPES.get(said) or weights[_TABLE].dtype
    # Copies: the file's own memory would begin at any address.
    copies = {name: weight.to(dtype, copy=True) for name, weight in weights.items()}
    model.load_state_dict(copies, strict=False, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    if (folder / GENERATION).is_file():
        generation = json.loads((folder / GENERATION).read_text())
        if not isinstance(generation, dict):
            raise ValueError(f"its {GENERATION} is not an object")
        model.generation_config = SimpleNamespace(**generation)
    model.name_or_path = str(folder)
    return model


def _weight_files(folder: Path) -> list[Path] | None:
    """The files with a model's weights, of which an index names several; None where they are elsewhere."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        return None
    names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    return [folder / name for name in names] if all(Path(name).name == name for name in names) else None


def as_transformers(model: Any) -> Any:
    """A model as ``LlamaForCausalLM`` of transformers, for libraries that build on its classes: peft, TRL.

    It shares the weights: what one learns, the other knows. Another model than
    :class:`~gridzero.llm_rl.models.llama.Llama` is returned as it is.

    >>> from gridzero.llm_rl.models.causal import tiny_model
    >>> model = tiny_model(22, width=32, layers=2, heads=4, positions=64)
    >>> theirs = as_transformers(model)
    >>> type(theirs).__name__, theirs.lm_head.weight is model.lm_head.weight
    ('LlamaForCausalLM', True)
    """
    if not isinstance(model, Llama):
        return model
    import transformers

    settings = model.config.to_dict() | {"dtype": model.dtype}
    with torch.device("meta"):
        theirs: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    for name, weight in model.named_parameters(remove_duplicate=False):
        place, _, own = name.rpartition(".")
        setattr(theirs.get_submodule(place), own, weight)
    for name in ("inv_freq", "original_inv_freq"):
        theirs.model.rotary_emb.register_buffer(name, model.model.rotary_emb.inv_freq, persistent=False)
    generation: Any = transformers.GenerationConfig
    theirs.generation_config = generation(**vars(model.generation_config))
    theirs.name_or_path = model.name_or_path
    return theirs.train(model.training)
