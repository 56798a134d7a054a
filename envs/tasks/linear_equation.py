"""Linear equations in one unknown."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.expressions import step
from gridzero.envs.tasks.numbers import same_number
from gridzero.envs.tasks.task import CommonOptions, Problem, Task, check_boolean, check_integer


class LinearEquation(Task):
    """The x that solves an equation, ``3*x+4=5*x-6``; the answer may be given as ``5`` or ``x=5``.

    The work brings the unknown to the left and the rest to the right, then divides: ``3-5=-2,-6-4=-10,-10/(-2)=5``.

    Args:
        largest: the coefficients of x go from this to its negative, without 0, and differ; so do, with 0, the constant
            on the left and x, or with fractions the constant on the right.
        fractions: whether x may be a fraction.
        common: see :class:`Task`.

    Example:
        >>> task = LinearEquation()
        >>> problem = Problem("3*x+4=5*x-6", "5", {"coefficients": [3, 4, 5, -6]})
        >>> task.check(problem, "x = 5"), task.check(problem, "10/2")
        ((True, 'right'), (False, '10/2 is not in lowest terms'))
    """

    name = "linear-equation"
    explanation = "Which x solves the equation"
    characters = "0123456789+-*/()=,x"

    def __init__(self, *, largest: int = 9, fractions: bool = False, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self.largest = check_integer("largest", largest, 1, 10**6)
        self.fractions = check_boolean("fractions", fractions)

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        a = c = 0
        while a == c or a == 0 or c == 0:
            a, b, c, last = (int(n) for n in rng.integers(-self.largest, self.largest + 1, size=4))
        d = last if self.fractions else (a - c) * last + b
        question = f"{_side(a, b)}={_side(c, d)}"
        return Problem(question, str(Fraction(d - b, a - c)), {"coefficients": [a, b, c, d]})

    def key(self, problem: Problem) -> str:
        """The equation without its order."""
        a, b, c, d = problem.metadata["coefficients"]
        return str(sorted([(a, b), (c, d)]))

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        name, equals, value = answer.partition("=")
        given = value.strip(" ") if equals and name.strip(" ") == "x" else answer
        return same_number(given, Fraction(problem.reference))

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        a, b, c, d = problem.metadata["coefficients"]
        return ",".join([step(a, "-", c), step(d, "-", b), step(d - b, "/", a - c)])


def _side(coefficient: int, constant: int) -> str:
    unknown = {1: "x", -1: "-x"}.get(coefficient, f"{coefficient}*x")
    return f"{unknown}{constant:+}" if constant else unknown
