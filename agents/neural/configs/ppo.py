"""Settings of PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gridzero.agents.config_checks import check_above_zero, check_at_least, check_between, check_choice
from gridzero.agents.neural.configs.policy_gradient import SurrogateConfig

Advantages = Literal["minibatch", "batch", "none"]


@dataclass(frozen=True)
class PPOConfig(SurrogateConfig):
    """Settings of PPO."""

    rollout_steps: int | None = None
    """Steps in each environment between updates; by default 2048 over all environments, but at least 16 in each."""
    epochs: int = 6
    """Passes over the steps of an update."""
    gae_lambda: float = 0.95
    """λ of generalised advantage estimation: 0 trusts the critic, 1 the returns."""
    normalise_advantages: Advantages = "batch"
    """Advantages get mean 0 and deviation 1 over each "minibatch", over the "batch", or not: "none"."""
    value_coefficient: float = 0.5
    """Weight of the critic's loss."""
    value_clip: float | None = None
    """The critic's values count only this near to those when the steps were taken; None: as they are."""
    target_kl: float | None = None
    """An update stops once the policy is 1.5 times this far, in nats, from the one that acted; None: never."""
    normalise_rewards: bool = True
    """Divide rewards by the running deviation of their discounted sum."""
    kl_coefficient: float = 0.0
    """β: each step pays β log π/π_ref for straying from the initial policy (RLHF); 0: no reference."""
    shared_network: bool = False
    """One body for actor and critic instead of one each."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        super().__post_init__()
        check_between(self, 0, 1, "gae_lambda")
        check_above_zero(self, "epochs", "rollout_steps", "value_clip", "target_kl")
        check_at_least(self, 0, "value_coefficient", "kl_coefficient")
        check_choice(self, "normalise_advantages", get_args(Advantages))
