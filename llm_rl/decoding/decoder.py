"""Decoding with any causal model as it is: one pass over the prompts, then a token at a time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from gridzero.llm_rl.models.causal import following_positions, unwrapped
from gridzero.llm_rl.models.virtual_tokens import VirtualTokens


class Decoder(Protocol):
    """Logits of the next token for a batch of sequences, whose rows can be dropped, reordered and duplicated.

    Attributes:
        drop: finished rows are worth dropping when they are this part of the batch.
    """

    drop: float

    def start(self, prompts: Tensor, lengths: Tensor) -> Tensor:
        """Read the prompts.

        Args:
            prompts: (N, P) tokens, padded on the left.
            lengths: (N,), of the prompts.

        Returns:
            (N, V) logits of the first tokens.
        """

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row, (n,), and return the logits of the next ones, (n, V).

        The logits may be overwritten by the next step.
        """

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, (m,) numbers of current ones, in this order; a row may come several times.

        Rows that keep their number are not copied unless the batch grows.
        """


class Selection:
    """Rows of arrays, in the arrays' own memory where the batch does not grow.

    Args:
        rows: (m,), for each new row the number of an old one.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(-1)

    def of(self, array: Tensor, length: int | None = None) -> Tensor:
        """The rows of an array (n, …); of a cache (n, heads, C, d), only the steps before ``length`` are moved."""
        if len(self.rows) > len(array):
            return array[self.rows]
        filled = array if length is None else array[:, :, :length]
        filled[self.moved] = filled[self.rows[self.moved]]
        return array[: len(self.rows)]


def prompt_mask(lengths: Tensor, width: int) -> Tensor:
    """(N, width), 1 where a prompt padded on the left has a token, as models take it."""
    return (torch.arange(width, device=lengths.device) >= width - lengths.unsqueeze(-1)).long()


class ModelDecoder:
    """Decodes with the model as it is.

    Keys and values are written into arrays that are made once, of attention with a sliding window too, which then
    attends to a part of them. Models with other states than keys and values keep theirs in their own way.

    Args:
        model: a causal model, adapted by peft or not.
        max_tokens: how many tokens will be appended at most.

    Raises:
        ValueError: for a model that cannot go on from what it has read.
    """

    drop = 1 / 8

    def __init__(self, model: Any, max_tokens: int) -> None:
        self.virtual = VirtualTokens.of(model)
        inner = unwrapped(model)
        self.model = model if self.virtual is None else inner  # peft's wrapper would insert them again
        self.max_tokens = max_tokens
        self.accepts = frozenset(inspect.signature(inner.forward).parameters)
        self.config = inner.config
        self.layers: list[_Layer] = []
        if "past_key_values" not in self.accepts:
            raise ValueError(f"{type(inner).__name__} cannot go on from keys and values kept, which generating needs")

    def start(self, prompts: Tensor, lengths: Tensor) -> Tensor:
        """Read the prompts, the virtual tokens before each."""
        places: Tensor | None = None
        if self.virtual is not None:
            prompts, places = self.virtual.insert(prompts, prompts.shape[1] - lengths)
            lengths = lengths + self.virtual.count
        width = prompts.shape[1]
        self.length = width
        self.positions = following_positions(self.model, prompts, lengths)
        self.mask: Tensor | None = None
        mask = None
        if bool((lengths < width).any()):
            mask = prompt_mask(lengths, width)
            self.mask = mask.new_ones(len(prompts), width + self.max_tokens)
            self.mask[:, :width] = mask
        self.cache = DynamicCache(config=self.config)
        if all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in self.cache.layers):
            self.layers = [_Layer(self.max_tokens) for _ in self.cache.layers]
            self.cache.layers = [*self.layers]
        inputs = {"input_ids": prompts}
        if self.virtual is not None and places is not None:
            inputs = {"inputs_embeds": self.virtual.embed(self.model.get_input_embeddings(), prompts, places)}
            if self.virtual.keys is not None and not self.layers:
                raise ValueError(f"{type(self.model).__name__} keeps no keys and values that a prefix could precede")
            for number, layer in enumerate(self.layers):
                layer.fill = functools.partial(self.virtual.fill, number, virtual=places)
        positions = torch.arange(width, device=prompts.device) - (width - lengths).unsqueeze(-1)
        return self._forward(inputs, mask, positions.clamp_(min=0))

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row."""
        self.length += 1
        mask = None if self.mask is None else self.mask[:, : self.length]
        logits = self._forward({"input_ids": tokens.unsqueeze(-1)}, mask, self.positions.unsqueeze(-1))
        self.positions = self.positions + 1
        return logits

    def select(self, rows: Tensor) -> None:
        """Go on with these rows."""
        self.positions = self.positions[rows]
        if self.mask is not None:
            self.mask = self.mask[rows]
        if self.layers:
            selection = Selection(rows)
            for layer in self.layers:
                layer.select(selection)
        else:
            self.cache.reorder_cache(rows)  # type: ignore[arg-type]  # whole numbers they are

    def _forward(self, inputs: dict[str, Tensor], mask: Tensor | None, positions: Tensor) -> Tensor:
        """The logits after the last tokens, (n, V)."""
        options: dict[str, Any] = {**inputs, "past_key_values": self.cache, "use_cache": True}
        if mask is not None:
            options["attention_mask"] = mask
        if "position_ids" in self.accepts:
            options["position_ids"] = positions
        if "logits_to_keep" in self.accepts:
            options["logits_to_keep"] = 1
        logits: Tensor = self.model(**options).logits
        return logits[:, -1]


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]  # its base registers kinds of layers, untyped
    """The keys and values of a layer, in arrays with room for so many steps more than the first.

    Attributes:
        fill: puts a learned prefix among the first keys and values.
    """

    def __init__(self, more: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.more = more
        self.length = 0
        self.room: tuple[Tensor, ...] = ()
        self.fill: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, (n, heads, steps, size) each."""
        if not self.room:
            if self.fill is not None:
                key_states, value_states = self.fill(key_states, value_states)
            self.lazy_initialization(key_states, value_states)
            self.room = tuple(
                states.new_empty(*states.shape[:2], states.shape[2] + self.more, states.shape[3])
                for states in (key_states, value_states)
            )
        start, self.length = self.length, self.length + key_states.shape[-2]
        keys, values = self.room
        keys[:, :, start : self.length] = key_states
        values[:, :, start : self.length] = value_states
        self.keys, self.values = keys[:, :, : self.length], values[:, :, : self.length]
        return self.keys, self.values

    def select(self, selection: Selection) -> None:
        """Go on with some rows."""
        self.room = tuple(selection.of(array, self.length) for array in self.room)
