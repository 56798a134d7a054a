"""Scorers: what a search takes for the worth of completions, whole or begun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Scorer(Protocol):
    """Judges whole completions, as a reward model does."""

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """A score of each completion of its prompt."""
        ...


@runtime_checkable
class ProcessScorer(Scorer, Protocol):
    """Judges the steps of completions too, as a process reward model does.

    Attributes:
        config: ``separator`` is the text between two steps.
    """

    config: Any

    def step_probabilities(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        """The probability of each step of each completion that it is right."""
        ...


def prefix_scores(scorer: ProcessScorer, prompts: Sequence[str], prefixes: Sequence[str]) -> list[float]:
    """The least probability of the steps of each prefix; a separator at its end begins no step yet."""
    separator = scorer.config.separator
    texts = [prefix.removesuffix(separator) for prefix in prefixes]
    return [min(probabilities) for probabilities in scorer.step_probabilities(prompts, texts)]
