"""The parts of a policy: distributions, networks, moments, the optimiser, and the sequences it collects."""

from __future__ import annotations

import copy
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gridzero.agents.neural.batches import Minibatch, Steps, join, minibatches
from gridzero.agents.neural.collector import EnvironmentCollector
from gridzero.agents.neural.networks.categorical_scores import categorical_scores
from gridzero.agents.neural.networks.distributions import Categoricals, Gaussian, distribution
from gridzero.agents.neural.networks.encoders import ChoiceReader, ImageReader, Observations, initialise
from gridzero.agents.neural.networks.mlp_policy import MLPPolicy
from gridzero.agents.neural.networks.torsos import Torso
from gridzero.agents.neural.optimiser import Optimiser
from gridzero.agents.neural.running_mean_std import RunningMeanStd

from ..worlds import OBSERVATIONS, Clock, Recall, vector

seeds = st.integers(0, 2**32 - 1)


# Distributions


@settings(max_examples=30)
@given(seeds, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_categoricals_against_torch(seed, sizes):
    rng = np.random.default_rng(seed)
    outputs = torch.from_numpy(rng.normal(size=(7, sum(sizes))) * 3)
    actions = torch.from_numpy(rng.integers(sizes, size=(7, len(sizes))))
    log_probs, entropies = Categoricals(spaces.MultiDiscrete(sizes)).score(outputs, actions)
    parts = [torch.distributions.Categorical(logits=part) for part in outputs.split(sizes, dim=-1)]
    expected = sum(part.log_prob(actions[:, i]) for i, part in enumerate(parts))
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(entropies, sum(part.entropy() for part in parts))


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.7, -0.3)])
def test_categorical_scores_have_the_gradient_that_autograd_finds(weights):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(5, 2, 3)) * 3).requires_grad_()
    actions = torch.from_numpy(rng.integers(3, size=(5, 2)))
    of_log_probs, of_entropies = (torch.from_numpy(rng.normal(size=(5, 2))) * weight for weight in weights)

    def total(log_probs, entropies):
        kept = [(log_probs, of_log_probs), (entropies, of_entropies)]
        return sum((scores * of).sum() for scores, of in kept if of.any())

    log_probs = logits.log_softmax(-1)
    plain = total(log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1), -(log_probs.exp() * log_probs).sum(-1))
    (expected,) = torch.autograd.grad(plain, logits)
    (found,) = torch.autograd.grad(total(*categorical_scores(logits, actions)), logits)
    torch.testing.assert_close(found, expected)


def test_categorical_scores_of_what_is_not_allowed_stay_finite():
    logits = torch.tensor([[0.0, -1e9, 0.0]], requires_grad=True)
    log_probs, entropies = categorical_scores(logits, torch.tensor([0]))
    (log_probs + entropies).sum().backward()
    torch.testing.assert_close(entropies, torch.tensor([2.0]).log())
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5, 0.0, -0.5]]))


def test_categoricals_draw_with_their_probabilities():
    head = Categoricals(spaces.MultiDiscrete([3, 2]))
    outputs = torch.tensor([0.0, 1.0, -1.0, 0.5, -0.5])
    n = 20_000
    drawn = head.sample(outputs.expand(n, 5), np.random.default_rng(0))
    expected = [outputs[:3].softmax(0), outputs[3:].softmax(0)]
    for column, probs in zip(drawn.T, expected, strict=True):
        counts = np.bincount(column, minlength=len(probs))
        wanted = probs.double().numpy() / float(probs.double().sum())
        assert stats.chisquare(counts, n * wanted).pvalue > 1e-3  # fails by chance once in a thousand seeds
    joint = np.bincount(drawn[:, 0] * 2 + drawn[:, 1], minlength=6).reshape(3, 2)
    assert stats.chi2_contingency(joint).pvalue > 1e-3


