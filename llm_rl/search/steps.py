"""Completions that grow a step at a time: prefixes, and how they go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gridzero.envs.tasks.task import Problem, Task
from gridzero.llm_rl.decoding.generate import generate
from gridzero.llm_rl.policies.language_policy import LanguagePolicy, slices


@dataclass(frozen=True)
class Prefix:
    """A completion as far as it is written.

    Attributes:
        problem: the number of its problem.
        tokens: of the completion.
        text: of these tokens.
        finished: by an end token, or at the limit.
    """

    problem: int
    tokens: tuple[int, ...] = ()
    text: str = ""
    finished: bool = False


class StepWriter:
    """Continues prefixes by a step, which ends with a separator, or to the end.

    Args:
        policy: writes.
        task: of the problems.
        problems: which prefixes are about.
        separator: ends a step; one token.
        rng: decides the draws.

    Attributes:
        spent: (P,) tokens written for each problem so far.
        prompts: their texts.

    Raises:
        ValueError: for a task that answers back, or a separator of several tokens.
    """

    def __init__(
        self,
        policy: LanguagePolicy,
        task: Task,
        problems: Sequence[Problem],
        separator: str,
        rng: np.random.Generator,
    ) -> None:
        if task.turns > 1:
            raise ValueError(f"{task.name} answers back; search takes tasks of one completion")
        marks = policy.encode(separator, begins=False)
        if len(marks) != 1:
            raise ValueError(f"steps end with one token; {separator!r} has {len(marks)}")
        self.policy, self.rng = policy, rng
        self.mark = marks[0]
        self.prompts = [task.prompt(problem) for problem in problems]
        self._tokens = [policy.renderer.prompt(prompt) for prompt in self.prompts]
        self.spent = np.zeros(len(problems), dtype=np.int64)

    def extend(self, prefixes: Sequence[Prefix], copies: int, *, to_end: bool = False) -> list[list[Prefix]]:
        """``copies`` continuations of each unfinished prefix."""
        found: list[list[Prefix]] = []
        policy = self.policy
        ends = policy.end if to_end else (*policy.end, self.mark)
        for some in slices(len(prefixes), copies):
            part = prefixes[some]
            rows = [self._tokens[prefix.problem] + list(prefix.tokens) for prefix in part]
            limits = [policy.room(row, policy.limit - len(p.tokens)) for row, p in zip(rows, part, strict=True)]
            sampling = policy.sampling(max(limits))
            written = generate(
                policy.model, rows, copies, sampling, end=ends, pad=policy.pad, rng=self.rng,
                limits=[limit for limit in limits for _ in range(copies)],
            )  # fmt: skip
            tokens, lengths = written.tokens.cpu().numpy(), written.lengths.tolist()
            last = [row[length - 1] for row, length in zip(tokens, lengths, strict=True)]
            texts = policy.decode(tokens, [token in policy.end for token in last])
            for i, prefix in enumerate(part):
                found.append([])
                for row in range(i * copies, (i + 1) * copies):
                    own = tuple(tokens[row, : lengths[row]].tolist())
                    self.spent[prefix.problem] += len(own)
                    whole = (*prefix.tokens, *own)
                    # Nothing after padding counts in a completion's text.
                    finished = not policy.silent.isdisjoint(own) or len(own) >= limits[i]
                    found[-1].append(Prefix(prefix.problem, whole, prefix.text + texts[row], finished))
        return found
