"""Objectives of policy-gradient learning, as pure functions on tensors.

Everything is a batch of sequences: ``B`` of them, ``T`` steps long, an action being a move or a token. What is
per step has shape (B, T), and a boolean mask of that shape says which steps there are. Log-probabilities are in nats.
Time indices as in the literature: step t takes action a_t in state s_t, is paid r_t and leads to s_{t+1}.
"""

from gridzero.agents.neural.objectives.actor_critic import actor_critic_loss
from gridzero.agents.neural.objectives.advantages import (
    discounted_sums,
    exploration_bonus,
    generalised_advantages,
    group_advantages,
    overlong_penalty,
    state_advantages,
)
from gridzero.agents.neural.objectives.aggregation import aggregate, step_weights
from gridzero.agents.neural.objectives.divergences import (
    categorical_entropy,
    gaussian_entropy,
    kl_estimate,
)
from gridzero.agents.neural.objectives.surrogates import (
    binding_clips,
    clipped_surrogate,
    sequence_log_ratios,
    trajectory_log_ratios,
    truncated_importance_objective,
    value_loss,
)

__all__ = [
    "actor_critic_loss",
    "aggregate",
    "binding_clips",
    "categorical_entropy",
    "clipped_surrogate",
    "discounted_sums",
    "exploration_bonus",
    "gaussian_entropy",
    "generalised_advantages",
    "group_advantages",
    "kl_estimate",
    "overlong_penalty",
    "sequence_log_ratios",
    "state_advantages",
    "step_weights",
    "trajectory_log_ratios",
    "truncated_importance_objective",
    "value_loss",
]
