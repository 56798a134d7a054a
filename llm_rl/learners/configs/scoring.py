"""Settings of learners that judge completions."""

from __future__ import annotations

from dataclasses import dataclass

from gridzero.agents.config_checks import check_above_zero
from gridzero.llm_rl.learners.configs.post_training import PostTrainingConfig


@dataclass(frozen=True)
class ScoringConfig(PostTrainingConfig):
    """Settings of learners that judge completions."""

    best_of: int = 8
    """Completions of which it acts with the best."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        super().__post_init__()
        check_above_zero(self, "best_of")
