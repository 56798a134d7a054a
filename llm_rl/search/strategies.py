"""Strategies of search by name: ``majority:16``, ``best-of:8``, ``mcts`` and the others, charged in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gridzero.envs.suggestions import closest
from gridzero.envs.tasks.task import Problem, Task
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.search import votes
from gridzero.llm_rl.search.attempts import attempts
from gridzero.llm_rl.search.beam import beam_search
from gridzero.llm_rl.search.mcts import tree_search
from gridzero.llm_rl.search.scorers import ProcessScorer, Scorer
from gridzero.llm_rl.search.steps import StepWriter

SEPARATOR = ","
"""Between two steps, where the scorer does not say."""

STRATEGIES = {
    "greedy": "the most likely tokens",
    "majority": "the answer that most of N completions give",
    "vote": "the answer with the greatest sum of weights, probabilities or a softmax of scores, among N completions",
    "best-of": "the best of N completions by score",
    "beam": "beam search over steps by process reward, N prefixes wide",
    "mcts": "Monte Carlo tree search over steps, N simulations",
    "pass": "any of N completions: what a perfect judge would find",
}
"""Names, and what each answers with."""

USUAL = {"beam": 4, "mcts": 32}
"""N where none is given; 16 of the others."""
SCORED = ("vote", "best-of", "mcts", "beam")


@dataclass(frozen=True)
class Strategy:
    """A search.

    Attributes:
        name: one of ``STRATEGIES``.
        size: N.
    """

    name: str
    size: int

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """The strategy of ``NAME`` or ``NAME:N``.

        Raises:
            ValueError: for an unknown name, or a number that is none.

        >>> Strategy.parse("majority:8"), Strategy.parse("beam")
        (Strategy(name='majority', size=8), Strategy(name='beam', size=4))
        """
        name, given, number = text.partition(":")
        if name not in STRATEGIES:
            raise ValueError(f"there is no search {name!r}; {closest(name, STRATEGIES)}")
        if given and name == "greedy":
            raise ValueError("greedy takes no number")
        if given and not (number.isascii() and number.isdecimal() and 1 <= int(number) <= votes.MOST):
            raise ValueError(f"{name}:N takes a whole number from 1 to {votes.MOST}, not {number!r}")
        return cls(name, int(number) if given else 1 if name == "greedy" else USUAL.get(name, 16))

    def check(self, scorer: Scorer | None) -> None:
        """Raise ValueError where the scorer is not what the search needs."""
        if self.name == "beam":
            self._process_scorer(scorer)
        elif self.name in SCORED:
            self._scorer(scorer)
        elif scorer is not None:
            raise ValueError(f"{self.name} takes no scorer")

    def _scorer(self, scorer: Scorer | None) -> Scorer:
        if scorer is None:
            raise ValueError(f"{self.name} needs --scorer RUN, a run of a reward model or a process reward model")
        return scorer

    def _process_scorer(self, scorer: Scorer | None) -> ProcessScorer:
        if not isinstance(scorer, ProcessScorer):
            raise ValueError(f"{self.name} needs --scorer RUN, a run of a process-reward-model")
        return scorer


@dataclass(frozen=True)
class Found:
    """Answer of a search to one problem.

    Attributes:
        text: the completion; for pass, the first right one, else the first.
        correct: whether its answer is right.
        tokens: that were written for it.
    """

    text: str
    correct: bool
    tokens: int


def search(
    strategy: Strategy,
    policy: LanguagePolicy,
    task: Task,
    problems: Sequence[Problem],
    rng: np.random.Generator,
    *,
    scorer: Scorer | None = None,
    tokens: int | None = None,
) -> list[Found]:
    """Answer problems.

    Args:
        strategy: how.
        policy: writes.
        task: of the problems; its verifier tells what the answer of a completion is, and only ``pass`` whether it is
            right.
        problems: P of them.
        rng: decides what is drawn.
        scorer: judges completions, where the strategy needs it.
        tokens: budget of each problem, in place of the strategy's number.

    Raises:
        ValueError: for a scorer that does not fit, or a task that answers back.
    """
    strategy.check(scorer)
    if strategy.name == "greedy":
        rows = attempts(policy, task, problems, 1, rng, greedy=True)
        return [Found(row[0].text, row[0].verdict.correct, row[0].tokens) for row in rows]
    if strategy.name in ("beam", "mcts"):
        separator = scorer.config.separator if isinstance(scorer, ProcessScorer) else SEPARATOR
        writer = StepWriter(policy, task, problems, separator, rng)
        if strategy.name == "beam":
            texts = beam_search(writer, strategy._process_scorer(scorer), strategy.size, tokens)
        else:
            texts = tree_search(writer, strategy._scorer(scorer), strategy.size, tokens)
        spent = writer.spent.tolist()
        return [
            Found(text, task.verify(problem, text).correct, count)
            for problem, text, count in zip(problems, texts, spent, strict=True)
        ]
    found = []
    for problem, row in zip(problems, votes.drawn(policy, task, problems, strategy.size, tokens, rng), strict=True):
        if strategy.name == "majority":
            one = votes.majority(row)
        elif strategy.name == "pass":
            one = next((each for each in row if each.verdict.correct), row[0])
        else:
            scores = strategy._scorer(scorer).scores([task.prompt(problem)] * len(row), [each.text for each in row])
            one = votes.best_of(row, scores)
            if strategy.name == "vote":
                weights = scores if isinstance(scorer, ProcessScorer) else votes.softmax(scores)
                one = votes.weighted_vote(row, weights)
        found.append(Found(one.text, one.verdict.correct, sum(each.tokens for each in row)))
    return found
