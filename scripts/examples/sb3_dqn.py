"""Stable-Baselines3's DQN on one grid world, its action values held against the exact ones.

A single environment needs no adapter. Leaves out: tuning, checkpoints, logging; `gridzero train sb3-dqn` has them.
Needs: nothing more than gridzero. Run: python scripts/examples/sb3_dqn.py --steps 10000
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN

import gridzero

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=10_000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.set_num_threads(1)  # faster for small networks

gamma = 0.9
env = gym.make("gridzero/GridWorld-v0", layout="zhao-3x3", start="random", max_episode_steps=20)
model = DQN(
    "MlpPolicy",
    env,
    gamma=gamma,
    learning_rate=lambda remaining: 0.01 * remaining,
    learning_starts=200,
    batch_size=128,
    train_freq=8,
    target_update_interval=100,
    exploration_final_eps=1.0,
    policy_kwargs={"net_arch": [32]},
    seed=arguments.seed,
)
model.learn(arguments.steps)

mdp = env.unwrapped.mdp
values = model.q_net(model.policy.obs_to_tensor(np.arange(mdp.num_states))[0]).detach().numpy()
optimal = mdp.action_values(gridzero.agents.solve(mdp, gamma).values, gamma)
print(f"largest error of an action value {np.abs(values - optimal).max():.4f}")
print(f"optimal actions in {np.mean(optimal[np.arange(9), values.argmax(axis=1)] > optimal.max(axis=1) - 1e-9):.0%}")
