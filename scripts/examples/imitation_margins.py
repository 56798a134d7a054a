"""Table of the margin of a classifier over actions when the image gets noisy.

The exact optimal policy is imitated from symbolic images of a grid world, once with each head and seed, on clean
images. Then every state is shown again with Gaussian noise on each pixel, and counted: how often a right action is on
top, and how far it stands above the best wrong one, in cosine and in logit. Intervals are Student's, 95 %, over seeds.

Leaves out: noise in training, tuning of margins and scales (these are the defaults).
Needs: nothing more than gridzero. Run: python scripts/examples/imitation_margins.py --steps 30000 --seeds 5
"""

import argparse
import json

import gymnasium as gym
import numpy as np
import torch
from scipy import stats

import gridzero
from gridzero.agents.neural.choices import HEADS

MEASURES = ("accuracy", "cosine_margin", "logit_margin")

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--layout", default="four-rooms")
parser.add_argument("--steps", type=int, default=30_000, help="examples that each classifier sees")
parser.add_argument("--seeds", type=int, default=5, help="at least 2, for the intervals")
parser.add_argument(
    "--noise", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.15, 0.2], help="deviations, white being 1"
)
parser.add_argument("--draws", type=int, default=20, help="noisy images of each state")
parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
arguments = parser.parse_args()
if arguments.seeds < 2:
    parser.error(f"--seeds must be at least 2, not {arguments.seeds}")
torch.set_num_threads(1)  # faster for small networks


def measure(head: str, seed: int) -> np.ndarray:
    """(noise levels, measures) of one classifier."""
    env = gym.make("gridzero/GridWorld-v0", layout=arguments.layout, observation="image")
    agent = gridzero.agents.make("imitation", env, seed=seed, head=head)
    gridzero.agents.train(agent, steps=arguments.steps, evaluation_episodes=1)
    shown = agent.demonstrations
    images, right = shown.observations["observation"].numpy(), shown.right.numpy()
    rng = np.random.default_rng(seed)  # the same noise for every head
    rows = []
    for level in arguments.noise:
        draws = []
        for _ in range(arguments.draws if level else 1):
            noisy = np.clip(images + 255 * level * rng.standard_normal(images.shape), 0, 255).astype(np.uint8)
            measured = agent.measure(noisy, right)
            draws.append([measured[name].mean() for name in MEASURES])
        rows.append(np.mean(draws, axis=0))
    return np.array(rows)


half = stats.t.ppf(0.975, arguments.seeds - 1) / np.sqrt(arguments.seeds)
results = []
for head in HEADS:
    table = np.stack([measure(head, seed) for seed in range(arguments.seeds)])
    for level, means, spreads in zip(arguments.noise, table.mean(axis=0), table.std(axis=0, ddof=1), strict=True):
        measured = {name: [m, half * s] for name, m, s in zip(MEASURES, means, spreads, strict=True)}
        results.append({"head": head, "noise": level, **measured})

if arguments.json:
    print(json.dumps(results, indent=1))
else:
    print(f"| head | noise | {' | '.join(name.replace('_', ' ') for name in MEASURES)} |")
    print("|---|---|" + "---|" * len(MEASURES))
    for row in results:
        cells = (f"{mean:.3f} ± {spread:.3f}" for mean, spread in (row[name] for name in MEASURES))
        print(f"| {row['head']} | {row['noise']:g} | {' | '.join(cells)} |")
