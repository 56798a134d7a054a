import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from gridzero.llm_rl.decoding.sampling import Sampling, choose

LARGEST = 1 - 2.0**-24

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def draws(logits: torch.Tensor, sampling: Sampling, count: int, seed: int = 0) -> np.ndarray:
    uniforms = torch.from_numpy(np.random.default_rng(seed).random(count, dtype=np.float32))
    tokens, _ = choose(logits.expand(count, -1), uniforms, sampling)
    return tokens.numpy()


def truncated(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The distribution to draw from, by the definition, one token after the other."""
    p = np.exp((logits - logits.max()) / temperature)
    order = np.argsort(-p)[: top_k or None]
    nucleus: list[int] = []
    for token in order:
        nucleus.append(int(token))
        if p[nucleus].sum() >= top_p * p[order].sum():
            break
    answer = np.zeros_like(p)
    answer[nucleus] = p[nucleus]
    return answer / answer.sum()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 4, 1.0), (1.0, 0, 0.8), (1.5, 6, 0.7)]
)
def test_frequencies_are_those_of_the_distribution(temperature: float, top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(3).normal(size=9) * 1.5
    expected = truncated(logits, temperature, top_k, top_p)
    count = 50_000
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    frequencies = np.bincount(draws(torch.from_numpy(logits), sampling, count), minlength=9)
    there = expected > 0
    assert not frequencies[~there].any()
    if there.sum() > 1:  # a chi-squared test, at 0.1 %
        assert stats.chisquare(frequencies[there], expected[there] * count).pvalue > 1e-3


@given(
    logits=st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=40),
    temperature=st.floats(0.05, 20),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.01, 1),
    uniform=st.sampled_from([0.0, LARGEST]) | st.integers(0, 2**24 - 1).map(lambda i: i / 2**24),
)
@example(logits=[0.0, 1.401298464324817e-45], temperature=1.0, top_k=1, top_p=1.0, uniform=0.0)
@settings(max_examples=200)
def test_every_draw_is_possible_and_its_log_probability_is_the_untruncated_one(
    logits: list[float], temperature: float, top_k: int, top_p: float, uniform: float
) -> None:
    row = torch.tensor([logits])
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    token, log_prob = choose(row, torch.tensor([uniform]), sampling)
    expected = torch.log_softmax(row.double() / temperature, -1)[0, token]
    # Nothing that single precision says is impossible, and nothing below the k most likely, as far as it can tell them
    # apart: logits that differ by next to nothing have the same probability.
    assert row.div(temperature).softmax(-1)[0, token] > 0
    if top_k:
        likely = torch.log_softmax(row / temperature, -1)[0]
        assert (likely > likely[token]).sum() < top_k
    torch.testing.assert_close(log_prob.double(), expected, atol=1e-5, rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 500))
@settings(max_examples=50)
def test_the_largest_uniform_draws_a_token_that_has_probability(seed: int, size: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(8, size)).astype(np.float32))
    logits[:, size // 2 + 1 :] = -math.inf
    for top_p in (1.0, 0.9):
        tokens, log_probs = choose(logits, torch.full((8,), LARGEST), Sampling(top_p=top_p))
        assert (tokens <= size // 2).all()
        assert log_probs.isfinite().all()


def test_greedy_takes_the_most_likely_token_and_needs_no_numbers() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    tokens, log_probs = choose(logits, None, Sampling(greedy=True, temperature=0.5))
    assert tokens.tolist() == [1, 0]
    torch.testing.assert_close(log_probs, torch.log_softmax(logits * 2, -1).amax(-1))


def test_half_precision_is_drawn_from_in_single() -> None:
    logits = torch.zeros(1, 1000, dtype=torch.bfloat16)  # in bfloat16, sums of 1/1000 stop growing
    tokens = draws(logits, Sampling(), 20_000)
    assert stats.kstest(tokens / 1000, "uniform").pvalue > 1e-3
    assert choose(logits, torch.tensor([0.5]), Sampling())[1].dtype == torch.float32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("max_tokens", 0),
    ],
)
def test_numbers_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        Sampling(**{field: value})  # type: ignore[arg-type]  # the field is a parameter of the test
