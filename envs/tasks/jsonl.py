"""Problems from a file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Literal, Unpack, get_args

import numpy as np

from gridzero.envs.tasks.child import ChildError, call
from gridzero.envs.tasks.json_lines import Record, check_text, read_json_lines, value_of
from gridzero.envs.tasks.numbers import read_number, same_number, shown
from gridzero.envs.tasks.task import CommonOptions, Problem, Task
from gridzero.envs.tasks.templates import TAGS

Comparison = Literal["number", "text", "math"]
_MARK = "####"
_CALCULATION = re.compile(r"<<[^<>]*>>")
_VULGAR = re.compile("([0-9]+)?([¼½¾⅐-⅞])")


class Jsonl(Task):
    r"""Problems from a file: a JSON object with "question" and "answer" a line, other keys ignored.

    An answer may be a number or a text. In a text, what follows the last ``####`` is the answer and what precedes it
    the work, which demonstrations show, less calculations in ``<<…>>``: as GSM8K (Cobbe et al., 2021) has it.

    Args:
        path: of the file, in UTF-8.
        compare: "number": as :func:`~gridzero.envs.tasks.numbers.read_number` reads them, exactly; "text": as they are,
            but for white space; "math": as formulas, by the library math-verify in a process of its own.
        common: see :class:`Task`.

    Raises:
        ValueError: for a file that cannot be read; it names the line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "two.jsonl"
        >>> _ = file.write_text('{"question": "6*4?", "answer": "6*4 is <<6*4=24>>24.\\n#### 24"}\n')
        >>> task = Jsonl(path=file, split="all", worked=1.0)
        >>> problem = task.sample(np.random.default_rng(0))
        >>> task.demonstrate(problem, np.random.default_rng(0))
        '<think>6*4 is 24.</think> <answer>24</answer>'
        >>> task.check(problem, "24.0"), task.check(problem, "24 or 25")
        ((True, 'right'), (False, '24 or 25 is not a number'))
    """

    name = "jsonl"
    explanation = ""

    def __init__(self, *, path: str | Path, compare: Comparison = "number", **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        if compare not in get_args(Comparison):
            raise ValueError(f"compare must be one of {', '.join(get_args(Comparison))}, not {compare!r}")
        if compare == "math" and importlib.util.find_spec("math_verify") is None:
            raise ValueError("compare=math needs the package math-verify: pip install math-verify")
        if compare == "math":
            call(f"{__name__}:same_mathematics", "math_verify", "1", "1")  # whether the judge can start
        self.path = str(path)
        self.compare = compare
        self.problems = read_json_lines(Path(path), self._problem)
        self.contents = hashlib.sha256(json.dumps([vars(problem) for problem in self.problems]).encode()).hexdigest()
        texts = (problem.question + problem.reference + problem.metadata["work"] for problem in self.problems)
        self.characters = "".join(sorted(set().union(*texts)))

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        return self.problems[rng.integers(len(self.problems))]

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        answer = answer.removeprefix(_MARK).lstrip(" \t")
        if self.compare == "number":
            return same_number(answer, Fraction(read_number(problem.reference)))
        if self.compare == "text":
            same = answer.split() == problem.reference.split()
        else:
            try:
                same = call(f"{__name__}:same_mathematics", "math_verify", problem.reference, answer)
            except ChildError as error:
                return False, str(error)
        return same, "right" if same else f"{shown(answer)} is not {shown(problem.reference)}"

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:  # noqa: D102
        return str(problem.metadata["work"])

    def _problem(self, entry: Record) -> Problem:
        question, answer = self._field(entry, "question"), self._field(entry, "answer")
        work, _, reference = answer.rpartition(_MARK)
        work, reference = _CALCULATION.sub("", work).strip(), reference.strip()
        if not reference or any(tag in answer for tag in TAGS):
            raise ValueError("its answer is empty" if not reference else f"its answer has one of {' '.join(TAGS)}")
        if self.compare == "number":
            read_number(reference)
        return Problem(question, reference, {"work": work})

    @staticmethod
    def _field(entry: Record, key: str) -> str:
        value = value_of(entry, key)
        if key == "answer" and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        text = check_text(key, value)
        if not text.strip():
            raise ValueError(f'"{key}" is empty')
        return text


def same_mathematics(expected: str, answer: str) -> bool:
    """Whether two formulas, in LaTeX or plain, mean the same; not if one cannot be read.

    Runs in the process that :mod:`gridzero.envs.tasks.child` keeps for it.
    """
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy import Rational

    expected, answer = (_VULGAR.sub(_written_out, text) for text in (expected, answer))
    depths = list(accumulate((c == "{") - (c == "}") for c in answer.replace("\\{", "").replace("\\}", "")))
    if depths and (min(depths) < 0 or depths[-1]):
        return False
    gold, given = (
        parse(f"\\boxed{{{text}}}", [LatexExtractionConfig()], "no_fallback", parsing_timeout=3)
        for text in (expected, answer)
    )
    try:  # a plain number is compared exactly, where the library rounds
        number = read_number(answer)
    except ValueError:
        number = None
    if number is not None and gold and isinstance(gold[0], Rational):
        return Fraction(int(gold[0].p), int(gold[0].q)) == number
    return bool(gold and given) and bool(verify(gold, given, timeout_seconds=3))


def _written_out(vulgar: re.Match[str]) -> str:
    r"""A fraction that is one character, perhaps after a whole number, as LaTeX.

    >>> print(_VULGAR.sub(_written_out, "1½ and ¾"))
    \frac{3}{2} and \frac{3}{4}
    """
    part = Fraction(unicodedata.numeric(vulgar[2])).limit_denominator(10)
    value = int(vulgar[1] or 0) + part
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
