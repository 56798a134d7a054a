import copy
import itertools
import pickle

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from gridzero.envs import GridWorld
from gridzero.envs.mdp import FiniteMDP

from ..models import random_mdp

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"


def dense(mdp):
    """P (S, A, S) and r (S, A) as plain arrays, terminal states absorbing and paying nothing."""
    transitions = np.zeros((mdp.num_states, mdp.num_actions, mdp.num_states))
    for s, a, k in np.ndindex(*mdp.successors.shape):
        transitions[s, a, mdp.successors[s, a, k]] += mdp.probabilities[s, a, k]
    rewards = mdp.rewards.copy()
    for s in np.flatnonzero(mdp.terminal):
        transitions[s] = 0
        transitions[s, :, s] = 1
        rewards[s] = 0
    return transitions, rewards


def random_policy(rng, mdp):
    return rng.dirichlet(np.ones(mdp.num_actions), mdp.num_states)


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=60)
@given(SEEDS, st.floats(0, 0.99), st.integers(0, 3))
def test_policy_evaluation_is_the_dense_solve_and_the_limit_of_iteration(seed, gamma, terminals):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, terminals=terminals)
    policy = random_policy(rng, mdp)
    transitions, rewards = dense(mdp)
    matrix, reward = np.einsum("sa,sat->st", policy, transitions), (policy * rewards).sum(axis=1)
    values = mdp.policy_values(policy, gamma)
    np.testing.assert_allclose(values, np.linalg.solve(np.eye(6) - gamma * matrix, reward), rtol=0, atol=1e-9)
    iterate = np.zeros(6)
    for _ in range(60):
        iterate = reward + gamma * matrix @ iterate
    tail = gamma**60 / (1 - gamma) * np.abs(reward).max()
    assert np.abs(iterate - values).max() <= tail + 1e-9
    assert (values[mdp.terminal] == 0).all()


@settings(max_examples=30)
@given(SEEDS)
def test_a_policy_of_actions_is_its_table_of_probabilities(seed):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng)
    actions = rng.integers(0, 3, 6)
    np.testing.assert_array_equal(mdp.policy_values(actions, 0.9), mdp.policy_values(np.eye(3)[actions], 0.9))


@settings(max_examples=30)
@given(SEEDS)
def test_undiscounted_values_of_a_proper_policy_are_the_total_reward(seed):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, leak=0.2)
    policy = random_policy(rng, mdp)
    transitions, rewards = dense(mdp)
    total, distribution = np.zeros(6), np.eye(6)
    for _ in range(200):  # what is left then is below 0.8^200
        total += distribution @ (policy * rewards).sum(axis=1)
        distribution = distribution @ np.einsum("sa,sat->st", policy, transitions)
    np.testing.assert_allclose(mdp.policy_values(policy, 1), total, rtol=0, atol=1e-9)


def chain(probabilities, terminal=(False, False, True)):
    """Three states in a row; action 0 advances, action 1 stays."""
    return FiniteMDP(
        [[[1], [0]], [[2], [1]], [[2], [2]]], np.ones((3, 2, 1)), -np.ones((3, 2)), terminal, probabilities
    )


def test_an_improper_policy_is_refused_when_undiscounted():
    mdp = chain([1, 0, 0])
    np.testing.assert_allclose(mdp.policy_values([0, 0, 0], 1), [-2, -1, 0])
    np.testing.assert_allclose(mdp.policy_values([[0.5, 0.5], [1, 0], [1, 0]], 1), [-3, -1, 0])
    with pytest.raises(ValueError, match="from state 0 this one never does"):
        mdp.policy_values([0, 1, 0], 1)  # neither from 0, which leads to 1
    with pytest.raises(ValueError, match="from state 1 this one never does"):
        FiniteMDP(
            [[[2]], [[1]], [[2]]], np.ones((3, 1, 1)), np.zeros((3, 1)), [False, False, True], [1, 0, 0]
        ).policy_values([0, 0, 0], 1)
    with pytest.raises(ValueError, match="from state 0 this one never does"):
        chain([1, 0, 0], (False, False, False)).policy_values([0, 0, 0], 1)
    np.testing.assert_allclose(mdp.policy_values([1, 1, 0], 0.9), [-10, -10, 0])


