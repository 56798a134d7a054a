"""Arithmetic expressions with parentheses."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.expressions import OPERATIONS, Expression
from gridzero.envs.tasks.numbers import same_number
from gridzero.envs.tasks.task import CommonOptions, Problem, Task, check_integer


class Arithmetic(Task):
    """The exact value of an expression, ``3*(7-2)=``; a fraction in lowest terms or a decimal where it is not whole.

    The work does one operation at a time: ``7-2=5,3*5=15``.

    Args:
        terms: how many numbers an expression has, 2 to 20; its shape is drawn at random, with the parentheses it needs.
        largest: the numbers go from 1 to this.
        operations: the ones to draw from, of ``+-*/``.
        common: see :class:`Task`.

    Example:
        >>> task = Arithmetic(terms=4)
        >>> problem = task.sample(np.random.default_rng(1))
        >>> problem.question, problem.reference
        ('5*5*(7/9)=', '175/9')
        >>> task.work(problem, np.random.default_rng(0))
        '5*5=25,7/9=7/9,25*(7/9)=175/9'
        >>> task.check(problem, "5*5*7/9")
        (False, '5*5*7/9 is not a number')
    """

    name = "arithmetic"
    explanation = "What number, or fraction in lowest terms, is"

    def __init__(
        self, *, terms: int = 3, largest: int = 9, operations: str = "+-*/", **common: Unpack[CommonOptions]
    ) -> None:
        super().__init__(**common)
        self.terms = check_integer("terms", terms, 2, 20)
        self.largest = check_integer("largest", largest, 1, 10**6)
        if not (isinstance(operations, str) and operations) or set(operations) - set(OPERATIONS):
            raise ValueError(f"operations must be some of {''.join(OPERATIONS)}, not {operations!r}")
        self.operations = "".join(sorted(set(operations)))
        self.characters = "0123456789()=,-/" + self.operations

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        while True:
            parts = [Expression.number(int(number)) for number in rng.integers(1, self.largest + 1, size=self.terms)]
            try:
                while len(parts) > 1:
                    place = int(rng.integers(len(parts) - 1))
                    operation = self.operations[rng.integers(len(self.operations))]
                    parts[place : place + 2] = [parts[place].then(operation, parts[place + 1])]
            except ZeroDivisionError:
                continue
            whole = parts[0]
            return Problem(f"{whole.text}=", str(whole.value), {"steps": list(whole.steps)})

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        return same_number(answer, Fraction(problem.reference))

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        return ",".join(problem.metadata["steps"])
