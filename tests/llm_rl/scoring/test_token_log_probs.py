"""Token log-probabilities against the plain formula, its gradients, and what they keep in memory."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gridzero.llm_rl.scoring.token_log_probs import token_log_probs


def plain(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    scale: float = 1.0,
    soft_cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    if soft_cap is not None:
        logits = soft_cap * torch.tanh(logits / soft_cap)
    log_probs = torch.log_softmax(logits / temperature, dim=-1)
    return log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), -(log_probs.exp() * log_probs).sum(-1)


def example(
    tokens: int, vocabulary: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((tokens, width), (vocabulary, width), (vocabulary,))
    )
    return hidden, weight, bias, torch.randint(vocabulary, (tokens,), generator=generator)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor made has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


@settings(max_examples=60)
@given(
    tokens=st.integers(1, 9),
    vocabulary=st.integers(1, 40),
    width=st.integers(1, 5),
    slice_size=st.none() | st.integers(1, 45),
    temperature=st.floats(0.2, 5.0),
    scale=st.floats(0.1, 3.0),
    soft_cap=st.none() | st.floats(0.5, 30.0),
    biased=st.booleans(),
    wanted=st.sampled_from(["log_probs", "entropies", "both"]),
    seed=st.integers(0, 1 << 30),
)
def test_values_and_gradients_are_those_of_the_plain_formula(
    tokens: int,
    vocabulary: int,
    width: int,
    slice_size: int | None,
    temperature: float,
    scale: float,
    soft_cap: float | None,
    biased: bool,
    wanted: str,
    seed: int,
) -> None:
    hidden, weight, bias, targets = example(tokens, vocabulary, width, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    coefficients = torch.randn(2, tokens, generator=generator, dtype=torch.float64)
    inputs = (hidden, weight, bias) if biased else (hidden, weight)
    options = {"temperature": temperature, "scale": scale, "soft_cap": soft_cap, "bias": bias if biased else None}
    results = []
    for function, more in ((plain, {}), (token_log_probs, {"slice_size": slice_size})):
        log_probs, entropies = function(hidden, weight, targets, **options, **more)  # type: ignore[arg-type]  # the options are typed one by one
        loss = torch.zeros((), dtype=torch.float64)
        if wanted != "entropies":
            loss = loss + (coefficients[0] * log_probs).sum()
        if wanted != "log_probs":
            loss = loss + (coefficients[1] * entropies).sum()
        results.append((log_probs, entropies, *torch.autograd.grad(loss, inputs)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("slice_size", [None, 3, 11])
@pytest.mark.parametrize("soft_cap", [None, 2.0])
def test_gradients_are_those_of_finite_differences(slice_size: int | None, soft_cap: float | None) -> None:
    hidden, weight, bias, targets = example(4, 11, 3)

    def function(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return token_log_probs(
            hidden, weight, targets, bias=bias, temperature=0.7, soft_cap=soft_cap, slice_size=slice_size
        )

    assert torch.autograd.gradcheck(function, (hidden, weight, bias))


@pytest.mark.parametrize(("tokens", "vocabulary"), [(300, 5000), (2100, 2048), (5000, 40)])
def test_single_precision_agrees_to_five_places(tokens: int, vocabulary: int) -> None:
    """Over several blocks of tokens and slices of the vocabulary, of uneven sizes."""
    hidden, weight, _, targets = example(tokens, vocabulary, 16, dtype=torch.float32)
    exact = plain(hidden.double(), weight.double(), targets, temperature=2.0)
    found = token_log_probs(hidden, weight, targets, temperature=2.0)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad((found[0] - found[1]).mean(), (hidden, weight))
    expected = torch.autograd.grad((exact[0] - exact[1]).mean(), (hidden, weight))
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("slice_size", [None, 100])
def test_half_precision_sums_in_single(dtype: torch.dtype, slice_size: int | None) -> None:
    """The products of halves are exact in single precision, so the results are as good as its sums."""
    hidden, weight, bias, targets = example(50, 333, 64, dtype=dtype)
    expected = plain(hidden.float(), weight.float(), targets, bias.float())
    found = token_log_probs(hidden, weight, targets, bias=bias, slice_size=slice_size)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(found[0].sum(), (hidden, weight, bias)),
        torch.autograd.grad(expected[0].sum(), (hidden, weight, bias)),
        strict=True,
    ):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


def test_automatic_casting_does_not_cost_precision() -> None:
    hidden, weight, _, targets = example(20, 200, 32, dtype=torch.float32)
    expected = plain(hidden, weight, targets)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = token_log_probs(hidden, weight, targets, slice_size=64)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=30)
@given(size=st.floats(1.0, 1e4), slice_size=st.integers(1, 20), seed=st.integers(0, 1 << 30))
def test_extreme_logits_stay_finite(size: float, slice_size: int, seed: int) -> None:
    hidden, weight, _, targets = example(6, 17, 3, seed, torch.float32)
    large = (hidden * size).detach().requires_grad_()
    log_probs, entropies = token_log_probs(large, weight, targets, slice_size=slice_size)
    gradient = torch.autograd.grad((log_probs + entropies).sum(), large)[0]
    assert bool((log_probs <= 1e-6).all())
    assert bool((entropies >= -1e-6).all())
    assert bool((entropies <= math.log(17) + 1e-5).all())
    assert bool(torch.isfinite(log_probs).all())
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("frozen", [False, True])
def test_the_logits_never_exist(frozen: bool) -> None:
    """Nothing that is made, forward or backward, is larger than the inputs and a block."""
    tokens, vocabulary, width = 600, 30_000, 4
    hidden, weight, _, targets = example(tokens, vocabulary, width, dtype=torch.float32)
    weight.requires_grad_(not frozen)
    with Largest() as made:
        log_probs, entropies = token_log_probs(hidden, weight, targets)
        (log_probs + entropies).sum().backward()
    assert made.numbers <= max(1 << 19, vocabulary * width) < tokens * vocabulary / 30
    assert (weight.grad is None) == frozen
    with Largest() as kept:
        log_probs, entropies = plain(hidden, weight, targets)
        (log_probs + entropies).sum().backward()
    assert kept.numbers >= tokens * vocabulary


def test_shapes_follow_the_targets() -> None:
    hidden, weight, _, targets = example(12, 7, 3)
    log_probs, entropies = token_log_probs(hidden.view(2, 6, 3), weight, targets.view(2, 6))
    assert log_probs.shape == entropies.shape == (2, 6)
    torch.testing.assert_close(log_probs.flatten(), plain(hidden, weight, targets)[0])
    nothing = token_log_probs(hidden[:0], weight, targets[:0])[0]
    assert nothing.shape == (0,)
    assert torch.autograd.grad(nothing.sum(), weight)[0].abs().max() == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": torch.zeros(3, 5)}, "do not fit"),
        ({"targets": torch.zeros(4, dtype=torch.long)}, "do not fit"),
        ({"targets": torch.tensor([0, 7, 1])}, "target 7 is outside the vocabulary of 7"),
        ({"targets": torch.tensor([0, -100, 1])}, "target -100 is outside"),
        ({"bias": torch.zeros(6)}, "bias must be"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"soft_cap": -1.0}, "soft_cap must be above 0"),
        ({"slice_size": 0}, "slice_size must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    arguments = {"hidden": torch.zeros(3, 4), "weight": torch.zeros(7, 4), "targets": torch.zeros(3, dtype=torch.long)}
    with pytest.raises(ValueError, match=words):
        token_log_probs(**(arguments | changes))


_PEAK = """
import re, sys
from pathlib import Path
import torch
from gridzero.llm_rl.scoring.token_log_probs import token_log_probs

