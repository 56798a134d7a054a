"""Settings that PPO, GRPO and REINFORCE share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import tyro

from gridzero.agents.neural.choices import Activation, Memory, Schedule

_SCHEDULES = ("learning_rate_schedule", "clip_schedule", "entropy_schedule")


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
    learning_rate: float = 3e-3
    """Adam's, at the beginning."""
    learning_rate_schedule: Schedule = "linear"
    """"linear": falling to 0 at schedule_steps, where learning ends; or "constant"."""
    schedule_steps: int | None = None
    """Environment steps that the linear schedules span; by default the budget, without one the agent's usual budget."""
    entropy_coefficient: float = 0.1
    """Weight of the entropy bonus; advantages count about 1."""
    entropy_schedule: Schedule = "linear"
    """As for the learning rate: explore first, decide later."""
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
    normalise_observations: bool = False
    """Standardise numbers in observations by their running mean and deviation."""
    action_masks: bool = False
    """Choose only among the actions that env.unwrapped.action_masks() allows."""
    initial_log_std: float = 0.0
    """log σ of continuous actions at the beginning."""
    log_completions: bool = False
    """Write everything that a language model says in learning to completions.jsonl."""
    policy: Annotated[Mapping[str, Any], tyro.conf.Suppress] = dataclasses.field(default_factory=dict)
    """Options of a policy that has its own, such as a language model's: on the command line, --policy.KEY VALUE."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range or unknown choices."""
        within = [("gamma", 0.0, 1.0)]
        above: tuple[str, ...] = ("learning_rate", "adam_epsilon")
        above += tuple(name for name in ("schedule_steps", "microbatch_size") if getattr(self, name) is not None)
        self._check(within, above, ("entropy_coefficient", "exploration_bonus", "max_gradient_norm"))
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must have at least one width, all at least 1, not {self.hidden}")
        self._choose(dict.fromkeys(self._schedules(), Schedule) | {"activation": Activation, "memory": Memory})

    def _schedules(self) -> list[str]:
        return [name for name in _SCHEDULES if hasattr(self, name)]

    def _check(self, within: list[tuple[str, float, float]], above: tuple[str, ...], least: tuple[str, ...]) -> None:
        for name, low, high in within:
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be between {low:g} and {high:g}, not {getattr(self, name)}")
        for name in above:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, not {getattr(self, name)}")
        for name in least:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")

    def _choose(self, choices: Mapping[str, Any]) -> None:
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}")


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
        self._check([], ("minibatch_size", "clip"), ())
