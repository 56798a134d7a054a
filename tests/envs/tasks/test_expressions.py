"""The evaluator against Python's own parser, and built expressions against the evaluator."""

from __future__ import annotations

import ast
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridzero.envs.tasks.expressions import MAX_DEPTH, MAX_NUMBERS, OPERATIONS, Expression, calculate
from gridzero.envs.tasks.numbers import read_number


class NotAllowedError(Exception):
    pass


def by_python(text: str) -> tuple[Fraction, list[int]]:
    """The same language, by Python's parser: integers, the four operations, at most one sign before an operand."""
    try:
        tree = ast.parse(text.replace("\n", " ").strip(" "), mode="eval").body
    except (SyntaxError, ValueError):
        raise NotAllowedError from None
    numbers: list[int] = []

    def value(node: ast.AST, signed: bool = False) -> Fraction:
        match node:
            case ast.Constant(value=int(number)) if not isinstance(number, bool):
                numbers.append(number)
                return Fraction(number)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                inner = value(operand)
                return -inner if isinstance(node.op, ast.USub) else inner
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
                first, second = value(left), value(right)
                symbol = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}[type(node.op)]
                return OPERATIONS[symbol](first, second)
            case _:
                raise NotAllowedError

    try:
        return value(tree), numbers
    except ZeroDivisionError:
        raise NotAllowedError from None


PIECES = [*"0123456789+-*/()", "12", "305", " ", "\n", "+", "*", "(", ")"]


@settings(max_examples=1_000)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_random_text_agrees_with_python(text: str) -> None:
    compact = text.translate({ord(c): None for c in " \n"})
    try:
        expected = by_python(text)
    except NotAllowedError:
        with pytest.raises(ValueError, match=r"."):
            calculate(text)
        return
    if _twice_signed(compact) or _leading_zero(text):
        with pytest.raises(ValueError, match=r"."):
            calculate(text)
        return
    assert calculate(text) == expected


def _twice_signed(text: str) -> bool:
    return any(
        text[i] in "+-" and text[i + 1] in "+-" and (i == 0 or text[i - 1] in "(*/+-") for i in range(len(text) - 1)
    )


def _leading_zero(text: str) -> bool:
    """Python allows 00, and nothing else of the kind."""
    return any(text[i : i + 2] == "00" and (i == 0 or not text[i - 1].isdigit()) for i in range(len(text) - 1))


def built() -> st.SearchStrategy[Expression]:
    def combined(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return (
            st.tuples(children, st.sampled_from("+-*/"), children)
            .filter(lambda parts: parts[1] != "/" or parts[2].value != 0)
            .map(lambda parts: parts[0].then(parts[1], parts[2]))
        )

    return st.recursive(st.integers(0, 99).map(Expression.number), combined, max_leaves=12)


@settings(max_examples=200)
@given(built())
def test_what_is_built_reads_back_and_its_steps_lead_to_its_value(expression: Expression) -> None:
    value, numbers = calculate(expression.text)
    assert value == expression.value == by_python(expression.text)[0]
    assert len(expression.steps) == len(numbers) - 1
    for step in expression.steps:
        left, _, right = step.rpartition("=")
        assert by_python(left)[0] == Fraction(right)
    if expression.steps:
        assert Fraction(expression.steps[-1].rpartition("=")[2]) == expression.value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no number"),
        ("  ", "there is no number"),
        ("1 2", "an operation is missing before 2"),
        ("2(3)", r"an operation is missing before '\('"),
        ("01", "01 has a leading zero"),
        ("1.5", r"\. has no place"),
        ("1+", "ends too early"),
        ("(1", "not closed"),
        ("1)", "closes nothing"),
        ("()", r"missing before '\)'"),
        ("2**3", r"missing before '\*'"),
        ("7//2", "missing before '/'"),
        ("1/(2-2)", "divides by zero"),
        ("1---1", "missing before '-'"),
        ("٢", "has no place"),
        ("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "nested at most"),
        ("1" + "+1" * MAX_NUMBERS, "at most 100 numbers"),
        ("1" * 501, "at most 500 characters"),
    ],
)
def test_errors_say_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        calculate(text)


def test_the_caps_themselves_are_allowed() -> None:
    assert calculate("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH).value == 1
    assert calculate("1" + "+1" * (MAX_NUMBERS - 1)).value == MAX_NUMBERS


@given(st.fractions())
def test_numbers_read_back(number: Fraction) -> None:
    assert read_number(str(number)) == number


@given(st.integers(), st.integers(0, 30))
def test_numbers_as_python_formats_them(number: int, decimals: int) -> None:
    assert read_number(f"{number:,}") == read_number(f"{number:+}") == number
    scaled = Fraction(number, 10**decimals)
    sign, digits = "-" if number < 0 else "", f"{abs(number):0{decimals + 1}}"
    whole = digits[: len(digits) - decimals]
    assert read_number(f"{sign}{whole}.{digits[len(whole) :]}" if decimals else f"{sign}{whole}") == scaled


@given(st.integers(-99, 99), st.integers(1, 99))
def test_a_division_yet_to_be_done_is_no_number(numerator: int, denominator: int) -> None:
    text = f"{numerator}/{denominator}"
    if str(Fraction(numerator, denominator)) == text:
        assert read_number(text) == Fraction(numerator, denominator)
    else:
        with pytest.raises(ValueError, match="lowest terms"):
            read_number(text)
