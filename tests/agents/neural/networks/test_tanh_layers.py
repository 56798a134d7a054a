"""Tanh layers as one operation equal the layers one by one, backwards too."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from gridzero.agents.neural.networks.tanh_layers import NARROW, tanh_layers


@pytest.mark.parametrize("widths", [(3, 5), (4, 64, 64), (NARROW, 8, 2), (NARROW + 3, 7, 6, 5)])
@pytest.mark.parametrize("shape", [(9,), (2, 5)])
def test_values_and_gradients_are_those_of_the_layers_one_by_one(
    widths: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layers = tuple(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
    inputs = torch.randn(*shape, widths[0], requires_grad=True)
    expected = inputs
    for layer in layers:
        expected = layer(expected).tanh()
    weights = torch.randn_like(expected)
    wanted = [inputs, *(parameter for layer in layers for parameter in layer.parameters())]
    theirs = torch.autograd.grad((expected * weights).sum(), wanted)
    found = tanh_layers(inputs, layers)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    ours = torch.autograd.grad((found * weights).sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(tanh_layers(inputs, layers), expected, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradcheck(
        lambda rows: tanh_layers(rows, tuple(layer.double() for layer in layers)),
        (inputs.detach().double().requires_grad_(),),
    )