def test_a_model_of_terminal_states_alone_is_worth_nothing():
    mdp = chain([1, 0, 0], (True, True, True))
    assert mdp.policy_values([0, 0, 0], 1).tolist() == [0, 0, 0]
    assert mdp.finite_horizon_values(5).tolist() == [0, 0, 0]


def test_a_long_random_walk_has_its_closed_form():
    # Gambler's ruin with 20,000 states: a reward of 1 at the right end, so v(i) = i / (n - 1).
    n = 20_000
    index = np.arange(n)
    successors = np.stack([np.maximum(index - 1, 0), np.minimum(index + 1, n - 1)], axis=1)[:, None, :]
    rewards = np.zeros((n, 1))
    rewards[n - 2] = 0.5
    mdp = FiniteMDP(successors, np.full((n, 1, 2), 0.5), rewards, (index == 0) | (index == n - 1), np.full(n, 1 / n))
    exact = np.where(index == n - 1, 0, index / (n - 1))
    np.testing.assert_allclose(mdp.policy_values(np.zeros(n, dtype=int), 1), exact, rtol=0, atol=1e-8)


@settings(max_examples=40)
@given(SEEDS, st.floats(0, 1))
def test_action_values_are_the_dense_backup(seed, gamma):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, terminals=2)
    values = rng.normal(size=6)
    transitions, rewards = dense(mdp)
    expected = rewards + gamma * transitions @ np.where(mdp.terminal, 0, values)
    np.testing.assert_allclose(mdp.action_values(values, gamma), expected, rtol=0, atol=1e-12)


@settings(max_examples=25)
@given(SEEDS, st.floats(0, 0.95))
def test_the_residual_is_zero_at_the_linear_programs_solution_and_bounds_the_distance_to_it(seed, gamma):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng)
    transitions, rewards = dense(mdp)
    # The least v with v(s) >= r(s, a) + gamma sum p v for all s, a is v* (Puterman, section 6.9).
    constraints = (gamma * transitions - np.eye(6)[:, None, :]).reshape(-1, 6)
    optimum = linprog(np.ones(6), constraints, -rewards.reshape(-1), bounds=(None, None)).x
    assert mdp.bellman_residual(optimum, gamma) < 1e-7
    other = np.where(mdp.terminal, 0, optimum + rng.normal(size=6))
    assert np.abs(other - optimum).max() <= mdp.bellman_residual(other, gamma) / (1 - gamma) + 1e-6


def test_the_transition_matrix_shares_the_models_memory():
    mdp = random_mdp(np.random.default_rng(0))
    assert np.shares_memory(mdp.transition_matrix.data, mdp.probabilities)
    assert np.shares_memory(mdp.transition_matrix.indices, mdp.successors)


@settings(max_examples=20)
@given(SEEDS, st.booleans(), st.booleans(), st.floats(0, 0.95))
def test_arrays_that_repeat_are_kept_small_and_mean_the_same_as_whole_ones(seed, successors, probabilities, gamma):
    rng = np.random.default_rng(seed)
    states, actions, outcomes = 5, 3, 4
    shape = (states, actions, outcomes)
    following = rng.integers(states, size=(states, 1 if successors else actions, outcomes))
    chances = rng.dirichlet(np.ones(outcomes), size=(1 if probabilities else states, actions))
    rest = rng.normal(size=shape[:2]), rng.random(states) < 0.2, np.full(states, 1 / states)
    small = FiniteMDP(np.broadcast_to(following, shape), np.broadcast_to(chances, shape), *rest)
    whole = FiniteMDP(np.broadcast_to(following, shape).copy(), np.broadcast_to(chances, shape).copy(), *rest)
    assert [array.size for array in small.packed] == [following.size, chances.size]
    np.testing.assert_array_equal(small.successors, whole.successors)
    np.testing.assert_array_equal(small.probabilities, whole.probabilities)
    values, policy = rng.normal(size=states), rng.integers(actions, size=states)
    expected = np.where(whole.terminal[:, None], 0, dense(whole)[1] + gamma * dense(whole)[0] @ (values * ~rest[1]))
    for mdp in (small, whole):
        np.testing.assert_allclose(mdp.action_values(values, gamma), expected, atol=1e-12)
        np.testing.assert_allclose(mdp.policy_values(policy, gamma), whole.policy_values(policy, gamma), atol=1e-9)
        np.testing.assert_array_equal(mdp.finite_horizon_values(9, gamma), small.finite_horizon_values(9, gamma))
    pickled = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(pickled.action_values(values, gamma), small.action_values(values, gamma))


