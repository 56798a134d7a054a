"""Decoder of the Llama family on a CPU, for models so small that calling their modules takes most of the time.

A step is eight calls a layer, into arrays allocated once: scales are moved into the matrices (those of the norms, and
of the attention), norms, gates and attention are a compiled loop each, what is added to the residual stream is added by
the product that makes it.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridzero.llm_rl.cpu_kernels.attention import attend
from gridzero.llm_rl.cpu_kernels.elementwise import gate_halves, normalise
from gridzero.llm_rl.decoding.decoder import Selection
from gridzero.llm_rl.decoding.llama_weights import Layer, Linear, LlamaWeights, rotations
from gridzero.llm_rl.models.virtual_tokens import VirtualTokens

# Products of queries and keys that are worth a thread of their own.
_WORTH = 10_000

_Product = tuple[Tensor, Tensor | None]  # (inputs, outputs), and (outputs,) where there is a bias


class _Layer(NamedTuple):
    """The weights of a layer as they are multiplied.

    Attributes:
        qkv: makes queries, keys and values, what is turned together next to each other.
        o: makes what the attention adds.
        gate_up: makes the gates, then what goes through them.
        down: makes what the gated layers add.
        scale: (H + K, d), of queries and keys that are normalised.
    """

    qkv: _Product
    o: _Product
    gate_up: _Product
    down: _Product
    scale: Tensor | None


class FastDecoder:
    """Decoder by compiled loops over a model's weights as they are now; see
    :class:`~gridzero.llm_rl.decoding.decoder.Decoder`.

    Args:
        model: the model that the weights are of.
        weights: in single or double precision, on the processor.
        max_tokens: how many tokens will be appended at most.
    """

    drop = 1 / 8

    def __init__(self, model: Any, weights: LlamaWeights, max_tokens: int) -> None:
        self.model = model
        self.weights = weights
        self.max_tokens = max_tokens
        self.threads = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def start(self, prompts: Tensor, lengths: Tensor) -> Tensor:
        """Read the prompts."""
        weights = self.weights
        virtual = VirtualTokens.of(self.model)
        places = None
        if virtual is not None:
            prompts, places = virtual.insert(prompts, prompts.shape[1] - lengths)
            lengths = lengths + virtual.count
        n, columns = prompts.shape
        room = columns + self.max_tokens
        self.layers = [self._layer(layer) for layer in weights.layers]
        self.head = weights.head.weight.T, weights.head.bias  # not copied: it can be large
        self.head_scale = weights.norm * math.sqrt(len(weights.norm))
        self.cosines, self.sines = (
            part.to(weights.norm.dtype).contiguous().numpy() for part in rotations(self.model, room)
        )
        if virtual is not None and virtual.keys is not None:  # which are turned already
            self.cosines[: virtual.count], self.sines[: virtual.count] = 1, 0
        # (rows, K, C, d) each; nothing is read where nothing has been written.
        shape = n, weights.key_heads, room, weights.size
        self.stores = [(weights.norm.new_empty(shape), weights.norm.new_empty(shape)) for _ in self.layers]
        self.begins = columns - lengths.numpy()
        self.length = 0
        self._allocate(n, columns)
        self.x.copy_(self.model.get_input_embeddings()(prompts.reshape(-1)))
        self._read(virtual, places)
        last = self.normal.view(n, columns, -1)[:, -1]
        logits = last.new_empty(n, self.head[0].shape[1])
        _multiply(last, self.head, logits)
        self._allocate(n, 1)
        return logits

    def _layer(self, layer: Layer) -> _Layer:
        """The weights with all scales in them."""
        weights, root = self.weights, math.sqrt(self.weights.size)
        q, k = _paired(layer.q_proj, weights.size), _paired(layer.k_proj, weights.size)
        scale = None
        if layer.q_norm is None or layer.k_norm is None:
            q = Linear(q.weight / root, None if q.bias is None else q.bias / root)
        else:  # the norm's √d, and the attention's 1 / √d
            scale = torch.stack(
                [_pairs(layer.q_norm)] * weights.heads + [_pairs(layer.k_norm) * root] * weights.key_heads
            )
        return _Layer(
            qkv=_product([q, k, layer.v_proj], layer.attention_norm),
            o=_product([layer.o_proj]),
            gate_up=_product([layer.gate_proj, layer.up_proj], layer.gated_norm),
            down=_product([layer.down_proj]),
            scale=scale,
        )

    def _allocate(self, rows: int, steps: int) -> None:
        """Arrays for the numbers of so many new steps of so many rows, and the shapes they are seen in."""
        heads, key_heads, d = self.weights.heads, self.weights.key_heads, self.weights.size
        like, size = self.head_scale, rows * steps
        self.x, self.normal = like.new_empty(size, len(like)), like.new_empty(size, len(like))
        self.qkv = like.new_empty(size, (heads + 2 * key_heads) * d)
        self.queries_keys = self.qkv.view(size, -1, d)[:, : heads + key_heads]
        self.mixed = like.new_empty(size, heads * d)
        self.attention_arrays = (
            self.qkv.view(rows, steps, -1, d).numpy(),
            self.mixed.view(rows, steps, heads, d).numpy(),
        )
        self.gate_up = like.new_empty(size, self.layers[0].gate_up[0].shape[1])
        self.gated = like.new_empty(size, self.gate_up.shape[1] // 2)
        self.views = tuple(array.numpy() for array in (self.x, self.normal, self.gate_up, self.gated))
        self.arrays = [(keys.numpy(), values.numpy()) for keys, values in self.stores]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row."""
        torch.index_select(self.weights.embedding, 0, tokens, out=self.x)
        self._read()
        logits = self.normal.new_empty(len(tokens), self.head[0].shape[1])
        _multiply(self.normal, self.head, logits)
        return logits

    def _read(self, virtual: VirtualTokens | None = None, places: Tensor | None = None) -> None:
        """Run the layers on new steps of all rows: from embeddings in ``x`` to what the output layer reads, ``normal``.

        Args:
            virtual: learned tokens among them.
            places: (rows, steps), where those are.
        """
        x, normal, epsilon = self.x, self.normal, self.weights.epsilon
        residual, normed, halves, gated = self.views
        if virtual is not None and places is not None and virtual.embeddings is not None:
            x.masked_scatter_(places.view(-1, 1), virtual.embeddings.repeat(len(places), 1).to(x.dtype))
        for number, (layer, (keys, values)) in enumerate(zip(self.layers, self.arrays, strict=True)):
            normalise(residual, epsilon, normed)
            _multiply(normal, layer.qkv, self.qkv)
            if layer.scale is not None:
                squares = self.queries_keys.square().sum(-1, keepdim=True)
                self.queries_keys.mul_(squares.add_(self.weights.size * epsilon).rsqrt_()).mul_(layer.scale)
            if virtual is not None and places is not None:
                self._put(virtual, number, places)
            self._attend(keys, values)
            _add(x, self.mixed, layer.o)
            normalise(residual, epsilon, normed)
            _multiply(normal, layer.gate_up, self.gate_up)
            gate_halves(halves, gated)
            _add(x, self.gated, layer.down)
        normalise(residual, epsilon, normed)
        normal.mul_(self.head_scale)
        self.length += self.attention_arrays[0].shape[1]

    def _put(self, virtual: VirtualTokens, layer: int, places: Tensor) -> None:
        """Put a learned prefix among the keys and values of new steps."""
        if virtual.keys is None or virtual.values is None:
            return
        heads, key_heads = self.weights.heads, self.weights.key_heads
        learned = torch.cat([_pairs(virtual.keys[layer]), virtual.values[layer]], dim=1).flatten(1)
        own = self.qkv.view(len(self.qkv), -1, self.weights.size)[:, heads : heads + 2 * key_heads].flatten(1)
        own.masked_scatter_(places.view(-1, 1), learned.repeat(len(places), 1).to(own.dtype))
        self.qkv[:, heads * self.weights.size :] = own

    def _attend(self, keys: Any, values: Any) -> None:
        """Attend, in as many threads as the work is worth."""
        qkv, mixed = self.attention_arrays
        rows, steps, heads, _ = mixed.shape
        work = rows * steps * heads * (self.length + steps)
        parts = 1 if self.pool is None else min(self.threads, rows, max(1, work // _WORTH))

        def part(i: int) -> None:
            some = slice(i * rows // parts, (i + 1) * rows // parts)
            begins = self.begins[some]
            attend(qkv[some], self.cosines, self.sines, keys[some], values[some], begins, self.length, mixed[some])

        if self.pool is None or parts == 1:
            part(0)
        else:
            list(self.pool.map(part, range(parts)))

    def select(self, rows: Tensor) -> None:
        """Go on with these rows."""
        size, selection = len(self.begins), Selection(rows)
        self.begins = self.begins[rows.numpy()]
        self.stores = [
            (selection.of(keys, self.length), selection.of(values, self.length)) for keys, values in self.stores
        ]
        if len(rows) != size:
            self._allocate(len(rows), 1)


def _multiply(x: Tensor, product: _Product, out: Tensor) -> None:
    weight, bias = product
    if bias is None:
        torch.mm(x, weight, out=out)
    else:
        torch.addmm(bias, x, weight, out=out)


def _add(x: Tensor, y: Tensor, product: _Product) -> None:
    """Add y's product to x."""
    weight, bias = product
    x.addmm_(y, weight)
    if bias is not None:
        x += bias


def _product(linears: list[Linear], norm: Tensor | None = None) -> _Product:
    """One product for several layers next to each other, multiplied by the weights and √D of the norm before them."""
    weight = torch.cat([linear.weight.T for linear in linears], 1).contiguous()
    if norm is not None:
        weight *= (norm * math.sqrt(len(norm))).unsqueeze(-1)
    if all(linear.bias is None for linear in linears):
        return weight, None
    biases = [torch.zeros_like(linear.weight[:, 0]) if linear.bias is None else linear.bias for linear in linears]
    return weight, torch.cat(biases)


def _pairs(x: Tensor) -> Tensor:
    """The halves of the last dimension, (…, d), which are turned together, as d / 2 pairs next to each other."""
    return x.reshape(*x.shape[:-1], 2, -1).transpose(-1, -2).flatten(-2)


def _paired(linear: Linear, size: int) -> Linear:
    """The layer that makes queries or keys of this size as pairs."""
    weight = _pairs(linear.weight.T.reshape(linear.weight.shape[1], -1, size)).flatten(-2).T
    return Linear(weight, None if linear.bias is None else _pairs(linear.bias.view(-1, size)).flatten())
