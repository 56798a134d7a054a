"""Rejection sampling, or expert iteration: a model imitates those of its own completions that are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.learners.configs.rejection_sampling import SamplingConfig
from gridzero.llm_rl.learners.post_training import Batch, passes
from gridzero.llm_rl.learners.sampling import Sampler, Written
from gridzero.llm_rl.learners.sft import SupervisedLearner
from gridzero.llm_rl.policies.language_policy import LanguagePolicy


class SamplingLearner(SupervisedLearner):
    """Base of learners that imitate completions which a model writes.

    A step is a completion written. An update in which none is kept takes no gradient step.
    """

    config: SamplingConfig
    default_steps: int = 51_200

    def open_source(self) -> None:
        """Make the environments that completions are written in."""
        self.sampler = Sampler(self.env, self.config.groups, self.config.group_size, self.seed)

    def writer(self) -> LanguagePolicy:
        """The policy that writes."""
        return self.network

    def select(self, written: Sequence[Written]) -> list[Example]:
        """The completions to learn from: each different one that is paid enough."""
        kept = [one.example for one in written if one.reward >= self.config.threshold]
        return list({tuple(example.tokens): example for example in kept}.values())

    def batches(self) -> Iterator[Batch[Example]]:
        """Minibatches of the completions that were written and kept."""
        config = self.config
        groups = self.sampler(self.writer(), config.episode_limit, self.rng)
        self.metrics, self.samples = dict(self.sampler.metrics), self.sampler.samples
        written = [one for group in groups for one in group]
        kept = self.select(written)
        self.metrics["kept"] = len(kept) / len(written)
        order = int(self.rng.integers(2**31))
        size = min(config.minibatch_size, len(kept))
        parts = [
            [kept[i].cut(self.max_length) for i in passes(len(kept), order, number * size, size)]
            for number in range(config.gradient_steps if kept else 0)
        ]
        return self.spread(parts, len(written))


class RejectionSampling(SamplingLearner):
    """A language model that writes completions, keeps those that are right, and imitates them; then again.

    Metrics: those of supervised fine-tuning and of the completions, and ``kept``, the share of different completions
    that were paid enough.

    Source: Anthony et al. (2017), Thinking fast and slow with deep learning and tree search (expert iteration);
    Zelikman et al. (2022), STaR; Yuan et al. (2023), Scaling relationship on learning mathematical reasoning (RFT).
    """

    Config = SamplingConfig
    logs = frozenset({"token_accuracy", "expert_violation", "kept"})
    sees = True
