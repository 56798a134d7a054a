"""Settings of REINFORCE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gridzero.agents.config_checks import check_above_zero, check_at_least, check_choice
from gridzero.agents.neural.configs.policy_gradient import PolicyGradientConfig

ReturnBaseline = Literal["none", "mean", "value"]


@dataclass(frozen=True)
class ReinforceConfig(PolicyGradientConfig):
    """Settings of REINFORCE."""

    num_envs: int | None = None
    """Episodes in an update, one in each environment; by default 64 where the environment has a native vector, else
    8."""
    baseline: ReturnBaseline = "value"
    """Baseline that a return is less by: "none", the "mean" return of the other episodes from the same time on,
    or the "value" of its state, which a critic learns from the returns."""
    value_coefficient: float = 0.5
    """Weight of the critic's loss."""
    discount_states: bool = False
    """Weigh the t-th step by γ^t too, as the exact gradient of the discounted return does. Most leave it out: late
    steps would hardly be learnt from."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus, a mean over steps; returns count as they are."""
    episode_limit: int = 1000
    """Longer episodes are cut here, and their returns with them."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        super().__post_init__()
        check_above_zero(self, "episode_limit")
        check_at_least(self, 0, "value_coefficient")
        check_choice(self, "baseline", get_args(ReturnBaseline))
        if self.baseline == "mean" and self.num_envs == 1:
            raise ValueError("baseline mean compares episodes: num_envs must be at least 2, not 1")

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        unused = super().unused()
        if self.baseline != "value":
            unused["value_coefficient"] = f"baseline {self.baseline}"
        return unused
