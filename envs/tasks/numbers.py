"""Numbers as answers give them, read strictly and compared exactly."""

from __future__ import annotations

import re
from fractions import Fraction
from math import gcd

MAX_DIGITS = 1_000
"""Longest number in an answer, in characters; far below where Python refuses, far above what a task asks."""

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)"
    r"(?:(?P<numerator>[0-9]+)/(?P<denominator>[0-9]+)"
    r"|(?P<whole>[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)?(?:\.(?P<decimals>[0-9]+))?)"
)


def read_number(text: str) -> Fraction:
    """The number that a text writes, if it writes one number and nothing else.

    Allowed are a sign, leading zeros, thousands separated by commas (``1,234``), decimals (``24.0``, ``.5``), and a
    fraction in lowest terms (``3/2``). A fraction that is not is refused, for it is a division yet to be done
    (``48/2``); so are exponents, units, trailing points, and every character that is not ASCII.

    Raises:
        ValueError: for anything else; it says what is wrong.

    Example:
        >>> [str(read_number(text)) for text in ("24", "+24", "024", "24.0", "1,234", "-3/2", "-.5")]
        ['24', '24', '24', '24', '1234', '-3/2', '-1/2']
        >>> read_number("0,005")
        Traceback (most recent call last):
        ...
        ValueError: 0,005 is not a number
    """
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has at most {MAX_DIGITS:,} characters")
    match = _NUMBER.fullmatch(text)
    if match is None or text in ("", "+", "-"):
        raise ValueError(f"{shown(text)} is not a number")
    sign = -1 if match["sign"] == "-" else 1
    if match["denominator"] is not None:
        numerator, denominator = int(match["numerator"]), int(match["denominator"])
        if denominator < 2 or gcd(numerator, denominator) > 1:
            raise ValueError(f"{shown(text)} is not in lowest terms")
        return Fraction(sign * numerator, denominator)
    whole, decimals = (match["whole"] or "").replace(",", ""), match["decimals"] or ""
    return Fraction(sign * int(whole + decimals), 10 ** len(decimals))


def same_number(answer: str, expected: Fraction | int) -> tuple[bool, str]:
    """Whether an answer is a number, and the right one; and why."""
    try:
        value = read_number(answer)
    except ValueError as error:
        return False, str(error)
    if value == expected:
        return True, "right"
    return False, f"{shown(answer)} is not {shown(str(expected))}"


def shown(text: str) -> str:
    """Shorten a text for a line of a message."""
    short = text if len(text) <= 40 else f"{text[:37]}…"
    return short if short.isprintable() else repr(short)


def digits_of(number: int, width: int) -> list[int]:
    """The last ``width`` digits, from the right.

    >>> digits_of(507, 4)
    [7, 0, 5, 0]
    """
    return [number // 10**place % 10 for place in range(width)]
