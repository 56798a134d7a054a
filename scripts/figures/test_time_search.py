"""What tokens buy at test time: votes, best-of-n, beam search and tree search over steps, on a base of addition.

The base is the tiny model of addition after one update of GRPO; a reward model is trained on pairs of its completions,
and a process reward model on its steps. Each search is charged for every token that it writes; scorers write none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.task import Problem, Task
from gridzero.figures.figure import Figure, Row, panels, shown
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.search import votes
from gridzero.llm_rl.search.attempts import Attempt, attempts, draw_problems
from gridzero.llm_rl.search.scorers import Scorer
from gridzero.llm_rl.search.strategies import Strategy, search

BASE, SCORERS = 512, 4_800
PROBLEMS, SAMPLES = 100, 32
SIZES = (1, 2, 4, 8, 16, 32)
WIDTHS, TOKENS = (1, 2, 4, 8), (100, 200, 400, 800, 1600)
COLORS = {
    "majority": "C0",
    "vote, reward model": "C1",
    "vote, process": "C2",
    "best of n, reward model": "C3",
    "best of n, process": "C4",
    "beam, process": "C5",
    "MCTS, process": "C6",
    "pass@n": "0.4",
}


def make(seed: int) -> Figure:
    """Train base and scorers, then answer held-out problems by every search."""
    policy, reward, process = trained(seed)
    task = make_task("addition", split="held-out")
    problems = draw_problems(task, PROBLEMS, seed)
    greedy = attempts(policy, task, problems, 1, np.random.default_rng(seed), greedy=True)
    rows = attempts(policy, task, problems, SAMPLES, np.random.default_rng((seed, 1)))
    curves = sampled(task, problems, rows, reward, process)
    curves |= stepwise(policy, task, problems, process, seed)
    single = float(np.mean([[one.verdict.correct for one in row] for row in rows]))
    likely = float(np.mean([row[0].verdict.correct for row in greedy]))
    picture, (axes,) = panels(1, width=7.6, height=4.6)
    for name, points in curves.items():
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=COLORS[name], marker="o", ms=3.5, label=name, ls="--" if name == "pass@n" else "-")
    tokens = float(np.mean([one.tokens for row in rows for one in row]))
    axes.plot([np.mean([row[0].tokens for row in greedy])], [likely], "k*", ms=10, label="greedy")
    axes.plot([tokens], [single], "kD", ms=6, label="one sample, mean")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("tokens written for a problem")
    axes.set_ylabel("right answers, held-out problems")
    axes.set_ylim(0, 1.02)
    axes.grid(color="0.92")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    table: list[Row] = [
        shown("greedy", f"{likely:.3f}"),
        shown("one sample, mean", f"{single:.3f}, {tokens:.0f} tokens"),
    ]
    table += [shown(name, f"{points[-1][1]:.3f} at {points[-1][0]:,.0f} tokens") for name, points in curves.items()]
    table += [
        shown(f"different texts of {SAMPLES}, right / wrong", "{:.1f} / {:.1f}".format(*distinct(rows))),
        shown(f"best of {SAMPLES} by the reward model is wrong", f"{1 - curves['best of n, reward model'][-1][1]:.3f}"),
    ]
    return Figure(picture, table, "Search at test time on addition, equal tokens")


def trained(seed: int) -> tuple[LanguagePolicy, Scorer, Any]:
    """The base, a reward model and a process reward model."""
    base: Any = make_agent("grpo", _environment(), seed=seed)
    _learn(base, BASE)
    with tempfile.TemporaryDirectory() as folder:
        save_model(base.network.model, base.network.tokenizer, Path(folder) / "base")
        policy = {"model": str(Path(folder) / "base")}
        scorers = []
        for name in ("reward-model", "process-reward-model"):
            scorer: Any = make_agent(name, _environment(), seed=seed, policy=policy, learning_rate=1e-3)
            _learn(scorer, SCORERS)
            scorers.append(scorer)
    return base.network, scorers[0], scorers[1]


def _environment() -> Any:
    return gym.make("gridzero/TextGeneration-v0", task="addition")


def _learn(agent: Any, steps: int) -> None:
    agent.planned_steps = steps
    for update in agent.learn():
        if update.step >= steps:
            return


def sampled(
    task: Task, problems: Sequence[Problem], rows: Sequence[Sequence[Attempt]], reward: Scorer, process: Scorer
) -> dict[str, list[tuple[float, float]]]:
    """Tokens and accuracy of what chooses among the first n completions of each problem."""
    prompts = [task.prompt(problem) for problem in problems]
    scores = {
        kind: [
            scorer.scores([prompt] * len(row), [one.text for one in row])
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        for kind, scorer in (("reward model", reward), ("process", process))
    }
    found: dict[str, list[tuple[float, float]]] = {}
    for size in SIZES:
        parts = [row[:size] for row in rows]
        tokens = float(np.mean([sum(one.tokens for one in part) for part in parts]))
        right = {
            "majority": [votes.majority(part) for part in parts],
            "pass@n": [next((one for one in part if one.verdict.correct), part[0]) for part in parts],
        }
        for kind, of_kind in scores.items():
            own = [each[:size] for each in of_kind]
            weights = own if kind == "process" else [votes.softmax(each) for each in own]
            pairs = list(zip(parts, own, weights, strict=True))
            right[f"vote, {kind}"] = [votes.weighted_vote(part, weight) for part, _, weight in pairs]
            right[f"best of n, {kind}"] = [votes.best_of(part, each) for part, each, _ in pairs]
        for name, chosen in right.items():
            found.setdefault(name, []).append((tokens, float(np.mean([one.verdict.correct for one in chosen]))))
    return found


def stepwise(
    policy: LanguagePolicy, task: Task, problems: Sequence[Problem], process: Scorer, seed: int
) -> dict[str, list[tuple[float, float]]]:
    """Tokens and accuracy of beam search over its width and of tree search over its budget."""
    found: dict[str, list[tuple[float, float]]] = {"beam, process": [], "MCTS, process": []}
    settings = [("beam, process", Strategy("beam", width), None) for width in WIDTHS]
    settings += [("MCTS, process", Strategy("mcts", 1), budget) for budget in TOKENS]  # type: ignore[misc]
    for name, strategy, budget in settings:
        rng = np.random.default_rng((seed, 2))
        answers = search(strategy, policy, task, problems, rng, scorer=process, tokens=budget)
        tokens = float(np.mean([one.tokens for one in answers]))
        found[name].append((tokens, float(np.mean([one.correct for one in answers]))))
    return found


def distinct(rows: Sequence[Sequence[Attempt]]) -> tuple[float, float]:
    """How many different texts of a problem are right, and how many wrong."""
    counts = [
        [len({one.text for one in row if one.verdict.correct is right}) for right in (True, False)] for row in rows
    ]
    right, wrong = np.mean(counts, axis=0)
    return float(right), float(wrong)