@settings(max_examples=30)
@given(seeds, st.integers(1, 4))
def test_gaussian_against_torch(seed, size):
    rng = np.random.default_rng(seed)
    head = Gaussian(spaces.Box(-1, 1, (size,)), 0.0)
    with torch.no_grad():
        head.log_std.copy_(torch.from_numpy(rng.normal(size=size)))
    means, actions = (torch.from_numpy(rng.normal(size=(5, size))).float() for _ in range(2))
    normal = torch.distributions.Normal(means, head.log_std.exp())
    log_probs, entropies = head.score(means, actions)
    torch.testing.assert_close(log_probs, normal.log_prob(actions).sum(-1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(entropies, normal.entropy().sum(-1))


def test_gaussian_draws_with_its_deviation():
    head = Gaussian(spaces.Box(-np.inf, np.inf, (1,)), 0.7)
    drawn = head.sample(torch.full((20_000, 1), 3.0), np.random.default_rng(1))[:, 0]
    assert stats.kstest(drawn, "norm", args=(3.0, np.exp(0.7))).pvalue > 1e-3


def test_actions_reach_the_environment_scaled_and_clipped():
    head = Gaussian(spaces.Box(np.array([0.0, -2.0]), np.array([4.0, 2.0]), dtype=np.float64), 0.0)
    np.testing.assert_allclose(head.to_env(np.array([[0.0, 0.5], [9.0, -9.0]])), [[2.0, 1.0], [4.0, -2.0]])
    free = Gaussian(spaces.Box(-np.inf, np.inf, (2,)), 0.0)
    np.testing.assert_allclose(free.to_env(np.array([[7.0, -8.0]])), [[7.0, -8.0]])
    half = Gaussian(spaces.Box(0, np.inf, (1,)), 0.0)
    np.testing.assert_allclose(half.to_env(np.array([[-1.0], [5.0]])), [[0.0], [5.0]])
    for space in (spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary((2, 2))):
        found = distribution(space, 0.0)
        batch = found.to_env(found.sample(torch.zeros(4, found.outputs), np.random.default_rng(0)))
        assert all(space.contains(action) for action in batch)


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Box(0, 3, (2,), np.int64), spaces.Dict(a=spaces.Discrete(2))])
def test_action_spaces_without_a_distribution_are_refused(space):
    with pytest.raises(ValueError, match="actions may be"):
        distribution(space, 0.0)


# Observations


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_lists_and_batches_read_the_same(kind):
    space, show = OBSERVATIONS[kind]
    shown = [show(k) for k in range(6)]
    empty = gym.vector.utils.create_empty_array(space, 6)
    batch = gym.vector.utils.concatenate(space, shown, empty)
    reader = Observations(space)
    one, other = reader.tensors(shown), reader.tensors(batch)
    assert one.keys() == other.keys() == reader.leaves.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    rows = torch.cat([tensor.reshape(6, -1).double() for tensor in one.values()], dim=1)
    assert len({tuple(row.tolist()) for row in rows}) == 6  # nothing is lost


def test_a_space_without_tensors_is_refused():
    with pytest.raises(ValueError, match="not a: Sequence"):
        Observations(spaces.Dict(a=spaces.Sequence(spaces.Discrete(2))))


def test_images_may_be_plain_numbers():
    space = spaces.Dict(image=spaces.Box(0, 255, (7, 7, 3), np.uint8), side=spaces.Discrete(4))
    reader = Observations(space, convolutions=False)
    shown = [space.sample() for _ in range(3)]
    images = reader.tensors(shown)["image"]
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images, np.stack([each["image"] for each in shown]).reshape(3, -1))
    policy = MLPPolicy(space, spaces.Discrete(2), convolutions=False, normalise=True)
    assert policy.statistics["image"].mean.shape == (147,)


def test_a_choice_is_a_row_of_the_linear_layer_on_one_hot_codes():
    reader = ChoiceReader([2, 3], 4)
    choices = torch.tensor([[1, 2], [0, 0]])
    codes = torch.tensor([[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]], dtype=torch.float32)
    torch.testing.assert_close(reader(choices), codes @ reader.table.weight)


def test_images_are_read_with_either_order_of_dimensions():
    torch.manual_seed(0)
    last = ImageReader(spaces.Box(0, 255, (20, 24, 3), np.uint8), 8)
    first = ImageReader(spaces.Box(0, 255, (3, 20, 24), np.uint8), 8)
    first.load_state_dict(last.state_dict())
    images = torch.randint(0, 256, (2, 5, 20, 24, 3), dtype=torch.uint8)
    torch.testing.assert_close(last(images), first(images.movedim(-1, -3)))
    assert last(images).shape == (2, 5, 8)


def test_initial_weights_are_orthogonal():
    layer = torch.nn.Linear(8, 5)
    initialise(layer, 2.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer.weight @ layer.weight.T, 4 * torch.eye(5))
    assert not layer.bias.any()


# Moments and optimiser


