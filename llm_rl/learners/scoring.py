"""Base of learners that judge completions: a language model with a head of one number, and best-of-n with it."""

from __future__ import annotations

import copy
import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gridzero.agents.neural.preference_objectives import calibration_gap
from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.data.jsonl import rendered
from gridzero.llm_rl.learners.post_training import Batch, Item, PostTrainingLearner
from gridzero.llm_rl.models.causal import ValueHead
from gridzero.llm_rl.models.rendering import unreadable
from gridzero.llm_rl.policies.language_policy import LanguagePolicy, slices
from gridzero.llm_rl.scoring.completions import states_at


class ScoringLearner(PostTrainingLearner[Item]):
    """A model that scores completions; it acts with the best of several that the language model writes.

    Attributes:
        network: the language model as it was, which writes; it does not learn.
        scorer: the model that learns to judge, which began as a copy of it.
        head: of the scorer, of one number.
        judged: probabilities that the scorer gave in this update, before learning from them, and their labels.
    """

    learning_rates = (1e-3, 1e-5)
    default_steps = 20_000

    def set_up(self) -> None:
        """Copy the language model, and give the copy a head."""
        self.scorer = copy.deepcopy(self.network)
        self.head = self.scorer.value_head = ValueHead(self.scorer.model).to(self.scorer.device)
        self.network.requires_grad_(False)
        self.judged: list[tuple[float, float]] = []

    def trained(self) -> list[nn.Parameter]:
        """The parameters of the scorer."""
        return self.scorer.trained()

    @abstractmethod
    def minibatches(self) -> Iterator[Batch[Item]]:
        """The minibatches of one update, as :meth:`batches` has them; their loss adds to ``judged``."""

    def batches(self) -> Iterator[Batch[Item]]:
        """The minibatches of one update, after which the calibration of what was judged in it is logged."""
        self.judged.clear()
        yield from self.minibatches()
        if self.judged:
            probabilities, labels = map(torch.tensor, zip(*self.judged, strict=True))
            self.metrics["calibration_gap"] = calibration_gap(probabilities, labels)

    def numbers_at(self, examples: Sequence[Example], ends: Sequence[Sequence[int]]) -> Tensor:
        """Numbers (N,) that the head gives at marked tokens of B examples, one example after the other."""
        width = max(len(one.tokens) for one in examples)
        marked = torch.zeros(len(examples), width, dtype=torch.bool)
        for row, places in zip(marked, ends, strict=True):
            row[list(places)] = True
        policy = self.scorer
        prompts = [max(1, one.prompt_length) for one in examples]
        states = states_at(policy.model, [one.tokens for one in examples], marked, prompts, policy.pad)
        numbers: Tensor = self.head(states)
        return numbers

    @abstractmethod
    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """A score of each completion of its prompt."""

    def check_texts(self, texts: Sequence[str]) -> None:
        """Raise ValueError for texts that the scorer's tokenizer has no tokens for, such as those of another model."""
        few = list(itertools.islice(unreadable(self.scorer.tokenizer, texts), 3))
        if few:
            raise ValueError(f"cannot read what the model may write, such as {', '.join(map(repr, few))}")

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """The best of ``best_of`` completions of each text, which are drawn; one of them to explore."""
        if explore:
            return super().act(observations, explore=True)
        texts = [str(text) for text in observations for _ in range(self.config.best_of)]
        drawn, _ = self.network.act(texts, None, np.random.default_rng(self.seed))
        scores = np.array(self.scores(texts, drawn)).reshape(-1, self.config.best_of)
        best = scores.argmax(axis=1) + np.arange(len(scores)) * self.config.best_of
        return tuple(drawn[i] for i in best)

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes, with the head."""
        head = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.scorer.tensors().items()}
        return super().state_dict() | {"head": head}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.scorer.load_tensors({name: torch.from_numpy(np.array(array)) for name, array in state["head"].items()})

    def save_artifacts(self, folder: Path) -> None:
        """Write the scorer in Hugging Face's format."""
        self.scorer.save_artifacts(folder)

    def load_artifacts(self, folder: Path) -> None:
        """Continue from the scorer that :meth:`save_artifacts` wrote into ``folder``."""
        self.scorer.load_artifacts(folder)


def in_slices(policy: LanguagePolicy, prompts: Sequence[str], completions: Sequence[str]) -> list[list[Example]]:
    """Prompts and completions as tokens, in parts that memory has room for."""
    return [
        [rendered(policy, *pair) for pair in zip(prompts[rows], completions[rows], strict=True)]
        for rows in slices(len(prompts))
    ]
