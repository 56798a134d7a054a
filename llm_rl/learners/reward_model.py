"""Reward model: a number for each completion, learnt from which of two is preferred."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gridzero.agents.neural.preference_objectives import bradley_terry
from gridzero.envs.tasks.task import Problem
from gridzero.llm_rl.data.examples import Example, Pair
from gridzero.llm_rl.learners.configs.reward_model import RewardModelConfig
from gridzero.llm_rl.learners.post_training import Batch, Terms
from gridzero.llm_rl.learners.preferences import PairSource, pair_weight
from gridzero.llm_rl.learners.scoring import ScoringLearner, in_slices


class RewardModel(ScoringLearner[Pair]):
    """A language model with a head of one number, the reward, under which preferences are Bradley–Terry's.

    It is a reward function: ``gridzero train ppo --env … --reward RUN`` learns from it.

    Metrics: loss in nats a pair, ``accuracy`` (how often the chosen one is worth more), ``margin``, and
    ``calibration_gap``, the mean distance between the probability of a preference and how often it is right; each of
    pairs before the gradient step on them.

    Source: Ouyang et al. (2022), Training language models to follow instructions with human feedback, section 3.5;
    Stiennon et al. (2020), Learning to summarize from human feedback.
    """

    Config = RewardModelConfig
    config: RewardModelConfig
    logs = frozenset({"accuracy", "margin", "calibration_gap"})

    def set_up(self) -> None:
        """Make the scorer, and find where pairs come from."""
        super().set_up()
        self.max_length -= 1  # room for the end token
        self.source = PairSource(self)

    def open_source(self) -> None:
        """Read the file of pairs, or make the environments that completions are written in."""
        self.source.open()

    def minibatches(self) -> Iterator[Batch[Pair]]:
        """Pairs of a file, fixed ones, or fresh ones."""
        return self.source.batches()

    def weight(self, item: Pair) -> int:
        """Each pair counts the same."""
        return pair_weight(item)

    def loss(self, items: Sequence[Pair]) -> tuple[Tensor, Terms]:
        """The negative log-likelihood of preferences."""
        pairs = [pair for pair in items if pair_weight(pair)]
        chosen, rejected = self.rewards([one.chosen for one in pairs] + [one.rejected for one in pairs]).chunk(2)
        labels = chosen.new_tensor([pair.probability for pair in pairs])
        margins = (chosen - rejected).detach()
        preferences = zip(torch.sigmoid(margins).tolist(), labels.tolist(), strict=True)
        self.judged += [both for p, q in preferences for both in ((p, q), (1 - p, 1 - q))]  # either may stand first
        terms = {"accuracy": (margins > 0).float().mean(), "margin": margins.mean()}
        return bradley_terry(chosen, rejected, labels).mean(), terms

    def rewards(self, examples: Sequence[Example]) -> Tensor:
        """Rewards (B,) of whole completions, read off their end tokens, which are added where they are missing."""
        ended = [one.as_read(self.scorer.end, self.scorer.silent) for one in examples]
        return self.numbers_at(ended, [[len(one.tokens) - 1] for one in ended])

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The reward of each completion of its prompt."""
        parts = in_slices(self.scorer, prompts, completions)
        return [reward for part in parts for reward in self.rewards(part).tolist()]

    def __call__(self, problem: Problem, completions: Sequence[str]) -> list[float]:
        """Rewards of completions about a problem; see :class:`~gridzero.envs.tasks.reward.RewardFunction`."""
        return self.many([problem] * len(completions), completions)

    def many(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """Rewards of completions, each about its problem."""
        return self.scores([self.task.prompt(problem) for problem in problems], completions)

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes, with the pairs that were written once."""
        return super().state_dict() | {"pairs": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.source.load_state_dict(state["pairs"])
