"""TorchRL's PPO loss and advantage estimator on a native vector of grid worlds.

TorchRL resets environments itself, so the vector is made with autoreset disabled.
Leaves out: schedules, logging, checkpoints.
Needs: pip install torchrl. Run: python scripts/examples/torchrl_ppo.py --steps 30000
"""

import argparse

import gymnasium as gym
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import gridzero  # noqa: F401 - registers the environments

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=30_000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.set_num_threads(1)  # faster for small networks
torch.manual_seed(arguments.seed)

num_envs, rollout, minibatch = 16, 64, 256
vector = gym.make_vec(
    "gridzero/GridWorld-v0",
    num_envs,
    vectorization_mode="vector_entry_point",
    autoreset_mode="Disabled",
    layout="frozen-lake-4x4",
    slip=0.1,
    observation="one_hot",
)
env = GymWrapper(vector)
env.set_seed(arguments.seed)

actor = ProbabilisticActor(
    TensorDictModule(
        nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 4)), in_keys=["observation"], out_keys=["logits"]
    ),
    in_keys=["logits"],
    distribution_class=OneHotCategorical,
    return_log_prob=True,
)
critic = ValueOperator(nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1)), in_keys=["observation"])
advantages = GAE(gamma=0.99, lmbda=0.95, value_network=critic, average_gae=True)
loss_module = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.01)
optimiser = torch.optim.Adam(loss_module.parameters(), lr=2e-3)

frames = num_envs * rollout
successes, episodes = 0.0, 0
collector = Collector(env, actor, frames_per_batch=frames, total_frames=max(frames, arguments.steps // frames * frames))
for batch in collector:
    done = batch["next", "done"].squeeze(-1)
    successes, episodes = float(batch["next", "reward"][done].sum()), int(done.sum())  # the goal pays 1
    for _ in range(4):
        with torch.no_grad():
            advantages(batch)
        flat = batch.reshape(-1)
        for rows in torch.randperm(frames).split(minibatch):
            losses = loss_module(flat[rows])
            loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(loss_module.parameters(), 0.5)
            optimiser.step()
collector.shutdown()

mdp = vector.unwrapped.mdp
rate = successes / max(episodes, 1)
print(f"success rate {rate:.3f} while exploring; the best policy's is {mdp.start @ mdp.finite_horizon_values(200):.3f}")
