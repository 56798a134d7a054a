"""Shortest paths in mazes: exact, by PPO on pixels, by a language model, and by one that sees.

The bar is this project's own: a script of the same model finds 0.95 of them in two minutes of one core.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gridzero.agents import make as make_agent
from gridzero.agents.intervals import wilson_interval
from gridzero.envs import GridWorld
from gridzero.envs.tasks import Problem, make_task
from gridzero.envs.tasks.grid_path import world_of
from gridzero.envs.tasks.task import Task
from gridzero.figures.figure import Figure, Row, claim, panels, shown

EXAMPLES, MOVES, MAZES = 38_400, 75_000, 500
LEAST = 0.9
PPO: dict[str, Any] = {"gamma": 0.95, "entropy_coefficient": 0.02, "hidden": (256, 256), "activation": "relu"}


def mazes(seed: int, count: int) -> list[Problem]:
    """Mazes of 4 by 4 cells that nobody is trained on."""
    task, rng = make_task("grid-path", split="held-out"), np.random.default_rng(seed)
    return [task.sample(rng) for _ in range(count)]


def trained(name: str, env: Any, steps: int, seed: int, **settings: Any) -> tuple[Any, float]:
    """An agent after so many steps, and the processor's seconds that they took."""
    began = time.process_time()
    agent = make_agent(name, env, seed=seed, schedule_steps=steps, **settings)
    for update in agent.learn():
        if update.step >= steps:
            break
    return agent, time.process_time() - began


def language_model(pixels: int, steps: int, seed: int) -> tuple[Any, float]:
    """A language model that imitates shortest paths; of text without ``pixels``."""
    env = gym.make("gridzero/TextGeneration-v0", task="grid-path", pixels=pixels, direct=True)
    return trained("sft", env, steps, seed, minibatch_size=16, optimiser="muon")


def written(agent: Any, problems: list[Problem]) -> list[bool]:
    """Whether what a language model writes is a shortest path through each maze."""
    task = agent.task
    texts = [task.prompt(problem) for problem in problems]
    seen: list[Any] = list(texts)
    if task.picture_shape is not None:
        seen = [{"image": task.picture(problem), "text": text} for problem, text in zip(problems, texts, strict=True)]
    completions = agent.act(seen)
    return [task.verify(problem, said).correct for problem, said in zip(problems, completions, strict=True)]


class Maze(gym.Env[NDArray[np.uint8], np.int64]):
    """A walk through a maze of the task, which is seen as an image with one pixel a cell: walker, walls and target.

    Args:
        task: draws the mazes.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.observation_space = gym.spaces.Box(0, 255, (4, 4, 3), np.uint8)
        self.action_space = gym.spaces.Discrete(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """A fresh maze, or the one of ``options["problem"]``."""
        super().reset(seed=seed)
        problem = options["problem"] if options else self.task.sample(self.np_random)
        self.world = world_of(problem.question)
        self.state = self.world.start
        cells = np.array([*problem.question.replace("\n", "")]).reshape(4, 4)
        self.picture = (
            np.stack([np.zeros_like(cells, bool), cells == "#", cells == "G"], axis=-1).astype(np.uint8) * 255
        )
        return self._seen(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """A move; each costs 0.1, but the one that arrives, which pays 1."""
        self.state = self.world.next_states[self.state][int(action)]
        arrived = self.world.distances[self.state] == 0
        return self._seen(), 1.0 if arrived else -0.1, arrived, False, {"is_success": arrived}

    def _seen(self) -> NDArray[np.uint8]:
        picture = self.picture.copy()
        picture[(*divmod(self.state, 4), 0)] = 255
        return picture


def walker(steps: int, seed: int) -> tuple[Any, float]:
    """PPO with a convolutional network, in the mazes that the language models are trained on."""
    task = make_task("grid-path")
    mazes = [partial(gym.wrappers.TimeLimit, Maze(task), max_episode_steps=20) for _ in range(64)]
    return trained("ppo", gym.vector.SyncVectorEnv(mazes), steps, seed, **PPO)


def walked(agent: Any, problem: Problem) -> bool:
    """Whether an agent's most likely moves are a shortest path through a maze."""
    env, world = Maze(make_task("grid-path")), world_of(problem.question)
    observation, _ = env.reset(options={"problem": problem})
    for _ in range(world.distances[world.start]):
        observation, _, arrived, _, _ = env.step(agent.act(np.asarray([observation]))[0])
        if arrived:
            return True
    return False


def planned(problem: Problem) -> bool:
    """Whether greedy moves on the exact values are a shortest path: the check of the check."""
    env, world = GridWorld(problem.question, reward_step=-0.1), world_of(problem.question)
    values = env.mdp.finite_horizon_values(16, gamma=0.95)
    state = world.start
    for _ in range(world.distances[world.start]):
        state = max(world.next_states[state], key=lambda after: 1e9 * (not world.distances[after]) + values[after])
    return world.distances[state] == 0


def make(seed: int, examples: int = EXAMPLES, moves: int = MOVES, count: int = MAZES) -> Figure:
    """Train the three and hold them to the exact paths; it takes some three minutes of one core."""
    problems = mazes(seed, count)
    began = time.process_time()
    found: dict[str, tuple[int, float, int]] = {
        "exact values": (sum(map(planned, problems)), time.process_time() - began, 0)
    }
    ppo, seconds = walker(moves, seed)
    found["PPO on pixels"] = (sum(walked(ppo, one) for one in problems), seconds, _weights(ppo.network))
    for name, pixels in (("language model", 0), ("language model that sees", 8)):
        agent, seconds = language_model(pixels, examples, seed)
        own = agent.network.whole if pixels else agent.network.model
        found[name] = (sum(written(agent, problems)), seconds, _weights(own))
    rows: list[Row] = []
    picture, (axes,) = panels(1, width=6.8, height=3.2)
    for place, (name, (right, seconds, weights)) in enumerate(found.items()):
        share, (low, high) = right / count, wilson_interval(right, count)
        numbers = f"{share:.3f} [{low:.3f}, {high:.3f}], {seconds:.0f} s, {weights:,} weights"
        if _sees(name):
            rows.append(claim(name, f"at least {LEAST}", numbers, share >= LEAST))
        elif place == 0:
            rows.append(claim(name, "1", numbers, right == count))
        else:
            rows.append(shown(name, numbers))
        axes.barh(place, share, color=f"C{place}", alpha=0.85)
        axes.errorbar(share, place, xerr=[[share - low], [high - share]], color="0.2", capsize=3)
    axes.set_yticks(range(len(found)), [*found])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel=f"share of optimal paths in {count} mazes held out")
    axes.grid(axis="x", alpha=0.3)
    return Figure(picture, rows, "A policy that sees, beside others; nothing is published to compare with")


def _sees(name: str) -> bool:
    """Whether a row is that of the model that sees, which has a bar to reach."""
    return name.endswith("sees")


def _weights(model: Any) -> int:
    return sum(weight.numel() for weight in {id(one): one for one in model.parameters()}.values())
