"""Tianshou's DQN on grid worlds in a DummyVectorEnv.

Leaves out: logging, checkpoints, early stopping.
Needs: pip install tianshou. Run: python scripts/examples/tianshou_dqn.py --steps 8000
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

import gridzero  # noqa: F401 - registers the environments

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=8000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.set_num_threads(1)  # faster for small networks
torch.manual_seed(arguments.seed)
np.random.seed(arguments.seed)  # noqa: NPY002 - Tianshou draws from it


def make() -> gym.Env:
    """One environment."""
    return gym.make("gridzero/GridWorld-v0", layout="frozen-lake-4x4", slip=0.1, observation="one_hot")


training, testing = DummyVectorEnv([make] * 8), DummyVectorEnv([make] * 20)
training.seed(arguments.seed)
testing.seed(arguments.seed + 100)
env = make()
policy = DiscreteQLearningPolicy(
    model=Net(state_shape=16, action_shape=4, hidden_sizes=[64]),
    action_space=env.action_space,
    observation_space=env.observation_space,
    eps_training=0.5,
)
algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), gamma=0.99, target_update_freq=100)
parameters = OffPolicyTrainerParams(
    max_epochs=1,
    epoch_num_steps=arguments.steps,
    training_collector=Collector(algorithm, training, VectorReplayBuffer(20_000, 8), exploration_noise=True),
    test_collector=Collector(algorithm, testing),
    test_step_num_episodes=100,
    collection_step_num_env_steps=32,
    batch_size=64,
    update_step_num_gradient_steps_per_sample=0.25,
    verbose=False,
    show_progress=False,
)
result = algorithm.run_training(parameters)
mdp = env.unwrapped.mdp
print(f"return {result.best_reward:.3f}; the best policy's is {mdp.start @ mdp.finite_horizon_values(200):.3f}")