def plain_induction(mdp, horizon, gamma):
    """Every state backed up at every step."""
    values = np.zeros(mdp.num_states)
    for _ in range(horizon):
        values = mdp.action_values(values, gamma).max(axis=1)
    return values


@settings(max_examples=60)
@given(SEEDS, st.integers(0, 300), st.sampled_from([0.9, 1.0]), st.integers(1, 3), st.integers(2, 40))
def test_states_that_rise_steadily_need_no_backup(seed, horizon, gamma, outcomes, states):
    """Sparse models have loops of several lengths and states that do not reach each other."""
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=states, actions=2, outcomes=outcomes)
    plain = plain_induction(mdp, horizon, gamma)
    np.testing.assert_allclose(mdp.finite_horizon_values(horizon, gamma), plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("slip", [0.0, 0.3])
@pytest.mark.parametrize("step", [0.0, -0.01])
@pytest.mark.parametrize("terminal", [False, True])
def test_finite_horizon_values_of_grids_with_pockets_and_period_two(terminal, step, slip):
    world = GridWorld("obstacles:12x12:3", target_terminal=terminal, reward_step=step, slip=slip)
    for horizon in (1, 2, 3, 30, 31, 1000, 1001):
        plain = plain_induction(world.mdp, horizon, 1.0)
        np.testing.assert_allclose(world.mdp.finite_horizon_values(horizon), plain, rtol=1e-12, atol=1e-13)


def best_return(mdp, state, horizon, gamma):
    """By recursion over every history."""
    if horizon == 0 or mdp.terminal[state]:
        return 0.0
    return max(
        mdp.rewards[state, a]
        + gamma
        * sum(
            mdp.probabilities[state, a, k] * best_return(mdp, mdp.successors[state, a, k], horizon - 1, gamma)
            for k in range(mdp.successors.shape[2])
        )
        for a in range(mdp.num_actions)
    )


@settings(max_examples=15)
@given(SEEDS, st.integers(0, 4), st.sampled_from([0.5, 1.0]))
def test_finite_horizon_values_are_those_of_exhaustive_search(seed, horizon, gamma):
    mdp = random_mdp(np.random.default_rng(seed), states=4, actions=2, outcomes=2)
    expected = [best_return(mdp, state, horizon, gamma) for state in range(4)]
    np.testing.assert_allclose(mdp.finite_horizon_values(horizon, gamma), expected, rtol=0, atol=1e-12)


@settings(max_examples=20)
@given(SEEDS, st.integers(0, 6))
def test_a_policys_finite_horizon_values_sum_over_its_paths(seed, horizon):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=4, actions=2)
    policy = random_policy(rng, mdp)
    transitions, rewards = dense(mdp)
    matrix, reward = np.einsum("sa,sat->st", policy, transitions), (policy * rewards).sum(axis=1)
    expected = sum((np.linalg.matrix_power(matrix, t) @ reward for t in range(horizon)), np.zeros(4))
    np.testing.assert_allclose(mdp.finite_horizon_values(horizon, policy=policy), expected, rtol=0, atol=1e-10)


