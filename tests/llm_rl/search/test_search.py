"""Search at test time against models whose every completion is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.task import Verdict
from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.policies.base_models import untrained_model
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.search import votes
from gridzero.llm_rl.search.attempts import Attempt, attempts, divergence, draw_problems, measure
from gridzero.llm_rl.search.steps import Prefix, StepWriter
from gridzero.llm_rl.search.strategies import Strategy, search


@pytest.fixture(scope="module")
def task() -> Any:
    return make_task("addition", digits=1)


@pytest.fixture(scope="module")
def policy(task: Any) -> LanguagePolicy:
    """A model that writes nearly anything."""
    model, tokenizer = untrained_model(task, np.random.default_rng(0), width=8, layers=1, heads=2, seed=0)
    return LanguagePolicy(model, tokenizer, LanguageOptions(), task=task, limit=12)


@dataclasses.dataclass
class CountingScorer:
    """A process scorer that likes zeros: each step's probability grows with how many it has."""

    config: Any = dataclasses.field(default_factory=lambda: SimpleNamespace(separator=","))

    def step_probabilities(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        return [[1 - 0.5 ** (1 + step.count("0")) for step in one.split(",")] for one in completions]

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        return [min(own) for own in self.step_probabilities(prompts, completions)]


class LengthScorer:
    """A scorer of whole completions that likes short ones."""

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        return [-float(len(one)) for one in completions]


def attempt(answer: str | None, correct: bool = False, tokens: int = 5) -> Attempt:
    return Attempt(f"text {answer}", tokens, Verdict(correct, True, answer, ""), Example([0, 1], [False, True]))


def test_votes_count_answers_and_their_weights() -> None:
    row = [attempt(None), attempt("3"), attempt("4"), attempt("4"), attempt("3"), attempt("4")]
    assert votes.majority(row).verdict.answer == "4"
    assert votes.weighted_vote(row, [9, 2, 0.1, 0.1, 2, 0.1]).verdict.answer == "3"
    assert votes.best_of(row, [0, 1, 2, 9, 1, 1]) is row[3]
    assert votes.majority([attempt(None), attempt(None)]).verdict.answer is None


def test_completions_within_a_budget_are_the_first_ones() -> None:
    row = [attempt("1", tokens=4), attempt("2", tokens=4), attempt("3", tokens=4)]
    assert votes.within(row, 8) == row[:2]
    assert votes.within(row, 1) == row[:1]


@pytest.mark.parametrize("name", ["majority", "vote", "best-of", "beam", "mcts", "pass"])
def test_every_search_answers_within_its_budget_and_the_same_again(name: str, task: Any, policy: Any) -> None:
    problems = draw_problems(task, 3, 0)
    scorer = CountingScorer() if name in ("vote", "best-of", "beam", "mcts") else None
    runs = [
        search(Strategy.parse(name), policy, task, problems, np.random.default_rng(5), scorer=scorer, tokens=120)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    for problem, one in zip(problems, runs[0], strict=True):
        # A step that is begun within the budget is written to its end.
        most = 4 * 16 * policy.limit if name == "beam" else 4 * policy.limit
        assert 0 < one.tokens <= 120 + (most if name in ("beam", "mcts") else 0)
        assert one.correct == task.verify(problem, one.text).correct


def test_beam_and_tree_find_what_the_scorer_likes(task: Any, policy: Any) -> None:
    problems, scorer = draw_problems(task, 4, 0), CountingScorer()
    one = search(Strategy("best-of", 1), policy, task, problems, np.random.default_rng(0), scorer=scorer)
    alone = np.mean(scorer.scores([""] * 4, [found.text for found in one]))
    for name in ("best-of:64", "beam:8", "mcts:64"):
        found = search(Strategy.parse(name), policy, task, problems, np.random.default_rng(0), scorer=scorer)
        assert np.mean(scorer.scores([""] * 4, [each.text for each in found])) > alone


def test_a_tree_with_a_scorer_of_whole_completions_finishes_them_to_judge(task: Any, policy: Any) -> None:
    problems = draw_problems(task, 2, 0)
    found = search(Strategy.parse("mcts:4"), policy, task, problems, np.random.default_rng(0), scorer=LengthScorer())
    plain = attempts(policy, task, problems, 16, np.random.default_rng(0))
    assert all(len(one.text) <= max(len(each.text) for each in row) for one, row in zip(found, plain, strict=True))


def test_a_step_ends_with_the_separator_or_the_completion(task: Any, policy: Any) -> None:
    writer = StepWriter(policy, task, draw_problems(task, 2, 0), ",", np.random.default_rng(0))
    rows = writer.extend([Prefix(0), Prefix(1)], 40)
    assert writer.spent.tolist() == [sum(len(one.tokens) for one in row) for row in rows]
    for row in rows:
        for one in row:
            assert one.finished or (one.text.endswith(",") and one.text.count(",") == 1)
            over = one.tokens[-1] in policy.end or policy.pad in one.tokens or len(one.tokens) == policy.limit
            assert one.finished == over


def test_measures_agree_with_each_other(task: Any, policy: Any) -> None:
    found = measure(policy, task, draw_problems(task, 20, 0), 8, 0, policy)
    assert found.greedy.low <= found.greedy.value <= found.greedy.high
    assert found.sampled.value <= found.any.value
    assert found.kl == (0.0, 0.0)


def test_the_divergence_is_that_of_the_first_token_where_there_is_one_only(task: Any, policy: Any) -> None:
    """KL(π ‖ π') from many samples of one token, against the sum over the vocabulary."""
    import torch

    model, tokenizer = untrained_model(task, np.random.default_rng(0), width=8, layers=1, heads=2, seed=1)
    other = LanguagePolicy(model, tokenizer, LanguageOptions(), task=task, limit=12)
    prompt = policy.renderer.prompt(task.prompt(draw_problems(task, 1, 0)[0]))
    with torch.no_grad():
        mine, theirs = (
            torch.log_softmax(one.model(torch.tensor([prompt])).logits[0, -1], -1).double() for one in (policy, other)
        )
    exact = float((mine.exp() * (mine - theirs)).sum())
    written = policy.generate([prompt], 4000, policy.sampling(1), np.random.default_rng(0)).tokens[:, 0].tolist()
    examples = [Example([*prompt, token], [False] * len(prompt) + [True]) for token in written]
    estimate, error = divergence(policy, other, examples) or (0.0, 0.0)
    assert abs(estimate - exact) < 4 * error  # fails once in 16,000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("majorty:4", "there is no search 'majorty'; did you mean majority"),
        ("majority:0", "takes a whole number from 1"),
        ("greedy:2", "greedy takes no number"),
        ("beam:x", "takes a whole number"),
    ],
)
def test_searches_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Strategy.parse(text)


def test_a_search_that_needs_a_scorer_says_so() -> None:
    with pytest.raises(ValueError, match="needs --scorer RUN"):
        Strategy.parse("best-of").check(None)
    with pytest.raises(ValueError, match="process-reward-model"):
        Strategy.parse("beam").check(LengthScorer())
    with pytest.raises(ValueError, match="takes no scorer"):
        Strategy.parse("majority").check(LengthScorer())
