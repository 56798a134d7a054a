"""Small worlds of text in which everything is known: all completions, their probabilities, and the exact optima."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gridzero.llm_rl.models.causal import vocabulary_size

FloatArray = NDArray[np.float64]


class Enumeration:
    """Every completion of up to ``limit`` tokens of some prompts, in one order for all prompts.

    Args:
        policy: has the tokenizer: encodes prompts, decodes completions, and knows its end tokens.
        prompts: P texts.
        limit: tokens of a completion; with V tokens there are about V^limit.

    Attributes:
        completions: N lists of tokens, those shorter than ``limit`` with their end token.
        texts: of the completions, N.
        prompts: tokens of the prompts.
    """

    def __init__(self, policy: Any, prompts: Sequence[str], limit: int) -> None:
        size, ends = vocabulary_size(policy.model), set(policy.end)
        self.completions: list[list[int]] = []
        for length in range(1, limit + 1):
            for tokens in itertools.product(range(size), repeat=length):
                if ends.isdisjoint(tokens[:-1]) and (length == limit or tokens[-1] in ends):
                    self.completions.append(list(tokens))
        padded = [row + [policy.pad] * (limit - len(row)) for row in self.completions]
        self.texts: list[str] = policy.decode(np.array(padded), [row[-1] in ends for row in self.completions])
        self.prompts = [policy.encode(prompt) for prompt in prompts]

    @torch.no_grad()
    def probabilities(self, policy: Any) -> FloatArray:
        """Probabilities (P, N) under a policy's model, in double precision from its logits; rows sum to 1."""
        found = []
        for prompt in self.prompts:
            log_probs: dict[tuple[int, ...], FloatArray] = {}
            by_length: dict[int, list[tuple[int, ...]]] = {}
            for completion in self.completions:
                for k in range(len(completion)):
                    by_length.setdefault(k, []).append(tuple(completion[:k]))
            for prefixes in by_length.values():
                unique = list(dict.fromkeys(prefixes))
                rows = torch.tensor([[*prompt, *prefix] for prefix in unique], device=policy.device)
                logits = policy.model(rows).logits[:, -1].double() / policy.options.temperature
                log_probs |= zip(unique, logits.log_softmax(dim=-1).cpu().numpy(), strict=True)
            found.append(
                [
                    sum(log_probs[tuple(completion[:k])][token] for k, token in enumerate(completion))
                    for completion in self.completions
                ]
            )
        return np.exp(np.array(found, dtype=np.float64))


def tilted(reference: FloatArray, rewards: FloatArray, beta: float) -> FloatArray:
    r"""The policy π* ∝ π_ref exp(r/β), which maximises E r - β KL(π ‖ π_ref).

    Args:
        reference: π_ref, (P, N).
        rewards: r, (P, N).
        beta: β.

    Source: Rafailov et al. (2023), Direct preference optimization, eq. 4.

    >>> tilted(np.array([[0.5, 0.5]]), np.array([[np.log(3.0), 0.0]]), 1.0)
    array([[0.75, 0.25]])
    """
    with np.errstate(divide="ignore"):
        logits = np.log(reference) + rewards / beta
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def preferred(rewards: FloatArray) -> FloatArray:
    """Bradley–Terry's probability σ(r_i - r_j), (P, N, N), that completion i is preferred to completion j."""
    return np.asarray(0.5 * (1 + np.tanh((rewards[:, :, None] - rewards[:, None, :]) / 2)))


def ipo_optimum(reference: FloatArray, rewards: FloatArray, tau: float) -> FloatArray:
    r"""The optimum of IPO over pairs from the reference: π ∝ π_ref exp(P(y ≻ π_ref) / τ).

    Source: Azar et al. (2023), A general theoretical paradigm to understand learning from human preferences, eq. 7.
    """
    return tilted(reference, (preferred(rewards) * reference[:, None, :]).sum(axis=2), tau)


def best_of(reference: FloatArray, scores: FloatArray, count: int) -> FloatArray:
    """Probabilities (P, N) of the best by its score of ``count`` draws from the reference.

    >>> best_of(np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]), 2)
    array([[0.25, 0.75]])
    """
    order = np.argsort(scores, axis=1, kind="stable")
    below = np.minimum(np.take_along_axis(reference, order, axis=1).cumsum(axis=1), 1.0) ** count
    found = np.zeros_like(reference)
    np.put_along_axis(found, order, np.diff(below, axis=1, prepend=0.0), axis=1)
    return found


def divergence(policy: FloatArray, reference: FloatArray) -> float:
    """KL(π ‖ π_ref) in nats, the mean over P prompts."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(policy > 0, policy * np.log(policy / reference), 0.0)
    return float(terms.sum(axis=1).mean())


def expected(policy: FloatArray, rewards: FloatArray) -> float:
    """E r, the mean over P prompts."""
    return float((policy * rewards).sum(axis=1).mean())


def total_variation(policy: FloatArray, other: FloatArray) -> float:
    """The largest distance over P prompts, ½ Σ |π - π'|."""
    return float(0.5 * np.abs(policy - other).sum(axis=1).max())
