"""Settings of distillation."""

from __future__ import annotations

from dataclasses import dataclass

from gridzero.llm_rl.learners.configs.rejection_sampling import SamplingConfig


@dataclass(frozen=True)
class DistillationConfig(SamplingConfig):
    """Settings of distillation."""

    teacher: str | None = None
    """The model to learn from: a run, a folder in Hugging Face's format, or a GGUF file. It writes as the student does,
    by --policy.temperature, top_k, top_p and stop."""
    on_policy: bool = False
    """The student writes, and learns to give the teacher's probabilities to its tokens (reverse KL); without it, the
    teacher writes, and the student imitates its right completions."""

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        return super().unused() | ({"threshold": "on_policy"} if self.on_policy else {})
