"""Multiplication of two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.addition import add_in_columns, draw_numbers
from gridzero.envs.tasks.numbers import digits_of, same_number
from gridzero.envs.tasks.task import CommonOptions, Problem, Task, check_integer

MAX_DIGITS = 18


class Multiplication(Task):
    """The product of two numbers, ``23*45=``.

    The work is the long multiplication of school: for each digit of the second number, from the right, the first number
    times it, digit by digit with carries, then the row that this gives; from the second row on, the sum of the rows so
    far, column by column. Rows and columns are as wide as the product can be.

    Args:
        digits: each number has exactly so many, 1 to 18, and no leading zero (0 to 9 for one digit).
        common: see :class:`Task`.

    Example:
        >>> task = Multiplication(digits=2)
        >>> task.work(Problem("23*45=", "1035", {"numbers": [23, 45]}), np.random.default_rng(0))
        '3*5+0=15,2*5+1=11:0115;3*4+0=12,2*4+1=09:0920;5+0+0=05,1+2+0=03,1+9+0=10,0+0+1=01:1035'
    """

    name = "multiplication"
    explanation = "What number is"
    characters = "0123456789+*=,:;"

    def __init__(self, *, digits: int = 2, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self.digits = check_integer("digits", digits, 1, MAX_DIGITS)

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        a, b = draw_numbers(rng, self.digits, 2)
        return Problem(f"{a}*{b}=", str(a * b), {"numbers": [a, b]})

    def key(self, problem: Problem) -> str:
        """The numbers without their order."""
        return str(sorted(problem.metadata["numbers"]))

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        a, b = problem.metadata["numbers"]
        return same_number(answer, a * b)

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        a, b = problem.metadata["numbers"]
        width, total, parts = 2 * self.digits, 0, []
        for place, digit in enumerate(digits_of(b, self.digits)):
            row = a * digit * 10**place
            parts.append(f"{self._times(a, digit)}:{row:0{width}}")
            if place:
                parts.append(f"{add_in_columns(total, row, width)}:{total + row:0{width}}")
            total += row
        return ";".join(parts)

    def guess(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """The products of each column added up, the carries forgotten."""
        a, b = (digits_of(number, self.digits) for number in problem.metadata["numbers"])
        columns = [0] * (2 * self.digits - 1)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                columns[i + j] += x * y
        return str(sum(total % 10 * 10**place for place, total in enumerate(columns)))

    def _times(self, number: int, digit: int) -> str:
        carry, steps = 0, []
        for x in digits_of(number, self.digits):
            product = x * digit + carry
            steps.append(f"{x}*{digit}+{carry}={product:02}")
            carry = product // 10
        return ",".join(steps)
