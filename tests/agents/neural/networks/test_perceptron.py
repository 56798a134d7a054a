"""A perceptron as one operation equals its layers one by one, backwards too."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from gridzero.agents.neural.networks.perceptron import NARROW, perceptron


@pytest.mark.parametrize("widths", [(3, 5), (4, 64, 64), (NARROW, 8, 2), (NARROW + 3, 7, 6, 5)])
@pytest.mark.parametrize("shape", [(9,), (2, 5)])
@pytest.mark.parametrize("last", [None, 1, 3])
def test_values_and_gradients_are_those_of_the_layers_one_by_one(
    widths: tuple[int, ...], shape: tuple[int, ...], last: int | None
) -> None:
    torch.manual_seed(0)
    layers = tuple(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
    output = None if last is None else nn.Linear(widths[-1], last)
    inputs = torch.randn(*shape, widths[0], requires_grad=True)
    expected = inputs
    for layer in layers:
        expected = layer(expected).tanh()
    expected = expected if output is None else output(expected)
    weights = torch.randn_like(expected)
    modules = layers if output is None else (*layers, output)
    wanted = [inputs, *(parameter for layer in modules for parameter in layer.parameters())]
    theirs = torch.autograd.grad((expected * weights).sum(), wanted)
    found = perceptron(inputs, layers, output)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    ours = torch.autograd.grad((found * weights).sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(perceptron(inputs, layers, output), expected, atol=1e-6, rtol=1e-5)
    for layer in modules:
        layer.double()
    assert torch.autograd.gradcheck(
        lambda rows: perceptron(rows, layers, output), (inputs.detach().double().requires_grad_(),)
    )
