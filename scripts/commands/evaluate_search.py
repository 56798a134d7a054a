"""``gridzero evaluate --search``: language models that write several completions of a problem and answer with one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gridzero.commands.evaluate import Options
    from gridzero.llm_rl.search.scorers import Scorer


def evaluate_search(options: Options, names: Sequence[str], given: Mapping[str, str]) -> int:
    """Answer held-out problems by search, and print the share of right answers and the tokens of a problem.

    Raises:
        ValueError: for a search that is none, a scorer that does not fit, or a run of no language model.
    """
    from gridzero.agents import runs
    from gridzero.commands import report
    from gridzero.commands.evaluate import with_options
    from gridzero.llm_rl.search.attempts import draw_problems, share
    from gridzero.llm_rl.search.strategies import Strategy, search

    strategy = Strategy.parse(options.search or "")
    scorer = None if options.scorer is None else load_scorer(options.scorer)
    strategy.check(scorer)
    rows = []
    for number, name in enumerate(names):
        agent: Any = runs.load(name, step=options.from_)
        task = task_to_answer(agent, name, with_options(agent.env, given) if given else None)
        check_reads(scorer, agent.network.tokenizer, options.scorer)
        problems = draw_problems(task, options.episodes, options.seed)
        rng = np.random.default_rng((options.seed, 1))
        with report.waiting(f"searching with {name}", number, len(names)):
            found = search(strategy, agent.network, task, problems, rng, scorer=scorer, tokens=options.tokens)
        right = share(np.array([one.correct for one in found]))
        tokens = float(np.mean([one.tokens for one in found]))
        rows.append({"run": name, "accuracy": right.value, "low": right.low, "high": right.high, "tokens": tokens})
    what = (
        strategy.name if strategy.name == "greedy" or options.tokens is not None else f"{strategy.name}:{strategy.size}"
    )
    if options.json:
        common = {"search": what, "scorer": options.scorer, "episodes": options.episodes, "budget": options.tokens}
        json.dump([{**row, **common} for row in rows], sys.stdout, indent=1)
        print()
        return 0
    budget = "" if options.tokens is None else f", a budget of {options.tokens:,} tokens a problem"
    judge = "" if options.scorer is None else f" by {options.scorer}"
    table = [
        [str(row["run"]), f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", f"{row['tokens']:,.1f}"]
        for row in rows
    ]
    title = f"{what}{judge}{budget}, {options.episodes} held-out problems"
    report.print_table(title, ["run", "right", "tokens a problem"], table)
    return 0


def load_scorer(name: str) -> Scorer:
    """The scorer of a run.

    Raises:
        ValueError: for a run of something that judges nothing.
    """
    from gridzero.agents import runs
    from gridzero.llm_rl.search.scorers import Scorer

    agent = runs.load(name)
    if not isinstance(agent, Scorer):
        raise ValueError(f"{name} is a run of {agent.name}, which judges nothing; a reward-model does")
    return agent


def check_reads(scorer: Any, tokenizer: Any, name: str | None) -> None:
    """Raise ValueError where a scorer cannot read what a model with this tokenizer may write."""
    from gridzero.llm_rl.models.tokenizer import token_texts

    if hasattr(scorer, "check_texts"):
        try:
            scorer.check_texts(token_texts(tokenizer))
        except ValueError as error:
            raise ValueError(f"the scorer {name} {error}") from error


def task_to_answer(agent: Any, name: str, env: Any) -> Any:
    """The task of the problems, those held out of training unless the environment is another.

    Raises:
        ValueError: for an agent that is no language model, or one that judges.
    """
    from gridzero.llm_rl.policies.language_policy import LanguagePolicy
    from gridzero.recipes.report import held_out_task

    if not isinstance(getattr(agent, "network", None), LanguagePolicy):
        raise ValueError(f"{name} is a run of {agent.name}, no language model; --search is for those")
    if getattr(agent.env.unwrapped, "task", None) is None:
        raise ValueError(f"the environment of {name} has no task with a verifier")
    if env is not None:
        agent.env = env
    return held_out_task(agent)
