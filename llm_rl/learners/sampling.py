"""Completions that a policy writes about a task's problems, for learners that make their own examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.vectors import copies
from gridzero.envs.tasks.task import Problem
from gridzero.llm_rl.data.examples import Example, rollout_examples
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.rollouts.collector import ConversationCollector


@dataclass(frozen=True)
class Written:
    """A completion that a policy wrote.

    Attributes:
        example: its tokens.
        reward: what the environment paid.
        problem: what it is about.
    """

    example: Example
    reward: float
    problem: Problem


class Sampler:
    """Writes completions in groups, each about one problem, in copies of an environment.

    Args:
        env: an environment of texts with a task.
        groups: problems at a time.
        size: completions of each.
        seed: of the environments.

    Attributes:
        metrics: of the completions written last.
        samples: a few of them.
    """

    def __init__(self, env: Any, groups: int, size: int, seed: int) -> None:
        self._own_groups, self.size = process_group().local_count(groups, "groups"), size  # of this process
        self.vector = copies(env, self._own_groups * size, seedable=True)
        self.collector = ConversationCollector(self.vector, seed)
        self.metrics: dict[str, float] = {}
        self.samples: Sequence[Mapping[str, Any]] = ()

    def __call__(self, policy: LanguagePolicy, limit: int, rng: np.random.Generator) -> list[list[Written]]:
        """One round: ``groups`` groups of ``size`` completions of at most ``limit`` tokens, of all processes."""
        rollout = self.collector.episodes(policy, self._own_groups, self.size, limit, rng)
        self.metrics, self.samples = self.collector.metrics(), self.collector.samples()
        examples = rollout_examples(rollout.steps, policy.pad)
        rewards = rollout.rewards.sum(dim=1).tolist()
        written = [Written(*row) for row in zip(examples, rewards, self._problems(), strict=True)]
        if process_group().world_size > 1:
            written = [
                _from_json(one)
                for share in process_group().all_gather(list(map(dataclasses.asdict, written)))
                for one in share
            ]
        return [written[i : i + self.size] for i in range(0, len(written), self.size)]

    def _problems(self) -> Sequence[Problem]:
        inner: Any = self.vector.unwrapped
        if hasattr(inner, "problems"):
            return list(inner.problems)
        return [env.unwrapped.problem for env in inner.envs]


def _from_json(record: Mapping[str, Any]) -> Written:
    return Written(Example(**record["example"]), record["reward"], Problem(**record["problem"]))


def completion_texts(policy: LanguagePolicy, examples: Sequence[Example]) -> list[str]:
    """The texts of completions of one turn, without their end tokens."""
    if not examples:
        return []
    rows = [[token for token, own in zip(one.tokens, one.completion, strict=True) if own] for one in examples]
    width = max(map(len, rows))
    padded = np.array([row + [policy.pad] * (width - len(row)) for row in rows], dtype=np.int64)
    return policy.decode(padded, [row[-1] in policy.end for row in rows])
