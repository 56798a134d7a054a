"""PPO in one file, CleanRL's way, on Gymnasium 1.x and a native vector of grid worlds.

In the default NEXT_STEP mode the step after an episode's end only resets: it is not learnt from. A time limit is not a
terminal state: the value of the last observation stands in for what was cut off.
Leaves out: value clipping, target KL, learning-rate schedule, logging, video; `gridzero train ppo` has the first three.
Needs: nothing more than gridzero. Run: python scripts/examples/cleanrl_style_ppo.py --steps 50000
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import gridzero  # noqa: F401 - registers the environments

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=50_000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--env", default="gridzero/GridWorld-v0")
parser.add_argument("--layout", default="frozen-lake-4x4")
parser.add_argument("--num-envs", type=int, default=32)
parser.add_argument("--rollout", type=int, default=32)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--minibatch", type=int, default=256)
parser.add_argument("--learning-rate", type=float, default=2e-3)
parser.add_argument("--gamma", type=float, default=0.99)
parser.add_argument("--gae-lambda", type=float, default=0.95)
parser.add_argument("--clip", type=float, default=0.2)
parser.add_argument("--entropy", type=float, default=0.01)
arguments = parser.parse_args()
torch.manual_seed(arguments.seed)
torch.set_num_threads(1)


def layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    """A linear layer with orthogonal weights."""
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


N, T = arguments.num_envs, arguments.rollout
envs = gym.make_vec(
    arguments.env,
    N,
    vectorization_mode="vector_entry_point",
    layout=arguments.layout,
    slip=0.1,
    observation="one_hot",
)
inputs, actions_count = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
actor = nn.Sequential(layer(inputs, 64), nn.Tanh(), layer(64, actions_count, 0.01))
critic = nn.Sequential(layer(inputs, 64), nn.Tanh(), layer(64, 1, 1.0))
parameters = [*actor.parameters(), *critic.parameters()]
optimiser = torch.optim.Adam(parameters, lr=arguments.learning_rate, eps=1e-5)

observations = torch.zeros(T + 1, N, inputs)
actions = torch.zeros(T, N, dtype=torch.long)
log_probs, rewards, terminated = torch.zeros(T, N), torch.zeros(T, N), torch.zeros(T, N)
ended, valid = torch.zeros(T, N), torch.zeros(T, N, dtype=torch.bool)
first, _ = envs.reset(seed=arguments.seed)
observations[0] = torch.from_numpy(first)
resetting = np.zeros(N, dtype=bool)
outcomes: list[bool] = []

for _ in range(max(1, arguments.steps // (N * T))):
    with torch.no_grad():
        for t in range(T):
            distribution = Categorical(logits=actor(observations[t]))
            actions[t] = distribution.sample()
            log_probs[t] = distribution.log_prob(actions[t])
            following, reward, terminal, truncated, info = envs.step(actions[t].numpy())
            valid[t] = torch.from_numpy(~resetting)
            resetting = terminal | truncated
            outcomes += info["is_success"][resetting].tolist()
            observations[t + 1] = torch.from_numpy(following)
            rewards[t] = torch.from_numpy(reward)
            terminated[t], ended[t] = torch.from_numpy(terminal), torch.from_numpy(resetting)
        values = critic(observations).squeeze(-1)
        advantages = torch.zeros(T, N)
        last = torch.zeros(N)
        for t in reversed(range(T)):
            error = rewards[t] + arguments.gamma * (1 - terminated[t]) * values[t + 1] - values[t]
            last = error + arguments.gamma * arguments.gae_lambda * (1 - ended[t]) * last
            last = last * valid[t]
            advantages[t] = last
        returns = advantages + values[:-1]
    seen, taken, old, advantage, target = (
        part[valid] for part in (observations[:-1], actions, log_probs, advantages, returns)
    )
    for _ in range(arguments.epochs):
        for rows in torch.randperm(len(seen)).split(arguments.minibatch):
            distribution = Categorical(logits=actor(seen[rows]))
            ratio = (distribution.log_prob(taken[rows]) - old[rows]).exp()
            gain = advantage[rows]
            gain = (gain - gain.mean()) / (gain.std(correction=0) + 1e-8)
            surrogate = torch.min(ratio * gain, ratio.clamp(1 - arguments.clip, 1 + arguments.clip) * gain)
            value_loss = 0.5 * (critic(seen[rows]).squeeze(-1) - target[rows]).square().mean()
            loss = -surrogate.mean() + 0.5 * value_loss - arguments.entropy * distribution.entropy().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 0.5)
            optimiser.step()

mdp = envs.unwrapped.mdp
policy = torch.nn.functional.one_hot(actor(torch.eye(inputs)).argmax(dim=1), actions_count).double().numpy()
value = mdp.start @ mdp.finite_horizon_values(200, policy=policy)
print(f"success rate {np.mean(outcomes[-200:] or [0]):.3f} in the last 200 episodes, while exploring")
print(f"exact return {value:.3f}; the best policy's is {mdp.start @ mdp.finite_horizon_values(200):.3f}")
