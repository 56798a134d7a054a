"""Settings of GRPO, and those of its variants in the literature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gridzero.agents.config_checks import check_above_zero, check_at_least, check_between, check_choice
from gridzero.agents.neural.choices import Baseline, Estimator, Normalisation
from gridzero.agents.neural.configs.policy_gradient import SurrogateConfig

Credit = Literal["outcome", "to-go", "state"]
Surrogate = Literal["clipped", "sequence", "trajectory", "truncated"]
Variant = Literal["grpo", "dr_grpo", "dapo", "gspo", "rloo", "cispo"]

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"baseline": "standardised", "credit": "outcome", "normalisation": "sequence", "surrogate": "clipped"},
    "dr_grpo": {"baseline": "centred", "credit": "outcome", "normalisation": "constant", "surrogate": "clipped"},
    "dapo": {
        "baseline": "standardised",
        "credit": "outcome",
        "normalisation": "token",
        "surrogate": "clipped",
        "clip_high": 0.28,
        "resampling": 10,
        "overlong_margin": 0.2,
    },
    "gspo": {
        "baseline": "standardised",
        "credit": "outcome",
        "normalisation": "sequence",
        "surrogate": "sequence",
        "clip": 3e-4,
        "clip_high": 4e-4,
    },
    "rloo": {
        "baseline": "leave-one-out",
        "credit": "outcome",
        "normalisation": "sequence",
        "surrogate": "trajectory",
        "kl_in_reward": True,
        "epochs": 1,
    },
    "cispo": {
        "baseline": "standardised",
        "credit": "outcome",
        "normalisation": "token",
        "surrogate": "truncated",
        "clip_high": 1.0,
    },
}
"""What each variant of the literature sets; every field may still be set otherwise."""


@dataclass(frozen=True)
class GRPOConfig(SurrogateConfig):
    """Settings of GRPO."""

    variant: Variant | None = None
    """Defaults of a variant: "grpo" (DeepSeekMath), "dr_grpo", "dapo", "gspo", "rloo" or "cispo"."""
    groups: int = 8
    """Initial states in an update."""
    group_size: int = 8
    """G, episodes from each of them."""
    baseline: Baseline = "standardised"
    """Advantages in a group: "standardised" (DeepSeekMath), "centred" (Dr. GRPO), "leave-one-out", or
    "batch-standardised": centred, then over the deviation of all groups' rewards."""
    credit: Credit = "to-go"
    """What a step is credited with: its episode's "outcome" (DeepSeekMath), or the return from it on, less the group's
    mean at its time: "to-go", or in its "state" (GiGPO; by default where observations are choices)."""
    normalisation: Normalisation = "token"
    """How steps weigh: each "token" the same (DAPO), by "sequence" (DeepSeekMath), or by a "constant" (Dr. GRPO)."""
    epochs: int = 2
    """Passes over the steps of an update."""
    clip_high: float | None = None
    """The upper ε, where it is not the lower one (clip-higher, DAPO)."""
    surrogate: Surrogate = "clipped"
    """"clipped" ratios of each step (PPO), of whole sequences, by their steps' geometric mean: "sequence" (GSPO), or
    product: "trajectory" (RLOO), or "truncated" weights (CISPO)."""
    resampling: int = 0
    """Groups that are all right or all wrong (without verdicts: of one return) are replaced by as many new ones, in up
    to so many more rounds (DAPO)."""
    overlong_margin: float = 0.0
    """Share of episode_limit before its end in which episodes pay for their length, up to 1 at the limit (DAPO)."""
    mask_truncated: bool = False
    """Episodes that were cut off at episode_limit count in their group's baseline, but not in the loss (DAPO)."""
    skip_flat_groups: bool | None = None
    """Leave out groups that all got the same return; by default where they have no gradient: no bonus, no KL."""
    kl_coefficient: float = 0.0
    """β, weight of the divergence from the reference policy; 0: no reference."""
    kl_estimator: Estimator = "k3"
    """"k1", "k2" or "k3"."""
    kl_importance_weighted: bool = True
    """Multiply the estimate by the surrogate's π/π_old, which makes its gradient that of KL(π ‖ π_ref)."""
    kl_in_reward: bool = False
    """Take β log π/π_ref from the rewards, as PPO does, which credits earlier steps with it; else it is in the loss."""
    reference_updates: int = 0
    """The policy becomes its own reference again after this many updates; 0: the initial policy stays it."""
    episode_limit: int = 1000
    """Longer episodes are cut here."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        super().__post_init__()
        check_between(self, 0, 1, "overlong_margin")
        check_above_zero(self, "groups", "epochs", "episode_limit", "clip_high")
        check_at_least(self, 0, "kl_coefficient", "reference_updates", "resampling")
        check_at_least(self, 2, "group_size")
        if self.num_envs not in (None, self.groups * self.group_size):
            raise ValueError(f"num_envs must be groups · group_size, {self.groups * self.group_size}, or left out")
        check_choice(self, "variant", get_args(Variant))
        check_choice(self, "baseline", get_args(Baseline))
        check_choice(self, "credit", get_args(Credit))
        check_choice(self, "normalisation", get_args(Normalisation))
        check_choice(self, "kl_estimator", get_args(Estimator))
        check_choice(self, "surrogate", get_args(Surrogate))
        if self.baseline == "batch-standardised" and self.credit != "outcome":
            raise ValueError("baseline batch-standardised compares whole episodes: credit must be outcome")

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        unused = super().unused()
        if not self.kl_coefficient:
            names = ("kl_estimator", "kl_importance_weighted", "kl_in_reward", "reference_updates")
            unused |= dict.fromkeys(names, "kl_coefficient 0")
        elif self.kl_in_reward:
            unused |= dict.fromkeys(("kl_estimator", "kl_importance_weighted"), "kl_in_reward")
        if self.surrogate == "truncated" and self.clip_high is not None:
            unused["clip"] = "surrogate truncated, which has clip_high alone"
        return unused
