"""Bottleneck adapters as a method of peft, which has none: saved, loaded and switched off as its own are.

Importing this module registers the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import peft
from peft import mapping
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from gridzero.llm_rl.models.causal import text_prefix

PEFT_TYPE = "BOTTLENECK"
_STANDARD_DEVIATION = 1e-2


@dataclass
class BottleneckConfig(peft.PeftConfig):
    """Settings of bottleneck adapters.

    Attributes:
        r: width of the bottleneck.
        target_modules: names of the layers whose outputs are adapted: the last of attention and of the MLP.
    """

    r: int = 8
    target_modules: list[str] | str | None = None

    def __post_init__(self) -> None:
        """Give the configuration its type."""
        super().__post_init__()  # type: ignore[no-untyped-call]  # peft's
        self.peft_type = PEFT_TYPE


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A layer with an adapter after it: y + U gelu(D y + b) + c for the layer's output y.

    D and U start from a normal distribution of standard deviation 0.01, truncated at twice that, b and c from 0, so
    that the adapted model is nearly the given one at first.

    Args:
        base_layer: the layer, of ``features`` outputs.

    Source: Houlsby et al. (2019), Parameter-efficient transfer learning for NLP, section 2.1.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(self, base_layer: nn.Module, adapter_name: str, r: int) -> None:
        nn.Module.__init__(self)
        self.base_layer = base_layer
        self.features = output_features(base_layer)
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict(), nn.ModuleDict()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.update_layer(adapter_name, r)

    def update_layer(self, adapter_name: str, r: int) -> None:
        """Add an adapter."""
        down, up = nn.Linear(self.features, r), nn.Linear(r, self.features)
        self.bottleneck_down[adapter_name], self.bottleneck_up[adapter_name] = down, up
        for layer in (down, up):
            bound = 2 * _STANDARD_DEVIATION
            nn.init.trunc_normal_(layer.weight, std=_STANDARD_DEVIATION, a=-bound, b=bound)
            nn.init.zeros_(layer.bias)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Outputs (..., features) of the layer, adapted."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return y
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down: Any = self.bottleneck_down[name]
                y = y + self.bottleneck_up[name](functional.gelu(down(y.to(down.weight.dtype)))).to(y.dtype)
        return y


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  # as its base has it

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config.r)
        else:
            layer = BottleneckLayer(target, adapter_name, peft_config.r)
            self._replace_module(parent, target_name, layer, target)


def output_features(layer: nn.Module) -> int:
    """Outputs of a linear layer, whatever way its weight is stored.

    Raises:
        ValueError: for another kind of layer.
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features
    if isinstance(layer, Conv1D):
        return int(layer.nf)
    raise ValueError(f"a {type(layer).__name__} is not a linear layer")


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
            if isinstance(layer, nn.Linear | Conv1D):
                # Some families have the two layers of the MLP in the block itself.
                sublayer, dot, _ = place.partition(".")
                own[sublayer if dot else ""] = place
        last = [f"{name}.{place}" for place in own.values()]
        layers = [model.get_submodule(place) for place in last]
        if len(last) != 2 or any(output_features(layer) != config.hidden_size for layer in layers):
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


# peft's own way to register a method wants a member of its enumeration of types, which cannot be extended.
_registries: Any = mapping
_registries.PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = BottleneckConfig
_registries.PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = BottleneckModel
_registries.PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = BottleneckModel.prefix
