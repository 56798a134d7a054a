"""Adam over one vector: the same as torch's, and master weights for parameters in half precision."""

import pytest
import torch
from torch import nn

from gridzero.agents.neural.muon import hidden_matrices
from gridzero.agents.neural.optimiser import Optimiser

SETTINGS = {"epsilon": 1e-8, "max_norm": 0.0}


def network(dtype: torch.dtype, seed: int = 0) -> nn.Sequential:
    """A layer in ``dtype`` and a head in single precision."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16).to(dtype), nn.Linear(16, 1))


def loss(network: nn.Sequential, seed: int) -> torch.Tensor:
    inputs = torch.randn(32, 8, generator=torch.Generator().manual_seed(seed))
    hidden = network[0](inputs.to(network[0].weight.dtype)).float()
    return (network[1](hidden) - inputs.sum(dim=1, keepdim=True)).square().mean()


def test_single_precision_is_adam_of_torch() -> None:
    ours, theirs = network(torch.float32), network(torch.float32)
    optimiser = Optimiser(list(ours.parameters()), **SETTINGS)
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-2)
    for step in range(5):
        optimiser.step([loss(ours, step)], 1e-2)
        adam.zero_grad()
        loss(theirs, step).backward()
        adam.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_small_steps_move_half_precision_as_far_as_single() -> None:
    """At a learning rate of 1e-5 a weight in bfloat16 alone would hardly ever move: a step is below its last digit."""
    half, single = network(torch.bfloat16), network(torch.float32)
    single[0].load_state_dict(half[0].state_dict())
    before = half[0].weight.detach().clone()
    optimisers = [Optimiser(list(one.parameters()), **SETTINGS) for one in (half, single)]
    for step in range(300):
        optimisers[0].step([loss(half, step % 10)], 1e-5)
        optimisers[1].step([loss(single, step % 10)], 1e-5)
    assert half[0].weight.dtype is torch.bfloat16
    assert half[1].weight.dtype is torch.float32  # a head in single precision stays apart
    moved = (half[0].weight != before).float().mean()
    assert moved > 0.5
    master = optimisers[0].vector[: half[0].weight.numel()].view_as(before)
    torch.testing.assert_close(master, single[0].weight, rtol=0, atol=3e-4)
    torch.testing.assert_close(half[0].weight, master.to(torch.bfloat16), rtol=0, atol=0)


def test_gradients_of_parts_add_up_in_single_precision() -> None:
    """Sixty-four equal parts of a gradient are their sum; in bfloat16 they would stop growing."""
    one = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimiser = Optimiser([one], **SETTINGS)
    slope = torch.tensor([1.0, 1.0078125, -0.3359375, 3.0])
    optimiser.step([(one.float() * slope).sum() for _ in range(1000)], 0.0)
    torch.testing.assert_close(optimiser.gradient, 1000 * slope)


@pytest.mark.parametrize("steps", [0, 3])
def test_interrupted_half_precision_goes_on_bit_for_bit(steps: int) -> None:
    whole, part = network(torch.bfloat16), network(torch.bfloat16)
    first, second = (Optimiser(list(one.parameters()), **SETTINGS) for one in (whole, part))
    for step in range(steps):
        first.step([loss(whole, step)], 1e-4)
    part.load_state_dict(whole.state_dict())
    second.load_state_dict({name: value.detach().numpy().copy() for name, value in first.state_dict().items()})
    for step in range(steps, steps + 3):
        first.step([loss(whole, step)], 1e-4)
        second.step([loss(part, step)], 1e-4)
    assert torch.equal(first.vector, second.vector)
    for a, b in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_without_master_weights_is_refused() -> None:
    single, half = network(torch.float32), network(torch.bfloat16)
    other = Optimiser(list(single.parameters()), **SETTINGS)
    other.step([loss(single, 0)], 1e-3)
    with pytest.raises(ValueError, match="no master weights"):
        Optimiser(list(half.parameters()), **SETTINGS).load_state_dict(other.state_dict())


@pytest.mark.parametrize("shape", [(6, 6), (12, 5), (5, 12)])
def test_muon_steps_along_the_gradients_singular_vectors_and_equally_far(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    slope = torch.randn(shape, generator=generator)
    matrix, other = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
    optimiser = Optimiser([other, matrix], **SETTINGS, matrices=[matrix])
    optimiser.step([(slope * (matrix + other)).sum()], 0.5)
    torch.testing.assert_close(other, -0.5 * slope.sign())  # Adam's first step
    left, _, right = torch.linalg.svd(slope, full_matrices=False)
    moved = left.T @ matrix.detach() @ right.T / (-0.5 * 0.2 * max(shape) ** 0.5)
    assert (moved.diagonal() - 0.93).abs().max() < 0.28  # the iteration's own bounds, .68 to 1.14, and a little
    assert (moved - moved.diagonal().diag()).abs().max() < 1e-4


def test_muon_goes_on_from_its_state() -> None:
    def made() -> tuple[nn.Sequential, Optimiser]:
        one = network(torch.float32)
        return one, Optimiser(list(one.parameters()), **SETTINGS, matrices=hidden_matrices(one, [*one.parameters()]))

    (whole, first), (part, second) = made(), made()
    for step in range(6):
        first.step([loss(whole, step)], 1e-2)
        if step == 3:
            state = {name: torch.as_tensor(value).clone() for name, value in second.state_dict().items()}
            weights = {name: value.clone() for name, value in part.state_dict().items()}
            part, second = made()
            part.load_state_dict(weights)
            second.load_state_dict(state)
        second.step([loss(part, step)], 1e-2)
    for a, b in zip(whole.parameters(), part.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
