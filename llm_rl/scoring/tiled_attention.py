r"""Attention in tiles: an online softmax over blocks of keys, whose memory grows with the length and not its square.

The row of scores of a query is never whole. Block by block of keys, three numbers are carried along: the largest score
so far, $m$, the sum of the exponentials, $\ell = \sum_j e^{s_j - m}$, and the mixture $o = \sum_j e^{s_j - m} v_j$; a
larger score in a later block rescales what came before by $e^{m_{old} - m_{new}}$. The backward pass computes the
scores of a tile again from $m + \log \ell$, which alone is kept.

Sources: Milakov and Gimelshein (2018), Online normalizer calculation for softmax; Rabe and Staats (2021),
Self-attention does not need O(n²) memory; Dao et al. (2022), FlashAttention, algorithms 1 and 4.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def tiled_attention(queries: Tensor, keys: Tensor, values: Tensor, *, block: int = 64, causal: bool = True) -> Tensor:
    """(…, T, d) the softmax attention of queries to keys and values, computed in tiles of ``block`` × ``block`` scores.

    Args:
        queries: (…, T, d).
        keys: (…, T, d).
        values: (…, T, d).
        block: queries, and keys, of a tile.
        causal: each query attends to the keys at its place and before.

    Raises:
        ValueError: for a block below 1.

    Example:
        >>> q, k, v = torch.randn(3, 2, 100, 8, generator=torch.Generator().manual_seed(0)).unbind()
        >>> whole = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        >>> torch.allclose(tiled_attention(q, k, v, block=16), whole, atol=1e-6)
        True
    """
    if block < 1:
        raise ValueError(f"block must be at least 1, not {block}")
    attended: Tensor = _Tiled.apply(queries, keys, values, block, causal)  # type: ignore[no-untyped-call]  # torch's
    return attended


def _scores(queries: Tensor, keys: Tensor, first_query: int, first_key: int, causal: bool) -> Tensor:
    """The scaled products of one tile, minus infinity where a key is later than a query."""
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
    if causal and first_key + keys.shape[-2] > first_query + 1:
        rows = torch.arange(first_query, first_query + queries.shape[-2], device=scores.device)
        columns = torch.arange(first_key, first_key + keys.shape[-2], device=scores.device)
        scores = scores.masked_fill(columns > rows[:, None], -torch.inf)
    return scores


class _Tiled(torch.autograd.Function):
    """Forward and backward passes over tiles."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, block: int, causal: bool) -> Tensor:
        length = queries.shape[-2]
        attended, log_sums = torch.empty_like(queries), queries.new_empty(queries.shape[:-1])
        for start in range(0, length, block):
            rows = slice(start, min(start + block, length))
            q = queries[..., rows, :]
            greatest = q.new_full(q.shape[:-1], -torch.inf)
            total, mixed = torch.zeros_like(greatest), torch.zeros_like(q)
            for first in range(0, rows.stop if causal else length, block):
                columns = slice(first, min(first + block, length))
                scores = _scores(q, keys[..., columns, :], start, first, causal)
                raised = torch.maximum(greatest, scores.amax(-1))
                powers = torch.exp(scores - raised[..., None])
                shrink = torch.exp(greatest - raised)
                total = total * shrink + powers.sum(-1)
                mixed = mixed * shrink[..., None] + powers @ values[..., columns, :]
                greatest = raised
            attended[..., rows, :] = mixed / total[..., None]
            log_sums[..., rows] = greatest + total.log()
        ctx.save_for_backward(queries, keys, values, attended, log_sums)
        ctx.block, ctx.causal = block, causal
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, attended, log_sums = ctx.saved_tensors
        block, causal, length = ctx.block, ctx.causal, queries.shape[-2]
        of_queries, of_keys, of_values = (torch.zeros_like(each) for each in (queries, keys, values))
        along = (gradient * attended).sum(-1)  # the sum over keys of A · dA, from Dao et al., eq. 4
        scale = 1 / math.sqrt(queries.shape[-1])
        for start in range(0, length, block):
            rows = slice(start, min(start + block, length))
            q, g = queries[..., rows, :], gradient[..., rows, :]
            for first in range(0, rows.stop if causal else length, block):
                columns = slice(first, min(first + block, length))
                k, v = keys[..., columns, :], values[..., columns, :]
                shares = torch.exp(_scores(q, k, start, first, causal) - log_sums[..., rows, None])
                of_scores = shares * (g @ v.transpose(-1, -2) - along[..., rows, None]) * scale
                of_values[..., columns, :] += shares.transpose(-1, -2) @ g
                of_keys[..., columns, :] += of_scores.transpose(-1, -2) @ q
                of_queries[..., rows, :] += of_scores @ k
        return of_queries, of_keys, of_values, None, None
