"""Settings of learners from pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gridzero.agents.config_checks import check_above_zero, check_choice
from gridzero.llm_rl.learners.configs.post_training import PostTrainingConfig

Labels = Literal["better", "soft", "drawn"]


@dataclass(frozen=True)
class PreferenceConfig(PostTrainingConfig):
    """Settings of learners from pairs."""

    data: str | None = None
    """A file of pairs, a JSON object with "prompt", "chosen" and "rejected" a line; by default the model writes
    completions, and the environment's rewards compare them."""
    pairs: int | None = None
    """Learn from so many pairs that the initial model wrote, over and over; by default from fresh ones."""
    labels: Labels = "better"
    """Of the model's completions: the one that was paid more is "better", equal ones are left out; "soft": the
    probability σ(r - r') that it is preferred; "drawn" with that probability (Bradley–Terry)."""
    sampling_size: int = 64
    """Pairs written at a time."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        super().__post_init__()
        check_above_zero(self, "pairs", "sampling_size")
        check_choice(self, "labels", get_args(Labels))
        if self.data is not None and self.pairs is not None:
            raise ValueError("pairs are of the file that data names, or written by the model: give one of the two")

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        unused = super().unused()
        if self.data is not None:
            unused |= dict.fromkeys(("labels", "sampling_size"), "data")
        return unused