@settings(max_examples=30)
@given(seeds, st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_running_moments_are_those_of_all_rows(seed, sizes):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(3, 2, size=(size, 2)) for size in sizes]
    moments = RunningMeanStd(2)
    for batch in batches:
        moments.update(torch.from_numpy(batch))
    rows = np.concatenate(batches)
    if len(rows):
        np.testing.assert_allclose(moments.mean.numpy(), rows.mean(0), atol=1e-12)
        np.testing.assert_allclose(moments.variance().numpy(), rows.var(0), atol=1e-12)


def test_optimiser_is_adam_with_clipped_gradients():
    torch.manual_seed(0)
    ours = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    theirs = copy.deepcopy(ours)
    flat = Optimiser(list(ours.parameters()), epsilon=1e-5, max_norm=0.5)
    adam = torch.optim.Adam(theirs.parameters(), eps=1e-5)
    inputs = torch.randn(16, 3)
    for step in range(5):
        adam.param_groups[0]["lr"] = rate = 0.1 / (step + 1)
        halves = (ours(half).square().mean() * 5 for half in inputs.split(8))
        norm = flat.step(halves, rate)
        adam.zero_grad()
        (theirs(inputs).square().mean() * 10).backward()
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        adam.step()
        assert norm == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


# Memory


@settings(max_examples=25)
@given(seeds, st.sampled_from(["gru", "lstm"]), st.integers(1, 4), st.integers(1, 9))
def test_unrolling_is_stepping_with_the_memory_emptied_where_episodes_start(seed, memory, batch, length):
    rng = np.random.default_rng(seed)
    torso = Torso({"x": spaces.Box(-1, 1, (3,))}, (5,), "tanh", memory, torch.Generator().manual_seed(0))
    inputs = torch.from_numpy(rng.normal(size=(batch, length, 3))).float()
    starts = torch.from_numpy(rng.random((batch, length)) < 0.3)
    before = torch.from_numpy(rng.normal(size=(batch, torso.memory_size))).float()
    with torch.no_grad():
        found = torso.unroll({"x": inputs}, starts, before)
        state = before
        for t in range(length):
            state = state.masked_fill(starts[:, t : t + 1], 0.0)
            features, state = torso.step({"x": inputs[:, t]}, state)
            torch.testing.assert_close(found[:, t], features, atol=1e-5, rtol=1e-4)


# Sequences


def collect(make, mode, memory="none", steps=23, num_envs=3, **options):
    env = vector(make, num_envs, mode)
    policy = MLPPolicy(env.single_observation_space, env.single_action_space, memory=memory, hidden=(8,), **options)
    collector = EnvironmentCollector(env, 5)
    rng = np.random.default_rng(0)
    collector.rollout(policy, 4, rng)
    return policy, collector.rollout(policy, steps, rng)


