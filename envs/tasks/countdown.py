"""Countdown: making a number from others."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.expressions import Expression, calculate
from gridzero.envs.tasks.numbers import shown
from gridzero.envs.tasks.task import PATIENCE, CommonOptions, Problem, Task, check_integer

_STEP = re.compile("([-+*/])")


class Countdown(Task):
    """An expression that uses each of some numbers exactly once and has a given value: ``3,5,25=60`` → ``(25-5)*3``.

    All numbers must be used, none more often than it is given; ``+ - * /`` and parentheses as
    :func:`~gridzero.envs.tasks.expressions.calculate` reads them, exactly, so that fractions on the way are allowed.
    Every problem has a solution, for the target is the value of an expression drawn at random, whose values on the way
    are positive and whole.

    The work meets in the middle: for each number, what the other two make and what they would have to make, up to what
    is both, and how it is made: ``9,5,7=38`` is worked out as ``7+5=12,7-5=2,7*5=35,38-9=29,38+9=47,38*9=342;9+7=16,``
    ``9-7=2,9*7=63,38-5=33,38+5=43,38*5=190;9+5=14,9-5=4,9*5=45,38-7=31,38+7=45,9*5=45``. Of more than three numbers, it
    begins with the first steps of a solution.

    Args:
        numbers: how many, 2 to 6.
        largest: they go from 1 to this.
        target: the target goes from 1 to this.
        common: see :class:`Task`.

    Example:
        >>> task = Countdown()
        >>> problem = Problem("3,5,25=60", "(25-5)*3", {"numbers": [3, 5, 25], "target": 60, "steps": []})
        >>> task.check(problem, "3*25 - 5*3")
        (False, 'it uses 3, 3, 5, 25, not 3, 5, 25')
        >>> task.check(problem, "3*(25 - 5)")
        (True, 'right')
    """

    name = "countdown"
    explanation = (
        "Write an expression that uses each of the numbers before the equals sign exactly once, with + - * / and "
        "parentheses, and has the value after it:"
    )
    characters = "0123456789+-*/()=,;"

    def __init__(
        self,
        *,
        numbers: int = 3,
        largest: int = 9,
        target: int = 100,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        self.numbers = check_integer("numbers", numbers, 2, 6)
        self.largest = check_integer("largest", largest, 1, 10**6)
        self.target = check_integer("target", target, 1, 10**9)

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        for _ in range(PATIENCE):
            numbers = [int(number) for number in rng.integers(1, self.largest + 1, size=self.numbers)]
            solution = _combined(numbers, rng)
            if solution.value <= self.target:
                break
        else:
            raise ValueError(f"numbers up to {self.largest} hardly ever make a target up to {self.target}")
        target = int(solution.value)
        question = f"{','.join(map(str, numbers))}={target}"
        metadata = {"numbers": numbers, "target": target, "steps": list(solution.steps)}
        return Problem(question, solution.text, metadata)

    def key(self, problem: Problem) -> str:
        """The target, and the numbers without their order."""
        return str((sorted(problem.metadata["numbers"]), problem.metadata["target"]))

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        try:
            value, used = calculate(answer)
        except ValueError as error:
            return False, str(error)
        given, target = sorted(problem.metadata["numbers"]), problem.metadata["target"]
        if sorted(used) != given:
            return False, f"it uses {shown(_listed(sorted(used)))}, not {_listed(given)}"
        if value != target:
            return False, f"its value is {shown(str(value))}, not {target}"
        return True, "right"

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        return self._worked(problem)[0]

    def answer(self, problem: Problem, completions: Sequence[str] = ()) -> str:
        """Expression that the work arrives at."""
        return self._worked(problem)[1].text

    @staticmethod
    def _worked(problem: Problem) -> tuple[str, Expression]:
        metadata = problem.metadata
        return _worked(tuple(metadata["numbers"]), metadata["target"], tuple(metadata["steps"]))

    def guess(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """Any expression of the numbers."""
        return _combined(problem.metadata["numbers"], rng).text


@functools.lru_cache
def _worked(numbers: tuple[int, ...], target: int, solution: tuple[str, ...]) -> tuple[str, Expression]:
    """The work, and the expression that it finds, which begins as a solution that is known."""
    parts = [Expression.number(number) for number in numbers]
    opening = solution[: max(0, len(parts) - 3)]
    for step in opening:
        left, operation, right = _STEP.split(step.partition("=")[0])
        one, other = (_taken(parts, int(number)) for number in (left, right))
        parts.append(one.then(operation, other))
    written, expression = _search(parts, target)
    return ";".join([*([",".join(opening)] if opening else []), *(",".join(steps) for steps in written)]), expression


def _taken(parts: list[Expression], value: int) -> Expression:
    """The first of the parts that has this value, which leaves them."""
    return parts.pop(next(i for i, part in enumerate(parts) if part.value == value))


def _search(parts: Sequence[Expression], target: int) -> tuple[list[list[str]], Expression]:
    """Combine two or three parts to the target: what is written, in groups, and the expression."""
    if len(parts) == 2:
        joints = _joints(*parts)
        count = next(i for i, joint in enumerate(joints) if joint.value == target)
        return [[joint.steps[-1] for joint in joints[: count + 1]]], joints[count]
    written: list[list[str]] = []
    for i, last in enumerate(parts):
        joints = _joints(*(part for k, part in enumerate(parts) if k != i))
        by_value = {joint.value: joint for joint in reversed(joints)}
        written.append([joint.steps[-1] for joint in joints])
        for wanted, operation, first in _wanted(target, last):
            written[-1].append(wanted.steps[-1])
            if wanted.value in by_value:
                joint = by_value[wanted.value]
                written[-1].append(joint.steps[-1])
                return written, last.then(operation, joint) if first else joint.then(operation, last)
    raise ValueError(f"{_listed([int(part.value) for part in parts])} do not make {target}")


def _wanted(target: int, last: Expression) -> list[tuple[Expression, str, bool]]:
    """Values that the other parts would have to make, each with the operation and whether the last part is first."""
    goal = Expression.number(target)
    wanted = []
    if target != last.value:
        less = target > last.value
        wanted.append((goal.then("-", last) if less else last.then("-", goal), "+" if less else "-", not less))
    if target % last.value == 0:
        wanted.append((goal.then("/", last), "*", False))
    elif last.value % target == 0:
        wanted.append((last.then("/", goal), "/", True))
    return [*wanted, (goal.then("+", last), "-", False), (goal.then("*", last), "/", False)]


def _joints(one: Expression, other: Expression) -> list[Expression]:
    """Results of combining two parts by each operation that gives a positive whole number; the greater stands first."""
    if one.value < other.value:
        one, other = other, one
    operations = "+"
    if one.value > other.value:
        operations += "-"
    operations += "*"
    if one.value % other.value == 0:
        operations += "/"
    return [one.then(operation, other) for operation in operations]


def _combined(numbers: Sequence[int], rng: np.random.Generator) -> Expression:
    """An expression of all the numbers, drawn at random, whose values on the way are positive and whole."""
    parts = [Expression.number(number) for number in numbers]
    while len(parts) > 1:
        one, other = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        joints = _joints(one, other)
        parts.append(joints[rng.integers(len(joints))])
    return parts[0]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
