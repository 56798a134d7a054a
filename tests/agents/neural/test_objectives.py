"""The objectives against hand computations, brute force, exact expectations and closed-form gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridzero.agents.neural import objectives

DOUBLE = torch.float64
seeds = st.integers(0, 2**32 - 1)


def brute_force_advantages(rewards, values, next_values, terminated, done, gamma, lambda_):
    """Â_t = Σ_k (γλ)^k δ_{t+k}, summed up to the end of the episode, straight from the definition."""
    batch, length = rewards.shape
    advantages = np.zeros((batch, length))
    for b in range(batch):
        for t in range(length):
            for k in range(length - t):
                u = t + k
                following = 0.0 if terminated[b, u] else next_values[b, u]
                delta = rewards[b, u] + gamma * following - values[b, u]
                advantages[b, t] += (gamma * lambda_) ** k * delta
                if done[b, u]:
                    break
    return advantages


@settings(max_examples=60)
@given(seeds, st.integers(1, 3), st.integers(1, 19), st.floats(0, 1), st.floats(0, 1))
def test_generalised_advantages_are_the_sum_they_are_defined_as(seed, batch, length, gamma, lambda_):
    rng = np.random.default_rng(seed)
    rewards, values, next_values = rng.normal(size=(3, batch, length))
    terminated = rng.random((batch, length)) < 0.2
    done = terminated | (rng.random((batch, length)) < 0.2)
    expected = brute_force_advantages(rewards, values, next_values, terminated, done, gamma, lambda_)
    tensors = [torch.from_numpy(a) for a in (rewards, values, next_values, terminated, done)]
    found = objectives.generalised_advantages(*tensors, gamma=gamma, lambda_=lambda_)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_generalised_advantages_by_hand():
    # Two episodes: one that terminates after two steps, one that a time limit cuts off after one.
    found = objectives.generalised_advantages(
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[0.5, 1.0, 2.0]]),
        torch.tensor([[1.0, 7.0, 4.0]]),
        torch.tensor([[False, True, False]]),
        torch.tensor([[False, True, True]]),
        gamma=0.5,
        lambda_=0.5,
    )
    # δ = 1 + ½·1 - ½ = 1;  2 - 1 = 1 (the successor is worth 0);  3 + ½·4 - 2 = 3.  Â = 1 + ¼·1, 1, 3.
    torch.testing.assert_close(found, torch.tensor([[1.25, 1.0, 3.0]]))


def test_lambda_one_is_the_return_minus_the_value():
    rewards = torch.tensor([[1.0, 1.0, 1.0]])
    values = torch.tensor([[5.0, -2.0, 3.0]])
    last = torch.tensor([[False, False, True]])
    found = objectives.generalised_advantages(rewards, values, values.roll(-1, 1), last, last, gamma=1.0, lambda_=1.0)
    torch.testing.assert_close(found + values, torch.tensor([[3.0, 2.0, 1.0]]))


def test_group_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    standardised = objectives.group_advantages(rewards, "standardised", epsilon=0.0 + 1e-12)
    torch.testing.assert_close(standardised, torch.tensor([[1.0, -1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    centred = objectives.group_advantages(rewards, "centred")
    torch.testing.assert_close(centred[0], torch.tensor([0.5, -0.5, -0.5, 0.5]))


@settings(max_examples=50)
@given(seeds, st.integers(2, 9), st.floats(0.1, 10), st.floats(-5, 5))
def test_group_advantages_properties(seed, size, scale, shift):
    rewards = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, size)))
    moved = scale * rewards + shift
    for baseline, factor in (("standardised", 1.0), ("centred", scale), ("leave-one-out", scale)):
        advantages = objectives.group_advantages(rewards, baseline, epsilon=0.0)
        torch.testing.assert_close(advantages.sum(-1), torch.zeros(3, dtype=DOUBLE), atol=1e-9, rtol=0)
        affine = objectives.group_advantages(moved, baseline, epsilon=0.0)
        torch.testing.assert_close(affine, factor * advantages, atol=1e-8, rtol=1e-8)
    left_out = objectives.group_advantages(rewards, "leave-one-out")
    for i in range(size):
        others = torch.cat([rewards[:, :i], rewards[:, i + 1 :]], dim=1).mean(-1)
        torch.testing.assert_close(left_out[:, i], rewards[:, i] - others)
    spread = objectives.group_advantages(rewards, "standardised", epsilon=0.0).square().mean(-1)
    torch.testing.assert_close(spread, torch.ones(3, dtype=DOUBLE))


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.2),
        (1.5, 2.0, 2.8, 0.0),  # clipped at 1 + 0.4: no reason to go further up
        (0.5, 2.0, 1.0, 1.0),  # too low, and going up is good: not clipped
        (0.5, -2.0, -1.6, 0.0),  # clipped at 1 - 0.2
        (1.5, -2.0, -3.0, -3.0),
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, objective, slope):
    log_probs = torch.tensor([math.log(0.3 * ratio)], dtype=DOUBLE, requires_grad=True)
    found = objectives.clipped_surrogate(
        log_probs,
        torch.tensor([math.log(0.3)], dtype=DOUBLE),
        torch.tensor([advantage], dtype=DOUBLE),
        clip=0.2,
        clip_high=0.4,
    )
    found.sum().backward()
    assert found.item() == pytest.approx(objective)
    assert log_probs.grad.item() == pytest.approx(slope)  # dρ/d log π = ρ


@settings(max_examples=50)
@given(seeds, st.floats(0.01, 0.9))
def test_clipped_surrogate_is_a_lower_bound_that_touches_at_the_old_policy(seed, clip):
    rng = np.random.default_rng(seed)
    old, new, advantages = (torch.from_numpy(rng.normal(size=(4, 5))) for _ in range(3))
    bound = objectives.clipped_surrogate(new, old, advantages, clip=clip)
    assert bool((bound <= (new - old).exp() * advantages + 1e-12).all())
    torch.testing.assert_close(objectives.clipped_surrogate(old, old, advantages, clip=clip), advantages)


def test_gradient_at_the_old_policy_is_the_policy_gradient():
    logits = torch.tensor([0.3, -0.4, 1.0], dtype=DOUBLE, requires_grad=True)
    log_probs = logits.log_softmax(-1)
    objectives.clipped_surrogate(log_probs[1], log_probs[1].detach(), torch.tensor(2.5), clip=0.2).backward()
    # ∇ log softmax_1 = e_1 - π
    expected = 2.5 * (torch.tensor([0.0, 1.0, 0.0], dtype=DOUBLE) - log_probs.exp().detach())
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize(
    ("value", "clip", "loss", "slope"),
    [
        (3.0, None, 2.0, 2.0),
        (3.0, 0.5, 2.0, 2.0),  # the clipped value 1.5 is nearer to the return: the larger error counts
        (0.9, 0.5, 0.005, -0.1),
        (0.2, 0.5, 0.32, -0.8),
        (1.2, 0.1, 0.02, 0.2),
    ],
)
def test_value_loss_by_hand(value, clip, loss, slope):
    values = torch.tensor([value], dtype=DOUBLE, requires_grad=True)
    one = torch.ones(1, dtype=DOUBLE)
    found = objectives.value_loss(values, one, old_values=one, clip=clip)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert values.grad.item() == pytest.approx(slope)


def test_clipped_value_loss_takes_the_larger_error():
    # v moves from 0 past the return 1 to 1.1; clipped it is 0.2: ½·0.8² > ½·0.1², and no gradient flows.
    values = torch.tensor([1.1], requires_grad=True)
    found = objectives.value_loss(values, torch.ones(1), old_values=torch.zeros(1), clip=0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(0.32)
    assert values.grad.item() == 0.0
    with pytest.raises(ValueError, match="old_values"):
        objectives.value_loss(values, torch.ones(1), clip=0.2)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.01, 0.9), st.one_of(st.none(), st.floats(0.01, 2.0)))
def test_the_loss_of_actor_and_critic_is_that_of_its_parts_and_so_is_its_gradient(seed, clip, value_clip):
    numbers = torch.from_numpy(np.random.default_rng(seed).normal(size=(8, 4, 5)))
    log_probs, values, entropies = scores = [part.requires_grad_() for part in numbers[:3].clone()]
    old, advantages, returns, old_values, weights = numbers[3:]
    objective = objectives.clipped_surrogate(log_probs, old, advantages, clip=clip)
    errors = objectives.value_loss(values, returns, old_values=old_values, clip=value_clip)
    expected = (weights * (0.7 * errors - objective - 0.1 * entropies)).sum()
    found = objectives.actor_critic_loss(
        *scores,
        old_log_probs=old,
        advantages=advantages,
        returns=returns,
        weights=weights,
        clip=clip,
        value_coefficient=0.7,
        entropy_coefficient=0.1,
        old_values=old_values,
        value_clip=value_clip,
    )
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(2 * found, scores), torch.autograd.grad(2 * expected, scores), strict=True
    ):
        torch.testing.assert_close(one, other)


@settings(max_examples=40)
@given(seeds, st.integers(1, 8))
def test_entropies_against_torch_distributions(seed, size):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(3, size)) * 4)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(objectives.categorical_entropy(logits), expected)
    log_std = torch.from_numpy(rng.normal(size=(3, size)))
    normal = torch.distributions.Normal(torch.zeros_like(log_std), log_std.exp())
    torch.testing.assert_close(objectives.gaussian_entropy(log_std), normal.entropy().sum(-1))


def test_entropy_of_masked_logits_is_that_of_what_is_allowed():
    for forbidden in (-math.inf, -1e9):
        logits = torch.tensor([0.0, forbidden, 0.0], requires_grad=True)
        entropy = objectives.categorical_entropy(logits)
        assert entropy.item() == pytest.approx(math.log(2))
    entropy.backward()
    assert bool(logits.grad.isfinite().all())


def distributions(seed, size):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=size)).requires_grad_()
    reference, old = torch.from_numpy(rng.normal(size=(2, size))).log_softmax(-1)
    return logits, reference, old


@settings(max_examples=40)
@given(seeds, st.integers(2, 7))
def test_kl_estimates_in_expectation_by_enumeration(seed, size):
    logits, reference, _ = distributions(seed, size)
    log_probs = logits.detach().log_softmax(-1)
    probs = log_probs.exp()
    kl = (probs * (log_probs - reference)).sum()
    for estimator in ("k1", "k3"):
        estimates = objectives.kl_estimate(log_probs, reference, estimator)
        torch.testing.assert_close((probs * estimates).sum(), kl)
    assert bool((objectives.kl_estimate(log_probs, reference, "k3") >= 0).all())
    near = log_probs + 1e-3 * (reference - log_probs)
    near = near.log_softmax(-1)
    exact = (near.exp() * (near - log_probs)).sum()
    biased = (near.exp() * objectives.kl_estimate(near, log_probs, "k2")).sum()
    assert biased.item() == pytest.approx(exact.item(), rel=0.02)  # the bias is of third order


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


@settings(max_examples=40)
@given(seeds, st.integers(2, 7))
def test_kl_gradients_in_expectation_by_enumeration(seed, size):
    """What the docstring says of each estimator's gradient, exactly."""
    logits, reference, old = distributions(seed, size)
    log_probs = logits.log_softmax(-1)
    reverse = gradient((log_probs.exp() * (log_probs - reference)).sum(), logits)
    log_probs = logits.log_softmax(-1)
    forward = gradient((reference.exp() * (reference - log_probs)).sum(), logits)
    on_policy = logits.detach().softmax(-1)
    expected = {"k1": torch.zeros_like(reverse), "k2": reverse, "k3": forward}
    for estimator, wanted in expected.items():
        log_probs = logits.log_softmax(-1)
        estimates = objectives.kl_estimate(log_probs, reference, estimator)
        found = gradient((on_policy * estimates).sum(), logits)
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-7)
    for estimator in ("k1", "k2", "k3"):
        log_probs = logits.log_softmax(-1)
        estimates = objectives.kl_estimate(log_probs, reference, estimator, log_ratios=log_probs - old)
        found = gradient((old.exp() * estimates).sum(), logits)
        torch.testing.assert_close(found, reverse, atol=1e-10, rtol=1e-7)


