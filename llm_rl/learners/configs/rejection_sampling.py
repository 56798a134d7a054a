"""Settings of learners from completions that a model writes."""

from __future__ import annotations

from dataclasses import dataclass

from gridzero.agents.config_checks import check_above_zero
from gridzero.llm_rl.learners.configs.sft import SupervisedConfig


@dataclass(frozen=True)
class SamplingConfig(SupervisedConfig):
    """Settings of learners from completions that a model writes."""

    groups: int = 32
    """Problems in an update."""
    group_size: int = 16
    """Completions of each."""
    threshold: float = 1.0
    """Completions that are paid less are left out; a right answer pays 1."""
    minibatch_size: int = 128
    """Completions in a gradient step."""
    gradient_steps: int = 4
    """Gradient steps in an update, in passes over the completions that are kept."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        super().__post_init__()
        check_above_zero(self, "groups", "group_size")
