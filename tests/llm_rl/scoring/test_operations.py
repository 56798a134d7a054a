"""What packed sequences are scored with is what it is written to be, and so are its gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gridzero.llm_rl.cpu_kernels.elementwise import exponential
from gridzero.llm_rl.scoring import operations
from gridzero.llm_rl.scoring.operations import attend, side_by_side
from gridzero.llm_rl.scoring.packing import Packing


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def rotation(steps: torch.Tensor, half: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = steps.double().unsqueeze(1) * torch.tensor([1.0, 0.3, 0.1, 0.03], dtype=torch.float64)[:half]
    return angles.cos(), angles.sin()


def one_sequence(length: int) -> Packing:
    return Packing.of(torch.arange(length).unsqueeze(0), torch.tensor([1]), torch.tensor([length]))


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("lengths", [[1], [7, 4, 5], [3, 60, 4, 5, 3, 8, 60, 60]])
def test_attention_is_torchs_own(
    heads: int, key_heads: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two begin with the same prompt of two tokens; the last lengths are in several parts."""
    tokens = torch.arange(len(lengths) * max(lengths)).reshape(len(lengths), -1)
    prompts = torch.ones(len(lengths), dtype=torch.long)
    if len(lengths) > 1:
        tokens[1, :2], prompts[:2] = tokens[0, :2], 2
    packing = Packing.of(tokens, prompts, torch.tensor(lengths))
    assert len(packing.tokens) == sum(lengths) - (2 if len(lengths) > 1 else 0)
    size = len(packing.tokens)
    made = random(size, heads + 2 * key_heads, 8)
    turns = rotation(packing.positions, 4)
    ours = attend(made, heads, turns, packing, 0.3)
    monkeypatch.setattr(operations, "_SHORT", 0)
    theirs = attend(made, heads, turns, packing, 0.3)
    weights = random(*ours.shape, seed=3).detach()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad((out * weights).sum(), made)[0] for out in (ours, theirs)))


def test_each_step_attends_to_itself_and_before() -> None:
    values, packing = random(5, 1, 4), one_sequence(5)
    for step in range(5):
        made = torch.cat([random(5, 1, 4), random(5, 1, 4, seed=1), values], dim=1)
        out = attend(made, 1, rotation(torch.arange(5), 2), packing, 1.0)
        gradient = torch.autograd.grad(out[step].sum(), values)[0]
        assert gradient[: step + 1].all()
        assert not gradient[step + 1 :].any()


@pytest.mark.parametrize("short", [0, 128])
def test_what_is_attended_to_depends_on_distances_alone(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax attention as it is written, the products those of vectors turned by the distance between them."""
    monkeypatch.setattr(operations, "_SHORT", short)
    length, frequencies = 6, torch.tensor([1.0, 0.3, 0.1, 0.03], dtype=torch.float64)
    queries, keys, values = (random(length, 1, 8, seed=i).detach() for i in range(3))
    made = torch.cat([queries, keys, values], dim=1)
    out = attend(made, 1, rotation(torch.arange(length) + 11, 4), one_sequence(length), 0.5)
    q, k = (torch.complex(part[:, 0, :4], part[:, 0, 4:]) for part in (queries, keys))
    for i in range(length):
        turns = torch.polar(torch.ones_like(frequencies), frequencies * 1.0)
        products = torch.stack([(q[i] * (k[j] * turns ** (j - i)).conj()).real.sum() for j in range(i + 1)])
        expected = (0.5 * products).softmax(0) @ values[: i + 1, 0]
        torch.testing.assert_close(out[i], expected)


def test_gradients_are_those_of_finite_differences() -> None:
    packing = Packing.of(torch.tensor([[1, 2, 3, 4], [1, 2, 5, 0]]), torch.tensor([2, 2]), torch.tensor([4, 3]))
    turns = rotation(packing.positions, 2)
    assert torch.autograd.gradcheck(lambda made: attend(made, 2, turns, packing, 0.7), (random(5, 4, 4),))


@given(st.lists(st.floats(-87, 88, width=32), min_size=1, max_size=50))
def test_the_exponential_in_single_precision(numbers: list[float]) -> None:
    found = np.array([exponential(np.float32(number)) for number in numbers])
    np.testing.assert_allclose(found, np.exp(np.array(numbers, dtype=np.float64)), rtol=1.5e-7, atol=2e-38)


def test_the_exponential_of_very_small_numbers_is_nothing() -> None:
    assert [float(exponential(np.float32(x))) for x in (-87.5, -1e30, -np.inf)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bias", [True, False])
def test_layers_side_by_side(bias: bool) -> None:
    layers = [torch.nn.Linear(4, n, bias=bias, dtype=torch.float64) for n in (3, 5)]
    states = random(6, 4)
    expected = torch.cat([layer(states) for layer in layers], dim=-1)
    torch.testing.assert_close(side_by_side(layers, states), expected)
    mixed = [layers[0], torch.nn.Linear(4, 2, bias=not bias, dtype=torch.float64)]
    torch.testing.assert_close(side_by_side(mixed, states)[:, :3], expected[:, :3])
