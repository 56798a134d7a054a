"""What GRPO's variants make of a batch: losses, metrics, dynamic sampling."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from gridzero.agents.neural.batches import JudgedRollout, Minibatch, Rollout, Steps
from gridzero.agents.neural.grpo import GRPO, VARIANTS, GRPOConfig
from gridzero.agents.neural.policy import Scores

DOUBLE = torch.float64
MASK = torch.tensor([[True, True, True], [True, True, False], [True, False, False], [True, True, True]])


def steps(mask: torch.Tensor = MASK) -> Steps:
    return Steps({}, torch.zeros(mask.shape).long(), mask, torch.zeros_like(mask), torch.zeros(len(mask), 0))


def agent(log_probs: torch.Tensor, entropies: torch.Tensor, **fields: Any) -> Any:
    """The part of an agent that its loss reads, with a policy that scores steps as given."""
    sizes = {"group_size": 2, "groups": 2, "episode_limit": 3}
    config = GRPOConfig(**{"credit": "outcome", "gamma": 1.0, **sizes, **fields})
    network = SimpleNamespace(evaluate_actions=lambda steps: Scores(log_probs, entropies))
    found: Any = SimpleNamespace(config=config, network=network)
    for name in ("_weights", "_loss", "_counted", "_rewards"):
        setattr(found, name, getattr(GRPO, name).__get__(found))
    return found


def tensors(seed: int = 0) -> list[torch.Tensor]:
    """Log-probabilities with gradient, older ones, entropies with gradient, and advantages (4, 1)."""
    rng = np.random.default_rng(seed)
    new, old, entropies = (torch.from_numpy(rng.normal(size=(4, 3))) for _ in range(3))
    new, entropies = new.requires_grad_(), entropies.requires_grad_()
    return [new, old, entropies, torch.from_numpy(rng.normal(size=(4, 1)))]


def rollout(old: torch.Tensor, **fields: Any) -> Rollout:
    last = MASK.sum(1) - 1
    done = torch.zeros_like(MASK)
    done[torch.arange(4), last] = fields.get("ended", torch.ones(4, dtype=torch.bool))
    return Rollout(steps(), old, torch.zeros_like(old), done, done, torch.ones(4))


@pytest.mark.parametrize("variant", [*VARIANTS])
def test_the_entropy_bonus_is_a_mean_over_steps_in_every_variant(variant: str) -> None:
    new, old, entropies, advantages = tensors()
    learner = agent(new, entropies, **VARIANTS[variant])
    batch = Minibatch(steps(), old, advantages, learner._weights(rollout(old)))
    loss, _ = learner._loss(batch, clip_factor=1.0, step_bonus=0.5 / int(MASK.sum()))
    (found,) = torch.autograd.grad(loss, entropies)
    torch.testing.assert_close(found, -0.5 * MASK.double() / MASK.sum())


def test_rloo_weighs_by_one_ratio_a_sequence_whatever_the_limit_is() -> None:
    new, old, entropies, advantages = tensors()
    learner = agent(new, entropies, **VARIANTS["rloo"], clip=10.0)
    batch = Minibatch(steps(), old, advantages, learner._weights(rollout(old)))
    loss, _ = learner._loss(batch, clip_factor=1.0, step_bonus=0.0)
    (found,) = torch.autograd.grad(loss, new)
    ratios = ((new - old) * MASK).sum(1, keepdim=True).exp().detach()
    torch.testing.assert_close(found, -(ratios * advantages * MASK) / 4)


def test_gspo_weighs_the_divergence_by_the_ratio_of_the_sequence() -> None:
    from gridzero.agents.neural.batches import ReferenceMinibatch

    new, old, entropies, advantages = tensors()
    reference = tensors(1)[1]
    fields = VARIANTS["gspo"] | {"kl_coefficient": 0.3, "clip": 10.0, "clip_high": 10.0}
    learner = agent(new, entropies, **fields)
    weights = learner._weights(rollout(old))
    batch = ReferenceMinibatch(steps(), old, torch.zeros_like(advantages), weights, reference)
    loss, _ = learner._loss(batch, clip_factor=1.0, step_bonus=0.0)
    (found,) = torch.autograd.grad(loss, new)
    counts = MASK.sum(1, keepdim=True)
    ratios = (((new - old) * MASK).sum(1, keepdim=True) / counts).exp()
    k3 = (reference - new).exp() - (reference - new) - 1
    expected = 0.3 * ((ratios * k3 * MASK).sum(1, keepdim=True) / counts).mean()
    torch.testing.assert_close(found, torch.autograd.grad(expected, new)[0])


def test_clip_fraction_counts_sequences_where_the_ratio_is_theirs() -> None:
    old = torch.zeros(4, 3, dtype=DOUBLE)
    new = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], dtype=DOUBLE)
    advantages = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=DOUBLE)
    for variant, expected in (("gspo", 2 / 4), ("grpo", 4 / 9)):
        learner = agent(new, torch.zeros_like(new), **VARIANTS[variant])
        batch = Minibatch(steps(), old, advantages, learner._weights(rollout(old)))
        _, terms = learner._loss(batch, clip_factor=1.0, step_bonus=0.0)
        assert float(terms["clip_fraction"]) == pytest.approx(expected), variant


def test_masked_truncated_episodes_weigh_nothing() -> None:
    _, old, _, _ = tensors()
    ended = torch.tensor([True, False, True, True])
    expected = {"token": torch.tensor([1 / 7] * 4), "sequence": torch.tensor([1 / 12, 0.0, 1 / 4, 1 / 12])}
    for normalisation, per_step in expected.items():
        learner = agent(old, old, normalisation=normalisation, mask_truncated=True)
        kept = learner._counted(rollout(old, ended=ended))
        weights = learner._weights(rollout(old, ended=ended)) * kept.unsqueeze(1)
        torch.testing.assert_close(weights, per_step.unsqueeze(1) * MASK * ended.unsqueeze(1))


class Sampler:
    """A collector whose groups are flat by a plan: right answers of each group's two episodes."""

    def __init__(self, plan: list[list[tuple[bool, bool]]]) -> None:
        self.plan, self.asked = plan, list[int]()

    def episodes(self, policy: Any, groups: int, size: int, limit: int, rng: Any) -> JudgedRollout:
        self.asked.append(groups)
        correct = torch.tensor(self.plan.pop(0)).reshape(-1)
        mask = torch.ones(2 * groups, 1, dtype=torch.bool)
        form = torch.arange(2 * groups).reshape(-1, 1) * 0.1  # all returns differ
        return JudgedRollout(steps(mask), form, correct.reshape(-1, 1) + form, mask, mask, mask.sum(1), correct)

    def metrics(self) -> dict[str, float]:
        return {}


def test_dynamic_sampling_judges_by_verdicts_and_draws_only_what_is_missing() -> None:
    """DAPO, eq. 11: the batch has groups of which some are right and some are not, whatever else they are paid for."""
    env = gym.make("gridzero/GridWorld-v0")
    learner: Any = GRPO(env, GRPOConfig(groups=4, group_size=2, resampling=10))
    right, mixed, wrong = (True, True), (True, False), (False, False)
    learner.collector = Sampler([[right, mixed, wrong, mixed], [wrong, mixed], [mixed]])
    found, taken, _ = learner._collect()
    assert learner.collector.asked == [4, 2, 1]
    assert taken == 14
    assert isinstance(found, JudgedRollout)
    assert found.correct.reshape(-1, 2).tolist() == [[True, False]] * 4


def test_part_of_the_environments_can_play() -> None:
    env = gym.make("gridzero/GridWorld-v0")
    learner = GRPO(env, GRPOConfig(groups=4, group_size=2, episode_limit=20))
    found = learner.collector.episodes(learner.network, 3, 2, 20, np.random.default_rng(0))
    assert len(found) == 6
    assert bool(found.mask.any(dim=1).all())
