"""``gridzero demo``: value iteration, Monte Carlo and Q-learning solve grid worlds before your eyes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridzero.agents.config_checks import check_at_least, check_between
from gridzero.commands.arguments import parse
from gridzero.commands.watch import play, viewing
from gridzero.envs.folders import check_folder

PLAYED = 40
"""Steps, at most, of the episode that each agent plays when it has learnt."""


@dataclass(frozen=True)
class Scene:
    """One agent on one world.

    Attributes:
        agent: its registered name.
        env: the environment's id.
        options: the environment's keywords.
        fields: the agent's.
        steps: its budget; None for one that ends by itself.
        layer: what colours the cells.
    """

    agent: str
    env: str
    options: Mapping[str, Any]
    fields: Mapping[str, Any]
    steps: int | None = None
    layer: str = "state values"

    @property
    def world(self) -> str:
        """The world's name: the layout, or the id."""
        return str(self.options.get("layout", self.env))


GRID = "gridzero/GridWorld-v0"
SCENES = (
    Scene("value-iteration", GRID, {"layout": "zhao-5x5"}, {"gamma": 0.9}),
    Scene("value-iteration", GRID, {"layout": "maze:25x25:4"}, {"gamma": 0.99}),
    Scene("mc-exploring-starts", GRID, {"layout": "dyna-maze"}, {"gamma": 0.95}, 100_000),
    Scene("mc-epsilon-greedy", GRID, {"layout": "four-rooms"}, {"gamma": 0.95}, 200_000),
    Scene("q-learning", "CliffWalking-v1", {}, {"gamma": 1.0, "steps_per_update": 100}, 60_000, "action values"),
    Scene("q-learning", GRID, {"layout": "windy"}, {"gamma": 1.0, "steps_per_update": 100}, 60_000),
)


@dataclass(frozen=True)
class Options:
    """Watch value iteration, Monte Carlo and Q-learning solve grid worlds, each held against the exact optimum.

    With a screen it is live in a window; without one, or if a folder is given, it writes a GIF of each.

    Example: gridzero demo --out pictures
    """

    out: str | None = None
    """Folder for the GIFs, made if need be; runs/demo when there is no screen."""
    fps: int = 8
    """Frames per second."""
    seed: int = 0
    """Decides everything that is random."""

    def __post_init__(self) -> None:
        check_between(self, 1, 100, "fps")
        check_at_least(self, 0, "seed")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "demo")
    from gridzero.commands import report
    from gridzero.envs.rendering.screen import has_display

    folder = None
    if options.out is not None or not has_display():
        folder = Path(options.out or "runs/demo")
        check_folder(folder, new=True)
        folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for scene in SCENES:
        print(f"{scene.agent} on {scene.world} …", flush=True)
        row = show(scene, folder, options.fps, options.seed)
        if row is None:
            break
        rows.append(row)
    columns = ["agent", "world", "steps", "seconds", "return, 95 % interval", "optimum", "gap", "value gap"]
    report.print_table("Held against the exact optimum", columns + (["picture"] if folder else []), rows)
    return 0


def show(scene: Scene, folder: Path | None, fps: int, seed: int) -> list[str] | None:
    """Learn, play an episode, evaluate.

    Returns:
        A row of the table; None once the window was closed.
    """
    from gridzero.agents import evaluate, make
    from gridzero.agents.environments import make_environment
    from gridzero.commands.report import gap, number, with_interval

    env = make_environment(scene.env, scene.options)
    agent = make(scene.agent, env, seed=seed, **scene.fields)
    picture = None if folder is None else _free(folder, f"{scene.agent}-{scene.world.replace(':', '-')}")
    steps, learning = 0, 0.0
    with viewing(env, agent, picture, fps) as viewer:
        viewer.layers.background = scene.layer
        updates = agent.learn()
        for count in itertools.count(1):
            began = time.process_time()
            update = next(updates, None)
            learning += time.process_time() - began
            if update is None:
                break
            steps = update.step
            viewer.note(update)
            if _due(count):
                viewer.present()
            if viewer.closed:
                return None
            if scene.steps is not None and steps >= scene.steps:
                break
        viewer.present(repeat=fps)
        play(viewer, env, agent, 1, seed, PLAYED)
        if viewer.closed:
            return None
        viewer.present(repeat=fps)
    result = evaluate(agent, episodes=200, seed=seed)
    row = [
        scene.agent,
        scene.world,
        f"{steps:,}",
        f"{learning:.2f}",
        with_interval(result.mean, result.low, result.high),
        number(result.optimum),
        gap(result),
        number(result.value_gap),
    ]
    return row + ([str(picture)] if picture else [])


def _due(count: int) -> bool:
    """Whether to draw this update: each of the first 16, then ever fewer, about 7 for every doubling."""
    return count <= 16 or int(math.log(count) * 10) > int(math.log(count - 1) * 10)


def _free(folder: Path, name: str) -> Path:
    """A path for a GIF that does not exist yet."""
    path, number = folder / f"{name}.gif", 2
    while path.exists():
        path, number = folder / f"{name}-{number}.gif", number + 1
    return path
