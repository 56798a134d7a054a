"""The learners: they see environments through Gymnasium and FiniteMDP only."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from gridzero.agents.agent import Agent
from gridzero.agents.learner import Update
from gridzero.agents.registry import REGISTRY, agent_class, make, register, register_policy

if TYPE_CHECKING:
    from gridzero.agents.checkpoint import save
    from gridzero.agents.evaluation import Evaluation, evaluate
    from gridzero.agents.neural.sb3.vec_env import as_vec_env
    from gridzero.agents.run_writer import Run
    from gridzero.agents.runs import load
    from gridzero.agents.tabular.soft_value_iteration import soft_value_iteration
    from gridzero.agents.tabular.solver import Solution, solve
    from gridzero.agents.training import train

__all__ = [
    "REGISTRY",
    "Agent",
    "Evaluation",
    "Run",
    "Solution",
    "Update",
    "agent_class",
    "as_vec_env",
    "evaluate",
    "load",
    "make",
    "register",
    "register_policy",
    "save",
    "soft_value_iteration",
    "solve",
    "train",
]

# Imported when first asked for, so that importing this package stays light.
_LAZY = {
    "Evaluation": "gridzero.agents.evaluation",
    "Run": "gridzero.agents.run_writer",
    "Solution": "gridzero.agents.tabular.solver",
    "as_vec_env": "gridzero.agents.neural.sb3.vec_env",
    "evaluate": "gridzero.agents.evaluation",
    "load": "gridzero.agents.runs",
    "save": "gridzero.agents.checkpoint",
    "soft_value_iteration": "gridzero.agents.tabular.soft_value_iteration",
    "solve": "gridzero.agents.tabular.solver",
    "train": "gridzero.agents.training",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


_DP = "gridzero.agents.tabular.dynamic_programming"
_LINEAR = "gridzero.agents.tabular.linear"
_MC = "gridzero.agents.tabular.monte_carlo"
_PLANNING = "gridzero.agents.tabular.planning"
_PREDICTION = "gridzero.agents.tabular.prediction"
_SA = "gridzero.agents.tabular.stochastic_approximation"
_TD = "gridzero.agents.tabular.temporal_difference"

register("value-iteration", f"{_DP}:ValueIteration", "sweeps of the Bellman optimality equation")
register("policy-iteration", f"{_DP}:PolicyIteration", "exact evaluation and greedy improvement in turn")
register(
    "truncated-policy-iteration", f"{_DP}:TruncatedPolicyIteration", "policy iteration with a few evaluation sweeps"
)
register("mc-basic", f"{_MC}:MCBasic", "policy iteration with sampled action values")
register("mc-exploring-starts", f"{_MC}:MCExploringStarts", "Monte Carlo control, each episode from a random pair")
register("mc-epsilon-greedy", f"{_MC}:MCEpsilonGreedy", "on-policy Monte Carlo control, first or every visit")
register("mc-off-policy", f"{_MC}:MCOffPolicy", "Monte Carlo control by importance sampling")
register("robbins-monro", f"{_SA}:RobbinsMonro", "root finding on a Bellman equation from noisy samples")
register("td0", f"{_PREDICTION}:TD0", "state values of a fixed policy by temporal differences")
register("td-n-step", f"{_PREDICTION}:NStepTD", "state values of a fixed policy by n-step returns")
register("sarsa", f"{_TD}:Sarsa", "on-policy temporal-difference control")
register("expected-sarsa", f"{_TD}:ExpectedSarsa", "Sarsa with the expectation over the next action")
register("n-step-sarsa", f"{_TD}:NStepSarsa", "Sarsa with n-step returns")
register("sarsa-lambda", f"{_TD}:SarsaLambda", "Sarsa with eligibility traces")
register("q-learning", f"{_TD}:QLearning", "off-policy temporal-difference control")
register("double-q-learning", f"{_TD}:DoubleQLearning", "Q-learning with two tables, free of maximisation bias")
register(
    "actor-critic", "gridzero.agents.tabular.actor_critic:ActorCritic", "a table of preferences learns from a critic"
)
register("dyna-q", f"{_PLANNING}:DynaQ", "Q-learning that also plans with a learnt model")
register("dyna-q-plus", f"{_PLANNING}:DynaQPlus", "Dyna-Q with a bonus for what was long untried")
register("prioritized-sweeping", f"{_PLANNING}:PrioritizedSweeping", "planning with a learnt model, worst values first")
register(
    "td-linear",
    f"{_LINEAR}_on_policy:LinearTD",
    "state values of a fixed policy, linear in features",
    example="--env FrozenLake-v1 --features fourier --run lake",
)
register(
    "sarsa-linear", f"{_LINEAR}_on_policy:LinearSarsa", "Sarsa, n-step Sarsa and Sarsa(lambda), linear in features"
)
register(
    "q-linear",
    f"{_LINEAR}:LinearQLearning",
    "Q-learning, linear in features of any observation",
    example="--env MountainCar-v0 --run car",
)
register_policy("gridzero.agents.neural.networks.mlp_policy:MLPPolicy", lambda observations, actions: True)

for _name, _class, _summary in (
    ("ppo", "PPO", "proximal policy optimisation with a neural actor and critic"),
    ("grpo", "GRPO", "group relative policy optimisation, without a critic"),
    ("reinforce", "Reinforce", "policy gradient from Monte Carlo returns"),
    ("imitation", "Imitation", "a classifier of what the optimal policy or a run does"),
):
    register(
        _name,
        f"gridzero.agents.neural.{_name}:{_class}",
        _summary,
        config=f"gridzero.agents.neural.configs.{_name}:{_class}Config",
    )
register("mcts", "gridzero.agents.search.mcts:MCTS", "Monte Carlo tree search from the state that it is in")

_SB3 = "gridzero.agents.neural.sb3"
for _name in ("PPO", "A2C", "DQN", "SAC", "TD3", "DDPG"):
    register(
        f"sb3-{_name.lower()}",
        f"{_SB3}.agents:{_name}",
        f"{_name} of Stable-Baselines3",
        config=f"{_SB3}.config:{_name}",
    )
if importlib.util.find_spec("sb3_contrib") is not None:
    for _name in ("QRDQN", "TQC", "TRPO", "ARS", "CrossQ", "MaskablePPO", "RecurrentPPO"):
        register(
            f"sb3-{_name.lower()}",
            f"{_SB3}.agents:{_name}",
            f"{_name} of sb3-contrib",
            config=f"{_SB3}.config:{_name}",
        )
