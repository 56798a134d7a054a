"""Addition of two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.numbers import digits_of, same_number
from gridzero.envs.tasks.task import CommonOptions, Problem, Task, check_integer

MAX_DIGITS = 18


class Addition(Task):
    """The sum of two numbers, ``123+989=``.

    The work goes through the columns from the right; each step needs two digits of the question and the carry, which
    is the first digit of the step before: ``3+9+0=12,2+8+1=11,1+9+1=11``.

    Args:
        digits: each number has exactly so many, 1 to 18, and no leading zero (0 to 9 for one digit).
        common: see :class:`Task`.

    Example:
        >>> task = Addition(digits=3, worked=1.0)
        >>> problem = task.sample(np.random.default_rng(0))
        >>> problem.question
        '865+673='
        >>> task.demonstrate(problem, np.random.default_rng(0))
        '<think>5+3+0=08,6+7+0=13,8+6+1=15</think> <answer>1538</answer>'
        >>> task.verify(problem, "<think></think> <answer>1538</answer>")
        Verdict(correct=True, well_formed=True, answer='1538', reason='right')
    """

    name = "addition"
    explanation = "What number is"
    characters = "0123456789+=,"

    def __init__(self, *, digits: int = 3, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self.digits = check_integer("digits", digits, 1, MAX_DIGITS)

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        a, b = draw_numbers(rng, self.digits, 2)
        return Problem(f"{a}+{b}=", str(a + b), {"numbers": [a, b]})

    def key(self, problem: Problem) -> str:
        """The numbers without their order."""
        return str(sorted(problem.metadata["numbers"]))

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        return same_number(answer, sum(problem.metadata["numbers"]))

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        a, b = problem.metadata["numbers"]
        return add_in_columns(a, b, self.digits)

    def guess(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """The sum of each column alone: one who skips the work forgets the carries."""
        a, b = problem.metadata["numbers"]
        return add_without_carries(a, b, self.digits)


def add_without_carries(a: int, b: int, width: int) -> str:
    """The sum of two numbers, each column for itself, the carries forgotten.

    >>> add_without_carries(75, 48, 2)
    '13'
    """
    columns = [(x + y) % 10 for x, y in zip(digits_of(a, width), digits_of(b, width), strict=True)]
    return str(sum(digit * 10**place for place, digit in enumerate(columns)))


def draw_numbers(rng: np.random.Generator, digits: int, count: int) -> list[int]:
    """Numbers of exactly so many digits, at most 18, uniformly."""
    low = 10 ** (digits - 1) if digits > 1 else 0
    return [int(number) for number in rng.integers(low, 10**digits, size=count)]


def add_in_columns(a: int, b: int, width: int) -> str:
    """The addition of two numbers, column by column from the right.

    >>> add_in_columns(75, 48, 2)
    '5+8+0=13,7+4+1=12'
    """
    carry, steps = 0, []
    for x, y in zip(digits_of(a, width), digits_of(b, width), strict=True):
        total = x + y + carry
        steps.append(f"{x}+{y}+{carry}={total:02}")
        carry = total // 10
    return ",".join(steps)
