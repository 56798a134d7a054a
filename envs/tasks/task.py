"""Verifiable tasks: problems, verdicts, and the split between training and held-out problems."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.tasks.templates import TAGS, Template, find_template

Split = Literal["train", "held-out", "all"]
HELD_OUT_SHARE = 0.1
PATIENCE = 10_000
"""Problems that are drawn before giving up on one that is allowed."""


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
    """Verdict of a verifier on a completion.

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


class CommonOptions(TypedDict, total=False):
    """The options that every task has."""

    split: Split
    template: str | Template | None
    worked: float
    direct: bool
    system: str


class Task(ABC):
    """A source of problems whose answers can be verified.

    A subclass says how to :meth:`generate` a problem, :meth:`check` an answer and, if it can, :meth:`work` it out.
    A task is made by :func:`~gridzero.envs.tasks.make_task` and draws nothing but from the generators handed to it.

    Args:
        split: "train" or "held-out": which problems :meth:`sample` draws; the two never overlap. "all": both.
        template: the form of prompt and completion; see :data:`~gridzero.envs.tasks.templates.TEMPLATES`.
        worked: the share of demonstrations that show the work; the others have an empty thought and a guess.
        direct: whether all demonstrations are right answers without any work instead.
        system: a system prompt, which language models read before every problem; it is no part of the observations.

    Attributes:
        name: the registered name.
        explanation: what is asked, in words that the question follows.
        characters: what questions, thoughts and answers are made of.
        turns: how many completions an episode may have at most; more than 1 for tasks that answer back.
        picture_shape: (H, W, 3) of the picture in which a problem is shown; None: it is shown as text.
        measured: names of reward functions that are reported, though they pay nothing.
        picture_tile: the side, in pixels, of what belongs together in the picture; even, and a divisor of H and W.

    Raises:
        ValueError: for an option that is not allowed; it says what is.
    """

    name: ClassVar[str]
    explanation: ClassVar[str]
    characters: str
    default_template: ClassVar[str] = "tags"
    measured: tuple[str, ...] = ()
    picture_tile: int = 8

    def __init__(
        self,
        *,
        split: Split = "train",
        template: str | Template | None = None,
        worked: float = 0.25,
        direct: bool = False,
        system: str = "",
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"split must be one of {', '.join(get_args(Split))}, not {split!r}")
        if isinstance(worked, bool) or not isinstance(worked, int | float) or not 0 <= worked <= 1:
            raise ValueError(f"worked must be a share between 0 and 1, not {worked!r}")
        self.split = split
        self.template = find_template(template or self.default_template)
        self.worked, self.direct = worked, check_boolean("direct", direct)
        self.system = system
        self.turns = 1
        self.picture_shape: tuple[int, int, int] | None = None

    def sample(self, rng: np.random.Generator) -> Problem:
        """A problem of the split.

        Raises:
            ValueError: when the split seems to have none.
        """
        for _ in range(PATIENCE):
            problem = self.generate(rng)
            if self.split == "all" or held_out(self.name, self.key(problem)) == (self.split == "held-out"):
                return problem
        raise ValueError(f"{self.name} has no {self.split} problems with these options")

    @abstractmethod
    def generate(self, rng: np.random.Generator) -> Problem:
        """A problem of either split."""

    def key(self, problem: Problem) -> str:
        """Key of a problem, equal for problems that are the same in substance; the split goes by it."""
        return problem.question

    def prompt(self, problem: Problem) -> str:
        """Prompt of a problem: the question in its template; without the question where a picture shows it."""
        question = problem.question if self.picture_shape is None else ""
        if self.template.explains and self.explanation:
            separator = "\n" if "\n" in question else " "
            question = f"{self.explanation}{separator}{question}"
        return self.template.prompt(question)

    def picture(self, problem: Problem, completions: Sequence[str] = ()) -> NDArray[np.uint8]:
        """Picture of a problem after the completions so far, of :attr:`picture_shape`.

        Raises:
            ValueError: for a task without pictures.
        """
        raise ValueError(f"{self.name} has no pictures")

    def drawn(self, problem: Problem, completions: Sequence[str]) -> str:
        """Return, as text, the map that a picture shows after the completions so far; by default the question."""
        return problem.question

    def verify(self, problem: Problem, completion: str) -> Verdict:
        """Judge a completion, whatever it is: never raises, runs nothing, in bounded time."""
        answer, well_formed, reason = self.template.extract(completion, problem.question)
        if answer is None:
            return Verdict(False, well_formed, None, reason)
        correct, why = self.check(problem, answer)
        return Verdict(correct, well_formed, answer, f"{why}, but {reason}" if reason else why)

    @abstractmethod
    def check(self, problem: Problem, answer: str) -> tuple[bool, str]:
        """Whether an answer is right, and why; total, like :meth:`verify`."""

    def work(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """A thought that leads to the answer, in steps that a tiny model can learn; empty where the task has none."""
        return ""

    def given(self, problem: Problem, completions: Sequence[str] = ()) -> str:
        """The beginning that every right thought has, given the completions so far; empty by default."""
        return ""

    def answer(self, problem: Problem, completions: Sequence[str] = ()) -> str:
        """A right answer, for tasks that answer back the one to give next."""
        return problem.reference

    def guess(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """Answer of someone who skips the work; it may be wrong."""
        return self.answer(problem, completions)

    def demonstrate(self, problem: Problem, rng: np.random.Generator, completions: Sequence[str] = ()) -> str:
        """A completion in the template's form, for supervised warm-up: worked out, and so right, or a guess, by chance.

        Args:
            problem: of this task.
            rng: decides whether, and how, it is worked out.
            completions: those before, for tasks that answer back.
        """
        if self.direct:
            return self.template.completion(self.given(problem, completions), self.answer(problem, completions))
        if rng.random() < self.worked:
            return self.template.completion(self.work(problem, rng, completions), self.answer(problem, completions))
        return self.template.completion("", self.guess(problem, rng, completions))

    def reply(self, problem: Problem, completions: Sequence[str]) -> str | None:
        """Reply of the task to the completions so far; None when the episode is over.

        A function of its arguments alone.
        """
        return None

    def judge(self, problem: Problem, completions: Sequence[str]) -> Verdict:
        """Judge a whole episode: by its last completion, unless a task that answers back does otherwise."""
        return self.verify(problem, completions[-1])

    def alphabet(self) -> str:
        """The characters of prompts and demonstrations, sorted; the tags are not among them."""
        text = self.prompt(Problem("", "")) + self.template.completion("\n", "")
        for tag in TAGS:
            text = text.replace(tag, "")
        return "".join(sorted(set(text + self.characters + (f"{self.system}\n" if self.system else ""))))


def held_out(task: str, key: str) -> bool:
    """Whether a problem is kept from training: decided by a hash of it alone, the same everywhere and always.

    Args:
        task: the task's name.
        key: the problem's :meth:`~Task.key`.
    """
    digest = hashlib.sha256(f"{task}\n{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def check_boolean(name: str, value: object) -> bool:
    """An option that is true or false.

    Raises:
        ValueError: when it is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return value


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """An option that is an integer between two bounds.

    Raises:
        ValueError: when it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, not {value!r}")
    return value
