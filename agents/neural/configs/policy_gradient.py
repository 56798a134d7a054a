"""Settings that PPO, GRPO and REINFORCE share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import tyro

from gridzero.agents.config_checks import (
    check_above_zero,
    check_at_least,
    check_between,
    check_choice,
    check_hidden,
)
from gridzero.agents.neural.choices import Activation, Memory, Schedule
from gridzero.agents.neural.schedules import Optimisation


@dataclass(frozen=True)
class PolicyGradientConfig:
    """Settings that PPO, GRPO and REINFORCE share."""

    gamma: float = 0.99
    """Discount γ."""
    num_envs: int | None = None
    """Environments stepped together; by default 64 where the environment has a native vector, else 8."""
    asynchronous: bool = False
    """A process for each environment, where there is no native vector."""
    microbatch_size: int | None = None
    """Steps in one pass forwards and backwards, of which a gradient step may take several to save memory; by default
    all."""
    optimiser: Optimisation = "adamw"
    """"adamw", here without decay of weights; or "muon", which makes the steps of all matrices but a language model's
    tables of tokens orthogonal."""
    learning_rate: float = 3e-3
    """Adam's, at the beginning."""
    learning_rate_schedule: Schedule = "linear"
    """"linear": falling to 0 at schedule_steps, where learning ends; or "constant"."""
    schedule_steps: int | None = None
    """Environment steps that the linear schedules span; by default the budget, without one the agent's usual budget."""
    entropy_coefficient: float = 0.1
    """Weight of the entropy bonus; advantages count about 1."""
    entropy_schedule: Schedule = "linear"
    """Of the entropy bonus, "constant" or "linear": exploring first, then deciding."""
    exploration_bonus: float = 0.0
    """β: while learning, each step pays β/√n more, n being how often its action was taken on its observation; β falls
    to 0 halfway to schedule_steps. For sparse rewards, where observations and actions are whole numbers."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm; 0: never."""
    adam_epsilon: float = 1e-5
    """Adam's ε."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    """After each hidden layer: "tanh" or "relu"."""
    memory: Memory = "none"
    """A recurrent core after the hidden layers: "none", "gru" or "lstm"."""
    convolutions: bool = True
    """Read images by convolutions; else as plain numbers, which suits small grids of symbols."""
    normalise_observations: bool = False
    """Standardise numbers in observations by their running mean and deviation."""
    action_masks: bool = False
    """Choose only among the actions that env.unwrapped.action_masks() or info["action_mask"] allows."""
    initial_log_std: float = 0.0
    """log σ of continuous actions at the beginning."""
    log_completions: bool = False
    """Write everything that a language model says in learning to completions.jsonl."""
    policy: Annotated[Mapping[str, Any], tyro.conf.Suppress] = dataclasses.field(default_factory=dict)
    """Options of a policy that has its own, such as a language model's: on the command line, --policy.KEY VALUE."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        check_between(self, 0, 1, "gamma")
        check_above_zero(self, "learning_rate", "adam_epsilon", "schedule_steps", "microbatch_size")
        check_at_least(self, 0, "entropy_coefficient", "exploration_bonus", "max_gradient_norm")
        check_hidden(self)
        check_choice(self, "optimiser", get_args(Optimisation))
        check_choice(self, "activation", get_args(Activation))
        check_choice(self, "memory", get_args(Memory))
        check_choice(self, "learning_rate_schedule", get_args(Schedule))
        check_choice(self, "entropy_schedule", get_args(Schedule))

    def schedules(self) -> list[Schedule]:
        """The schedules of what changes in the course of training."""
        return [self.learning_rate_schedule, *([self.entropy_schedule] if self.entropy_coefficient else [])]

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        unused = {}
        if not self.entropy_coefficient:
            unused["entropy_schedule"] = "entropy_coefficient 0"
        if "linear" not in self.schedules() and not self.exploration_bonus:
            unused["schedule_steps"] = "schedules that are constant"
        return unused


@dataclass(frozen=True)
class SurrogateConfig(PolicyGradientConfig):
    """Settings of agents that take several gradient steps with what one policy did."""

    minibatch_size: int = 1024
    """Steps in a gradient step."""
    clip: float = 0.2
    """ε: the ratio of new to old probability counts between 1 - ε and 1 + ε."""
    clip_schedule: Schedule = "constant"
    """Of the clip range, as for the learning rate."""
    rescore: bool = False
    """Score the actions again before an update, lest what acts and what learns differ in the last digits: on a GPU, in
    half precision, the difference is larger than GSPO's clip range."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        super().__post_init__()
        check_above_zero(self, "minibatch_size", "clip")
        check_choice(self, "clip_schedule", get_args(Schedule))

    def schedules(self) -> list[Schedule]:
        """The schedules of what changes in the course of training."""
        return [*super().schedules(), self.clip_schedule]
