"""Search among whole completions that are drawn independently: best of n, majority, weighted vote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridzero.envs.tasks.task import Problem, Task
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.search.attempts import Attempt, attempts

ROUND = 16
"""Completions of each problem that are drawn at a time where tokens are the budget."""
MOST = 1024
"""Completions of a problem, whatever the budget."""


def drawn(
    policy: LanguagePolicy,
    task: Task,
    problems: Sequence[Problem],
    size: int,
    tokens: int | None,
    rng: np.random.Generator,
) -> list[list[Attempt]]:
    """Completions of each problem: ``size`` of them, or as many as the tokens allow, at least one."""
    if tokens is None:
        return attempts(policy, task, problems, size, rng)
    found: list[list[Attempt]] = [[] for _ in problems]
    going = list(range(len(problems)))
    while going:
        for i, new in zip(going, attempts(policy, task, [problems[i] for i in going], ROUND, rng), strict=True):
            found[i] += new
        going = [i for i in going if sum(one.tokens for one in found[i]) < tokens and len(found[i]) < MOST]
    return [within(row, tokens) for row in found]


def within(row: Sequence[Attempt], tokens: int) -> list[Attempt]:
    """The first completions that together have so many tokens, at least one."""
    spent = np.cumsum([one.tokens for one in row])
    return list(row[: max(1, int((spent <= tokens).sum()))])


def majority(row: Sequence[Attempt]) -> Attempt:
    """The first completion with the answer that most give; the first of all where none gives one.

    Source: Wang et al. (2022), Self-consistency improves chain of thought reasoning, section 2.
    """
    return weighted_vote(row, [1.0] * len(row))


def weighted_vote(row: Sequence[Attempt], weights: Sequence[float]) -> Attempt:
    """The first completion with the answer that has the greatest sum of weights, the first among equals.

    Source: Li et al. (2022), Making large language models better reasoners with step-aware verifier, section 3.
    """
    sums: dict[str, float] = {}
    for one, weight in zip(row, weights, strict=True):
        if one.verdict.answer is not None:
            sums[one.verdict.answer] = sums.get(one.verdict.answer, 0.0) + weight
    if not sums:
        return row[0]
    best = max(sums, key=lambda answer: sums[answer])
    return next(one for one in row if one.verdict.answer == best)


def best_of(row: Sequence[Attempt], scores: Sequence[float]) -> Attempt:
    """The completion with the highest score.

    Source: Stiennon et al. (2020), Learning to summarize from human feedback; Cobbe et al. (2021), Training verifiers
    to solve math word problems.
    """
    return row[int(np.argmax(scores))]


def softmax(scores: Sequence[float]) -> list[float]:
    """Positive weights from scores of any range, which add up to 1.

    >>> softmax([0.0, 0.0])
    [0.5, 0.5]
    """
    exponentials = np.exp(np.array(scores) - max(scores))
    return [float(weight) for weight in exponentials / exponentials.sum()]
