"""The exact optima of enumerable worlds, against optimisation, simulation and the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gridzero.envs.tasks.vocabulary import END, PAD, Vocabulary
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.scoring.enumeration import (
    Enumeration,
    best_of,
    divergence,
    expected,
    ipo_optimum,
    preferred,
    tilted,
    total_variation,
)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference over six completions of two prompts, and rewards."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(6), size=2), rng.normal(size=(2, 6))


def test_the_probabilities_of_all_completions_are_those_of_the_model() -> None:
    vocabulary = Vocabulary((PAD, END, *"123+=\n"))
    model = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=16)
    policy = LanguagePolicy(model, character_tokenizer(vocabulary), LanguageOptions(), limit=2)
    world = Enumeration(policy, ["1+2=\n", "1+1=\n"], 2)
    size = len(vocabulary)
    assert len(world.completions) == 1 + (size - 1) * size
    probabilities = world.probabilities(policy)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    place = world.completions.index([3, 4])
    with torch.no_grad():
        logits = model(torch.tensor([[*vocabulary.encode("1+1=\n"), 3]])).logits.double().log_softmax(-1)
    assert np.log(probabilities[1, place]) == pytest.approx(float(logits[0, -2, 3] + logits[0, -1, 4]))
    assert world.texts[place] == vocabulary.decode([3, 4])


@pytest.mark.parametrize("seed", range(3))
def test_no_policy_is_better_than_the_tilted_one(seed: int) -> None:
    reference, rewards = draw(seed)
    beta = 0.3

    def objective(policy: np.ndarray) -> float:
        return expected(policy, rewards) - beta * divergence(policy, reference)

    best = objective(tilted(reference, rewards, beta))
    exact = beta * np.log((reference * np.exp(rewards / beta)).sum(axis=1)).mean()
    assert best == pytest.approx(exact)
    rng = np.random.default_rng(seed)
    assert all(objective(rng.dirichlet(np.ones(6), size=2)) < best for _ in range(100))


def test_the_optimum_of_ipo_is_the_minimum_of_its_loss() -> None:
    reference, rewards = draw(0)
    tau, p = 0.4, torch.from_numpy(preferred(rewards))
    weights = torch.from_numpy(reference[:, :, None] * reference[:, None, :])
    logits = torch.log(torch.from_numpy(reference)).requires_grad_()
    start = logits.detach().clone()
    optimiser = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss() -> torch.Tensor:
        ratios = logits - start
        margins = ratios[:, :, None] - ratios[:, None, :]
        value = (weights * (p * (margins - 1 / (2 * tau)) ** 2 + (1 - p) * (margins + 1 / (2 * tau)) ** 2)).sum()
        optimiser.zero_grad()
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = torch.softmax(logits, dim=1).detach().numpy()
    assert total_variation(found, ipo_optimum(reference, rewards, tau)) < 1e-5


def test_the_best_of_several_draws_is_as_often_each_as_in_simulation() -> None:
    reference, scores = draw(1)
    rng = np.random.default_rng(0)
    draws = rng.choice(6, size=(200_000, 4), p=reference[0])
    best = draws[np.arange(len(draws)), scores[0][draws].argmax(axis=1)]
    counts = np.bincount(best, minlength=6) / len(best)
    np.testing.assert_allclose(best_of(reference, scores, 4)[0], counts, atol=5e-3)
    np.testing.assert_allclose(best_of(reference, scores, 4).sum(axis=1), 1)
