"""Countdown: making a number from others."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from gridzero.envs.tasks.expressions import Expression, evaluate
from gridzero.envs.tasks.numbers import shown
from gridzero.envs.tasks.task import PATIENCE, CommonOptions, Problem, Task, check_integer


class Countdown(Task):
    """An expression that uses each of some numbers exactly once and has a given value: ``3,5,25=60`` → ``(25-5)*3``.

    All numbers must be used, none more often than it is given; ``+ - * /`` and parentheses as
    :func:`~gridzero.envs.tasks.expressions.evaluate` reads them, exactly, so that fractions on the way are allowed.
    Every problem has a solution, for the target is the value of an expression drawn at random, whose values on the way
    are positive and whole.

    The work searches depth first, pair by pair in the order of the numbers, and gives up on a way, ``;``, where no last
    step leads to the target: ``5+3=8;5-3=2;5*3=15;25+3=28;25-3=22;25*3=75;25+5=30;25-5=20,20*3=60``.

    Args:
        numbers: how many, 2 to 6.
        largest: they go from 1 to this.
        target: the target goes from 1 to this.
        dead_ends: the work has up to so many ways that it gave up on, the last ones, before the one that succeeds.
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
        dead_ends: int = 12,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        self.numbers = check_integer("numbers", numbers, 2, 6)
        self.largest = check_integer("largest", largest, 1, 10**6)
        self.target = check_integer("target", target, 1, 10**9)
        self.dead_ends = check_integer("dead_ends", dead_ends, 0, 100)

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
            value, used = evaluate(answer)
        except ValueError as error:
            return False, str(error)
        given, target = sorted(problem.metadata["numbers"]), problem.metadata["target"]
        if sorted(used) != given:
            return False, f"it uses {shown(_listed(sorted(used)))}, not {_listed(given)}"
        if value != target:
            return False, f"its value is {shown(str(value))}, not {target}"
        return True, "right"

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        failed, solution = _search(tuple(problem.metadata["numbers"]), problem.metadata["target"])
        steps = solution.steps if solution is not None else problem.metadata["steps"]
        return ";".join([*failed[len(failed) - min(self.dead_ends, len(failed)) :], ",".join(steps)])

    def answer(self, problem: Problem, completions: Sequence[str] = ()) -> str:
        """What the work finds."""
        _, solution = _search(tuple(problem.metadata["numbers"]), problem.metadata["target"])
        return problem.reference if solution is None else solution.text

    def guess(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """Any expression of the numbers."""
        return _combined(problem.metadata["numbers"], rng).text


@functools.lru_cache
def _search(numbers: tuple[int, ...], target: int) -> tuple[list[str], Expression | None]:
    """The dead ends of a search, and the expression it finds; it gives up after some thousand of them."""
    failed: list[str] = []

    def below(parts: list[Expression], steps: tuple[str, ...]) -> Expression | None:
        if len(parts) == 1:
            return parts[0] if parts[0].value == target else None
        seen = set()
        for i, j in itertools.combinations(range(len(parts)), 2):
            rest = [part for k, part in enumerate(parts) if k not in (i, j)]
            for joint in _joints(parts[i], parts[j]):
                values = (joint.value, *(part.value for part in rest))
                if values in seen or len(failed) > PATIENCE:
                    continue
                seen.add(values)
                found = below([*rest, joint], (*steps, joint.steps[-1]))
                if found is not None:
                    return found
        if len(parts) == 2 and steps:
            failed.append(",".join(steps))
        return None

    return failed, below([Expression.number(number) for number in numbers], ())


def _joints(one: Expression, other: Expression) -> list[Expression]:
    """Both by each operation that gives a positive whole number; the greater stands first."""
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
