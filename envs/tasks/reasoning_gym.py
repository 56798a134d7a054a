"""The tasks of the library reasoning-gym."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Unpack

import numpy as np

from gridzero.envs.suggestions import closest
from gridzero.envs.tasks.child import ChildError, call
from gridzero.envs.tasks.task import CommonOptions, Problem, Task, check_integer

_EVAL = builtins.eval


class ReasoningGym(Task):
    """The procedural tasks of reasoning-gym (Stojanovski et al., 2025), as its own scorers judge them.

    The library lives in a process of its own (:mod:`gridzero.envs.tasks.child`), for some of its scorers evaluate the
    answer. An answer is right at the full score of 1; what it scores otherwise is in the reason.

    Args:
        dataset: one of the library's, such as "chain_sum".
        size: how many different problems there are.
        settings: further settings of the dataset, a mapping or its JSON, such as ``'{"max_terms": 3}'``.
        common: see :class:`Task`.

    Raises:
        ValueError: where the library is not installed, or has no such dataset or setting.
    """

    name = "reasoning-gym"
    explanation = ""
    characters = string.printable[:95] + "\n"

    def __init__(
        self,
        *,
        dataset: str,
        size: int = 100_000,
        settings: str | Mapping[str, Any] = "{}",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        if importlib.util.find_spec("reasoning_gym") is None:
            raise ValueError("the task reasoning-gym needs the package reasoning-gym: pip install reasoning-gym")
        self.dataset = dataset
        self.size = check_integer("size", size, 1, 10**9)
        try:
            given = dict(json.loads(settings) if isinstance(settings, str) else settings)
        except (ValueError, TypeError):
            raise ValueError(f"settings must be a JSON object, not {settings!r}") from None
        self.settings = json.dumps({"seed": 0, **given, "size": self.size})
        try:
            self._ask(0)
        except ChildError as error:
            raise ValueError(str(error).removeprefix("ValueError: ")) from None

    def generate(self, rng: np.random.Generator) -> Problem:  # noqa: D102
        index = int(rng.integers(self.size))
        question, reference, _ = self._ask(index)
        return Problem(question, reference, {"index": index})

    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:  # noqa: D102
        try:
            _, _, score = self._ask(problem.metadata["index"], answer)
        except ChildError as error:
            return False, str(error)
        return score == 1, "right" if score == 1 else f"it scores {score:.3g}"

    def _ask(self, index: int, answer: str | None = None) -> Any:
        return call(f"{__name__}:ask", "reasoning_gym", self.dataset, self.settings, index, answer)


def ask(dataset: str, settings: str, index: int, answer: str | None) -> list[Any]:
    """A problem, and the score of an answer to it; runs in the process that the library lives in.

    Args:
        dataset: its name.
        settings: of the dataset, as JSON, seed and size among them.
        index: of the problem.
        answer: None for the problem alone.

    Returns:
        The question, a right answer and the score, 0 to 1.

    Raises:
        ValueError: for an unknown name or setting.
    """
    problems = _dataset(dataset, settings)
    entry = problems[index]
    score = 0.0
    if answer is not None:
        builtins.eval = _literal_eval  # several scorers evaluate the answer, to read a list
        try:
            score = float(problems.score_answer(answer, entry))
        finally:
            builtins.eval = _EVAL
    return [str(entry["question"]), str(entry["answer"]), score]


@lru_cache(maxsize=8)
def _dataset(name: str, settings: str) -> Any:
    from reasoning_gym.factory import DATASETS, create_dataset

    if name not in DATASETS:
        hint = closest(name, DATASETS, "its documentation lists them")
        raise ValueError(f"reasoning-gym has no dataset {name!r}; {hint}")
    try:
        return create_dataset(name, **json.loads(settings))
    except (TypeError, AssertionError, ValueError) as error:
        raise ValueError(f"{name} does not take these settings: {error}") from None


def _literal_eval(source: Any, *scopes: Any) -> Any:
    """Read a bare text as a literal; what comes with names of its own is the output of a parser."""
    return _EVAL(source, *scopes) if scopes else ast.literal_eval(source)
