"""Distillation: a student learns from a teacher's completions, or on its own with the teacher's probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gridzero.agents.neural.preference_objectives import reverse_kl
from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.data.jsonl import rendered
from gridzero.llm_rl.learners.configs.distillation import DistillationConfig
from gridzero.llm_rl.learners.post_training import Terms
from gridzero.llm_rl.learners.rejection_sampling import SamplingLearner
from gridzero.llm_rl.learners.sampling import Written, completion_texts
from gridzero.llm_rl.models.causal import output_head
from gridzero.llm_rl.models.rendering import unreadable
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.scoring.completions import completion_scores, logits


class Distillation(SamplingLearner):
    """A language model that learns from another one.

    Metrics: those of supervised fine-tuning, or, on policy, ``loss``, the divergence KL(π ‖ π_T) in nats a token; those
    of the completions, and the share that was ``kept``.

    Source: Hinton et al. (2015), Distilling the knowledge in a neural network; DeepSeek-AI (2025), DeepSeek-R1, section
    2.4 (verified completions); Agarwal et al. (2023), On-policy distillation of language models (GKD).
    """

    Config = DistillationConfig
    config: DistillationConfig
    logs = frozenset({"token_accuracy", "expert_violation", "kept"})

    def set_up(self) -> None:
        """Load the teacher, and see that it shares the student's vocabulary where it must."""
        super().set_up()
        options, config = self.network.options, self.config
        if config.teacher is None:
            raise ValueError("distillation needs a teacher: --teacher RUN")
        teacher = LanguageOptions(
            model=config.teacher,
            stop=options.stop,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            dtype=options.dtype,
            device=options.device,
        )
        self.teacher = LanguagePolicy.load(teacher, self.task, limit=config.episode_limit).requires_grad_(False)
        self.one_vocabulary = self.teacher.tokenizer.get_vocab() == self.network.tokenizer.get_vocab()
        if not self.one_vocabulary and config.on_policy:
            raise ValueError("on_policy needs a teacher with the student's vocabulary")
        if not self.one_vocabulary and self.task.turns > 1:
            raise ValueError("a task that answers back needs a teacher with the student's vocabulary")
        if config.on_policy:  # the teacher reads what the student writes
            self.max_length = self.teacher.room((), self.max_length)

    def writer(self) -> LanguagePolicy:
        """The student on policy, else the teacher."""
        return self.network if self.config.on_policy else self.teacher

    def select(self, written: Sequence[Written]) -> list[Example]:
        """All of the student's completions, or the teacher's that are right and that the student has tokens for."""
        if self.config.on_policy:
            return [one.example for one in written]
        if self.one_vocabulary:
            return super().select(written)
        right = [one for one in written if one.reward >= self.config.threshold]
        texts = completion_texts(self.teacher, [one.example for one in right])
        unread = set(unreadable(self.network.tokenizer, texts))
        pairs = {(self.task.prompt(one.problem), text) for one, text in zip(right, texts, strict=True)}
        return [rendered(self.network, *pair) for pair in sorted(pairs) if pair[1] not in unread]

    def loss(self, items: Sequence[Example]) -> tuple[Tensor, Terms]:
        """Cross-entropy, or on policy the divergence from the teacher."""
        if not self.config.on_policy:
            return super().loss(items)
        student, teacher = self.network, self.teacher
        own = completion_scores(student.model, items, student.pad)
        with torch.no_grad():
            other = completion_scores(teacher.model, items, teacher.pad)
            wanted = logits(output_head(teacher.model), other.states)
        temperature = student.options.temperature
        given = logits(output_head(student.model), own.states)
        size = min(given.shape[1], wanted.shape[1])  # tables may be padded differently beyond one vocabulary
        return reverse_kl(given[:, :size] / temperature, wanted[:, :size] / temperature).mean(), {}
