"""Settings of PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        optional = tuple(
            name for name in ("rollout_steps", "value_clip", "target_kl") if getattr(self, name) is not None
        )
        self._check([("gae_lambda", 0.0, 1.0)], ("epochs", *optional), ("value_coefficient", "kl_coefficient"))
        self._choose({"normalise_advantages": Advantages})
