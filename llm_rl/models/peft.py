"""Parameter-efficient fine-tuning: adding and merging adapters, and the reference that a model was earlier."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gridzero.llm_rl.models.adapted_layers import is_linear
from gridzero.llm_rl.models.adapted_model import AdaptedModel, is_known, without_adapters
from gridzero.llm_rl.models.causal import max_positions, seeded, text_prefix
from gridzero.llm_rl.models.llama_files import as_transformers
from gridzero.llm_rl.models.sublayers import sublayer_outputs

MERGEABLE = ("LORA", "IA3")
# Layers that make keys and values, alone or together with the queries.
_KEYS_AND_VALUES = ("k_proj", "v_proj", "key", "value", "c_attn", "query_key_value", "qkv_proj", "Wqkv")


def add_lora(
    model: Any, rank: int, alpha: float, targets: Literal["all-linear"] | Sequence[str] = "all-linear", *, seed: int = 0
) -> Any:
    r"""Freeze a model and add low-rank adapters: W becomes W + alpha / rank · B A, with B = 0 at first.

    Args:
        model: a causal model; its layers are changed in place.
        rank: of each adapter.
        alpha: see the formula.
        targets: names of the layers to adapt, such as "q_proj"; "all-linear": all but the output layer, and of a
            mixture of experts those of attention: routers and experts stay as they are.
        seed: decides A.

    Returns:
        The model, wrapped; only its adapters can be trained.

    Raises:
        ValueError: for numbers that are not positive, names of no layers, or a model that has adapters already.

    Source: Hu et al. (2021), LoRA, section 4.1.
    """
    _check_count("rank", rank)
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, not {alpha}")
    _check_plain(model)
    names = _lora_targets(model, targets)
    return add_adapters(model, _settings(model, "LORA", r=rank, lora_alpha=alpha, target_modules=names), seed)


def _lora_targets(model: Any, targets: Literal["all-linear"] | Sequence[str]) -> str | list[str]:
    """The layers that LoRA adapts, as settings name them: ends of their names, or a pattern of whole names.

    Raises:
        ValueError: for names of no layers.
    """
    # In a mixture of experts, peft takes the names of an MLP's layers for those of experts; in a model that sees, other
    # layers have the same names in the vision tower.
    mixed, inside = any(".experts." in name for name, _ in model.named_parameters()), text_prefix(model)
    output = model.get_output_embeddings()
    allowed = {
        name.rpartition(".")[2]
        for name, layer in model.named_modules()
        if is_linear(layer) and layer is not output and name.startswith(inside) and ("attn" in name or not mixed)
    }
    names = sorted(allowed) if targets == "all-linear" else list(targets)
    for name in names or [""]:
        if name not in allowed:
            raise ValueError(f"targets must be among {', '.join(sorted(allowed))}, or all-linear; not {name!r}")
    return rf"{re.escape(inside)}.*\.({'|'.join(names)})" if inside else names


def add_ia3(model: Any) -> Any:
    """Freeze a model and add vectors, at first 1, that rescale keys, values, and what the last layer of an MLP reads.

    Where one layer makes queries, keys and values, all of its outputs are rescaled.

    Raises:
        ValueError: for a model without such layers, or with adapters already.

    Source: Liu et al. (2022), Few-shot parameter-efficient fine-tuning is better and cheaper than in-context learning,
    section 3.3.
    """
    _check_plain(model)
    inside = text_prefix(model)
    names = [
        name
        for name, _ in model.named_modules()
        if name.startswith(inside) and name.rpartition(".")[2] in _KEYS_AND_VALUES
    ]
    if not names:
        raise ValueError(f"{type(model).__name__} has no layer named {', '.join(_KEYS_AND_VALUES)}, which ia3 rescales")
    _, last = sublayer_outputs(model)
    return add_adapters(
        model, _settings(model, "IA3", target_modules=[*names, *last], feedforward_modules=last), seed=0
    )


def add_prompt(model: Any, tokens: int, *, seed: int = 0) -> Any:
    """Freeze a model and put learned embeddings before each sequence, at first those of random tokens.

    Args:
        model: a causal model.
        tokens: how many embeddings.
        seed: decides the random tokens.

    Raises:
        ValueError: for no tokens, or a model that has adapters already.

    Source: Lester et al. (2021), The power of scale for parameter-efficient prompt tuning, sections 2 and 2.1.
    """
    _check_plain(model)
    _check_tokens(model, tokens)
    with torch.no_grad():
        learned = model.get_input_embeddings()(_random_tokens(model, tokens, seed))
    return _with_virtual_tokens(model, "PROMPT_TUNING", learned, token_dim=learned.shape[1])


def add_prefix(model: Any, tokens: int, *, seed: int = 0) -> Any:
    """Freeze a model and put learned keys and values before those of each sequence, in every layer.

    At first they are the ones that the model makes of random tokens, so that it goes on as if it had read them.

    Args:
        model: a causal model.
        tokens: keys and values in each layer.
        seed: decides the random tokens.

    Raises:
        ValueError: for no tokens, a model whose layers do not all keep keys and values alike, or that has adapters
            already.

    Source: Li and Liang (2021), Prefix-tuning, sections 4.2 and 7.4.
    """
    _check_plain(model)
    _check_tokens(model, tokens)
    read = _keys_and_values(model, _random_tokens(model, tokens, seed))
    return _with_virtual_tokens(model, "PREFIX_TUNING", read.flatten(1), **_prefix_sizes(read))


def _keys_and_values(model: Any, tokens: Tensor) -> Tensor:
    """Keys and values that a model keeps of n tokens: (n, 2 · layers, heads, size), the keys of each layer first.

    Raises:
        ValueError: for a model whose layers do not all keep keys and values alike.
    """
    from transformers import DynamicCache

    with torch.no_grad():
        cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        model(tokens.unsqueeze(0), past_key_values=cache, use_cache=True)
    pairs = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    kept = [states for states in pairs if states is not None]
    if len(kept) < len(pairs) or any(states.shape != kept[0].shape for states in kept):
        raise ValueError(f"the layers of {type(model).__name__} do not all keep keys and values of one shape")
    return torch.stack([states[0] for states in kept]).permute(2, 0, 1, 3)


def _prefix_sizes(read: Tensor) -> dict[str, int]:
    """Settings of a prefix for a model whose layers keep (n, 2 · layers, heads, size)."""
    _, layers, heads, size = read.shape
    return {"num_layers": layers // 2, "num_attention_heads": heads, "token_dim": heads * size}


def check_sizes(model: Any, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings of a prompt or a prefix, of a file, that are of a model of other sizes."""
    if "num_virtual_tokens" not in settings:
        return
    _check_tokens(model, settings["num_virtual_tokens"])
    if settings["peft_type"] == "PREFIX_TUNING":
        sizes = _prefix_sizes(_keys_and_values(model, _random_tokens(model, 1, seed=0)))
    else:
        sizes = {"token_dim": model.get_input_embeddings().weight.shape[1]}
    for name, size in sizes.items():
        if settings.get(name) != size:
            raise ValueError(f"its adapters are of a model of other sizes: {name} {settings.get(name)}, not {size}")


