"""The draw of the next token, and its log-probability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridzero.envs.random_streams import GOLDEN, mix_array


@dataclass(frozen=True)
class Sampling:
    """Settings of the draw of tokens.

    Temperature divides the logits first, then only the ``top_k`` most likely tokens stay, then, of what they have
    together, the fewest with ``top_p``.

    Attributes:
        temperature: τ > 0 divides the logits.
        top_k: keep this many of the most likely tokens; 0: all.
        top_p: keep the most likely tokens that together have at least this probability, the nucleus; 1: all.
        greedy: take the most likely token instead of drawing one.
        max_tokens: a completion is cut off after this many.

    Raises:
        ValueError: for a number out of range.

    Source: Holtzman et al. (2020), The curious case of neural text degeneration, section 3.1 (nucleus sampling).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False
    max_tokens: int = 64

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be above 0, not {self.temperature}; greedy takes the most likely token")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all tokens) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")


def choose(logits: Tensor, uniforms: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Draw a token from each row, by inverting the distribution function.

    Args:
        logits: (N, V).
        uniforms: (N,) single-precision numbers in [0, 1) with at most 24 bits, one for each row; not needed if greedy.
        sampling: how to draw.

    Returns:
        Tokens (N,), and their log-probabilities (N,) under softmax(logits / temperature), whatever ``top_k``,
        ``top_p`` and ``greedy`` say: the policy that learns is the one of all tokens, and the ratios of PPO and GRPO
        are between such probabilities.

    Raises:
        ValueError: for no ``uniforms`` where tokens are drawn.

    >>> logits = torch.tensor([0.5, 0.2, 0.3]).log().expand(3, 3)
    >>> tokens, log_probs = choose(logits, torch.tensor([0.1, 0.6, 0.9]), Sampling())
    >>> tokens, log_probs.exp()
    (tensor([0, 1, 2]), tensor([0.5000, 0.2000, 0.3000]))
    >>> choose(logits, torch.tensor([0.1, 0.6, 0.9]), Sampling(top_k=2))[0]
    tensor([0, 0, 2])
    """
    logits = logits.float()
    if sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    if sampling.greedy:
        best, tokens = torch.log_softmax(logits, -1).max(-1)
        return tokens, best
    if uniforms is None:
        raise ValueError("drawing needs uniforms; only greedy does without")
    log_probs = torch.log_softmax(logits, -1)
    if 0 < sampling.top_k < logits.shape[-1] or sampling.top_p < 1:
        tokens = _draw_truncated(log_probs, uniforms, sampling)
    else:
        tokens = _invert(log_probs.exp().cumsum(-1), uniforms)
    return tokens.squeeze(-1), log_probs.gather(-1, tokens).squeeze(-1)


def _invert(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    """(N, 1), the first places where the cumulative sums exceed the uniforms' share of the whole.

    Such a place has some probability, and there is one: u ≤ 1 - 2⁻²⁴ times a single-precision number rounds to less
    than that number.
    """
    return torch.searchsorted(cumulative, cumulative[:, -1:] * uniforms.unsqueeze(-1), right=True)


def _draw_truncated(log_probs: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """(N, 1) tokens from the most likely ones."""
    vocabulary = log_probs.shape[-1]
    likeliest, order = log_probs.topk(min(sampling.top_k or vocabulary, vocabulary), dim=-1)
    probabilities = likeliest.softmax(-1)
    cumulative = probabilities.cumsum(-1)
    if sampling.top_p < 1:
        # A token is in the nucleus if those before it have less than top_p; the first always is.
        inside = cumulative - probabilities < sampling.top_p
        inside[:, 0] = True
        cumulative = (probabilities * inside).cumsum(-1)
    return order.gather(-1, _invert(cumulative, uniforms))


class Draws:
    """Uniform numbers for rows, each from a stream of its own, in whichever batch or process it is.

    Args:
        keys: (N,) of the streams.
        first: (N,) how many numbers of each are used up.
    """

    def __init__(self, keys: NDArray[np.uint64], first: NDArray[np.int64]) -> None:
        self.keys = keys
        self.first = first

    def random(self, size: tuple[int, int], dtype: Any = np.float32) -> NDArray[np.float32]:
        """(T, N) the next T numbers of each, from 0 up to but not including 1."""
        counts = self.first.astype(np.uint64) + np.arange(size[0], dtype=np.uint64).reshape(-1, 1)
        bits = mix_array(self.keys ^ (counts * GOLDEN))
        numbers: NDArray[np.float32] = (bits >> np.uint64(40)).astype(dtype) * dtype(2.0**-24)
        return numbers
