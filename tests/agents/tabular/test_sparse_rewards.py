"""A maze of which only the target pays, 28 steps from the start: solved exactly, with nothing set."""

from __future__ import annotations

import gymnasium as gym
import pytest

import gridzero
from gridzero.agents.training import train

AGENTS = ["mc-epsilon-greedy", "mc-exploring-starts", "double-q-learning", "n-step-sarsa", "sarsa-lambda"]
SLOW = pytest.mark.slow
CASES = [
    pytest.param(name, seed, marks=() if name == "double-q-learning" and seed == 0 else SLOW)
    for name in AGENTS
    for seed in range(3)
]


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_the_default_budget_and_settings_suffice(name: str, seed: int) -> None:
    env = gym.make("gridzero/GridWorld-v0", layout="maze:11x11:11")
    agent = gridzero.agents.make(name, env, seed=seed)
    evaluation = train(agent, steps=agent.default_steps or 100_000, evaluation_episodes=1)
    assert evaluation.optimal_value == pytest.approx(0.99**27)
    assert evaluation.value == pytest.approx(evaluation.optimal_value, abs=1e-12)
