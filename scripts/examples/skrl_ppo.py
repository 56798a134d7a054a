"""skrl's PPO on a native vector of grid worlds: wrap_env recognises it.

Leaves out: preprocessors, schedulers, checkpoints, TensorBoard.
Needs: pip install skrl. Run: python scripts/examples/skrl_ppo.py --steps 30000
"""

import argparse
import logging

import gymnasium as gym
import torch
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import nn

import gridzero  # noqa: F401 - registers the environments

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=30_000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.set_num_threads(1)  # faster for small networks
logging.getLogger("skrl").setLevel(logging.ERROR)
set_seed(arguments.seed)


class Actor(CategoricalMixin, Model):
    """Logits of the actions."""

    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.layers = nn.Sequential(nn.Linear(self.num_observations, 64), nn.Tanh(), nn.Linear(64, self.num_actions))

    def compute(self, inputs, role):
        """Compute a model's output, as skrl calls it."""
        return self.layers(inputs["observations"]), {}


class Critic(DeterministicMixin, Model):
    """The value of the observation."""

    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.layers = nn.Sequential(nn.Linear(self.num_observations, 64), nn.Tanh(), nn.Linear(64, 1))

    def compute(self, inputs, role):
        """Compute a model's output, as skrl calls it."""
        return self.layers(inputs["observations"]), {}


num_envs, rollout = 16, 64
vector = gym.make_vec(
    "gridzero/GridWorld-v0",
    num_envs,
    vectorization_mode="vector_entry_point",
    autoreset_mode="SameStep",  # what skrl's memory expects
    layout="frozen-lake-4x4",
    slip=0.1,
    observation="one_hot",
)
env = wrap_env(vector, verbose=False)
spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
config = PPO_CFG(rollouts=rollout, learning_epochs=4, mini_batches=4, learning_rate=2e-3, entropy_loss_scale=0.01)
config.experiment.write_interval = config.experiment.checkpoint_interval = 0
agent = PPO(
    models={"policy": Actor(**spaces), "value": Critic(**spaces)},
    memory=RandomMemory(memory_size=rollout, num_envs=num_envs, device=env.device),
    cfg=config,
    **spaces,
)
timesteps = max(1, arguments.steps // num_envs)
SequentialTrainer(
    env=env, agents=agent, cfg={"timesteps": timesteps, "disable_progressbar": True, "headless": True}
).train()

observations, _ = vector.reset(seed=arguments.seed)
successes = episodes = 0
for _ in range(400):
    with torch.no_grad():
        logits, _ = agent.models["policy"].compute({"observations": torch.as_tensor(observations)}, "policy")
    observations, _, terminated, truncated, info = vector.step(logits.argmax(dim=1).numpy())
    done = terminated | truncated
    episodes += done.sum()
    successes += info["final_info"]["is_success"].sum() if done.any() else 0
mdp = vector.unwrapped.mdp
rate = successes / max(episodes, 1)
print(f"success rate {rate:.3f}; the best policy's is {mdp.start @ mdp.finite_horizon_values(200):.3f}")
