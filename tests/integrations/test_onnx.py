"""Networks as ONNX: the reference evaluator of ONNX, which is NumPy alone, gives what the policy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero

onnx = pytest.importorskip("onnx")

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "numbers": ("CartPole-v1", {}, {}),
    "normalised": ("Pendulum-v1", {}, {"num_envs": 2}),
    "choices": ("FrozenLake-v1", {}, {"num_envs": 2}),
    "pixels": ("gridzero/GridWorld-v0", {"observation": "image"}, {"num_envs": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_file_acts_as_the_policy_does(case: str, tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    from gridzero.agents.neural.networks.onnx_export import write_onnx

    env_id, options, fields = CASES[case]
    agent: Any = gridzero.agents.make("ppo", gym.make(env_id, **options), rollout_steps=32, hidden=(8,), **fields)
    next(agent.learn())
    space = agent.vector.single_observation_space
    write_onnx(agent.network, space, tmp_path / "policy.onnx")
    space.seed(0)
    observations = [space.sample() for _ in range(7)]
    (leaf,) = agent.network.raw(observations).values()
    session = ReferenceEvaluator(str(tmp_path / "policy.onnx"))
    (outputs,) = session.run(None, {session.input_names[0]: leaf.numpy()})
    if isinstance(agent.vector.single_action_space, gym.spaces.Discrete):
        assert outputs.argmax(axis=1).tolist() == agent.act(observations).tolist()
        probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, agent.action_probabilities(observations), atol=1e-5)
    else:
        high = agent.vector.single_action_space.high
        np.testing.assert_allclose(np.clip(outputs, -high, high), agent.act(observations), atol=1e-5)
