"""RLlib's PPO on the registered grid world, several copies in one environment runner.

RLlib makes the environment by id: the module with the ids is named in it, so that Ray's workers import it too.
Leaves out: workers on other machines, tuning, checkpoints.
Needs: pip install "ray[rllib]". Run: python scripts/examples/rllib_ppo.py --steps 16000
"""

import argparse
import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # set before Ray is imported

import gymnasium as gym
import ray
from ray.rllib.algorithms.ppo import PPOConfig

import gridzero  # noqa: F401 - registers the environments

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=16_000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

options = {"layout": "frozen-lake-4x4", "slip": 0.1, "observation": "one_hot"}
batch = min(2000, arguments.steps)
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
try:
    config = (
        PPOConfig()
        .environment("gridzero:gridzero/GridWorld-v0", env_config=options)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(train_batch_size=batch, minibatch_size=min(256, batch), num_epochs=4, lr=2e-3, entropy_coeff=0.01)
        .rl_module(model_config={"fcnet_hiddens": [64], "fcnet_activation": "tanh"})
        .debugging(seed=arguments.seed)
    )
    algorithm = config.build_algo()
    results = [algorithm.train() for _ in range(max(1, arguments.steps // batch))]
    algorithm.stop()
finally:
    ray.shutdown()

mean = results[-1]["env_runners"]["episode_return_mean"]
mdp = gym.make("gridzero/GridWorld-v0", **options).unwrapped.mdp
print(f"return {mean:.3f} while exploring; the best policy's is {mdp.start @ mdp.finite_horizon_values(200):.3f}")
