"""Steps per second: one environment, and thousands at once."""

from __future__ import annotations

import contextlib
import io
import statistics
from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.benchmarks.measure import Row, clock, installed, median_ratio, rounds

ID = "gridzero/GridWorld-v0"
MAP = "frozen-lake-8x8"
NUM_ENVS = 4096


def rows(quick: bool) -> list[Row]:
    """Rows of the comparisons."""
    return [_single(quick), *_vector(quick)]


def _single(quick: bool) -> Row:
    ours, theirs = gym.make(ID, layout=MAP), gym.make("FrozenLake-v1", map_name="8x8")
    actions = np.random.default_rng(0).integers(4, size=5_000 if quick else 30_000).tolist()
    figures = rounds(
        {"ours": lambda: _steps_per_second(ours, actions), "theirs": lambda: _steps_per_second(theirs, actions)},
        3 if quick else 9,
    )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    ratio = median_ratio(figures["ours"], figures["theirs"])
    work = "step one slippery 8x8 world through gym.make"
    return Row(work, "steps/s", medians["ours"], "FrozenLake", medians["theirs"], ratio, 1.5, "ratio")


def _steps_per_second(env: gym.Env[Any, Any], actions: list[int]) -> float:
    env.reset(seed=0)
    began = clock()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return len(actions) / (clock() - began)


def _vector(quick: bool) -> list[Row]:
    repeats = 3 if quick else 7
    ours = gym.make_vec(ID, num_envs=NUM_ENVS, layout=MAP)
    sync_envs = 64 if quick else 256
    sync = gym.make_vec("FrozenLake-v1", num_envs=sync_envs, vectorization_mode="sync", map_name="8x8")
    contenders = {
        "ours": lambda: _batch_rate(ours, NUM_ENVS, 200 if quick else 2_000),
        "sync": lambda: _batch_rate(sync, sync_envs, 20 if quick else 60),
    }
    envpool = _envpool()
    if envpool is not None:
        contenders["envpool"] = lambda: _batch_rate(envpool, NUM_ENVS, 50 if quick else 300)
    figures = rounds(contenders, repeats)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    work = f"step {NUM_ENVS:,} slippery 8x8 worlds"
    note = f"its rate with {sync_envs} environments"
    result = [
        Row(work, "steps/s", medians["ours"], bar=120e6),
        Row(
            work, "steps/s", medians["ours"], "Gymnasium sync", medians["sync"],
            median_ratio(figures["ours"], figures["sync"]), note=note,
        ),
    ]  # fmt: skip
    if envpool is None:
        result.append(Row(work, "steps/s", medians["ours"], "EnvPool", bar=100, on="ratio", note="not installed"))
    else:
        ratio = median_ratio(figures["ours"], figures["envpool"])
        result.append(Row(work, "steps/s", medians["ours"], "EnvPool", medians["envpool"], ratio, 100, "ratio"))
    return result


def _batch_rate(env: Any, num_envs: int, steps: int) -> float:
    rng = np.random.default_rng(0)
    batches = [rng.integers(4, size=num_envs) for _ in range(16)]
    env.reset()
    for actions in batches:
        env.step(actions)
    began = clock()
    for i in range(steps):
        env.step(batches[i % 16])
    return num_envs * steps / (clock() - began)


def _envpool() -> Any:
    if not installed("envpool"):
        return None
    with contextlib.redirect_stderr(io.StringIO()):  # it imports the old gym, which complains
        import envpool

        return envpool.make("FrozenLake8x8-v1", env_type="gymnasium", num_envs=NUM_ENVS)