def test_no_stationary_policy_beats_the_finite_horizon_optimum():
    mdp = random_mdp(np.random.default_rng(1), states=4, actions=2)
    best = mdp.finite_horizon_values(7)
    for actions in itertools.product(range(2), repeat=4):
        assert (mdp.finite_horizon_values(7, policy=list(actions)) <= best + 1e-12).all()


def optimal_values(mdp, gamma, sweeps):
    values = np.zeros(mdp.num_states)
    for _ in range(sweeps):
        values = mdp.action_values(values, gamma).max(axis=1)
    return values


@pytest.mark.parametrize(
    ("name", "limit", "published"), [("FrozenLake-v1", 100, 0.7442), ("FrozenLake8x8-v1", 200, 0.9132)]
)
def test_frozen_lake_within_its_time_limit(name, limit, published):
    env = gym.make(name)
    assert env.spec.max_episode_steps == limit
    mdp = FiniteMDP.from_env(env)
    assert mdp.start @ mdp.finite_horizon_values(limit) == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize(("gamma", "published"), [(0.9, 0.0688909), (0.99, 0.54202593), (1, 14 / 17)])
def test_frozen_lake_optimal_values(gamma, published):
    mdp = FiniteMDP.from_env(gym.make("FrozenLake-v1"))
    assert mdp.num_states == 16  # no state is entered in both ways
    assert optimal_values(mdp, gamma, 5000)[0] == pytest.approx(published, abs=5e-8)
    greedy = mdp.action_values(optimal_values(mdp, gamma, 5000), gamma).argmax(axis=1)
    assert mdp.policy_values(greedy, gamma)[0] == pytest.approx(published, abs=5e-8)


def test_cliff_walking_is_worth_minus_13():
    mdp = FiniteMDP.from_env(gym.make("CliffWalking-v1"))
    assert mdp.start.argmax() == 36
    assert optimal_values(mdp, 1, 100)[36] == -13


def test_taxi_optimal_returns_are_those_of_the_environment():
    env = gym.make(TAXI)
    mdp = FiniteMDP.from_env(env)
    values = optimal_values(mdp, 1, 60)
    greedy = mdp.action_values(values, 1).argmax(axis=1)
    for seed in range(100):
        state, _ = env.reset(seed=seed)
        expected, total, done = values[state], 0.0, False
        while not done:
            state, reward, terminated, truncated, _ = env.step(greedy[state])
            total, done = total + float(reward), terminated or truncated
        assert total == expected  # Taxi is deterministic


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1", TAXI])
def test_a_vector_environment_has_the_model_of_its_parts(name):
    vector = gym.make_vec(name, num_envs=2, vectorization_mode="sync")
    one, many = FiniteMDP.from_env(gym.make(name)), FiniteMDP.from_env(vector)
    for field in ("successors", "probabilities", "rewards", "terminal", "start"):
        np.testing.assert_array_equal(getattr(one, field), getattr(many, field))


def test_an_environment_without_a_model_is_refused():
    with pytest.raises(ValueError, match="CartPoleEnv has no model"):
        FiniteMDP.from_env(gym.make("CartPole-v1"))


def test_an_environment_with_an_mdp_gives_that_very_object():
    class Modelled(gym.Env):
        mdp = chain([1, 0, 0])

    assert FiniteMDP.from_env(Modelled()) is Modelled.mdp


def test_a_state_entered_in_both_ways_continues_and_ends():
    # From 0, action 0 enters state 1 and ends, action 1 enters it and goes on; from 1 every action pays 10 and ends.
    table = {
        0: {0: [(1.0, 1, 1.0, True)], 1: [(0.5, 1, 2.0, False), (0.5, 1, 4.0, True)]},
        1: {0: [(1.0, 1, 10.0, True)], 1: [(1.0, 0, 10.0, True)]},
    }
    mdp = FiniteMDP.from_table(table, start=[1, 0])
    assert mdp.num_states == 3
    assert mdp.terminal.tolist() == [False, False, True]
    np.testing.assert_allclose(mdp.policy_values([0, 0, 0], 1), [1, 10, 0])
    np.testing.assert_allclose(mdp.policy_values([1, 0, 0], 0.5), [3 + 0.5 * 0.5 * 10, 10, 0])
    assert mdp.start.tolist() == [1, 0, 0]


