"""What a verifiable task is: problems, verdicts, and the split between training and held-out problems."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from gridzero.envs.tasks.templates import Template, find_template

Split = Literal["train", "held-out", "all"]
HELD_OUT_SHARE = 0.1
_PATIENCE = 10_000


@dataclass(frozen=True)
class Problem:
    """One problem of a task.

    Attributes:
        question: what is asked, without the template around it.
        reference: a right answer.
        metadata: what verifying and demonstrating need; as JSON holds it.
    """

    question: str
    reference: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of a completion.

    Attributes:
        correct: the answer is right.
        well_formed: the completion has the form that the template asks for; says nothing of the answer.
        answer: what was taken for the answer; None where none was found.
        reason: in a few words, why.
    """

    correct: bool
    well_formed: bool
    answer: str | None
    reason: str


class Task(ABC):
    """A source of problems whose answers can be verified.

    Args:
        split: "train" or "held-out": which problems :meth:`sample` draws; the two never overlap. "all": both.
        template: the form of prompt and completion; see :data:`~gridzero.envs.tasks.templates.TEMPLATES`.

    Attributes:
        name: the registered name.
        turns: how many completions an episode may have at most; more than 1 for tasks that answer back.
    """

    name: ClassVar[str]
    default_template: ClassVar[str] = "tags"

    def __init__(self, *, split: Split = "train", template: str | Template | None = None) -> None:
        if split not in get_args(Split):
            raise ValueError(f"split must be one of {', '.join(get_args(Split))}, not {split!r}")
        self.split = split
        self.template = find_template(template or self.default_template)
        self.turns = 1

    def sample(self, rng: np.random.Generator) -> Problem:
        """A problem of the split.

        Raises:
            ValueError: when the split seems to have none.
        """
        for _ in range(_PATIENCE):
            problem = self.generate(rng)
            if self.split == "all" or held_out(self.name, problem.question) == (self.split == "held-out"):
                return problem
        raise ValueError(f"{self.name} has no {self.split} problems with these options")

    @abstractmethod
    def generate(self, rng: np.random.Generator) -> Problem:
        """A problem of either split."""

    def prompt(self, problem: Problem) -> str:
        """What a model is shown: the question in its template."""
        return self.template.prompt(problem.question)

    def verify(self, problem: Problem, completion: str) -> Verdict:
        """Judge a completion, whatever it is: never raises, runs nothing, in bounded time."""
        answer, well_formed, reason = self.template.extract(completion)
        if answer is None:
            return Verdict(False, well_formed, None, reason)
        correct, reason = self.check(problem, answer)
        return Verdict(correct, well_formed, answer, reason)

    @abstractmethod
    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:
        """Whether an answer is right, and why; total, like :meth:`verify`."""

    def demonstrate(self, problem: Problem, rng: np.random.Generator) -> str:
        """A worked solution in the template's form, for supervised warm-up.

        Raises:
            ValueError: where the task has none.
        """
        raise ValueError(f"{self.name} has no worked solutions")

    def reply(self, problem: Problem, completions: Sequence[str]) -> str | None:
        """What the task answers to the completions so far; None when the episode is over.

        A function of its arguments alone.
        """
        return None

    def judge(self, problem: Problem, completions: Sequence[str]) -> Verdict:
        """Judge a whole episode: by its last completion, unless a task that answers back does otherwise."""
        return self.verify(problem, completions[-1])

    def alphabet(self) -> str:
        """The characters of prompts and demonstrations, sorted; the tags are not among them."""
        raise ValueError(f"{self.name} has no alphabet of its own")


def held_out(task: str, question: str) -> bool:
    """Whether a problem is kept from training: decided by a hash of it alone, the same everywhere and always."""
    digest = hashlib.sha256(f"{task}\n{question}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64
