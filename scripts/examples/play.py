"""The keys w, a, s and d in a maze, by Gymnasium's own play().

Leaves out: the optimum on a key, editing the map; `gridzero play` has them.
Needs: nothing more than gridzero, and a screen. Run: python scripts/examples/play.py --layout maze:9x9
"""

import argparse

import gymnasium as gym
from gymnasium.utils.play import play

import gridzero  # noqa: F401 - registers the environments

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--layout", default="maze:9x9")
parser.add_argument("--steps", type=int, default=None, help="close by itself after so many")
arguments = parser.parse_args()

env = gym.make("gridzero/GridWorld-v0", layout=arguments.layout, render_mode="rgb_array")
taken = 0


def count(*step: object) -> None:
    """Called after each step."""
    global taken
    taken += 1
    if arguments.steps is not None and taken >= arguments.steps:
        print(f"closed after {taken} steps")
        raise SystemExit


play(
    env,
    keys_to_action={"w": 0, "d": 1, "s": 2, "a": 3},
    noop=3,
    fps=8,
    wait_on_player=arguments.steps is None,
    callback=count,
)
