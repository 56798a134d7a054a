"""Settings that learners from examples share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import tyro

from gridzero.agents.config_checks import check_above_zero, check_choice
from gridzero.agents.neural.schedules import Optimisation

Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class PostTrainingConfig:
    """Settings that learners from examples share."""

    minibatch_size: int = 32
    """Examples in a gradient step."""
    microbatch_size: int | None = None
    """Examples in one pass forwards and backwards, of which a gradient step may take several to save memory; by default
    all."""
    gradient_steps: int = 10
    """Gradient steps in an update."""
    optimiser: Optimisation = "adamw"
    """"adamw"; or "muon", which makes the steps of all matrices but the tables of tokens orthogonal."""
    learning_rate: float = 3e-4
    """AdamW's at its height; by default 1e-5 for a model that is given."""
    learning_rate_schedule: Schedule = "cosine"
    """"cosine": a rise over a twentieth of schedule_steps, then a cosine down to 0, where learning ends; or
    "constant"."""
    schedule_steps: int | None = None
    """Steps that the schedule spans; by default the budget, without one the learner's usual budget."""
    max_length: int | None = None
    """Tokens of an example, prompt included; what comes later is cut away. By default what the model has positions
    for."""
    episode_limit: int = 1000
    """Tokens that the model may write in one conversation."""
    policy: Annotated[Mapping[str, Any], tyro.conf.Suppress] = dataclasses.field(default_factory=dict)
    """Options of the language model: on the command line, --policy.KEY VALUE."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        check_above_zero(self, "minibatch_size", "gradient_steps", "learning_rate", "episode_limit")
        check_above_zero(self, "schedule_steps", "max_length", "microbatch_size")
        check_choice(self, "learning_rate_schedule", get_args(Schedule))
        check_choice(self, "optimiser", get_args(Optimisation))

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        constant = self.learning_rate_schedule == "constant"
        return {"schedule_steps": "learning_rate_schedule constant"} if constant else {}
