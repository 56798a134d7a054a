"""Settings of imitation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from gridzero.agents.config_checks import (
    check_above_zero,
    check_at_least,
    check_between,
    check_choice,
    check_hidden,
)
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

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        check_choice(self, "head", HEADS)
        check_choice(self, "activation", get_args(Activation))
        check_between(self, 0, 1, "gamma")
        check_above_zero(self, "demonstrations", "scale", "minibatch_size", "learning_rate", "adam_epsilon")
        check_at_least(self, 0, "annealing", "annealing_rate", "annealing_floor", "max_gradient_norm")
        check_hidden(self)
        self._check_margin()

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        unused = {}
        if self.head in ("softmax", "sphereface"):
            unused["scale"] = f"head {self.head}"
        if self.head != "sphereface":
            unused |= dict.fromkeys(("annealing", "annealing_rate", "annealing_floor"), f"head {self.head}")
        if self.expert != "optimal":
            unused["gamma"] = f"expert {self.expert}"
        return unused

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
