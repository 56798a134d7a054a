"""Sizes of tiny transformers of several families, and the decoder of GPUs as it is on a processor."""

from __future__ import annotations

from typing import Any

from gridzero.llm_rl.decoding.llama_cuda_graph import GraphDecoder
from gridzero.llm_rl.decoding.llama_weights import plain_llama

VOCABULARY, PAD = 23, 0
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
    "pad_token_id": PAD,
}
GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_positions": 64,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "initializer_range": 0.4,
}
WINDOW: dict[str, Any] = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}


def graph_decoder(model: Any, length: int, max_tokens: int) -> GraphDecoder | None:
    inner = plain_llama(model, length)
    return None if inner is None else GraphDecoder(model, inner, max_tokens)
