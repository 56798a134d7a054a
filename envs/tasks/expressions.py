"""Arithmetic expressions: an exact evaluator for what a model wrote, and expressions built up with their steps."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from gridzero.envs.tasks.numbers import shown

MAX_LENGTH = 500
MAX_DEPTH = 50
MAX_NUMBERS = 100

OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2}
_NEGATE, _KEEP = "negate", "keep"
_TOKEN = re.compile(r"[ \t\r\n]*(?:([0-9]+)|([-+*/()]))")
_LEVEL_OF_NUMBER = 3


class Calculation(NamedTuple):
    """An expression's exact value, and its numbers in the order they are written."""

    value: Fraction
    numbers: list[int]


def calculate(text: str) -> Calculation:
    """The value of an expression, which is read here and nowhere else: no text is ever run.

    An expression has whole numbers without leading zeros, ``+ - * /`` with the usual precedence, from left to right,
    parentheses, and white space between them. A sign may stand before a number or a parenthesis, but not two.
    Everything else is refused: other characters, decimals, ``**``, ``//``, ``2(3)``, Unicode digits.

    The operators wait on a stack until one that binds no tighter follows (Dijkstra's shunting yard), so that nothing
    recurses; length, depth and the count of numbers are capped, and with them the size of every value on the way.

    Raises:
        ValueError: for what is not an expression, passes a cap, or divides by zero; it says which.

    Example:
        >>> calculate("(25 - 5) / 3 * -2")
        Calculation(value=Fraction(-40, 3), numbers=[25, 5, 3, 2])
        >>> calculate("9**9")
        Traceback (most recent call last):
        ...
        ValueError: a number is missing before '*'
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"an expression has at most {MAX_LENGTH} characters")
    values: list[Fraction] = []
    waiting: list[str] = []
    numbers: list[int] = []
    depth, place, end = 0, 0, len(text.rstrip(" \t\r\n"))
    expects_number = True
    while place < end:
        match = _TOKEN.match(text, place, end)
        if match is None:
            raise ValueError(f"{shown(text[place:end].strip()[:1])} has no place in an expression")
        place = match.end()
        numeral, token = match.groups()
        if numeral is not None:
            if not expects_number:
                raise ValueError(f"an operation is missing before {shown(numeral)}")
            if numeral[0] == "0" and len(numeral) > 1:
                raise ValueError(f"{shown(numeral)} has a leading zero")
            numbers.append(int(numeral))
            values.append(Fraction(numbers[-1]))
            expects_number = False
            if len(numbers) > MAX_NUMBERS:
                raise ValueError(f"an expression has at most {MAX_NUMBERS} numbers")
        elif token == "(":
            if not expects_number:
                raise ValueError("an operation is missing before '('")
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"parentheses are nested at most {MAX_DEPTH} deep")
            waiting.append(token)
        elif token == ")":
            if expects_number:
                raise ValueError("a number is missing before ')'")
            if depth == 0:
                raise ValueError("')' closes nothing")
            depth -= 1
            while waiting[-1] != "(":
                _apply(waiting.pop(), values)
            waiting.pop()
        elif not expects_number:
            while waiting and waiting[-1] != "(" and _LEVELS.get(waiting[-1], 3) >= _LEVELS[token]:
                _apply(waiting.pop(), values)
            waiting.append(token)
            expects_number = True
        elif token in "+-" and not (waiting and waiting[-1] in (_NEGATE, _KEEP)):
            waiting.append(_NEGATE if token == "-" else _KEEP)
        else:
            raise ValueError(f"a number is missing before {token!r}")
    if expects_number:
        raise ValueError("the expression ends too early" if numbers else "there is no number")
    if depth:
        raise ValueError("a parenthesis is not closed")
    while waiting:
        _apply(waiting.pop(), values)
    return Calculation(values[0], numbers)


def _apply(operation: str, values: list[Fraction]) -> None:
    last = values.pop()
    if operation == _NEGATE:
        values.append(-last)
    elif operation == _KEEP:
        values.append(last)
    elif operation == "/" and last == 0:
        raise ValueError("it divides by zero")
    else:
        values.append(OPERATIONS[operation](values.pop(), last))


@dataclass(frozen=True)
class Expression:
    """An expression that is built up from numbers.

    Attributes:
        text: with no more parentheses than evaluating it in the order of the steps needs.
        value: exact.
        steps: each operation and its result, in order, such as ``25-5=20``.
        level: how tightly its outermost operation binds.
    """

    text: str
    value: Fraction
    steps: tuple[str, ...] = ()
    level: int = _LEVEL_OF_NUMBER

    @classmethod
    def number(cls, number: int) -> Expression:
        """A number that is not negative, alone."""
        return cls(str(number), Fraction(number))

    def then(self, operation: str, other: Expression) -> Expression:
        """This expression, an operation, and another one.

        Raises:
            ZeroDivisionError: where that divides by zero.

        Example:
            >>> difference = Expression.number(25).then("-", Expression.number(5))
            >>> product = Expression.number(3).then("*", difference)
            >>> product.text, product.steps
            ('3*(25-5)', ('25-5=20', '3*20=60'))
        """
        level = _LEVELS[operation]
        left = f"({self.text})" if self.level < level else self.text
        right = f"({other.text})" if other.level <= level else other.text
        return Expression(
            f"{left}{operation}{right}",
            OPERATIONS[operation](self.value, other.value),
            (*self.steps, *other.steps, step(self.value, operation, other.value)),
            level,
        )


def step(left: Fraction | int, operation: str, right: Fraction | int) -> str:
    """One operation and its result.

    >>> step(3, "-", -5), step(Fraction(1, 2), "/", Fraction(3, 4))
    ('3-(-5)=8', '1/2/(3/4)=2/3')
    """
    result = OPERATIONS[operation](Fraction(left), Fraction(right))
    plain = right >= 0 and Fraction(right).denominator == 1
    return f"{left}{operation}{right if plain else f'({right})'}={result}"
