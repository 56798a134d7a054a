"""Stable-Baselines3's PPO on a slippery grid world, 16 native environments at once, held against the exact optimum.

Leaves out: tuning, checkpoints, logging; `gridzero train sb3-ppo` has them.
Needs: nothing more than gridzero. Run: python scripts/examples/sb3_ppo.py --steps 30000
"""

import argparse

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

import gridzero

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=30_000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.set_num_threads(1)  # faster for small networks

envs = gym.make_vec(
    "gridzero/GridWorld-v0", 16, vectorization_mode="vector_entry_point", layout="frozen-lake-4x4", slip=0.1
)
vec_env = VecMonitor(gridzero.agents.as_vec_env(envs))
model = PPO("MlpPolicy", vec_env, n_steps=64, batch_size=256, n_epochs=4, learning_rate=2e-3, seed=arguments.seed)
model.learn(arguments.steps)

mean, deviation = evaluate_policy(model, vec_env, n_eval_episodes=200)
mdp = envs.unwrapped.mdp
print(f"return {mean:.3f} ± {deviation:.3f}; the best policy's is {mdp.start @ mdp.finite_horizon_values(200):.3f}")
