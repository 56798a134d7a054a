from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import gridzero
from gridzero.agents.tabular.monte_carlo_kernels import (
    ON_POLICY,
    ORDINARY,
    WEIGHTED,
    Rule,
    Table,
    choose_action,
    learn_from_episode,
)
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs import FiniteMDP

from ..states import assert_same_state
from .statistics import assert_means

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3

NO_POLICY = np.zeros((0, 0))


def episodic_mdp(seed: int, states: int = 5, actions: int = 3, ends: float = 0.3) -> FiniteMDP:
    """Random, with a terminal state that every pair leads to with probability ``ends``."""
    rng = np.random.default_rng(seed)
    successors = np.empty((states, actions, 3), dtype=np.int32)
    successors[..., :2] = rng.integers(states - 1, size=(states, actions, 2))
    successors[..., 2] = states - 1
    share = rng.random((states, actions))
    probabilities = np.stack([(1 - ends) * share, (1 - ends) * (1 - share), np.full_like(share, ends)], axis=2)
    start = np.append(np.full(states - 1, 1 / (states - 1)), 0.0)
    return FiniteMDP(
        successors, probabilities, rng.normal(size=(states, actions)), np.arange(states) == states - 1, start
    )


def random_policy(seed: int, mdp: FiniteMDP) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(mdp.num_actions), size=mdp.num_states)


