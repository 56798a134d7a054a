"""Low-rank adapters: adding, switching off and merging them, and the reference that the model without them is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

from torch import nn

from gridzero.llm_rl.models.causal import seeded


def add_lora(
    model: Any, rank: int, alpha: float, targets: Literal["all-linear"] | Sequence[str] = "all-linear", *, seed: int = 0
) -> Any:
    r"""Freeze a model and add low-rank adapters: W becomes W + alpha / rank · B A, with B = 0 at first.

    Args:
        model: a causal model; its layers are changed in place.
        rank: of each adapter.
        alpha: see the formula.
        targets: names of the layers to adapt, such as "q_proj"; "all-linear": all but the output layer.
        seed: decides A.

    Returns:
        The model, wrapped; only its adapters can be trained.

    Raises:
        ValueError: for numbers that are not positive, names of no layers, or a model that has adapters already.

    Source: Hu et al. (2021), LoRA, section 4.1.
    """
    import peft
    from transformers.pytorch_utils import Conv1D

    if hasattr(model, "peft_config"):
        raise ValueError("the model has adapters already, which go on learning: leave out lora_rank")
    if rank < 1:
        raise ValueError(f"rank must be at least 1, not {rank}")
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, not {alpha}")
    if targets != "all-linear":
        layers = [(name.rpartition(".")[2], layer) for name, layer in model.named_modules()]
        output = model.get_output_embeddings()
        allowed = {name for name, layer in layers if isinstance(layer, nn.Linear | Conv1D) and layer is not output}
        for name in targets or [""]:
            if name not in allowed:
                raise ValueError(f"targets must be among {', '.join(sorted(allowed))}, or all-linear; not {name!r}")
    device = next(model.parameters()).device
    conv = any(isinstance(layer, Conv1D) for layer in model.modules())
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a whole number there, but any will do
        target_modules=targets if isinstance(targets, str) else list(targets),
        fan_in_fan_out=conv,
    )
    with seeded(seed, device), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses what transformers will rename
        return peft.get_peft_model(model, config).eval()


def adapter_off(model: Any) -> AbstractContextManager[None]:
    """Context in which the model is as it was before adapters."""
    return model.disable_adapter()  # type: ignore[no-any-return]  # the models are Any


def merge_lora(model: Any) -> Any:
    """The plain model with the adapters added to its weights; the wrapped one is used up."""
    return model.merge_and_unload()


class Reference:
    """The model as it is now, to be compared with later.

    Args:
        model: a causal model.
        adapted: whether only adapters learn, so that the model without them is the reference.

    Attributes:
        copy: a frozen copy of the model; None where none is needed.
    """

    def __init__(self, model: Any, *, adapted: bool = False) -> None:
        self._model = model
        self.copy: Any = None if adapted else copy.deepcopy(model).eval().requires_grad_(False)

    @contextmanager
    def model(self) -> Iterator[Any]:
        """The reference, within this."""
        if self.copy is not None:
            yield self.copy
            return
        with adapter_off(self._model):
            yield self._model
