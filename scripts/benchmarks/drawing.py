"""Frames per second, as arrays, off screen."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from gridzero.benchmarks.measure import Row, clock, installed, median_ratio, rounds


def rows(quick: bool) -> list[Row]:
    """Rows of the comparisons."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    seconds = 0.2 if quick else 1.0
    frame, grid_env = _ours()
    lake = gym.make("FrozenLake-v1", map_name="8x8", render_mode="rgb_array")
    lake.reset(seed=0)
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: _rate(frame, seconds),
        "FrozenLake": lambda: _rate(_moving(lake), seconds),
    }
    if installed("minigrid"):
        import minigrid  # noqa: F401  (importing it registers)

        mini = gym.make("MiniGrid-Empty-8x8-v0", render_mode="rgb_array")
        mini.reset(seed=0)
        contenders["MiniGrid"] = lambda: _rate(_moving(mini), seconds)
    figures = rounds(contenders, 3 if quick else 5)
    for env in (grid_env, lake):
        env.close()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    work = "draw an 8x8 frame"
    result = [Row(f"{work} with values, arrows and trace", "frames/s", medians["ours"], bar=1500)]
    for name in ("FrozenLake", "MiniGrid"):
        if name in figures:
            ratio = median_ratio(figures["ours"], figures[name])
            result.append(Row(work, "frames/s", medians["ours"], name, medians[name], ratio, 1.0, "ratio"))
        else:
            result.append(Row(work, "frames/s", medians["ours"], name, bar=1.0, on="ratio", note="not installed"))
    return result


def _ours() -> tuple[Callable[[], object], gym.Env[int, int]]:
    """Frames of a walk on the frozen lake, with the values and the policy of a learner that change at every frame."""
    from gridzero.agents import solve
    from gridzero.agents.tabular.tabular import epsilon_greedy_policy
    from gridzero.envs.rendering import GridRenderer, Picture

    env = gym.make("gridzero/GridWorld-v0", layout="frozen-lake-8x8")
    env.reset(seed=0)
    model = env.unwrapped.mdp  # type: ignore[attr-defined]
    best = model.action_values(solve(model, 0.99).values, 0.99)
    share = np.linspace(0.5, 1.0, 50)
    tables = [best * k for k in share]
    policies = [epsilon_greedy_policy(best, float(k)) for k in share]
    values = [table.max(axis=1) for table in tables]
    trace: list[int] = []
    renderer = GridRenderer(env)
    walk = _moving(env, draw=False)
    count = 0

    def frame() -> object:
        nonlocal count
        walk()
        trace.append(int(env.unwrapped.cell))  # type: ignore[attr-defined]
        del trace[:-60]
        count += 1
        i = count % len(tables)
        return renderer.frame(
            Picture(state_values=values[i], action_values=tables[i], policy=policies[i], trace=tuple(trace))
        )

    return frame, env


def _moving(env: gym.Env[int, int], draw: bool = True) -> Callable[[], object]:
    """One random step, and a frame: a picture that stands still could be kept."""
    rng = np.random.default_rng(0)
    moves = int(env.action_space.n)  # type: ignore[attr-defined]

    def frame() -> object:
        _, _, terminated, truncated, _ = env.step(int(rng.integers(moves)))
        if terminated or truncated:
            env.reset()
        return env.render() if draw else None

    return frame


def _rate(frame: Callable[[], object], seconds: float) -> float:
    frame()
    frames, began = 0, clock()
    while clock() - began < seconds:
        frame()
        frames += 1
    return frames / (clock() - began)