def test_a_start_that_also_ends_episodes_is_not_terminal():
    table = {0: {0: [(1.0, 1, 0.0, False)]}, 1: {0: [(1.0, 0, 5.0, True)]}}
    mdp = FiniteMDP.from_table(table, start=[1, 0])
    np.testing.assert_allclose(mdp.policy_values([0, 0, 0], 1), [5, 5, 0])


def test_an_absorbing_state_with_its_own_loop_becomes_terminal():
    table = {0: {0: [(1.0, 1, 3.0, True)]}, 1: {0: [(1.0, 1, 7.0, False)]}}
    mdp = FiniteMDP.from_table(table)
    assert mdp.terminal.tolist() == [False, True]  # reached only by ending, whatever its loop says
    assert mdp.start.tolist() == [1, 0]
    assert mdp.policy_values([0, 0], 1).tolist() == [3, 0]


def random_table(rng, states, actions):
    return {
        s: {
            a: [
                (float(p), int(rng.integers(states)), float(rng.integers(-5, 5)), bool(rng.random() < 0.4))
                for p in rng.dirichlet(np.ones(3))
            ]
            for a in range(actions)
        }
        for s in range(states)
    }


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 5))
def test_a_tables_values_are_those_of_following_it(seed, states):
    rng = np.random.default_rng(seed)
    table = random_table(rng, states, 2)
    start = np.eye(states)[rng.integers(states)]
    mdp = FiniteMDP.from_table(table, start)

    def follow(state, horizon):
        if horizon == 0:
            return 0.0
        return max(
            sum(p * (r + (0 if end else follow(nxt, horizon - 1))) for p, nxt, r, end in table[state][a])
            for a in range(2)
        )

    assert start @ mdp.finite_horizon_values(4)[:states] == pytest.approx(follow(int(start.argmax()), 4), abs=1e-9)


@pytest.mark.parametrize(
    ("table", "start", "what"),
    [
        ({}, None, "numbered from 0"),
        ({0: {}}, None, "numbered from 0"),
        ({1: {0: []}}, None, "numbered from 0"),
        ({0: {0: [(1, 0, 0, False)]}, 2: {0: []}}, None, "no state 1"),
        ({0: {0: [(1, 0, 0, False)]}, 1: {1: []}}, None, "state 1 of the table must have actions 0 to 0"),
        ({0: {0: [(1, 1, 0, False)]}}, None, r"\[0\]\[0\] leads to state 1; states go from 0 to 0"),
        ({0: {0: [(1, -1, 0, False)]}}, None, "leads to state -1"),
        ({0: {0: [(0.5, 0, 0, False)]}}, None, r"probabilities\[0, 0\] sums to 0.5"),
        ({0: {0: []}}, None, r"probabilities\[0, 0\] sums to 0"),
        ({0: {0: [(1, 0, 0, False)]}}, [0.5, 0.5], r"start must have shape \(1,\)"),
    ],
)
def test_a_bad_table_is_refused(table, start, what):
    with pytest.raises(ValueError, match=what):
        FiniteMDP.from_table(table, start)


def fields(**changes):
    given = {
        "successors": np.array([[[0, 1], [1, 1]], [[1, 0], [0, 0]]]),
        "probabilities": np.full((2, 2, 2), 0.5),
        "rewards": np.zeros((2, 2)),
        "terminal": np.zeros(2, dtype=bool),
        "start": np.array([1.0, 0.0]),
    }
    return {**given, **changes}