@pytest.mark.parametrize("memory", ["none", "gru", "lstm"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_evaluating_a_rollout_gives_what_it_recorded(mode, shared, memory):
    policy, t = collect(Recall, mode, memory, shared=shared)
    scores = policy.evaluate_with_values(t.steps)
    torch.testing.assert_close(scores.log_probs, t.log_probs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(scores.values, t.values, atol=1e-6, rtol=1e-5)
    assert torch.equal(policy.evaluate_actions(t.steps).log_probs, scores.log_probs)
    some = policy.evaluate_actions(t.steps[torch.tensor([2, 0])])
    torch.testing.assert_close(some.log_probs, t.log_probs[[2, 0]], atol=1e-6, rtol=1e-5)
    if policy.memoryless:
        steps = Minibatch(t.steps, t.log_probs, t.rewards, t.rewards).single_steps().steps
        assert steps.complete
        values = policy.evaluate_with_values(steps).values.reshape(-1)
        torch.testing.assert_close(values, t.values[t.mask], atol=1e-6, rtol=1e-5)


def test_joined_rollouts_keep_every_step():
    """Episodes of FrozenLake differ in length: what is padded does not exist, what exists is as it was."""
    env = vector(lambda: gym.make("FrozenLake-v1"), 4, AutoresetMode.NEXT_STEP)
    policy = MLPPolicy(env.single_observation_space, env.single_action_space, hidden=(8,), critic=False)
    collector = EnvironmentCollector(env, 0)
    parts = [collector.episodes(policy, 2, 2, 100, np.random.default_rng(seed)) for seed in (1, 2)]
    assert len({part.mask.shape[1] for part in parts}) == 2
    whole = join(parts)
    for rows, part in ((slice(0, 4), parts[0]), (slice(4, 8), parts[1])):
        some = whole[rows]
        assert some.steps.count == part.steps.count
        for name in ("rewards", "log_probs", "done", "terminated"):
            assert torch.equal(getattr(some, name)[some.mask], getattr(part, name)[part.mask])
        assert torch.equal(some.steps.actions[some.mask], part.steps.actions[part.mask])


@pytest.mark.parametrize("memory", ["none", "gru"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_next_values_are_those_of_the_true_successors(mode, memory):
    """The observation of the clock says what the successor is, also where the episode was cut off."""
    policy, t = collect(Clock, mode, memory)
    clock = t.steps.observations["observation"][..., 0]
    assert bool((t.done[t.mask] == (clock[t.mask] == 4)).all())
    for row in range(len(t)):
        for begin in torch.nonzero(t.steps.starts[row]).reshape(-1).tolist():
            # Replay the episode from its first observation, to the one after its last step.
            state = torch.zeros(1, policy.memory_size)
            for now in range(6):
                position = begin + now
                value = policy.values({"observation": torch.tensor([[float(now)]])}, state)
                if now > 0 and position - 1 < t.mask.shape[1]:
                    assert t.next_values[row, position - 1].item() == pytest.approx(value.item(), abs=1e-5)
                _, state = policy.step({"observation": torch.tensor([[float(now)]])}, state, None)


def test_the_three_autoreset_modes_see_the_same_episodes():
    found = []
    for mode in AutoresetMode:
        _, t = collect(Clock, mode, num_envs=1, steps=30)
        found.append(t.steps.observations["observation"][t.mask][:20])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_episodes_of_a_group_start_in_one_state_and_are_masked_after_their_end():
    env = vector(lambda: gym.make("FrozenLake-v1", is_slippery=True), 6, AutoresetMode.NEXT_STEP)
    policy = MLPPolicy(env.single_observation_space, env.single_action_space, hidden=(8,), critic=False)
    t = EnvironmentCollector(env, 0).episodes(policy, 2, 3, 100, np.random.default_rng(0))
    lengths = t.mask.sum(1)
    for row in range(6):
        assert t.mask[row, : lengths[row]].all()
        assert t.done[row].nonzero().reshape(-1).tolist() == [lengths[row] - 1]
        assert not t.rewards[row, lengths[row] :].any()
    assert len(set(lengths.tolist())) > 1
    env = vector(lambda: gym.make("CartPole-v1"), 6)
    policy = MLPPolicy(env.single_observation_space, env.single_action_space, hidden=(8,), critic=False)
    t = EnvironmentCollector(env, 0).episodes(policy, 2, 3, 100, np.random.default_rng(0))
    first = t.steps.observations["observation"][:, 0]
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[3], first[5])
    assert not torch.equal(first[0], first[3])


def test_minibatches_take_each_sequence_once():
    numbers, exists = torch.arange(10).reshape(10, 1), torch.ones(10, 1, dtype=torch.bool)
    steps = Steps({"x": numbers}, numbers, exists, exists, torch.zeros(10, 0))
    batch = Minibatch(steps, *[torch.zeros(10, 1)] * 3)
    parts = [part.steps.actions.reshape(-1).tolist() for part in minibatches(batch, 4, np.random.default_rng(0))]
    taken = list(itertools.chain(*parts))
    assert sorted(taken) == list(range(10))
    assert [len(part) for part in parts] == [5, 5]
    assert taken != list(range(10))


def test_normalised_observations_do_not_change_within_a_batch():
    policy, t = collect(Clock, AutoresetMode.DISABLED, normalise=True)
    statistics = policy.statistics["observation"]
    assert statistics.count.item() == 3 * (4 + 23)
    assert statistics.mean.item() == pytest.approx(2.0, abs=0.2)  # the clock shows 0 … 4
    torch.testing.assert_close(policy.evaluate_actions(t.steps).log_probs, t.log_probs, atol=1e-6, rtol=1e-5)
    restored = MLPPolicy(spaces.Box(0, 100, (1,)), spaces.Discrete(2), hidden=(8,), normalise=True, seed=3)
    restored.load_state_dict(policy.state_dict())
    shown = np.array([[7.0]], dtype=np.float32)
    torch.testing.assert_close(restored.read(shown)["observation"], policy.read(shown)["observation"])
