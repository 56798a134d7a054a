"""What the figures of post-training are made of: optima and early stopping; and the bars on other seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gridzero.envs.tasks.task import Problem
from gridzero.figures import frontier
from gridzero.figures.overoptimisation import moderation
from gridzero.figures.text_world import TextWorld, taste
from gridzero.llm_rl.scoring.enumeration import total_variation


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads are many times slower for small networks on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world() -> TextWorld:
    """The world of the figures."""
    return TextWorld()


def test_nothing_near_the_optimum_is_better(world: TextWorld) -> None:
    optimum = frontier.optimum_of(world, "DPO, fresh pairs")
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = optimum * np.exp(0.1 * rng.normal(size=optimum.shape))
        other /= other.sum(axis=1, keepdims=True)
        assert frontier.objective(world, other) < frontier.objective(world, optimum)
    assert total_variation(frontier.optimum_of(world, "IPO, fresh pairs"), optimum) > 0.2


def test_early_stopping_finds_the_best_of_mixtures(world: TextWorld) -> None:
    optimum = frontier.optimum_of(world, "DPO, fresh pairs")
    way = frontier.Way.__new__(frontier.Way)
    contrary = world.reference**2 / optimum
    contrary /= contrary.sum(axis=1, keepdims=True)
    way.policies = [contrary, world.reference, optimum, 0.3 * optimum + 0.7 * contrary]
    assert frontier.stopped_early(world, way, 0) == 2


def test_moderation_has_its_best_in_the_middle() -> None:
    problem, texts = Problem("1+2", "3"), [a + b for a in "0123456789" for b in "0123456789"]
    tastes = np.array(taste(problem, texts))
    best = tastes[int(np.argmax(moderation(problem, texts)))]
    assert abs(best - 1) == np.abs(tastes - 1).min()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("name", "bar"), [("PPO", 0.01), ("GRPO", 0.01), ("RLOO", 0.01), ("DPO, fresh pairs", 0.02)])
def test_the_exact_optimum_on_other_seeds(name: str, bar: float, seed: int, world: TextWorld) -> None:
    way = frontier.Way(world, name, seed)
    print(f"{name}, seed {seed}: {way.distance[-1]:.4f} from its optimum")
    assert way.distance[-1] <= bar
