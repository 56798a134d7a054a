"""Settings of a reward model."""

from __future__ import annotations

from dataclasses import dataclass

from gridzero.llm_rl.learners.configs.preferences import PreferenceConfig
from gridzero.llm_rl.learners.configs.scoring import ScoringConfig


@dataclass(frozen=True)
class RewardModelConfig(PreferenceConfig, ScoringConfig):
    """Settings of a reward model."""
