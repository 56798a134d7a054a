"""Decoder of the Llama family on a GPU: a step is recorded once, as a CUDA graph, and then replayed.

On a GPU a step of a model takes longer to start, a kernel at a time, than to compute. Replaying needs every array of a
step to stay where it is and as large as it is: so each step attends to all the room there is, with a mask.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gridzero.llm_rl.decoding.decoder import ModelDecoder, Selection

# Masks in rows of such lengths suit all the kernels of attention.
_ALIGNMENT = 16
_WARM_UP = 3


class GraphDecoder:
    """Decoder that runs a model's layers with an attention of its own; see
    :class:`~gridzero.llm_rl.decoding.decoder.Decoder`.

    On a processor it computes the same without a graph.

    Args:
        model: reads the prompts.
        inner: the same without the wrapping for adapters, from
            :func:`~gridzero.llm_rl.decoding.llama_weights.plain_llama`.
        max_tokens: how many tokens will be appended at most.
    """

    drop = 1 / 2  # recording again costs as much as many steps

    def __init__(self, model: Any, inner: Any, max_tokens: int) -> None:
        self.model = model
        self.inner = inner
        self.max_tokens = max_tokens

    def start(self, prompts: Tensor, lengths: Tensor) -> Tensor:
        """Read the prompts by the model."""
        reader = ModelDecoder(self.model, 0)
        logits = reader.start(prompts, lengths)
        width, lengths = reader.length, reader.positions  # with the virtual tokens
        room = -(-(width + self.max_tokens) // _ALIGNMENT) * _ALIGNMENT
        # Zeros behind, as what the mask hides is multiplied too.
        self.stores = [
            tuple(functional.pad(array, (0, 0, 0, room - width)) for array in layer.room) for layer in reader.layers
        ]
        self.positions = lengths.clone()
        steps = torch.arange(room, device=prompts.device)
        hidden = (steps < (width - lengths).unsqueeze(-1)) | (steps >= width)
        mask = torch.zeros(hidden.shape, dtype=self.stores[0][0].dtype, device=prompts.device)
        self.mask = mask.masked_fill_(hidden, -math.inf).view(-1, 1, 1, room)
        self.at = torch.tensor([width], device=prompts.device)
        self._allocate(len(self.positions))
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row."""
        self.tokens.copy_(tokens)
        if not tokens.is_cuda:
            self.logits = self._compute()
        else:
            graph = self._record() if self.graph is None else self.graph
            graph.replay()
        self.at += 1
        self.positions += 1
        return self.logits

    def select(self, rows: Tensor) -> None:
        """Go on with these rows; as many as before, and the recorded step stays."""
        size, selection = len(self.positions), Selection(rows)
        self.positions, self.mask = selection.of(self.positions), selection.of(self.mask)
        self.stores = [(selection.of(keys), selection.of(values)) for keys, values in self.stores]
        if len(rows) != size:
            self._allocate(len(rows))

    def _allocate(self, size: int) -> None:
        self.tokens = self.positions.new_zeros(size)
        self.graph: torch.cuda.CUDAGraph | None = None

    def _record(self) -> torch.cuda.CUDAGraph:
        """Record a step. The steps that warm up compute what the first one will compute again."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # it is so in torch
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._compute()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.logits = self._compute()
        return graph

    def _compute(self) -> Tensor:
        """The logits after :attr:`tokens` at the place :attr:`at`, by operations on tensors of fixed shapes alone."""
        self.mask.index_fill_(-1, self.at, 0.0)
        body = self.inner.model
        x = body.embed_tokens(self.tokens)
        cosines, sines = body.rotary_emb(x, self.positions.unsqueeze(-1))
        for layer, (keys, values) in zip(body.layers, self.stores, strict=True):
            attention = layer.self_attn
            normal = layer.input_layernorm(x)
            shape = (len(x), -1, attention.head_dim)
            q, k, v = (
                project(normal).view(shape) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            if hasattr(attention, "q_norm"):
                q, k = attention.q_norm(q), attention.k_norm(k)
            keys.index_copy_(2, self.at, _turn(k, cosines, sines).unsqueeze(2))
            values.index_copy_(2, self.at, v.unsqueeze(2))
            # The queries of a key are as a sequence to it: all see the same.
            queries = _turn(q, cosines, sines).view(len(x), keys.shape[1], -1, attention.head_dim)
            mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=self.mask)
            x = x + attention.o_proj(mixed.reshape(len(x), -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        logits: Tensor = self.inner.lm_head(body.norm(x))
        return logits


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions: the halves of x, (n, heads, d), turned; cosines and sines are (n, 1, d)."""
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat([-second, first], -1) * sines