def changed(name, index, value):
    array = fields()[name].copy()
    array[index] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"successors": np.zeros((2, 2), dtype=int)}, r"successors must have shape \(S, A, K\)"),
        ({"successors": np.zeros((0, 2, 1), dtype=int)}, r"all positive; it has \(0, 2, 1\)"),
        ({"successors": np.zeros((2, 2, 2))}, "successors must be integers, not float64"),
        (changed("successors", (1, 0, 1), 2), r"successors\[1, 0, 1\] is 2; states go from 0 to 1"),
        (changed("successors", (0, 1, 0), -1), r"successors\[0, 1, 0\] is -1"),
        (changed("successors", (0, 1, 0), 1 << 32), r"successors\[0, 1, 0\] is 4294967296"),
        ({"probabilities": np.ones((2, 2, 1))}, r"probabilities must have shape \(2, 2, 2\)"),
        ({"rewards": np.zeros((2, 3))}, r"rewards must have shape \(2, 2\)"),
        ({"terminal": [False]}, r"terminal must have shape \(2,\)"),
        ({"start": [1.0]}, r"start must have shape \(2,\)"),
        (changed("probabilities", (1, 0, 1), np.nan), r"probabilities\[1, 0, 1\] is nan"),
        (changed("rewards", (1, 0), -np.inf), r"rewards\[1, 0\] is -inf"),
        (changed("start", 1, np.nan), r"start\[1\] is nan"),
        (changed("probabilities", (0, 1, 0), -0.5), r"probabilities\[0, 1, 0\] is -0.5; it cannot be negative"),
        (changed("probabilities", (0, 1, 0), 0.25), r"probabilities\[0, 1\] sums to 0.75"),
        (changed("probabilities", (1, 1, 0), 0.5 + 1e-6), r"probabilities\[1, 1\] sums to 1.000001"),
        ({"start": [1.5, -0.5]}, r"start\[1\] is -0.5; it cannot be negative"),
        ({"start": [0.5, 0.25]}, "start must be a distribution; it sums to 0.75"),
    ],
)
def test_a_bad_model_is_refused(changes, what):
    with pytest.raises(ValueError, match=what) as error:
        FiniteMDP(**fields(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("error")
def test_large_rewards_are_finite():
    mdp = FiniteMDP(**fields(rewards=np.full((2, 2), 1.5e308)))
    assert mdp.policy_values([0, 0], 0).tolist() == [1.5e308, 1.5e308]


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        ([0, 2], r"actions go from 0 to 1; the policy has 0..2"),
        ([0, -1], r"the policy has -1..0"),
        ([0.0, 1.0], r"not \(2,\)"),
        ([0, 0, 0], r"not \(3,\)"),
        ([[1, 0], [0.5, 0.4]], r"the policy in state 1 is \[0.5, 0.4\], not a distribution"),
        ([[1.5, -0.5], [1, 0]], "the policy in state 0"),
        ([[1, 0], [np.nan, 1]], "the policy in state 1"),
    ],
)
def test_a_bad_policy_is_refused(policy, what):
    with pytest.raises(ValueError, match=what):
        FiniteMDP(**fields()).policy_values(policy, 0.9)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, np.nan])
def test_a_bad_discount_or_horizon_is_refused(gamma):
    mdp = FiniteMDP(**fields())
    with pytest.raises(ValueError, match="gamma must be between 0 and 1"):
        mdp.policy_values([0, 0], gamma)
    with pytest.raises(ValueError, match="gamma must be between 0 and 1"):
        mdp.finite_horizon_values(3, gamma)
    with pytest.raises(ValueError, match="horizon must be at least 0, not -1"):
        mdp.finite_horizon_values(-1)


def test_a_model_survives_copying_and_pickling():
    mdp = random_mdp(np.random.default_rng(0))
    expected = mdp.policy_values(np.zeros(6, dtype=int), 0.9)
    for other in (copy.deepcopy(mdp), pickle.loads(pickle.dumps(mdp))):
        np.testing.assert_array_equal(other.policy_values(np.zeros(6, dtype=int), 0.9), expected)
