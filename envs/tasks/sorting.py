"""Sorting of numbers."""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.numbers import shown
from gridzero.envs.tasks.task import CommonOptions, Problem, Task, check_integer

_NUMERAL = re.compile(r"0|[1-9][0-9]{0,8}")


class Sorting(Task):
    """Some numbers in ascending order: ``31,5,77`` → ``5,31,77``.

    The answer is the numbers with commas between them, and spaces or not. The work puts one number after the other
    into its place: ``31;5,31;5,31,77``.

    Args:
        length: how many numbers, 2 to 100.
        largest: they go from 0 to this.
        common: see :class:`Task`.

    Example:
        >>> task = Sorting()
        >>> task.check(Problem("31,5,77", "5,31,77"), "5, 31, 77")
        (True, 'right')
    """

    name = "sorting"
    explanation = "Put in ascending order, with commas between the numbers:"
    characters = "0123456789,;"

    def __init__(self, *, length: int = 5, largest: int = 99, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self.length = check_integer("length", length, 2, 100)
        self.largest = check_integer("largest", largest, 1, 10**9 - 1)

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        numbers = [int(number) for number in rng.integers(0, self.largest + 1, size=self.length)]
        return Problem(_listed(numbers), _listed(sorted(numbers)))

    def key(self, problem: Problem) -> str:
        """The numbers without their order."""
        return problem.reference

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        parts = [part.strip(" ") for part in answer.split(",")]
        for part in parts:
            if _NUMERAL.fullmatch(part) is None:
                return False, f"{shown(part) or 'nothing'} is not one of the numbers"
        if ",".join(parts) == problem.reference:
            return True, "right"
        given = [int(part) for part in parts]
        if given != sorted(given):
            return False, "the order is not ascending"
        return False, "the numbers are not the ones given"

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        placed: list[int] = []
        states = []
        for number in problem.question.split(","):
            insort(placed, int(number))
            states.append(_listed(placed))
        return ";".join(states)


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
