"""Settings of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from gridzero.agents.config_checks import check_above_zero, check_at_least
from gridzero.agents.neural.schedules import Optimisation
from gridzero.llm_rl.learners.configs.post_training import PostTrainingConfig


@dataclass(frozen=True)
class SupervisedConfig(PostTrainingConfig):
    """Settings of learners that imitate completions."""

    expert_bias_rate: float = 2e-2
    """γ: after each gradient step the biases of routers to experts move by it, so that all experts get as many tokens;
    0: they stay. It falls as the learning rate does. For models with a mixture of experts."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        super().__post_init__()
        check_at_least(self, 0, "expert_bias_rate")


@dataclass(frozen=True)
class SFTConfig(SupervisedConfig):
    """Settings of supervised fine-tuning."""

    data: str | None = None
    """A file of examples, a JSON object with "prompt" and "completion" a line; by default the task's worked
    solutions."""
    demonstrations: int | None = None
    """So many different worked solutions, passed over in random order; by default fresh ones without end."""
    minibatch_size: int = 128
    """Examples in a gradient step; by default 32 for a model that is given, 16 for a new one that sees."""
    optimiser: Optimisation = "adamw"
    """"adamw"; or "muon", which makes the steps of all matrices but the tables of tokens orthogonal; by default for a
    new model that sees."""
    learning_rate: float = 3e-3
    """AdamW's at its height; by default 1e-5 for a model that is given."""
    width: int = 64
    """Of the residual stream of a new tiny model, which is trained where --policy.model names none."""
    layers: int = 3
    """Transformer blocks of a new tiny model."""
    heads: int = 4
    """Attention heads of a new tiny model."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        super().__post_init__()
        check_above_zero(self, "width", "layers", "heads", "demonstrations")
        if self.data is not None and self.demonstrations is not None:
            raise ValueError("demonstrations are of the task, and --data has examples of its own; give one of them")

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        unused = super().unused()
        if self.policy.get("model") is not None:
            unused |= dict.fromkeys(("width", "layers", "heads"), "a model that is given")
        return unused
