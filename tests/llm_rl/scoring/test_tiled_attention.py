"""Attention in tiles against torch's own, and its gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from gridzero.llm_rl.scoring.tiled_attention import tiled_attention


def inputs(*shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("block", [1, 5, 8, 64])
def test_values_and_gradients_are_those_of_the_whole_matrix(causal: bool, block: int) -> None:
    q, k, v = inputs(2, 3, 21, 4)
    weights = torch.randn(2, 3, 21, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = tiled_attention(q, k, v, block=block, causal=causal)
    theirs = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((out * weights).sum(), (q, k, v)) for out in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_gradients_are_those_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda *each: tiled_attention(*each, block=3), inputs(1, 7, 2))


def test_large_scores_do_not_overflow() -> None:
    q, k, v = (each.detach() * 1000 for each in inputs(1, 9, 4))
    ours = tiled_attention(q, k, v, block=4)
    torch.testing.assert_close(ours, functional.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_no_tile_is_empty() -> None:
    with pytest.raises(ValueError, match="block must be at least 1, not 0"):
        tiled_attention(*inputs(1, 4, 2), block=0)
