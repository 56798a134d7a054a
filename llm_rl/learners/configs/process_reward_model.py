"""Settings of a process reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gridzero.agents.config_checks import check_above_zero, check_choice
from gridzero.llm_rl.learners.configs.scoring import ScoringConfig

Labels = Literal["work", "rollouts"]


@dataclass(frozen=True)
class ProcessRewardModelConfig(ScoringConfig):
    """Settings of a process reward model."""

    data: str | None = None
    """A file of labelled steps, a JSON object with "prompt", "completions" (the steps) and "labels" a line; by default
    the language model writes completions."""
    labels: Labels = "work"
    """Of the model's steps: "work", right while they are those of the task's own work; or "rollouts", right where one
    of several completions of what came so far is (Math-Shepherd)."""
    rollouts: int = 4
    """Completions of each step, for labels from rollouts."""
    separator: str = ","
    """The text between two steps."""
    sampling_size: int = 64
    """Completions written at a time."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        super().__post_init__()
        check_above_zero(self, "rollouts", "sampling_size")
        check_choice(self, "labels", get_args(Labels))
        if not self.separator:
            raise ValueError("separator must be a text, not an empty one")

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        unused = super().unused()
        if self.labels == "work":
            unused["rollouts"] = "labels work"
        if self.data is not None:
            unused |= dict.fromkeys(("labels", "rollouts", "sampling_size"), "data")
        return unused
