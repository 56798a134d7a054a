"""What the figures of post-training are made of: optima and early stopping; and the bars on other seeds."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from gridzero.envs.tasks.task import Problem
from gridzero.figures import frontier, overoptimisation
from gridzero.figures.overoptimisation import moderation
from gridzero.figures.text_world import TextWorld, taste
from gridzero.llm_rl.scoring.enumeration import preferred, tilted, total_variation


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
    assert total_variation(frontier.optimum_of(world, "IPO, 30,000 pairs"), optimum) > 0.2


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
    assert abs(best - 1 / 3) == np.abs(tastes - 1 / 3).min()


def test_the_least_gap_is_that_of_repeated_fits(world: TextWorld) -> None:
    """Of a world of three completions, whose rewards Newton's method fits to drawn labels, 200 times."""
    small = TextWorld.__new__(TextWorld)
    small.reference, small.rewards = np.array([[0.5, 0.3, 0.2]]), np.array([[0.0, 1.0, 0.5]])
    optimum, pairs = tilted(small.reference, small.rewards, frontier.BETA), 2_000
    rng, gaps = np.random.default_rng(0), []
    for _ in range(200):
        first, second = rng.choice(3, size=(2, pairs), p=small.reference[0])
        wins = rng.random(pairs) < preferred(small.rewards)[0, first, second]
        signs = np.eye(3)[np.where(wins, first, second)] - np.eye(3)[np.where(wins, second, first)]
        fitted = np.zeros(3)
        for _ in range(10):
            chance = 1 / (1 + np.exp(-signs @ fitted))
            information = signs.T @ (signs * (chance * (1 - chance))[:, None])
            fitted += np.linalg.pinv(information) @ signs.T @ (1 - chance)
        policy = tilted(small.reference, fitted[None], frontier.BETA)
        gaps.append(frontier.objective(small, optimum) - frontier.objective(small, policy))
    # 2 degrees of freedom: the mean of 200 has a standard error of 7 %.
    assert np.mean(gaps) == pytest.approx(frontier.least_gap(small, pairs), rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("module", [frontier, overoptimisation], ids=["frontier", "overoptimisation"])
def test_the_figures_on_other_seeds(module: ModuleType, seed: int) -> None:
    rows = module.make(seed).rows
    print(*rows, sep="\n")
    assert all(row.agrees is not False for row in rows)
