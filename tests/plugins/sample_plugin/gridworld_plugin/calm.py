"""A reward function: digits are calm, anything else is not."""

from __future__ import annotations

from collections.abc import Sequence

from gridzero.envs.tasks import Problem


def calm(problem: Problem, completions: Sequence[str]) -> list[float]:
    """The share of digits in each completion."""
    return [sum(map(str.isdigit, completion)) / max(len(completion), 1) for completion in completions]
