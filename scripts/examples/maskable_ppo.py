"""sb3-contrib's MaskablePPO in a maze: it never walks into a wall, because action_masks() rules that out.

Leaves out: tuning, checkpoints, logging; `gridzero train sb3-maskableppo` has them.
Needs: pip install sb3-contrib. Run: python scripts/examples/maskable_ppo.py --steps 30000
"""

import argparse

import gymnasium as gym
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

import gridzero

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=30_000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.set_num_threads(1)  # faster for small networks

envs = gym.make_vec(
    "gridzero/GridWorld-v0", 16, vectorization_mode="vector_entry_point", layout="maze:7x7:1", reward_step=-0.02
)
vec_env = VecMonitor(gridzero.agents.as_vec_env(envs))
model = MaskablePPO(
    "MlpPolicy", vec_env, n_steps=64, batch_size=256, n_epochs=4, learning_rate=2e-3, seed=arguments.seed
)
model.learn(arguments.steps)

mean, deviation = evaluate_policy(model, vec_env, n_eval_episodes=100)
mdp = envs.unwrapped.mdp
print(f"return {mean:.3f} ± {deviation:.3f}; the best policy's is {mdp.start @ mdp.finite_horizon_values(200):.3f}")
