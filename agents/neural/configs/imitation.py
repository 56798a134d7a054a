"""Settings of imitation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

from gridzero.agents.neural.choices import HEADS, Activation, HeadName


@dataclass(frozen=True)
class ImitationConfig:
    """Settings of imitation."""

    expert: str = "optimal"
    """Whom to imitate: "optimal", the exact optimal policy, which needs a model; or a run, by its name or path."""
    demonstrations: int | None = None
    """Steps of a run's episodes to learn from; by default every state once, where the states can be counted, else
    10,000 steps."""
    head: HeadName = "softmax"
    """The classifier over actions: "softmax", "normface", "sphereface", "cosface" or "arcface"."""
    margin: float | None = None
    """m of the last three; by default the papers': 4 (times the angle), 0.35 (of the cosine), 0.5 (radians)."""
    scale: float = 16.0
    """s, the length that features and weights have together, of normface, cosface and arcface."""
    annealing: float = 1000.0
    """λ of sphereface at the first gradient step: the weight of the loss without a margin."""
    annealing_rate: float = 0.1
    """λ is divided by 1 + this, times the gradient steps taken."""
    annealing_floor: float = 5.0
    """The least that λ becomes."""
    gamma: float = 0.99
    """Discount γ, in which the optimal policy is optimal."""
    minibatch_size: int = 64
    """Examples in a gradient step."""
    learning_rate: float = 1e-3
    """Adam's."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm; 0: never."""
    adam_epsilon: float = 1e-8
    """Adam's ε."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    """After each hidden layer: "tanh" or "relu"."""
    normalise_observations: bool = False
    """Standardise numbers in observations by their mean and deviation over the examples."""

    # What the other neural agents can choose.
    num_envs: ClassVar[int | None] = None
    asynchronous: ClassVar[bool] = False
    action_masks: ClassVar[bool] = False
    exploration_bonus: ClassVar[float] = 0.0
    log_completions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        for name, allowed in (("head", HEADS), ("activation", get_args(Activation))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be between 0 and 1, not {self.gamma}")
        for name in ("demonstrations", "scale", "minibatch_size", "learning_rate", "adam_epsilon"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        for name in ("annealing", "annealing_rate", "annealing_floor", "max_gradient_norm"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must have at least one width, all at least 1, not {self.hidden}")
        self._check_margin()

    def _check_margin(self) -> None:
        if self.margin is None:
            return
        if self.head in ("softmax", "normface"):
            raise ValueError(f"{self.head} has no margin; sphereface, cosface and arcface have")
        if self.head == "sphereface" and (self.margin < 1 or self.margin != int(self.margin)):
            raise ValueError(f"margin of sphereface must be a whole number from 1 on, not {self.margin}")
        most = {"sphereface": math.inf, "cosface": 2.0, "arcface": math.pi}[self.head]
        if not 0 <= self.margin < most:
            raise ValueError(f"margin of {self.head} must be at least 0 and less than {most:.4g}, not {self.margin}")
