"""A task whose completions can all be listed, and a reward of each: what learners reach is held against the optimum."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.task import Problem
from gridzero.envs.tasks.vocabulary import END, PAD, Vocabulary
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.scoring.enumeration import Enumeration, FloatArray

LIMIT = 2
QUESTIONS = ("abc", "def", "gab")
"""Seven letters, an end of line, an end and a padding: 1 + 9 · 10 completions of two tokens."""
_WEIGHTS = 0.75 * np.random.default_rng(0).normal(size=(LIMIT, 128))


def taste(problem: Problem, completions: Sequence[str]) -> list[float]:
    """A reward that adds up over the first two characters: each counts by which one it is, and where."""
    return [float(sum(_WEIGHTS[i, ord(c) % 128] for i, c in enumerate(text[:LIMIT]))) for text in completions]


class TextWorld:
    """Three questions, all completions of two tokens, their true rewards, and a language model with random weights.

    Args:
        questions: their letters are what is written, besides an end of line.
        temperature: of the language model; below 1 it writes some completions much more often than others.

    Attributes:
        completions: all of them.
        rewards: r, (3, N), the true ones.
        reference: π_ref, (3, N), probabilities under the language model.
    """

    def __init__(self, questions: Sequence[str] = QUESTIONS, *, temperature: float = 1.0) -> None:
        self.temperature = temperature
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "questions.jsonl"
        lines = [json.dumps({"question": question, "answer": question[0]}) + "\n" for question in questions]
        path.write_text("".join(lines), encoding="utf-8")
        options: dict[str, Any] = {"path": str(path), "compare": "text", "template": "plain", "split": "all"}
        self.task = {"task": "jsonl", "distinct": len(questions), **options}
        vocabulary = Vocabulary((PAD, END, *make_task("jsonl", **options).alphabet()))
        model = tiny_model(len(vocabulary), width=32, layers=1, heads=2, positions=64, seed=1)
        self.model = f"{self._folder.name}/model"
        save_model(model, character_tokenizer(vocabulary), self.model)
        env = gym.make_vec("gridzero/TextGeneration-v0", 1, vectorization_mode="vector_entry_point", **self.task)
        inner: Any = env.unwrapped
        self.problems: list[Problem] = list(inner.distinct_problems)
        policy = self.learner("sft").network
        self.completions = Enumeration(policy, [inner.task.prompt(problem) for problem in self.problems], LIMIT)
        self.rewards = self.judged(taste)
        self.reference = self.completions.probabilities(policy)

    def judged(self, function: Any) -> FloatArray:
        """Rewards (3, N) of all completions by a reward function."""
        return np.array([function(problem, self.completions.texts) for problem in self.problems])

    def learner(self, name: str, *, rewards: Any = f"{__name__}:taste", seed: int = 0, **settings: Any) -> Any:
        """A learner that begins with the language model.

        Args:
            name: of the learner.
            rewards: of the environment.
            seed: decides everything that is random.
            settings: the learner's.
        """
        env = gym.make("gridzero/TextGeneration-v0", rewards=rewards, **self.task)
        return make_agent(
            name, env, seed=seed, policy={"model": self.model, "temperature": self.temperature}, **settings
        )

    def path(self, agent: Any, steps: int, points: int = 10) -> Iterator[FloatArray]:
        """Probabilities of all completions at so many points on an agent's way of so many steps."""
        shown = 0
        for update in agent.learn():
            if update.step >= shown + steps / points or update.step >= steps:
                shown = update.step
                yield self.completions.probabilities(agent.network)
            if update.step >= steps:
                return