def exact(mdp: FiniteMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    return mdp.action_values(mdp.policy_values(policy, gamma), gamma)


def learn(agent: Any, updates: int) -> Any:
    for _ in itertools.islice(agent.learn(), updates):
        pass
    return agent


@pytest.mark.parametrize("first_visit", [True, False])
@pytest.mark.parametrize(("copies", "episodes", "width"), [(1, 150, 0.6), (100, 8000, 0.1)])
def test_on_policy_estimates_are_within_their_confidence_intervals(
    first_visit: bool, copies: int, episodes: int, width: float
) -> None:
    mdp = episodic_mdp(0)
    policy = random_policy(1, mdp)
    estimates = []
    for seed in range(12):
        agent: Any = gridzero.agents.make(
            "mc-epsilon-greedy",
            SimulatedMDP(mdp, copies),
            seed=seed,
            gamma=0.9,
            first_visit=first_visit,
            step_size="1/k",
            episodes_per_update=episodes,
        )
        agent.fix_policy(policy)
        estimates.append(learn(agent, 1).action_values())
    assert_means(np.array(estimates)[:, :-1], exact(mdp, policy, 0.9)[:-1], width)


def test_a_single_environment_too() -> None:
    env = gym.make("FrozenLake-v1")
    mdp = FiniteMDP.from_env(env)
    uniform = np.full((16, 4), 0.25)
    reached = [0, 1, 4, 8, 9]  # often enough by the uniform policy
    estimates = []
    for seed in range(8):
        agent = gridzero.agents.make(
            "mc-epsilon-greedy", env, seed=seed, epsilon="1", step_size="1/k", episodes_per_update=400
        )
        estimates.append(learn(agent, 1).action_values()[reached])
    assert_means(np.array(estimates), exact(mdp, uniform, 0.99)[reached])


@pytest.mark.parametrize("name", ["mc-basic", "mc-exploring-starts"])
def test_estimates_from_every_pair(name: str) -> None:
    mdp = episodic_mdp(2)
    policy = random_policy(3, mdp)
    options: dict[str, Any] = {"episodes": 300}
    if name == "mc-exploring-starts":
        options = {"episodes_per_update": 4000, "step_size": "1/k"}
    estimates = []
    for seed in range(12):
        agent: Any = gridzero.agents.make(name, SimulatedMDP(mdp, 1000), seed=seed, gamma=0.9, **options)
        agent.fix_policy(policy)
        estimates.append(learn(agent, 1).action_values())
    assert_means(np.array(estimates)[:, :-1], exact(mdp, policy, 0.9)[:-1], width=0.25)


def off_policy_estimates(kind: str, first_visit: bool, runs: int) -> tuple[np.ndarray, np.ndarray]:
    mdp = episodic_mdp(4, ends=0.5)
    target, behaviour = random_policy(5, mdp), random_policy(6, mdp) / 2 + 1 / (2 * mdp.num_actions)
    estimates = []
    for seed in range(runs):
        agent: Any = gridzero.agents.make(
            "mc-off-policy",
            SimulatedMDP(mdp, 100),
            seed=seed,
            gamma=0.9,
            importance_sampling=kind,
            first_visit=first_visit,
            step_size="1/k",
            episodes_per_update=8000,
        )
        agent.fix_policy(target, behaviour)
        estimates.append(learn(agent, 1).action_values()[:-1])
    return np.array(estimates), exact(mdp, target, 0.9)[:-1]


@pytest.mark.parametrize("first_visit", [True, False])
def test_off_policy_estimates_and_their_variance(first_visit: bool) -> None:
    ordinary, expected = off_policy_estimates("ordinary", first_visit, runs=16)
    weighted, _ = off_policy_estimates("weighted", first_visit, runs=16)
    assert_means(ordinary, expected)
    assert_means(weighted, expected)
    assert weighted.var(axis=0).sum() < ordinary.var(axis=0).sum()


def test_a_cut_episode_is_worth_what_its_last_state_is() -> None:
    """One state, reward 1 for ever: 10 at gamma 0.9; the first five steps alone give 4.0951 at most."""
    mdp = FiniteMDP([[[0]]], [[[1.0]]], [[1.0]], [False], [1.0])
    options: dict[str, Any] = {"gamma": 0.9, "episode_length": 5, "step_size": "0.5", "episodes_per_update": 100}
    with_tail = learn(gridzero.agents.make("mc-epsilon-greedy", mdp, bootstrap=True, **options), 1)
    without = learn(gridzero.agents.make("mc-epsilon-greedy", mdp, bootstrap=False, **options), 1)
    assert with_tail.action_values()[0, 0] == pytest.approx(10, abs=1e-6)
    assert without.action_values()[0, 0] < 4.0952


class InfiniteVariance(gym.Env[int, int]):
    """Example 5.5: left (0) ends with reward 1 with probability 0.1, else nothing happens; right (1) ends with 0."""

    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        won = action == 0 and self.np_random.random() < 0.1
        return 0, float(won), bool(won or action == 1), False, {}


def infinite_variance_estimate(kind: str, seed: int, episodes: int) -> float:
    agent: Any = gridzero.agents.make(
        "mc-off-policy",
        InfiniteVariance(),
        seed=seed,
        gamma=1.0,
        importance_sampling=kind,
        first_visit=True,
        step_size="1/k",
        episode_length=1000,
        episodes_per_update=episodes,
    )
    agent.fix_policy(np.array([0]), behaviour=np.array([[0.5, 0.5]]))
    return float(learn(agent, 1).action_values()[0, 0])


def test_infinite_variance_weighted_importance_sampling_is_right_at_once() -> None:
    """Example 5.5: the weighted average is 1 from the first episode on that goes left to its end."""
    assert [infinite_variance_estimate("weighted", seed, episodes=300) for seed in range(5)] == [1.0] * 5


def test_infinite_variance_ordinary_importance_sampling_has_its_heavy_tail() -> None:
    """The estimate of q(left) from n first visits is the mean of n draws of 2^j, of probability 0.1 · 0.45^j, else 0.

    Its mean is 1, its variance infinite, so that most runs stay well below. A two-sample Kolmogorov-Smirnov test
    at 99.9 % holds the agent's runs against draws from that distribution.
    """
    found = [infinite_variance_estimate("ordinary", seed, episodes=200) for seed in range(40)]
    rng = np.random.default_rng(0)
    expected = []
    for _ in range(2000):
        visits = rng.binomial(200, 0.5)
        j = rng.geometric(0.55, size=visits) - 1
        won = rng.random(visits) < 0.1 / 0.55
        expected.append((won * 2.0**j).sum() / visits)
    assert stats.ks_2samp(found, expected).pvalue > 0.001
    assert np.median(found) < 0.8


class FixedHand(gym.Wrapper[Any, Any, Any, Any]):
    """Example 5.4: the player has 13 with a usable ace, the dealer shows a deuce."""

    def reset(self, **keywords: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**keywords)
        inner: Any = self.unwrapped
        inner.player = [1, 2]
        inner.dealer = [2, min(int(inner.np_random.integers(1, 14)), 10)]
        return (13, 2, 1), {}


@pytest.mark.parametrize("kind", ["ordinary", "weighted"])
def test_blackjack_state(kind: str) -> None:
    """Example 5.4: -0.27726 under the policy that sticks only on 20 or 21, from episodes of the uniform policy."""
    estimates = []
    for seed in range(10):
        agent: Any = gridzero.agents.make(
            "mc-off-policy",
            FixedHand(gym.make("Blackjack-v1", sab=True)),
            seed=seed,
            gamma=1.0,
            importance_sampling=kind,
            step_size="1/k",
            episodes_per_update=600,
        )
        total = np.arange(agent.states.n) // 22  # the first of the three components, 11 · 2 of the others to each
        agent.fix_policy(np.where(total >= 20, 0, 1), behaviour=np.full((agent.states.n, 2), 0.5))
        estimates.append(learn(agent, 1).state_values()[agent.states.number((13, 2, 1))])
    assert_means(np.array(estimates)[:, None], np.array([-0.27726]), width=0.25)


@pytest.mark.parametrize(
    ("length", "at_target"),
    [(1, 1.0), (2, 1.9), (3, 2.7), (4, 3.4), (14, 7.7), (15, 7.9), (30, 9.6), (100, 10.0)],
)
def test_mc_basic_with_episode_length(length: int, at_target: float) -> None:
    """Zhao, Fig. 5.4: episodes of length L see what L sweeps of value iteration see."""
    mdp = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5", reward_forbidden=-10).unwrapped.mdp
    agent: Any = gridzero.agents.make("mc-basic", mdp, gamma=0.9, episode_length=length)
    updates = list(agent.learn())
    np.testing.assert_allclose(agent.state_values(), mdp.finite_horizon_values(length, 0.9), atol=1e-12)
    assert agent.state_values()[3 * 5 + 2] == pytest.approx(at_target, abs=0.05)
    assert updates[-1].metrics["value_change"] == 0


def test_mc_basic_on_the_environment_itself() -> None:
    env: Any = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5", reward_forbidden=-10)
    agent: Any = gridzero.agents.make("mc-basic", env, gamma=0.9, episode_length=15)
    for _ in agent.learn():
        pass
    np.testing.assert_allclose(agent.state_values(), env.unwrapped.mdp.finite_horizon_values(15, 0.9), atol=1e-12)


def test_mc_basic_by_hand() -> None:
    """Zhao, section 5.2: the action values of the first state under the initial policy of the 3 by 3 world."""
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-3x3")
    agent: Any = gridzero.agents.make("mc-basic", env, gamma=0.9, episode_length=200)
    up, right, down, left, stay = range(5)
    agent.fix_policy(np.array([up, down, left, right, down, down, right, right, stay]))
    learn(agent, 1)
    np.testing.assert_allclose(agent.action_values()[0], [-10, 7.29, 7.29, -10, -9], atol=1e-6)


def empty_table(states: int, actions: int) -> Table:
    shape = (states, actions)
    return Table(np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(states * actions + 1, np.int64))


def rule(kind: int, first_visit: bool, gamma: float) -> Rule:
    return Rule(kind, first_visit, True, False, gamma, 1.0, 0.0, 1.0)


STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=8)


