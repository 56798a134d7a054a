"""Decoding with models of the Llama family on a processor: the arithmetic, and next to nothing around it.

For a small model most of the time of a step goes into calling its modules. Here a step is a dozen calls a layer, into
arrays made once: scales are moved into the matrices (those of the norms, and of the attention), queries and keys are
turned as complex numbers, what is added to the residual stream is added by the product that makes it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridzero.llm_rl.decoding import ModelDecoder
from gridzero.llm_rl.llama_weights import Layer, Linear, LlamaWeights, rotations

# Torch multiplies smaller matrices than this many products, in a batch, one number at a time.
_FEW_PRODUCTS = 400

_Product = tuple[Tensor, Tensor | None]  # (inputs, outputs), and (outputs,) where there is a bias


class _Layer(NamedTuple):
    """The weights of a layer as they are multiplied, and its keys and values for B rows, C steps.

    Attributes:
        qkv: makes queries, keys and values.
        o: makes what the attention adds.
        gate_up: makes the gates, then what goes through them.
        down: makes what the gated layers add.
        scale: (H + K, d), of queries and keys that are normalised.
        keys: (B, K, C, d), what is turned together next to each other.
        values: (B, K, C, d).
    """

    qkv: _Product
    o: _Product
    gate_up: _Product
    down: _Product
    scale: Tensor | None
    keys: Tensor
    values: Tensor


class FastDecoder:
    """A decoder, see :class:`~gridzero.llm_rl.decoding.Decoder`, of a model's weights as they are now.

    Args:
        model: the model that the weights are of; it reads the prompts.
        weights: in single or double precision, on the processor.
        max_tokens: how many tokens will be appended at most.
    """

    drop = 1 / 8

    def __init__(self, model: Any, weights: LlamaWeights, max_tokens: int) -> None:
        self.model = model
        self.weights = weights
        self.max_tokens = max_tokens

    def start(self, prompts: Tensor, lengths: Tensor, copies: int) -> Tensor:
        """Read the prompts by the model, each once, and copy its keys and values."""
        reader = ModelDecoder(self.model, 0)
        logits = reader.start(prompts, lengths, 1)
        n, self.length = prompts.shape
        room = self.length + self.max_tokens
        weights = self.weights
        products = weights.size * weights.heads // weights.key_heads
        self.least = min(room, -(-_FEW_PRODUCTS // products))  # steps attended to, those to come being masked
        self.layers = [
            self._layer(layer, read.room, copies) for layer, read in zip(weights.layers, reader.layers, strict=True)
        ]
        self.head = weights.head.weight.T, weights.head.bias  # not copied: it can be large
        self.head_scale = weights.norm * math.sqrt(len(weights.norm))
        self.root = weights.norm.new_tensor(math.sqrt(len(weights.norm) * weights.epsilon))
        self.head_root = weights.norm.new_tensor(math.sqrt(weights.size * weights.epsilon))
        self.rotations = torch.complex(*(part.to(weights.norm.dtype) for part in rotations(self.model, room)))
        self.positions: Tensor | None = None  # by slot, if they differ
        self.mask: Tensor | None = None  # (slots or 1, K or 1, C), -inf where there is nothing to attend to
        steps, padding = torch.arange(room), self.length - lengths
        if bool(padding.any()):
            self.positions = lengths.repeat_interleave(copies)
            nothing = (steps < padding.unsqueeze(-1)).repeat_interleave(copies, 0).unsqueeze(1)
            nothing = nothing.repeat(1, weights.key_heads, 1)
        else:
            nothing = torch.zeros(1, 1, room, dtype=torch.bool)
        nothing |= (steps >= self.length) & (steps < self.least)
        if bool(nothing.any()):
            self.mask = torch.zeros(nothing.shape, dtype=weights.norm.dtype).masked_fill_(nothing, -math.inf)
        self._allocate(n * copies)
        return logits.repeat_interleave(copies, 0)

    def _layer(self, layer: Layer, read: tuple[Tensor, ...], copies: int) -> _Layer:
        """The weights with all scales in them, and the prompts' keys and values with room for more."""
        weights, root = self.weights, math.sqrt(self.weights.size)
        q, k = _paired(layer.q_proj, weights.size), _paired(layer.k_proj, weights.size)
        scale = None
        if layer.q_norm is None or layer.k_norm is None:
            q = Linear(q.weight / root, None if q.bias is None else q.bias / root)
        else:  # the norm's √d, and the attention's 1 / √d
            scale = torch.stack(
                [_pairs(layer.q_norm)] * weights.heads + [_pairs(layer.k_norm) * root] * weights.key_heads
            )
        stores = []
        for prompt in (_pairs(read[0]), read[1]):
            n, heads, length, size = prompt.shape
            store = prompt.new_empty(n, copies, heads, length + self.max_tokens, size)
            store[..., :length, :] = prompt.unsqueeze(1)
            store[..., length : self.least, :] = 0.0
            stores.append(store.flatten(0, 1))
        return _Layer(
            qkv=_product([q, k, layer.v_proj], layer.attention_norm),
            o=_product([layer.o_proj]),
            gate_up=_product([layer.gate_proj, layer.up_proj], layer.gated_norm),
            down=_product([layer.down_proj]),
            scale=scale,
            keys=stores[0],
            values=stores[1],
        )

    def _allocate(self, size: int) -> None:
        """Arrays for the numbers of a step of so many rows, and the shapes they are seen in."""
        heads, key_heads, d = self.weights.heads, self.weights.key_heads, self.weights.size
        like = self.head_scale
        width, room = len(like), self.layers[0].keys.shape[2]
        self.x, self.normal, self.norm = (like.new_empty(size, columns) for columns in (width, width, 1))
        self.qkv = like.new_empty(size, (heads + 2 * key_heads) * d)
        made = self.qkv.view(size, -1, d)
        self.queries_keys, self.made_values = made[:, : heads + key_heads], made[:, heads + key_heads :]
        self.head_norms = like.new_empty(size, heads + key_heads, 1)
        unturned = _complex(self.queries_keys)
        self.unturned_queries, self.unturned_keys = unturned[:, :heads], unturned[:, heads:]
        queries = like.new_empty(size, heads, d)
        self.turned_queries, self.queries = _complex(queries), queries.view(size * key_heads, -1, d)
        self.scores, self.attention = (like.new_empty(size * heads * room) for _ in range(2))
        self.mixed = like.new_empty(size, heads * d)
        self.mixed_heads = self.mixed.view(size * key_heads, -1, d)
        self.gate_up = like.new_empty(size, self.layers[0].gate_up[0].shape[1])
        self.gate, self.up = self.gate_up.chunk(2, -1)
        self.logits = like.new_empty(size, self.head[0].shape[1])
        # As they are written, a step at a time, and as they are multiplied, a matrix for each row and head.
        self.stores = [
            (
                _complex(layer.keys[:size]),
                layer.values[:size],
                layer.keys[:size].view(-1, room, d).transpose(1, 2),
                layer.values[:size].view(-1, room, d),
            )
            for layer in self.layers
        ]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token in each slot."""
        at, length = self.length, self.length + 1
        rotation = self.rotations[at] if self.positions is None else self.rotations[self.positions].unsqueeze(1)
        places = max(length, self.least)
        shape = (*self.queries.shape[:2], places)
        count = math.prod(shape)
        scores, attention = self.scores[:count].view(shape), self.attention[:count].view(shape)
        mask = None
        if self.mask is not None and (self.positions is not None or length < places):
            self.mask[..., at] = 0.0
            mask = self.mask.narrow(-1, 0, places).reshape(-1, 1, places)
        x, normal = self.x, self.normal
        torch.index_select(self.weights.embedding, 0, tokens, out=x)
        for layer, (keys_at, values_at, keys, values) in zip(self.layers, self.stores, strict=True):
            _normalise(x, self.root, self.norm, normal)
            _multiply(normal, layer.qkv, self.qkv)
            if layer.scale is not None:
                _normalise(self.queries_keys, self.head_root, self.head_norms, self.queries_keys).mul_(layer.scale)
            torch.mul(self.unturned_queries, rotation, out=self.turned_queries)
            torch.mul(self.unturned_keys, rotation, out=keys_at.select(2, at))
            values_at.select(2, at).copy_(self.made_values)
            if mask is None:
                torch.bmm(self.queries, keys.narrow(2, 0, places), out=scores)
            else:
                torch.baddbmm(mask, self.queries, keys.narrow(2, 0, places), out=scores)
            torch.softmax(scores, -1, out=attention)
            torch.bmm(attention, values.narrow(1, 0, places), out=self.mixed_heads)
            _add(x, self.mixed, layer.o)
            _normalise(x, self.root, self.norm, normal)
            _multiply(normal, layer.gate_up, self.gate_up)
            torch.nn.functional.silu(self.gate, inplace=True).mul_(self.up)
            _add(x, self.gate, layer.down)
        _normalise(x, self.root, self.norm, normal).mul_(self.head_scale)
        _multiply(normal, self.head, self.logits)
        self.length = length
        if self.positions is not None:
            self.positions += 1
        return self.logits

    def shrink(self, size: int, sources: Tensor, targets: Tensor) -> None:
        """Keep some slots."""
        for layer in self.layers:
            for store in (layer.keys, layer.values):
                filled = store[:, :, : self.length]
                filled[targets] = filled[sources]
        if self.positions is not None and self.mask is not None:
            for by_slot in (self.mask, self.positions):
                by_slot[targets] = by_slot[sources]
            self.mask, self.positions = self.mask[:size], self.positions[:size]
        self._allocate(size)


def _normalise(x: Tensor, root: Tensor, norm: Tensor, out: Tensor) -> Tensor:
    """X / √(|x|² + D ε), with root √(D ε): the RMSNorm but for √D and its weights. The norm goes to ``norm``."""
    torch.linalg.vector_norm(x, dim=-1, keepdim=True, out=norm)
    return torch.div(x, norm.hypot_(root), out=out)


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
    """Layers next to each other, the weights and √D of the norm before them in them."""
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


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.view(*pairs.shape[:-1], -1, 2))
