"""Adapting the shipped model of addition to a form that it seldom uses, or to subtraction."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs.tasks import make_task
from gridzero.llm_rl.models.pretrained import SHIPPED

Skill = Literal["form", "subtraction"]
EXAMPLES, HELD_OUT = 4_000, 200
SETTINGS: dict[str, Any] = {"minibatch_size": 64, "gradient_steps": 40, "episode_limit": 48}
STEPS = 200


class Adaptation:
    """Examples of a skill, and how much of it the shipped model learns from them.

    The form is to write the work of a sum always, which the model does once in four times; subtraction of two-digit
    numbers is new to it.

    Args:
        skill: what to learn.
        seed: decides the examples.
        steps: gradient steps.
    """

    def __init__(self, skill: Skill, seed: int, steps: int = STEPS) -> None:
        rng = np.random.default_rng((seed, skill == "form"))
        pairs = list(dict.fromkeys(_examples(skill, rng, 2 * (EXAMPLES + 2 * HELD_OUT))))[: EXAMPLES + 2 * HELD_OUT]
        self.held_out = {"validation": pairs[:HELD_OUT], "test": pairs[HELD_OUT : 2 * HELD_OUT]}
        self.steps = steps
        self._folder = tempfile.TemporaryDirectory()
        self.data = Path(self._folder.name) / "data.jsonl"
        records = ({"prompt": prompt, "completion": completion} for prompt, completion in pairs[2 * HELD_OUT :])
        self.data.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    def learn(self, policy: Mapping[str, Any], learning_rate: float, seed: int = 0) -> Any:
        """The model adapted with these options of ``--policy``."""
        env = gym.make("gridzero/TextGeneration-v0", task="addition")
        agent: Any = make_agent(
            "sft",
            env,
            seed=seed,
            data=str(self.data),
            policy={"model": str(next(SHIPPED.glob("addition-*"))), **policy},
            learning_rate=learning_rate,
            schedule_steps=self.steps * SETTINGS["minibatch_size"],
            **SETTINGS,
        )
        for _ in agent.learn():
            pass
        return agent

    def accuracy(self, agent: Any, split: Literal["validation", "test"]) -> float:
        """The share of held-out prompts that are completed in full as they should be, by the most likely tokens."""
        prompts, wanted = zip(*self.held_out[split], strict=True)
        return float(np.mean([given == right for given, right in zip(agent.act(prompts), wanted, strict=True)]))

    def best(
        self, policy: Mapping[str, Any], learning_rates: Sequence[float], seeds: Iterable[int]
    ) -> tuple[float, list[float], int]:
        """The learning rate that is best on the validation split with the first seed, and what it reaches.

        Returns:
            The rate, accuracies on the test split for each seed, and the number of weights that are trained.
        """
        first, *others = seeds
        agents = {rate: self.learn(policy, rate, first) for rate in learning_rates}
        rate = max(agents, key=lambda one: self.accuracy(agents[one], "validation"))
        chosen = [agents[rate], *(self.learn(policy, rate, seed) for seed in others)]
        size = sum(weight.numel() for weight in agents[rate].trained())
        return rate, [self.accuracy(agent, "test") for agent in chosen], size


def lora(rank: int) -> dict[str, Any]:
    """The options of LoRA on queries and values."""
    return {"peft": "lora", "peft_rank": rank, "peft_alpha": 16.0, "peft_targets": "q_proj,v_proj"}


def _examples(skill: Skill, rng: np.random.Generator, count: int) -> Iterable[tuple[str, str]]:
    if skill == "subtraction":
        for a, b in rng.integers(0, 100, size=(count, 2)).tolist():
            yield f"{max(a, b)},{min(a, b)}=\n", str(max(a, b) - min(a, b))[::-1]
        return
    task = make_task("addition")
    for _ in range(count):
        problem = task.sample(rng)
        yield task.prompt(problem), task.template.completion(task.work(problem, rng), task.answer(problem))
