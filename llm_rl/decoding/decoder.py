"""Decoding with any Hugging Face causal model: one pass over the prompts, then a token at a time."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class Decoder(Protocol):
    """Something that gives the logits of the next token, for a batch that can shrink.

    A batch has slots. What is in a slot can be moved to another one, and only the first so many slots kept.

    Attributes:
        drop: finished slots are worth dropping when they are this part of the batch.
    """

    drop: float

    def start(self, prompts: Tensor, lengths: Tensor, copies: int) -> Tensor:
        """Read the prompts.

        Args:
            prompts: (N, P) tokens, padded on the left.
            lengths: (N,), of the prompts.
            copies: of each prompt, next to each other.

        Returns:
            (N · copies, V) logits of the first tokens.
        """

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token in each slot, (n,), and give the logits of the next ones, (n, V).

        The logits may be overwritten by the next step.
        """

    def shrink(self, size: int, sources: Tensor, targets: Tensor) -> None:
        """Keep ``size`` slots, after moving what is in the slots ``sources`` (≥ size) to ``targets`` (< size)."""


def prompt_mask(lengths: Tensor, width: int) -> Tensor:
    """(N, width), 1 where a prompt padded on the left has a token, as models take it."""
    return (torch.arange(width, device=lengths.device) >= width - lengths.unsqueeze(-1)).long()


class ModelDecoder:
    """Decodes with the model as it is.

    Keys and values are written into arrays that are made once, of attention with a sliding window too, which then
    attends to a part of them. Models with other states than keys and values keep theirs in their own way.

    Args:
        model: a causal model of Hugging Face, adapted by peft or not.
        max_tokens: how many tokens will be appended at most.

    Raises:
        ValueError: for a model that cannot go on from what it has read, or has learned prompts.
    """

    drop = 1 / 8

    def __init__(self, model: Any, max_tokens: int) -> None:
        self.model = model
        self.max_tokens = max_tokens
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.accepts = frozenset(inspect.signature(inner.forward).parameters)
        self.config = inner.config
        self.layers: list[_Layer] = []
        if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
            raise ValueError("a model with learned prompts cannot generate here; adapters in its layers can")
        if "past_key_values" not in self.accepts:
            raise ValueError(f"{type(inner).__name__} cannot go on from keys and values kept, which generating needs")

    def start(self, prompts: Tensor, lengths: Tensor, copies: int) -> Tensor:
        """Read the prompts, each once, and make room for its copies."""
        width = prompts.shape[1]
        self.length = width
        self.positions = lengths.repeat_interleave(copies)
        self.mask: Tensor | None = None
        mask = None
        if bool((lengths < width).any()):
            mask = prompt_mask(lengths, width)
            self.mask = mask.new_ones(len(prompts) * copies, width + self.max_tokens)
            self.mask[:, :width] = mask.repeat_interleave(copies, 0)
        self.cache = DynamicCache(config=self.config)
        if all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in self.cache.layers):
            self.layers = [_Layer() for _ in self.cache.layers]
            self.cache.layers = [*self.layers]
        positions = torch.arange(width, device=prompts.device) - (width - lengths).unsqueeze(-1)
        logits = self._forward(prompts, mask, positions.clamp_(min=0))
        rows = torch.arange(len(prompts), device=prompts.device).repeat_interleave(copies)
        if self.layers:
            for layer in self.layers:
                layer.expand(copies, self.max_tokens)
        else:
            self.cache.reorder_cache(rows)  # type: ignore[arg-type]  # whole numbers they are
        return logits[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token in each slot."""
        self.length += 1
        mask = None if self.mask is None else self.mask[:, : self.length]
        logits = self._forward(tokens.unsqueeze(-1), mask, self.positions.unsqueeze(-1))
        self.positions = self.positions + 1
        return logits

    def shrink(self, size: int, sources: Tensor, targets: Tensor) -> None:
        """Keep some slots."""
        order = torch.arange(size, device=sources.device)
        order[targets] = sources
        self.positions = self.positions[order]
        if self.mask is not None:
            self.mask = self.mask[order]
        if self.layers:
            for layer in self.layers:
                layer.shrink(size, sources, targets)
        else:
            self.cache.reorder_cache(order)  # type: ignore[arg-type]  # as above

    def _forward(self, tokens: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """The logits after the last tokens, (n, V)."""
        options: dict[str, Any] = {"past_key_values": self.cache, "use_cache": True}
        if mask is not None:
            options["attention_mask"] = mask
        if "position_ids" in self.accepts:
            options["position_ids"] = positions
        if "logits_to_keep" in self.accepts:
            options["logits_to_keep"] = 1
        logits: Tensor = self.model(tokens, **options).logits
        return logits[:, -1]


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]  # its base registers kinds of layers, untyped
    """The keys and values of a layer, in arrays with room for all that will come."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.length = 0
        self.room: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, (n, heads, steps, size) each; the first time, they are just kept."""
        if not self.room:
            self.lazy_initialization(key_states, value_states)
            self.room = key_states, value_states
        start, self.length = self.length, self.length + key_states.shape[-2]
        keys, values = self.room
        if start:
            keys[:, :, start : self.length] = key_states
            values[:, :, start : self.length] = value_states
        self.keys, self.values = keys[:, :, : self.length], values[:, :, : self.length]
        return self.keys, self.values

    def expand(self, copies: int, steps: int) -> None:
        """Copy each row, with room for more steps."""
        arrays = []
        for kept in self.room:
            n, heads, length, size = kept.shape
            array = kept.new_empty(n, copies, heads, length + steps, size)
            array[..., :length, :] = kept.unsqueeze(1)
            arrays.append(array.flatten(0, 1))
        self.room = tuple(arrays)

    def shrink(self, size: int, sources: Tensor, targets: Tensor) -> None:
        """Keep some rows."""
        for array in self.room:
            filled = array[:, :, : self.length]
            filled[targets] = filled[sources]
        self.room = tuple(array[:size] for array in self.room)