def _with_virtual_tokens(model: Any, kind: str, learned: Tensor, **sizes: int) -> Any:
    """A model with virtual tokens (n, …)."""
    adapted = add_adapters(model, _settings(model, kind, num_virtual_tokens=len(learned), **sizes))
    with torch.no_grad():
        adapted.prompt_encoder[adapted.active_adapter].embedding.weight.copy_(learned)
    return adapted


def add_bottleneck(model: Any, rank: int, *, seed: int = 0) -> Any:
    """Freeze a model and add an MLP of one narrow layer after each attention and after each MLP.

    Args:
        model: a causal model; its layers are changed in place.
        rank: width of the narrow layer.
        seed: decides the initial weights, which change the model very little.

    Raises:
        ValueError: for a width of 0, a model of other blocks, or one that has adapters already.

    Source: Houlsby et al. (2019), Parameter-efficient transfer learning for NLP, section 2.1.
    """
    _check_count("rank", rank)
    _check_plain(model)
    attention, mlp = sublayer_outputs(model)
    return add_adapters(model, _settings(model, "BOTTLENECK", r=rank, target_modules=[*attention, *mlp]), seed)


def add_adapters(model: Any, settings: Mapping[str, Any], seed: int = 0) -> Any:
    """Freeze a model and add the adapters that the contents of an ``adapter_config.json`` describe.

    They are :class:`~gridzero.llm_rl.models.adapted_model.AdaptedModel`'s, or peft's where it alone knows what the
    settings ask for.

    Raises:
        ValueError: for a model that has adapters already, or bottlenecks with settings that are not known here.
    """
    _check_plain(model)
    device = next(model.parameters()).device
    with seeded(seed, device):
        return (AdaptedModel(model, settings) if is_known(settings, model) else _of_peft(model, settings)).eval()


