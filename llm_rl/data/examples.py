"""Examples as tokens: a completion to imitate, a pair to compare, a completion judged step by step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gridzero.agents.neural.batches import Steps
from gridzero.envs.tasks.task import Problem, Task
from gridzero.llm_rl.models.rendering import Renderer
from gridzero.llm_rl.rollouts.conversations import joined


@dataclass(frozen=True)
class Example:
    """Tokens of a prompt and its completion, or of a whole conversation.

    Attributes:
        tokens: all of them.
        completion: of each, whether it belongs to a completion.
    """

    tokens: list[int]
    completion: list[bool]

    @property
    def prompt_length(self) -> int:
        """Number of tokens before the first completion."""
        return self.completion.index(True) if any(self.completion) else len(self.tokens)

    @property
    def learned(self) -> int:
        """Number of tokens that a loss counts: those of completions, but for the very first of all."""
        return sum(self.completion[1:])

    def cut(self, length: int) -> Example:
        """The first ``length`` tokens."""
        return self if len(self.tokens) <= length else Example(self.tokens[:length], self.completion[:length])

    def as_read(self, end: Sequence[int], silent: Collection[int]) -> Example:
        """The example as its text is encoded: without what follows padding, and with an end token.

        Args:
            end: tokens that end a completion.
            silent: these and padding.
        """
        padding = [
            i for i, token in enumerate(self.tokens) if self.completion[i] and token in silent and token not in end
        ]
        one = self.cut(padding[0]) if padding else self
        if one.tokens[-1] in end:
            return one
        return Example([*one.tokens, end[0]], [*one.completion, True])


@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt, and which is preferred.

    Attributes:
        chosen: the one that is preferred.
        rejected: the other.
        probability: that ``chosen`` is preferred; 1 for a hard label.
    """

    chosen: Example
    rejected: Example
    probability: float = 1.0


@dataclass(frozen=True)
class StepExample:
    """A completion whose steps are labelled.

    Attributes:
        example: prompt and completion.
        ends: index of the last token of each step.
        labels: whether each step is right, or the probability that it is.
    """

    example: Example
    ends: list[int]
    labels: list[float]


def demonstrate(task: Task, rng: np.random.Generator, renderer: Renderer) -> Example:
    """A demonstration of a random problem.

    Raises:
        ValueError: for a task without worked solutions, or text that has no tokens.
    """
    problem = task.sample(rng)
    tokens = renderer.prompt(task.prompt(problem), picture_of(task, problem, ()))
    completion = [False] * len(tokens)
    completions: list[str] = []
    reply: str | None = ""
    while reply is not None:
        heard = renderer.reply(reply, picture_of(task, problem, completions)) if reply else []
        completions.append(task.demonstrate(problem, rng, completions))
        written = renderer.completion(completions[-1])
        tokens += heard + written
        completion += [False] * len(heard) + [True] * len(written)
        reply = task.reply(problem, completions)
    return Example(tokens, completion)


def picture_of(task: Task, problem: Problem, completions: Sequence[str]) -> NDArray[np.uint8] | None:
    """Picture of a problem after the completions so far; None for a task without pictures."""
    return None if task.picture_shape is None else task.picture(problem, completions)


def rollout_examples(steps: Steps, pad: int) -> list[Example]:
    """Conversations of a rollout, each as one example."""
    tokens, first, lengths = joined(steps, pad)
    mask: Tensor = steps.mask
    return [
        Example(tokens[i, : start + length].tolist(), [False] * start + mask[i, :length].tolist())
        for i, (start, length) in enumerate(zip(first.tolist(), lengths.tolist(), strict=True))
    ]
