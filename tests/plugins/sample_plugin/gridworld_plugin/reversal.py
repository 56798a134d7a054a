"""A task: a number from back to front."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from gridzero.envs.tasks.task import CommonOptions, Problem, Task, check_integer


class Reversal(Task):
    """Digits in reverse: ``407`` → ``704``.

    Args:
        digits: how many.
        common: see :class:`~gridzero.envs.tasks.Task`.
    """

    name = "reversal"
    explanation = "Write from back to front:"
    characters = "0123456789"

    def __init__(self, *, digits: int = 3, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self.digits = check_integer("digits", digits, 1, 100)

    def generate(self, rng: np.random.Generator) -> Problem:
        """Any digits."""
        question = "".join(str(digit) for digit in rng.integers(10, size=self.digits))
        return Problem(question, question[::-1])

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:
        """Whether it is the reverse."""
        return (True, "right") if answer.strip() == problem.reference else (False, f"it is not {problem.reference}")
