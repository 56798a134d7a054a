"""The optimal policy crossing a frozen lake, filmed by Gymnasium's RecordVideo; no screen is needed.

Leaves out: the values and arrows that `gridzero watch --record` draws.
Needs: pip install moviepy. Run: python scripts/examples/record_video.py --steps 200 --folder videos
"""

import argparse

import gymnasium as gym
from gymnasium.wrappers import RecordVideo

import gridzero

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--folder", default="videos")
arguments = parser.parse_args()

env = gym.make("gridzero/GridWorld-v0", layout="frozen-lake-8x8", slip=0.1, render_mode="rgb_array")
env = RecordVideo(env, arguments.folder, episode_trigger=lambda episode: True)
policy = gridzero.agents.solve(env.unwrapped.mdp, gamma=0.99).actions
observation, _ = env.reset(seed=arguments.seed)
for _ in range(arguments.steps):
    observation, _, terminated, truncated, info = env.step(int(policy[observation]))
    if terminated or truncated:
        print("reached the goal" if info["is_success"] else "fell in or ran out of time")
        observation, _ = env.reset()
env.close()