def _of_peft(model: Any, settings: Mapping[str, Any]) -> Any:
    if settings["peft_type"] == "BOTTLENECK":
        raise ValueError("its bottlenecks are of other layers, or have settings that are not known here")
    import peft

    kinds: Any = peft.PeftConfig
    config = kinds.from_peft_type(**{**settings, "inference_mode": False, "base_model_name_or_path": None})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses what transformers will rename
        return peft.get_peft_model(as_transformers(model), config)


def as_peft(model: Any) -> Any:
    """A model as classes of peft and transformers, for libraries that build on them: TRL.

    It shares the weights: what one learns, the other knows.

    Raises:
        ValueError: for bottlenecks, which peft does not have.

    >>> from gridzero.llm_rl.models.causal import tiny_model
    >>> model = add_lora(tiny_model(22, width=32, layers=2, heads=4, positions=64), 2, 4)
    >>> type(as_peft(model)).__name__
    'PeftModelForCausalLM'
    """
    if not isinstance(model, AdaptedModel):
        return as_transformers(model)
    if has_bottlenecks(model):
        raise ValueError("peft has no bottlenecks")
    settings = vars(model.active_peft_config)
    shared = {id(weight): weight for weight in model.parameters()}
    theirs = _of_peft(without_adapters(copy.deepcopy(model.get_base_model(), shared)), settings)
    theirs.active_peft_config.base_model_name_or_path = settings["base_model_name_or_path"]
    own = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    for name, weight in own.items():
        place, _, last = name.rpartition(".")
        setattr(theirs.get_submodule(place), last, weight)
    return theirs.train(model.training)


def _settings(model: nn.Module, kind: str, **more: Any) -> dict[str, Any]:
    """Settings of adapters, as ``adapter_config.json`` holds them."""
    if kind in MERGEABLE:
        more["fan_in_fan_out"] = any(is_linear(layer) and not isinstance(layer, nn.Linear) for layer in model.modules())
    return {"peft_type": kind, "task_type": "CAUSAL_LM", **more}


def _check_plain(model: Any) -> None:
    if is_adapted(model):
        raise ValueError("the model has adapters already, which go on learning: leave out --policy.peft")


def _check_count(name: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")


def _check_tokens(model: Any, tokens: int) -> None:
    _check_count("tokens", tokens)
    positions = max_positions(model)
    if positions is not None and tokens >= positions:
        raise ValueError(f"{tokens} learned tokens leave none of the model's {positions} positions")


def _random_tokens(model: Any, count: int, seed: int) -> Tensor:
    if model.device.type == "meta":
        return torch.zeros(count, dtype=torch.long, device="meta")
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(model.get_input_embeddings().weight), (count,), generator=generator).to(model.device)


def is_adapted(model: Any) -> bool:
    """Whether a model has adapters, of whatever kind."""
    return hasattr(model, "peft_config")


def has_bottlenecks(model: Any) -> bool:
    """Whether the adapters of a model are bottlenecks, which peft does not have."""
    return is_adapted(model) and model.active_peft_config.peft_type == "BOTTLENECK"


def merge(model: Any) -> Any:
    """The plain model with the adapters in its weights; the wrapped one is used up.

    Raises:
        ValueError: for adapters that are more than a change of weights: prefixes, prompts, bottlenecks.
    """
    if not is_adapted(model):
        raise ValueError("the model has no adapters to merge")
    kind = str(getattr(model.active_peft_config.peft_type, "value", model.active_peft_config.peft_type))
    if kind not in MERGEABLE:
        raise ValueError(f"{kind.lower().replace('_', ' ')} cannot be merged into a model's weights; lora and ia3 can")
    return model.merge_and_unload()


class Reference:
    """A copy of a model's weights as they are now, to compare the model with later.

    It keeps a copy of the weights that learn, of an adapted model so those of its adapters alone, which take the place
    of the learning ones while the reference is asked.

    Args:
        model: a causal model.
        more: other parameters that its embeddings come from.
    """

    def __init__(self, model: Any, more: Sequence[nn.Parameter] = ()) -> None:
        self._model = model
        learning = dict.fromkeys(p for p in (*model.parameters(), *more) if p.requires_grad)
        self.parameters: list[nn.Parameter] = [*learning]
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @contextmanager
    def model(self) -> Iterator[Any]:
        """Give the model the weights of the reference within the ``with`` block; no gradient may go through it."""
        own = [parameter.data for parameter in self.parameters]
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.data = value
        try:
            yield self._model
        finally:
            for parameter, value in zip(self.parameters, own, strict=True):
                parameter.data = value
