"""Supervised fine-tuning of a language model on worked solutions or on completions from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gridzero.llm_rl.data.examples import Example, demonstrate
from gridzero.llm_rl.data.jsonl import read_completions
from gridzero.llm_rl.learners.configs.sft import SFTConfig
from gridzero.llm_rl.learners.post_training import Batch, PostTrainingLearner, Terms, passes
from gridzero.llm_rl.models.experts import ExpertBalance
from gridzero.llm_rl.models.peft import is_adapted
from gridzero.llm_rl.policies.base_models import untrained_model
from gridzero.llm_rl.policies.language_options import device_of, dtype_of, language_options
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.scoring.completions import completion_loss

PICTURES = 38_400
"""Examples that a new model is usually shown that sees."""


class SupervisedLearner(PostTrainingLearner[Example]):
    """Base of learners that imitate completions: the loss is the mean of -log p over their tokens.

    Metrics: loss in nats a token, token_accuracy (the share of tokens that the model found most likely), learning_rate,
    gradient_norm; the first three are means over the update's gradient steps; completion_length, the mean tokens of a
    completion that was read or written. With a mixture of experts also
    expert_violation: how much more than its share the busiest expert of a layer gets, of all tokens that are read.
    """

    def set_up(self) -> None:
        """Watch over the experts, where the model has some."""
        self.balance = ExpertBalance(self.network.model, self.config.expert_bias_rate)

    def unused(self) -> Mapping[str, str]:
        """The rate of experts' biases, where there are none or they stay as they are."""
        if not self.balance.routers:
            return {"expert_bias_rate": "a model without experts"}
        return {"expert_bias_rate": "adapters"} if is_adapted(self.network.model) else {}

    def weight(self, item: Example) -> int:
        """Each token of a completion counts the same."""
        return item.learned

    def loss(self, items: Sequence[Example]) -> tuple[Tensor, Terms]:
        """Cross-entropy and the share of tokens that the model finds most likely."""
        with self.balance.counting([len(one.tokens) - 1 for one in items]):
            loss, accuracy = completion_loss(self.network.model, items, self.network.pad)
        return loss, {"token_accuracy": accuracy}

    def after_step(self) -> Mapping[str, float]:
        """Move the biases of routers, by less as the learning rate falls: constant steps would go back and forth."""
        return self.balance.step(self._factor())


class SFT(SupervisedLearner):
    """A language model that learns to write the solutions which a task demonstrates, or the completions of a file.

    A step is an example: a demonstration of a fresh random problem, or the next of so many or of a file's, which are
    passed over in random order. The loss is the mean of -log p over the tokens of completions, end tokens included;
    prompts and the task's replies are only read. Greedy completions are what it acts with.

    Args:
        env: an environment of texts with a task, such as ``gridzero/TextGeneration-v0``.
        config: the settings.
        seed: decides everything that is random.

    Attributes:
        network: the model as a :class:`LanguagePolicy`.
        steps: examples seen.

    Raises:
        ValueError: for an environment without a task, a task without worked solutions, or a file that cannot be read.

    Example:
        >>> import gymnasium as gym, gridzero
        >>> env = gym.make("gridzero/TextGeneration-v0", task="addition", digits=1)
        >>> agent = gridzero.agents.make("sft", env, width=8, layers=1, heads=2, minibatch_size=8)
        >>> update = next(agent.learn())
        >>> update.step, sorted(update.metrics)
        (80, ['completion_length', 'gradient_norm', 'learning_rate', 'loss', 'token_accuracy'])
    """

    Config = SFTConfig
    config: SFTConfig
    logs = frozenset({"token_accuracy", "expert_violation"})
    sees = True
    learning_rates = (3e-3, 1e-5)

    def build(self, seed: int, adapter_seed: int) -> LanguagePolicy:
        """The model that the options name, or a new tiny one."""
        config, options = self.config, language_options(self.config.policy)
        if options.model is not None:
            return super().build(seed, adapter_seed)
        if options.peft is not None:
            raise ValueError("peft adapts a trained model, which --policy.model names")
        model, tokenizer = untrained_model(
            self.task,
            self.rng,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            text=options.text,
            seed=seed,
        )
        device = device_of(options.device)
        model = model.to(device=device, dtype=dtype_of(options.dtype, device))
        policy_class = self.policy_class()
        return policy_class(model, tokenizer, options, task=self.task, limit=config.episode_limit, seed=adapter_seed)

    def set_up(self) -> None:
        """Begin without examples."""
        super().set_up()
        self.examples: list[Example] | None = None
        if _shows_pictures(self.env) and language_options(self.config.policy).model is None:
            self.default_steps = PICTURES

    def open_source(self) -> None:
        """Read the file, or see that the task has worked solutions."""
        if self.config.data is not None:
            self.examples = read_completions(Path(self.config.data), self.network, self.max_length)
        else:
            self.task.demonstrate(self.task.sample(np.random.default_rng(self.seed)), np.random.default_rng(self.seed))

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Smaller batches and a smaller learning rate for a model that is given; Muon for a new one that sees."""
        usual: dict[str, Any] = {"minibatch_size": 32}
        if fields.get("policy", {}).get("model") is None:
            usual = {"minibatch_size": 16, "optimiser": "muon"} if _shows_pictures(env) else {}
        return super().defaults(env, fields) | usual

    def _generator(self, number: int) -> np.random.Generator:
        """Generator of a demonstration in every pass: a child of the seed, of which the learner has the first three."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(3, number)))

    def batches(self) -> Iterator[Batch[Example]]:
        """Fresh demonstrations, or the next of the file's."""
        size, policy = self.config.minibatch_size, self.network
        lengths: list[int] = []
        for _ in range(self.config.gradient_steps):
            if self.steps >= self.span():
                return
            if self.examples is not None:
                items = [self.examples[i] for i in passes(len(self.examples), self.seed, self.steps, size)]
            elif self.config.demonstrations is None:
                items = [demonstrate(self.task, self.rng, policy.renderer) for _ in range(size)]
            else:
                numbers = passes(self.config.demonstrations, self.seed, self.steps, size)
                items = [demonstrate(self.task, self._generator(number), policy.renderer) for number in numbers]
            lengths += [sum(item.completion) for item in items]
            self.metrics["completion_length"] = float(np.mean(lengths))
            yield Batch([item.cut(self.max_length) for item in items], size)


def _shows_pictures(env: Any) -> bool:
    task = getattr(getattr(env, "unwrapped", env), "task", None)
    return getattr(task, "picture_shape", None) is not None
