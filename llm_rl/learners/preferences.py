"""Sources of pairs to compare: a file, or a policy's completions with labels from their rewards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from gridzero.llm_rl.data.examples import Example, Pair
from gridzero.llm_rl.data.jsonl import read_preferences
from gridzero.llm_rl.learners.configs.preferences import PreferenceConfig
from gridzero.llm_rl.learners.post_training import Batch, PostTrainingLearner, passes
from gridzero.llm_rl.learners.sampling import Sampler, Written

_PATIENCE = 100


class PairSource:
    """Minibatches of pairs for a learner.

    Args:
        learner: learns from them; its network writes completions where no file is given.
        writing: what it does so within, such as the weights that it had at first.

    Attributes:
        pairs: those that are passed over again and again; None where each is fresh, or before they are written.
        sampler: where no file is given, once it is open.
    """

    sampler: Sampler

    def __init__(
        self, learner: PostTrainingLearner[Pair], writing: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self.learner, self.writing = learner, writing
        self.config: PreferenceConfig = learner.config
        self.pairs: list[Pair] | None = None

    def open(self) -> None:
        """Read the file, or make the environments that completions are written in.

        Raises:
            ValueError: for a file that cannot be read, or an environment that cannot be copied.
        """
        if self.config.data is not None:
            self.pairs = read_preferences(Path(self.config.data), self.learner.network, self.learner.max_length)
        else:
            self.sampler = Sampler(self.learner.env, self.config.sampling_size, 2, self.learner.seed)

    def batches(self) -> Iterator[Batch[Pair]]:
        """The minibatches of an update; a step is one of the fixed pairs, or a completion written."""
        learner, config = self.learner, self.config
        size = config.minibatch_size
        if self.pairs is None and config.pairs is not None:
            self.pairs = self._fixed(config.pairs)
        if self.pairs is not None:
            for _ in range(config.gradient_steps):
                if learner.steps >= learner.span():
                    return
                numbers = passes(len(self.pairs), learner.seed, learner.steps, size)
                yield Batch([self._cut(self.pairs[i]) for i in numbers], size)
            return
        rounds = math.ceil(size * config.gradient_steps / config.sampling_size)
        fresh = [pair for _ in range(rounds) for pair in self._write()]
        order = learner.rng.permutation(len(fresh))
        parts = [[self._cut(fresh[j]) for j in order[i : i + size]] for i in range(0, len(fresh), size)]
        yield from learner.spread(parts, 2 * config.sampling_size * rounds)

    def _fixed(self, count: int) -> list[Pair]:
        found: list[Pair] = []
        idle = 0
        while len(found) < count:
            new = self._write()
            found += new
            idle = 0 if new else idle + 1
            if idle == _PATIENCE:
                raise ValueError("the model's completions are all paid the same, so that none is preferred")
        return found[:count]

    def _write(self) -> list[Pair]:
        """One round of pairs, labelled by the rewards of their completions."""
        learner = self.learner
        with self.writing():
            groups = self.sampler(learner.network, self.config.episode_limit, learner.rng)
        learner.metrics |= self.sampler.metrics
        learner.samples = self.sampler.samples
        uniform = learner.rng.random(len(groups)).tolist()
        labelled = [self._labelled(first, second, u) for (first, second), u in zip(groups, uniform, strict=True)]
        return [pair for pair in labelled if pair is not None]

    def _labelled(self, first: Written, second: Written, uniform: float) -> Pair | None:
        if self.config.labels == "better" and first.reward == second.reward:
            return None
        if first.reward < second.reward:
            first, second = second, first
        probability = 0.5 * (1 + math.tanh((first.reward - second.reward) / 2))
        if self.config.labels == "drawn" and uniform >= probability:
            first, second = second, first
        return Pair(first.example, second.example, probability if self.config.labels == "soft" else 1.0)

    def _cut(self, pair: Pair) -> Pair:
        length = self.learner.max_length
        return Pair(pair.chosen.cut(length), pair.rejected.cut(length), pair.probability)

    def state_dict(self) -> dict[str, Any]:
        """The pairs that the model wrote once, as arrays."""
        if self.config.pairs is None or self.pairs is None:
            return {}
        examples = [one for pair in self.pairs for one in (pair.chosen, pair.rejected)]
        return {
            "tokens": np.concatenate([one.tokens for one in examples]).astype(np.int64),
            "completion": np.concatenate([one.completion for one in examples]).astype(np.int8),
            "lengths": np.array([len(one.tokens) for one in examples]),
            "probabilities": np.array([pair.probability for pair in self.pairs]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        if not state:
            return
        ends = np.cumsum(state["lengths"])[:-1]
        tokens, completion = (np.split(np.asarray(state[name]), ends) for name in ("tokens", "completion"))
        examples = [Example(a.tolist(), b.astype(bool).tolist()) for a, b in zip(tokens, completion, strict=True)]
        probabilities = np.asarray(state["probabilities"]).tolist()
        self.pairs = [Pair(*row) for row in zip(examples[::2], examples[1::2], probabilities, strict=True)]


def pair_weight(pair: Pair) -> int:
    """1, or 0 for a pair of which a completion is cut away whole."""
    return int(pair.chosen.learned > 0 and pair.rejected.learned > 0)
