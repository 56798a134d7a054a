"""Settings of direct preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gridzero.agents.config_checks import check_above_zero, check_between, check_choice
from gridzero.llm_rl.learners.configs.preferences import PreferenceConfig

Loss = Literal["sigmoid", "ipo"]
Writer = Literal["policy", "reference"]


@dataclass(frozen=True)
class DPOConfig(PreferenceConfig):
    """Settings of direct preference optimisation."""

    loss: Loss = "sigmoid"
    """"sigmoid" (DPO) or "ipo"."""
    beta: float = 0.1
    """β, or τ of IPO: how much the policy is held to the reference."""
    label_smoothing: float = 0.0
    """The share of labels that are taken to be wrong (cDPO)."""
    writer: Writer = "policy"
    """Fresh pairs are written by the "policy" as it is, or by the "reference", which it was at first."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        super().__post_init__()
        check_above_zero(self, "beta")
        check_choice(self, "loss", get_args(Loss))
        check_choice(self, "writer", get_args(Writer))
        check_between(self, 0, 0.5, "label_smoothing")
        if self.writer == "reference" and self.data is not None:
            raise ValueError("with data nothing is written; leave out writer")