@settings(max_examples=150)
@given(
    st.lists(STEPS, min_size=1, max_size=4),
    st.sampled_from([ON_POLICY, ORDINARY, WEIGHTED]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_averages_are_those_of_the_definition(
    episodes: list[list[tuple[int, int, int]]], kind: int, first_visit: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gamma = 0.8
    target, behaviour = rng.dirichlet([1, 1], size=3), rng.dirichlet([2, 2], size=3)
    target[rng.random(3) < 0.3] = [0, 1]
    table = empty_table(3, 2)
    returns: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for episode in episodes:
        states, actions, rewards = (np.array(part) for part in zip(*episode, strict=True))
        learn_from_episode(
            table,
            rule(kind, first_visit, gamma),
            target,
            states.astype(np.int32),
            actions.astype(np.int32),
            rewards.astype(float),
            behaviour[states, actions],
            -1,
            0.0,
        )
        seen = set()
        for t, (s, a, _) in enumerate(episode):
            if first_visit and (s, a) in seen:
                continue
            seen.add((s, a))
            ratio = np.prod([target[s, a] / behaviour[s, a] for s, a, _ in episode[t + 1 :]])
            value = sum(gamma**k * r for k, (_, _, r) in enumerate(episode[t:]))
            returns.setdefault((s, a), []).append((float(ratio), value))
    for (s, a), found in returns.items():
        ratios, values = np.array(found).T
        if kind == ON_POLICY:
            expected = values.mean()
        elif kind == ORDINARY:
            expected = (ratios * values).mean()
        else:
            expected = (ratios @ values) / ratios.sum() if ratios.sum() > 0 else 0.0
        assert table.action_values[s, a] == pytest.approx(expected, abs=1e-9)


def test_ordinary_importance_sampling_is_unbiased_by_enumeration() -> None:
    """Over all episodes of three steps, their probabilities times the one-episode estimates sum to q of the target."""
    rng = np.random.default_rng(0)
    layers, width = 3, 2
    inner = layers * width
    successors = np.full((inner + 1, 2, 2), inner, dtype=np.int32)
    for s in range(inner - width):
        successors[s] = (s // width + 1) * width + np.array([0, 1])
    mdp = FiniteMDP(
        successors,
        rng.dirichlet([1, 1], size=(inner + 1, 2)),
        rng.normal(size=(inner + 1, 2)),
        np.arange(inner + 1) == inner,
        np.eye(inner + 1)[0],
    )
    target, behaviour = random_policy(1, mdp), random_policy(2, mdp)
    expectation, total = np.zeros(2), np.zeros(2)
    for actions in itertools.product([0, 1], repeat=layers):
        for outcomes in itertools.product([0, 1], repeat=layers - 1):
            states = [0]
            probability = behaviour[0, actions[0]]
            for t, outcome in enumerate(outcomes):
                probability *= mdp.probabilities[states[t], actions[t], outcome]
                states.append(int(mdp.successors[states[t], actions[t], outcome]))
                probability *= behaviour[states[t + 1], actions[t + 1]]
            table = empty_table(inner + 1, 2)
            learn_from_episode(
                table,
                rule(ORDINARY, True, 0.9),
                target,
                np.array(states, dtype=np.int32),
                np.array(actions, dtype=np.int32),
                mdp.rewards[states, list(actions)],
                behaviour[states, list(actions)],
                -1,
                0.0,
            )
            expectation[actions[0]] += probability * table.action_values[0, actions[0]]
            total[actions[0]] += probability
    np.testing.assert_allclose(total, behaviour[0], rtol=1e-12)
    np.testing.assert_allclose(expectation / total, exact(mdp, target, 0.9)[0], rtol=1e-12)


@pytest.mark.parametrize("policy", [NO_POLICY, np.array([[0.5, 0.0, 0.3, 0.2], [0.0, 0.0, 1.0, 0.0]])])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_actions_are_drawn_as_likely_as_is_said(policy: np.ndarray, epsilon: float) -> None:
    """Over a fine grid of draws each action comes as often as its probability says; ties share."""
    q = np.array([[1.0, 2.0, 2.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    grid = (np.arange(6000) + 0.5) / 6000
    for state, best in ((0, [0, 0.5, 0.5, 0]), (1, [1, 0, 0, 0])):
        base = np.array(best) if not len(policy) else policy[state]
        expected = epsilon / 4 + (1 - epsilon) * base
        counts = np.zeros(4)
        for draw in grid:
            action, probability = choose_action(q, policy, epsilon, state, draw)
            assert probability == pytest.approx(expected[action])
            counts[action] += 1
        np.testing.assert_allclose(counts / len(grid), expected, atol=1e-3)


def gap(agent: Any, env: str, gamma: float) -> float:
    """v*(start) - v(start) of the greedy policy, both exact."""
    mdp = FiniteMDP.from_env(gym.make(env))
    policy = np.full((mdp.num_states, mdp.num_actions), 1 / mdp.num_actions)
    policy[: agent.states.n] = agent.policy_table()
    optimal = mdp.finite_horizon_values(5000, gamma)
    return float(mdp.start @ (optimal - mdp.policy_values(policy, gamma)))


def train(name: str, env: Any, steps: int, seed: int = 0, **fields: Any) -> Any:
    agent: Any = gridzero.agents.make(name, env, seed=seed, **fields)
    for update in agent.learn():
        if update.step >= steps:
            break
    return agent


@pytest.mark.parametrize(
    ("name", "env", "steps", "most", "fields"),
    [
        ("mc-exploring-starts", "FrozenLake-v1", 40_000, 0.1, {}),
        ("mc-epsilon-greedy", "FrozenLake-v1", 60_000, 0.2, {}),
        ("mc-off-policy", "FrozenLake-v1", 60_000, 0.3, {}),
        ("mc-exploring-starts", "CliffWalking-v1", 50_000, 5.2, {}),
        ("mc-epsilon-greedy", "CliffWalking-v1", 80_000, 5.2, {}),
        ("mc-off-policy", "CliffWalking-v1", 50_000, 5.2, {}),
    ],
)
def test_control(name: str, env: str, steps: int, most: float, fields: dict[str, Any]) -> None:
    """The greedy policy's exact gap to the optimum; on the cliff 5.2 is the way along the far edge, 17 steps for 13."""
    assert gap(train(name, env, steps, **fields), env, 0.99) < most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "env", "steps", "most", "fields"),
    [
        ("mc-basic", "CliffWalking-v1", 10**9, 1e-9, {}),
        ("mc-exploring-starts", TAXI, 600_000, 3.0, {}),
        ("mc-epsilon-greedy", TAXI, 600_000, 3.0, {}),
        ("mc-off-policy", TAXI, 1_000_000, 8.0, {}),
    ],
)
def test_control_that_takes_longer(name: str, env: str, steps: int, most: float, fields: dict[str, Any]) -> None:
    assert gap(train(name, env, steps, **fields), env, 0.99) < most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "steps", "most", "fields"),
    [
        ("FrozenLake-v1", 12_000_000, 0.1, {"episodes": 1000}),
        (TAXI, 10**9, 1e-9, {"episode_length": 30}),
    ],
)
def test_mc_basic_on_models(env: str, steps: int, most: float, fields: dict[str, Any]) -> None:
    mdp = FiniteMDP.from_env(gym.make(env))
    agent = train("mc-basic", mdp, steps, **fields)
    optimal, found = mdp.finite_horizon_values(3000, 0.99), mdp.finite_horizon_values(3000, 0.99, agent.policy_table())
    assert mdp.start @ (optimal - found) < most


AGENTS = ["mc-basic", "mc-exploring-starts", "mc-epsilon-greedy", "mc-off-policy"]


def make_env(kind: str) -> Any:
    if kind == "single":
        return gym.make("FrozenLake-v1")
    if kind == "native":
        return gym.make_vec(
            "gridzero/GridWorld-v0", 5, vectorization_mode="vector_entry_point", layout="frozen-lake-4x4"
        )
    return episodic_mdp(7, ends=0.02)


@pytest.mark.parametrize("kind", ["single", "native", "model"])
@pytest.mark.parametrize("name", AGENTS)
def test_interrupted_and_resumed_is_uninterrupted(name: str, kind: str) -> None:
    fields: dict[str, Any] = {"episode_length": 30}
    if name != "mc-basic":
        fields["episodes_per_update"] = 7
    whole: Any = gridzero.agents.make(name, make_env(kind), seed=3, **fields)
    updates = [update.metrics for update in itertools.islice(whole.learn(), 4)]
    first: Any = learn(gridzero.agents.make(name, make_env(kind), seed=3, **fields), 2)
    saved = first.state_dict()
    if kind != "single" and name in ("mc-epsilon-greedy", "mc-off-policy"):
        assert saved["lanes"]["lengths"].max() > 0  # in mid-episode
    second: Any = gridzero.agents.make(name, make_env(kind), seed=3, **fields)
    second.load_state_dict(saved)
    learn(first, 1)  # what was saved is a copy
    assert [update.metrics for update in itertools.islice(second.learn(), 2)] == updates[2:]
    assert_same_state(second.state_dict(), whole.state_dict())


def test_a_fixed_policy_is_resumed() -> None:
    mdp = episodic_mdp(8)
    agent: Any = gridzero.agents.make("mc-off-policy", mdp)
    agent.fix_policy(random_policy(0, mdp), random_policy(1, mdp))
    again: Any = gridzero.agents.make("mc-off-policy", mdp)
    again.load_state_dict(agent.state_dict())
    np.testing.assert_array_equal(again.policy_table(), random_policy(0, mdp))
    np.testing.assert_array_equal(again.exploring_policy_table(), random_policy(1, mdp))


@pytest.mark.parametrize("name", ["mc-basic", "mc-exploring-starts"])
def test_exploring_starts_need_an_environment_that_can_start_anywhere(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} puts the environment into each state, and BlackjackEnv cannot"):
        gridzero.agents.make(name, "Blackjack-v1")


def test_an_edited_map_is_noticed() -> None:
    env: Any = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5")
    agent: Any = gridzero.agents.make("mc-exploring-starts", env)
    assert 0 in agent.starts.states
    env.unwrapped.edit(0, 0, "#")
    assert 0 not in agent.starts.states
    learn(agent, 3)


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("mc-basic", "episodes", 0, "episodes must be at least 1, not 0"),
        ("mc-basic", "gamma", 1.5, "gamma must be between 0 and 1, not 1.5"),
        ("mc-epsilon-greedy", "episode_length", 0, "episode_length must be at least 1, not 0"),
        ("mc-epsilon-greedy", "epsilon", "2", "epsilon must never be above 1"),
        ("mc-epsilon-greedy", "step_size", "fast", "step_size must look like"),
        ("mc-off-policy", "importance_sampling", "heavy", "importance_sampling must be one of ordinary, weighted"),
    ],
)
def test_bad_fields(name: str, field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gridzero.agents.make(name, "FrozenLake-v1", **{field: value})


def test_bad_policies() -> None:
    mdp = episodic_mdp(9, states=3, actions=2)
    agent: Any = gridzero.agents.make("mc-off-policy", mdp)
    with pytest.raises(ValueError, match=r"a policy is \(3,\) action numbers or \(3, 2\) probabilities"):
        agent.fix_policy(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="must be a distribution"):
        agent.fix_policy(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="in state 0 the policy may take action 1 and the behaviour never does"):
        agent.fix_policy(np.array([1, 1, 1]), behaviour=np.array([0, 1, 1]))