def test_k3_is_r1_zeros_formula():
    log_probs, reference = torch.tensor([-1.0, -3.0]), torch.tensor([-2.0, -0.5])
    ratio = (reference - log_probs).exp()
    torch.testing.assert_close(objectives.kl_estimate(log_probs, reference, "k3"), ratio - ratio.log() - 1)


@settings(max_examples=40)
@given(seeds, st.integers(1, 5), st.integers(1, 6))
def test_aggregate_against_loops(seed, batch, length):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(batch, length))
    mask = rng.random((batch, length)) < 0.6
    rows = [values[b][mask[b]] for b in range(batch)]
    kept = [row for row in rows if row.size]
    expected = {
        "token": np.concatenate(rows).mean() if kept else 0.0,
        "sequence": np.mean([row.mean() for row in kept]) if kept else 0.0,
        "constant": sum(row.sum() for row in rows) / (batch * 10),
    }
    for normalisation, wanted in expected.items():
        found = objectives.aggregate(torch.from_numpy(values), torch.from_numpy(mask), normalisation, length=10)
        assert found.item() == pytest.approx(wanted, abs=1e-12)


def test_aggregate_ignores_what_is_masked_even_if_it_is_not_a_number():
    values = torch.tensor([[1.0, math.nan]], requires_grad=True)
    total = objectives.aggregate(values, torch.tensor([[True, False]]))
    total.backward()
    assert total.item() == 1.0
    assert values.grad.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: objectives.group_advantages(torch.zeros(4, 1)),
        lambda: objectives.group_advantages(torch.zeros(4, 2), "median"),
        lambda: objectives.kl_estimate(torch.zeros(1), torch.zeros(1), "k4"),
        lambda: objectives.aggregate(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), "word"),
        lambda: objectives.aggregate(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), "constant", length=0),
        lambda: objectives.discounted_sums(torch.zeros(3), torch.zeros(4)),
    ],
)
def test_refusals(call):
    with pytest.raises(ValueError, match=r"must|needs|is not one of"):
        call()


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_trajectory_ratios_by_enumeration_of_all_sequences(seed):
    """Weighted by them, the advantages of an older policy's sequences have the gradient of the expected advantage."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(2, 3))).requires_grad_()  # a letter of 3 in each of 2 places
    old = torch.from_numpy(rng.normal(size=(2, 3))).log_softmax(-1)
    words = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    advantages = torch.from_numpy(rng.normal(size=9))
    places = torch.arange(2).expand(9, 2)
    exact = gradient((logits.log_softmax(-1)[places, words].sum(1).exp() * advantages).sum(), logits)
    chosen, were = logits.log_softmax(-1)[places, words], old[places, words]
    ratios = objectives.trajectory_log_ratios(chosen, were, torch.ones(9, 2, dtype=torch.bool)).exp()
    found = gradient((were.sum(1).exp() * ratios.mean(1) * advantages).sum(), logits)
    torch.testing.assert_close(found, exact, atol=1e-10, rtol=1e-7)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.01, 0.9))
def test_clips_that_bind_are_those_without_a_gradient(seed, clip):
    rng = np.random.default_rng(seed)
    old, advantages = (torch.from_numpy(rng.normal(size=(4, 5))) for _ in range(2))
    new = torch.from_numpy(rng.normal(size=(4, 5))).requires_grad_()
    slopes = gradient(objectives.clipped_surrogate(new, old, advantages, clip=clip, clip_high=2 * clip).sum(), new)
    found = objectives.binding_clips((new - old).detach(), advantages, clip=clip, clip_high=2 * clip)
    assert torch.equal(found, slopes == 0)


def test_advantages_over_the_deviation_of_the_batch():
    rewards = torch.tensor([[1.0, 0.0], [5.0, 1.0]])
    spread = float(np.std([1.0, 0.0, 5.0, 1.0]))
    found = objectives.group_advantages(rewards, "batch-standardised", epsilon=0.0)
    torch.testing.assert_close(found, torch.tensor([[0.5, -0.5], [2.0, -2.0]]) / spread)
