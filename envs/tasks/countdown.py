"""Countdown: making a number from others."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.expressions import Expression, calculate
from gridzero.envs.tasks.numbers import shown
from gridzero.envs.tasks.task import PATIENCE, CommonOptions, Problem, Task, check_integer

_STEP = re.compile("([-+*/])")
_AFTER = {"+": "+-*/", "-": "*/", "*": "+-*/", "/": "+-"}
"""Operations that are tried after each operation; the others only repeat what another order of the numbers gives."""


class Countdown(Task):
    """An expression that uses each of some numbers exactly once and has a given value: ``3,5,25=60`` → ``(25-5)*3``.

    All numbers must be used, none more often than it is given; ``+ - * /`` and parentheses as
    :func:`~gridzero.envs.tasks.expressions.calculate` reads them, exactly, so that fractions on the way are allowed.
    Every problem has a solution, for the target is the value of an expression drawn at random, whose values on the way
    are positive and whole.

    The work tries everything in order, and is written so that each token follows from a few near it. Each number in
    turn stands last, before a colon. Then comes what the other two make, and after each such value the results of
    combining it with the last number. Those are compared with the target digit by digit, from the last one on: after
    the operation, a digit of the result and one of the target, until the two differ or neither has any more, which
    ``00`` says. So ``4,8,5=28`` is worked out as ``4:8+5=13,+78-98*28,8-5=3,*28,8*5=40,+48-68*08/08;8:5+4=9,-18*28,``
    ``5-4=1,*8802/8802,5*4=20,+882200``. What other orders of the numbers make too is left out. Of more than three
    numbers, the work begins with the first steps of a solution.

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
    characters = "0123456789+-*/()=,;:"

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
    return ";".join([*([",".join(opening)] if opening else []), *written]), expression


def _taken(parts: list[Expression], value: int) -> Expression:
    """The first of the parts that has this value, which leaves them."""
    return parts.pop(next(i for i, part in enumerate(parts) if part.value == value))


def _search(parts: Sequence[Expression], target: int) -> tuple[list[str], Expression]:
    """Combine two or three parts to the target: what is written, in groups, and the expression."""
    if len(parts) == 2:
        results = [result for _, result in _results(*parts)]
        count = next(i for i, result in enumerate(results) if result.value == target)
        return [",".join(result.steps[-1] for result in results[: count + 1])], results[count]
    groups: list[str] = []
    for i, last in enumerate(parts):
        written: list[str] = []
        for operation, joint in _results(*(part for k, part in enumerate(parts) if k != i)):
            operations = _AFTER[operation].replace(operation, "" if i else operation)
            tried, found = _tried(joint, last, operations, target)
            written += [joint.steps[-1], tried] if tried else [joint.steps[-1]]
            if found is not None:
                return [*groups, f"{last.value}:{','.join(written)}"], found
        groups.append(f"{last.value}:{','.join(written)}")
    raise ValueError(f"{_listed([int(part.value) for part in parts])} do not make {target}")


def _tried(joint: Expression, last: Expression, operations: str, target: int) -> tuple[str, Expression | None]:
    """Results of the operations compared with the target, up to one that is it; and that one."""
    written = ""
    for operation, result in _results(joint, last):
        if operation in operations:
            written += operation + _compared(int(result.value), target)
            if result.value == target:
                return written, result
    return written, None


def _compared(number: int, other: int) -> str:
    """Digits of two numbers in pairs, the last ones first, until they differ or there are no more, which two zeros say.

    >>> _compared(73, 83), _compared(3, 83), _compared(83, 83)
    ('3378', '3308', '338800')
    """
    width = max(len(str(number)), len(str(other))) + 1
    pairs = zip(f"{number:0{width}}"[::-1], f"{other:0{width}}"[::-1], strict=True)
    written = ""
    for one, two in pairs:
        written += one + two
        if one != two:
            break
    return written


def _results(one: Expression, other: Expression) -> Iterator[tuple[str, Expression]]:
    """Operations that make positive whole numbers of two parts, each with its result; the greater stands first."""
    if one.value < other.value:
        one, other = other, one
    yield "+", one.then("+", other)
    if one.value > other.value:
        yield "-", one.then("-", other)
    yield "*", one.then("*", other)
    if one.value % other.value == 0:
        yield "/", one.then("/", other)


def _combined(numbers: Sequence[int], rng: np.random.Generator) -> Expression:
    """An expression of all the numbers, drawn at random, whose values on the way are positive and whole."""
    parts = [Expression.number(number) for number in numbers]
    while len(parts) > 1:
        one, other = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        results = [result for _, result in _results(one, other)]
        parts.append(results[rng.integers(len(results))])
    return parts[0]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
