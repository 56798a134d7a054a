"""Completions of problems with their verdicts, and what they say of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gridzero.agents.intervals import wilson_interval
from gridzero.envs.tasks.task import Problem, Task, Verdict
from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.policies.language_policy import LanguagePolicy, slices
from gridzero.llm_rl.rollouts.metrics import majority_is_right
from gridzero.llm_rl.scoring.completions import sequence_log_probs


@dataclass(frozen=True)
class Attempt:
    """One completion of a problem.

    Attributes:
        text: without the end token.
        tokens: how many the model wrote, the end token included.
        verdict: of the task.
        example: its tokens.
    """

    text: str
    tokens: int
    verdict: Verdict
    example: Example


def draw_problems(task: Task, count: int, seed: int) -> list[Problem]:
    """Problems of a task, decided by the seed."""
    rng = np.random.default_rng(seed)
    return [task.sample(rng) for _ in range(count)]


def attempts(
    policy: LanguagePolicy,
    task: Task,
    problems: Sequence[Problem],
    copies: int,
    rng: np.random.Generator,
    *,
    greedy: bool = False,
) -> list[list[Attempt]]:
    """Write ``copies`` completions of each problem.

    Raises:
        ValueError: for a task that answers back.
    """
    if task.turns > 1:
        raise ValueError(f"{task.name} answers back; search takes tasks of one completion")
    sampling = policy.sampling(policy.limit, greedy=greedy)
    found: list[list[Attempt]] = []
    for some in slices(len(problems), copies):
        part = problems[some]
        prompts = [policy.renderer.prompt(task.prompt(problem)) for problem in part]
        written = policy.generate(prompts, copies, sampling, rng)
        tokens, lengths = written.tokens.cpu().numpy(), written.lengths.tolist()
        texts = policy.decode(tokens, written.ended.tolist())
        for i, problem in enumerate(part):
            rows = range(i * copies, (i + 1) * copies)
            found.append(
                [
                    Attempt(
                        texts[row],
                        lengths[row],
                        task.verify(problem, texts[row]),
                        _example(prompts[i], tokens[row, : lengths[row]].tolist()),
                    )
                    for row in rows
                ]
            )
    return found


def _example(prompt: list[int], completion: list[int]) -> Example:
    return Example(prompt + completion, [False] * len(prompt) + [True] * len(completion))


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share(right: NDArray[np.bool_]) -> Share:
    """A share (P,), or the mean of shares (P, n) with an interval over the P problems, which are independent.

    >>> str(share(np.array([True, False])))
    '0.500 [0.095, 0.905]'
    """
    if right.ndim == 1:
        return Share(float(right.mean()), *wilson_interval(int(right.sum()), len(right)))
    means = right.mean(axis=1)
    half = 1.96 * float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.inf
    middle = float(means.mean())
    return Share(middle, max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True)
class Measures:
    """Measures of a model on some problems.

    Attributes:
        greedy: right with the most likely tokens.
        sampled: right when drawn, of all completions.
        any: at least one of n drawn ones is right: pass@n.
        majority: the answer that most of n give is right: majority@n.
        form: well-formed, of those drawn.
        tokens: a drawn completion's, on average.
        kl: from the base model, in nats a completion, and its standard error; None without one.
        completions: n.
    """

    greedy: Share
    sampled: Share
    any: Share
    majority: Share
    form: float
    tokens: float
    kl: tuple[float, float] | None
    completions: int


def measure(
    policy: LanguagePolicy,
    task: Task,
    problems: Sequence[Problem],
    copies: int,
    seed: int,
    base: LanguagePolicy | None = None,
) -> Measures:
    """Measure a model on some problems.

    Args:
        policy: the model.
        task: of the problems.
        problems: P of them.
        copies: n, completions of each that are drawn.
        seed: decides the draws.
        base: the model from which its divergence is estimated: the mean of log π/π_base over its own completions.
    """
    likely = attempts(policy, task, problems, 1, np.random.default_rng(seed), greedy=True)
    drawn = attempts(policy, task, problems, copies, np.random.default_rng((seed, 1)))
    right = np.array([[one.verdict.correct for one in row] for row in drawn])
    majority = [majority_is_right([one.verdict.answer for one in row], right[i]) for i, row in enumerate(drawn)]
    flat = [one for row in drawn for one in row]
    return Measures(
        share(np.array([row[0].verdict.correct for row in likely])),
        share(right),
        share(np.asarray(right.any(axis=1))),
        share(np.array(majority)),
        float(np.mean([one.verdict.well_formed for one in flat])),
        float(np.mean([one.tokens for one in flat])),
        None if base is None else divergence(policy, base, [one.example for one in flat]),
        copies,
    )


@torch.no_grad()
def divergence(policy: LanguagePolicy, base: LanguagePolicy, written: Sequence[Example]) -> tuple[float, float] | None:
    """KL(π ‖ π_base) in nats a completion, estimated from π's own, and its standard error; None for other tokens."""
    if policy.tokenizer.get_vocab() != base.tokenizer.get_vocab():
        return None
    parts = []
    for rows in slices(len(written)):
        part = list(written[rows])
        own, other = (
            sequence_log_probs(one.model, part, one.pad, temperature=one.options.temperature) for one in (policy, base)
        )
        parts.append((own - other).double())
    ratios = torch.cat(parts)
    return float(ratios.mean()), float(ratios.std() / math.sqrt(len(ratios)))
