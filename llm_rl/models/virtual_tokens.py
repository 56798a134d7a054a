"""Virtual tokens before every sequence: learned prompts (embeddings) and learned prefixes (keys and values).

Everything that reads sequences inserts them, so that they act alike in decoding, in scoring and in a plain pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer


@dataclass(frozen=True)
class VirtualTokens:
    """n learned tokens, which stand at positions 0 to n - 1.

    Attributes:
        count: n.
        embeddings: (n, D) of a learned prompt; None for a prefix.
        keys: (layers, n, K, d) of a learned prefix, as attention takes them (rotated); None for a prompt.
        values: (layers, n, K, d) of a learned prefix.

    Source: Lester et al. (2021), The power of scale for parameter-efficient prompt tuning, section 2; Li and Liang
    (2021), Prefix-tuning, section 4.2.
    """

    count: int
    embeddings: Tensor | None
    keys: Tensor | None
    values: Tensor | None

    @staticmethod
    def of(model: Any) -> VirtualTokens | None:
        """The virtual tokens of a model as they are now, with gradients; None where it has none."""
        count = virtual_count(model)
        if not count:
            return None
        config = model.active_peft_config
        learned = model.prompt_encoder[model.active_adapter].embedding.weight
        if config.peft_type == "PROMPT_TUNING":
            return VirtualTokens(count, learned, None, None)
        heads = config.num_attention_heads
        both = learned.view(count, config.num_layers, 2, heads, config.token_dim // heads).permute(1, 2, 0, 3, 4)
        return VirtualTokens(count, None, both[:, 0], both[:, 1])

    def insert(self, tokens: Tensor, begins: Tensor) -> tuple[Tensor, Tensor]:
        """Room for the virtual tokens in sequences (B, T), before the columns ``begins`` (B,).

        Returns:
            Tokens (B, n + T), arbitrary where they are virtual, and a mask (B, n + T) that says where that is.
        """
        columns = torch.arange(self.count + tokens.shape[1], device=tokens.device)
        begins = begins.unsqueeze(-1)
        virtual = (columns >= begins) & (columns < begins + self.count)
        sources = torch.where(columns < begins, columns, columns - self.count).clamp_(min=0)
        return tokens.gather(1, sources), virtual

    def embed(self, embedding: nn.Module, tokens: Tensor, virtual: Tensor) -> Tensor:
        """Embeddings (B, T, D) of tokens (B, T), learned ones where the mask (B, T) says so."""
        states: Tensor = embedding(tokens)
        if self.embeddings is None:
            return states
        return self._put(states, self.embeddings, virtual.unsqueeze(-1))

    def fill(self, layer: int, keys: Tensor, values: Tensor, virtual: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, K, T, d) of a layer, learned ones where the mask (B, T) says so."""
        if self.keys is None or self.values is None:
            return keys, values
        mask = virtual[:, None, :, None]
        return (
            self._put(keys, self.keys[layer].transpose(0, 1), mask),
            self._put(values, self.values[layer].transpose(0, 1), mask),
        )

    @staticmethod
    def _put(states: Tensor, learned: Tensor, mask: Tensor) -> Tensor:
        """Put what is learned into each of B rows."""
        return states.masked_scatter(mask, learned.to(states.dtype).expand(len(states), *learned.shape))

    def prefix_cache(self, config: Any, rows: int, dtype: torch.dtype) -> DynamicCache:
        """A cache in which each of some rows has read the learned prefix."""
        cache = DynamicCache(config=config.get_text_config(decoder=True))
        if self.keys is not None and self.values is not None:
            for layer, pair in enumerate(zip(self.keys, self.values, strict=True)):
                keys, values = (part.transpose(0, 1).expand(rows, -1, -1, -1).to(dtype) for part in pair)
                cache.update(keys, values, layer)
        return cache

    def cache(self, config: Any, virtual: Tensor) -> DynamicCache:
        """A cache for one pass that keeps nothing, in which the learned keys and values take their places."""
        cache = DynamicCache(config=config)
        cache.layers = [_Passing(self, number, virtual) for number in range(len(cache.layers))]
        return cache


def virtual_count(model: Any) -> int:
    """Tokens of the learned prompt or prefix of a model that are switched on."""
    if not hasattr(model, "peft_config") or getattr(model, "_adapters_disabled", False):
        return 0
    return int(getattr(model.active_peft_config, "num_virtual_tokens", 0))


class _Passing(DynamicLayer):  # type: ignore[no-untyped-call]  # its base registers kinds of layers, untyped
    """A layer that hands on the keys and values of one pass."""

    def __init__(self, tokens: VirtualTokens, number: int, virtual: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.tokens, self.number, self.virtual = tokens, number, virtual

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put the learned keys and values among those of the pass, (B, K, T, d) each."""
        return self.tokens.fill(self.number, key_states, value_states, self.virtual)
