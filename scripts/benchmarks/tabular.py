"""Q-learning on thousands of grid worlds: steps learned per second, beside a loop of NumPy and one environment."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make
from gridzero.benchmarks.measure import Row, clock, median_ratio, rounds

ID = "gridzero/GridWorld-v0"
MAP = "frozen-lake-8x8"
NUM_ENVS = 4096
GAMMA, EPSILON, ALPHA = 0.99, 0.1, 0.1


def rows(quick: bool) -> list[Row]:
    """Rows of the comparisons."""
    batches, singles = (20, 2_000) if quick else (200, 50_000)
    figures = rounds(
        {
            "ours": learned_per_second(gym.make_vec(ID, NUM_ENVS, layout=MAP), NUM_ENVS * batches),
            "numpy": numpy_loop(NUM_ENVS * batches // 10),
            "one": learned_per_second(gym.make(ID, layout=MAP), singles),
        },
        3 if quick else 7,
    )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    work = f"Q-learning on {NUM_ENVS:,} slippery 8x8 worlds"
    result = [Row(work, "steps/s", medians["ours"], bar=None if quick else 60e6)]
    for name, peer in (("numpy", "a loop of NumPy over the same worlds"), ("one", "ours in one world")):
        ratio = median_ratio(figures["ours"], figures[name])
        result.append(Row(work, "steps/s", medians["ours"], peer, medians[name], ratio))
    return result


def learned_per_second(env: Any, steps: int) -> Callable[[], float]:
    """Measure our agent, which goes on where the last measurement ended; compilation does not count."""
    agent = make("q-learning", env, steps_per_update=steps, gamma=GAMMA, epsilon=str(EPSILON), step_size=str(ALPHA))
    updates = agent.learn()
    learned = next(updates).step

    def measure() -> float:
        nonlocal learned
        began, before = clock(), learned
        learned = next(updates).step
        return (learned - before) / (clock() - began)

    return measure


def numpy_loop(steps: int) -> Callable[[], float]:
    """Measure Q-learning as a NumPy loop over the batch; errors of the same pair in the same step are averaged."""
    env = gym.make_vec(ID, NUM_ENVS, layout=MAP)
    rng = np.random.default_rng(0)
    states, _ = env.reset(seed=0)
    valid = np.ones(NUM_ENVS, dtype=np.bool_)
    table = make("q-learning", env).action_values()  # type: ignore[attr-defined]  # zeros of the right shape
    q, num_actions = table.reshape(-1), table.shape[1]

    def measure() -> float:
        nonlocal states, valid
        began, learned = clock(), 0
        for _ in range(steps // NUM_ENVS):
            best = (table[states] + 1e-9 * rng.random((NUM_ENVS, num_actions))).argmax(axis=1)  # equals at random
            explores = rng.random(NUM_ENVS) < EPSILON
            actions = np.where(explores, rng.integers(num_actions, size=NUM_ENVS), best)
            following, rewards, terminated, truncated, _ = env.step(actions)
            pairs = (states * num_actions + actions)[valid]
            errors = (rewards + GAMMA * ~terminated * table[following].max(axis=1))[valid] - q[pairs]
            counts = np.bincount(pairs, minlength=q.size)
            q[:] += ALPHA * np.bincount(pairs, weights=errors, minlength=q.size) / np.maximum(counts, 1)
            learned += int(valid.sum())
            states, valid = following, ~(terminated | truncated)
        return learned / (clock() - began)

    return measure