def plain(hidden, weight, targets):
    log_probs = torch.log_softmax(hidden @ weight.T, dim=-1)
    return log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), -(log_probs.exp() * log_probs).sum(-1)

def step(tokens, vocabulary):
    hidden = torch.randn(tokens, 64, requires_grad=True)
    weight = torch.randn(vocabulary, 64, requires_grad=True)
    log_probs, entropies = globals()[sys.argv[1]](hidden, weight, torch.randint(vocabulary, (tokens,)))
    (log_probs + entropies).sum().backward()

def peak():  # of this program alone: getrusage goes on from the peak of the process that started it
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

step(2, 50)
before = peak()
step(int(sys.argv[2]), 151_936)
print((peak() - before) / 1024)
"""


def peak_memory(function: str, tokens: int) -> float:
    """MiB by which a forward and backward pass at Qwen's vocabulary raises a process's peak."""
    command = [sys.executable, "-c", _PEAK, function, str(tokens)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is there only")
def test_memory_at_a_large_vocabulary() -> None:
    """The weight and its gradient are 74 MiB; one array of logits for 512 tokens would be 297."""
    ours, theirs = peak_memory("token_log_probs", 512), peak_memory("plain", 512)
    print(f"\nV = 151,936, 512 tokens: {ours:.0f} MiB against {theirs:.0f}")
    assert ours < 74 + 100
    assert theirs > 3 * 297
    assert peak_memory("token_log_probs", 2048) < ours + 50
