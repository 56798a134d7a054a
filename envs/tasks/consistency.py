"""Consistency of a thought: whether what it says of numbers is true."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from gridzero.envs.tasks.expressions import calculate
from gridzero.envs.tasks.task import Problem

_LEADING_ZEROS = re.compile("^0+(?=[0-9])")
MOST_EQUATIONS = 200
"""Equations of a thought that are looked at."""


def consistency(problem: Problem, completions: Sequence[str]) -> list[float]:
    """The share of the equations before the answer that are true; 0 where there are none.

    Equations are what stands between commas, colons, semicolons and line breaks, with one equals sign and numbers
    alone.

    >>> consistency(Problem("", ""), ["<think>5+3=08,6+7=12</think> <answer>1</answer>", "<answer>1</answer>"])
    [0.5, 0.0]
    """
    return [_share_of_true(completion.partition("<answer>")[0]) for completion in completions]


def _share_of_true(thought: str) -> float:
    text = thought.replace("<think>", "").replace("</think>", "")
    for separator in ";:\n":
        text = text.replace(separator, ",")
    verdicts = [_holds(*part.split("=")) for part in text.split(",")[:MOST_EQUATIONS] if part.count("=") == 1]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0


def _holds(left: str, right: str) -> bool:
    """Whether both sides have the same value; zeros may lead."""
    try:
        values: list[Fraction] = [calculate(_LEADING_ZEROS.sub("", side.strip()))[0] for side in (left, right)]
    except ValueError:
        return False
    return values[0] == values[1]
