"""Linear layers with adapters: a change of low rank, factors, or a narrow MLP after them.

They compute what the layers of Hugging Face's peft do, bit for bit and under the same names.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "default"
"""peft keeps several adapters of a layer, by names; here there is one."""
_BOTTLENECK_DEVIATION = 1e-2


class AdaptedLayer(nn.Module, ABC):
    """A linear layer that is frozen, with an adapter that learns.

    Args:
        base_layer: the layer, its weight stored as (outputs, inputs), or the other way round, as in GPT-2.
    """

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer: Any = base_layer
        self.in_features, self.out_features = features(base_layer)
        self.transposed = not isinstance(base_layer, nn.Linear)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Outputs (…, outputs) for inputs (…, inputs), in the precision of the layer."""

    def effective(self) -> tuple[Tensor, Tensor | None] | None:
        """The weight and bias of a plain layer that does the same; None where there is none."""
        return None

    def _settle(self) -> None:
        """Move what learns to the layer's device; beside half precision it learns in single precision."""
        weight = self.base_layer.weight
        for name, part in self.named_children():
            if name != "base_layer":
                # The start is rounded as the layer is, which peft does.
                part.to(weight.device, weight.dtype)
                part.to(torch.float32 if weight.element_size() < 4 else weight.dtype)


class LoRALayer(AdaptedLayer):
    r"""A layer whose weight W is W + s · B A, with A random and B = 0 at first.

    Args:
        base_layer: the layer.
        rank: r, rows of A (r, inputs) and columns of B (outputs, r).
        scaling: s.

    Source: Hu et al. (2021), LoRA, section 4.1.

    >>> layer = LoRALayer(nn.Linear(3, 2), rank=1, scaling=2.0)
    >>> x = torch.ones(3)
    >>> torch.equal(layer(x), layer.base_layer(x))
    True
    """

    def __init__(self, base_layer: nn.Module, rank: int, scaling: float) -> None:
        super().__init__(base_layer)
        self.scaling = scaling
        self.lora_A = nn.ModuleDict({NAME: nn.Linear(self.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({NAME: nn.Linear(rank, self.out_features, bias=False)})
        down: Any = self.lora_A[NAME]
        up: Any = self.lora_B[NAME]
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        self._settle()

    def forward(self, x: Tensor) -> Tensor:
        """W x + s · B A x."""
        y: Tensor = self.base_layer(x)
        down: Any = self.lora_A[NAME]
        change: Tensor = self.lora_B[NAME](down(x.to(down.weight.dtype)))
        return (y + change * self.scaling).to(y.dtype)

    def effective(self) -> tuple[Tensor, Tensor | None]:
        """W + s · B A, and the bias."""
        down: Any = self.lora_A[NAME]
        up: Any = self.lora_B[NAME]
        change = up.weight @ down.weight
        return self.base_layer.weight + (change.T if self.transposed else change) * self.scaling, self.base_layer.bias


class IA3Layer(AdaptedLayer):
    """A layer whose outputs, or inputs, are multiplied by learned factors, at first 1.

    Args:
        base_layer: the layer.
        inputs: whether the factors are of the inputs.

    Source: Liu et al. (2022), Few-shot parameter-efficient fine-tuning is better and cheaper than in-context learning,
    section 3.3.
    """

    def __init__(self, base_layer: nn.Module, *, inputs: bool) -> None:
        super().__init__(base_layer)
        self.inputs = inputs
        shape = (1, self.in_features) if inputs else (self.out_features, 1)
        self.ia3_l = nn.ParameterDict({NAME: torch.ones(shape)})
        self._settle()

    def forward(self, x: Tensor) -> Tensor:
        """W (l · x), or l · (W x + b)."""
        factors: Tensor = self.ia3_l[NAME].flatten()
        if self.inputs:
            scaled: Tensor = self.base_layer((x.to(factors.dtype) * factors).to(x.dtype))
            return scaled
        y: Tensor = self.base_layer(x)
        return (y * factors).to(y.dtype)

    def effective(self) -> tuple[Tensor, Tensor | None]:
        """The weight and bias with the factors in them."""
        factors, bias = self.ia3_l[NAME], self.base_layer.bias
        weight: Tensor = self.base_layer.weight * (factors.T if self.transposed else factors)
        return weight, bias if bias is None or self.inputs else bias * factors.flatten()


class BottleneckLayer(AdaptedLayer):
    """A layer with a narrow MLP after it: y + U gelu(D y + b) + c for the layer's output y.

    D and U start from a normal distribution of standard deviation 0.01, truncated at twice that, b and c from 0, so
    that the adapted model is nearly the given one at first.

    Args:
        base_layer: the layer.
        width: of the MLP's inner layer.

    Source: Houlsby et al. (2019), Parameter-efficient transfer learning for NLP, section 2.1.
    """

    def __init__(self, base_layer: nn.Module, width: int) -> None:
        super().__init__(base_layer)
        down, up = nn.Linear(self.out_features, width), nn.Linear(width, self.out_features)
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict({NAME: down}), nn.ModuleDict({NAME: up})
        for layer in (down, up):
            bound = 2 * _BOTTLENECK_DEVIATION
            nn.init.trunc_normal_(layer.weight, std=_BOTTLENECK_DEVIATION, a=-bound, b=bound)
            nn.init.zeros_(layer.bias)
        self._settle()

    def forward(self, x: Tensor) -> Tensor:
        """The outputs and what the MLP makes of them."""
        y: Tensor = self.base_layer(x)
        down: Any = self.bottleneck_down[NAME]
        change: Tensor = self.bottleneck_up[NAME](functional.gelu(down(y.to(down.weight.dtype))))
        return y + change.to(y.dtype)


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear, with weights stored as (outputs, inputs) or the other way round."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, nn.Linear | Conv1D)


def features(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear layer, whatever way its weight is stored.

    Raises:
        ValueError: for another kind of layer.
    """
    if not is_linear(layer):
        raise ValueError(f"a {type(layer).__name__} is not a linear layer")
    first, second = layer.weight.shape
    return (second, first) if isinstance(layer, nn.Linear) else (first, second)
