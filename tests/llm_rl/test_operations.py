"""What packed sequences are scored with is what it is written to be, and so are its gradients."""

import math

import pytest
import torch
from torch.nn import functional

from gridzero.llm_rl import operations
from gridzero.llm_rl.operations import attend, gated, turned


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("length", [1, 7])
def test_attention_is_torchs_own(heads: int, key_heads: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random(3, length, heads + 2 * key_heads, 8)
    ours = attend(made, heads, 0.3)
    monkeypatch.setattr(operations, "_SHORT", 0)
    theirs = attend(made, heads, 0.3)
    weights = random(*ours.shape, seed=1).detach()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad((out * weights).sum(), made)[0] for out in (ours, theirs)))


def test_each_step_attends_to_itself_and_before() -> None:
    made = random(1, 5, 3, 4)
    for step in range(5):
        gradient = torch.autograd.grad(attend(made, 1, 1.0)[0, step].sum(), made)[0][0]
        assert gradient[: step + 1].any()
        assert not gradient[step + 1 :].any()


def test_turning_keeps_products_and_depends_on_the_distance_alone() -> None:
    vectors = random(6, 1, 8)
    angles = torch.arange(6.0, dtype=torch.float64).reshape(6, 1, 1) * torch.tensor([1.0, 0.3, 0.1, 0.03])
    same = vectors[:1].expand(6, 1, 8)
    every = turned(same, same, vectors, angles.cos(), angles.sin())
    queries, keys, values = (part.squeeze(1) for part in every.split(1, dim=1))
    torch.testing.assert_close(values, vectors.squeeze(1))
    products = queries @ keys.T
    a, b = vectors[0, 0, :4], vectors[0, 0, 4:]
    for i in range(6):
        for j in range(6):
            between = (i - j) * torch.tensor([1.0, 0.3, 0.1, 0.03], dtype=torch.float64)
            expected = ((a * a + b * b) * between.cos()).sum()
            torch.testing.assert_close(products[i, j], expected)


def test_gradients_are_those_of_finite_differences() -> None:
    angles = random(5, 1, 3).detach()
    assert torch.autograd.gradcheck(
        lambda q, k, v: turned(q, k, v, angles.cos(), angles.sin()), (random(5, 2, 6), random(5, 1, 6), random(5, 1, 6))
    )
    assert torch.autograd.gradcheck(lambda made: attend(made, 2, 1 / math.sqrt(3)), (random(2, 4, 4, 3),))
    assert torch.autograd.gradcheck(gated, (random(4, 3), random(4, 3, seed=1)))
    gates, values = random(4, 3), random(4, 3, seed=1)
    torch.testing.assert_close(gated(gates, values), functional.silu(gates) * values)
