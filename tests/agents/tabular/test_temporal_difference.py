from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy import stats

import gridzero
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs import FiniteMDP

from .statistics import assert_means

ON_POLICY = ["sarsa", "expected-sarsa", "n-step-sarsa", "sarsa-lambda"]
OFF_POLICY = ["q-learning", "double-q-learning", "dyna-q", "prioritized-sweeping"]
PREDICTION = ["td0", "td-n-step"]
ALL = [*ON_POLICY, *OFF_POLICY, "dyna-q-plus", *PREDICTION]


class Script(gym.Env[int, int]):
    """Plays transitions (observation, reward, terminated, truncated) in turn, whatever is done; begins in state 0."""

    def __init__(self, *transitions: tuple[int, float, bool, bool], actions: int = 2) -> None:
        self.observation_space = gym.spaces.Discrete(8)
        self.action_space = gym.spaces.Discrete(actions)
        self.transitions = itertools.cycle(transitions)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return (*next(self.transitions), {})


class Recorder(gym.Wrapper[int, int, int, int]):
    """Keeps each episode's (state, action, reward)."""

    def __init__(self, env: gym.Env[int, int]) -> None:
        super().__init__(env)
        self.episodes: list[list[tuple[int, int, float]]] = []

    def reset(self, **options: Any) -> tuple[int, dict[str, Any]]:
        self.state, info = self.env.reset(**options)
        self.episodes.append([])
        return self.state, info

    def step(self, action: int) -> Any:
        result = self.env.step(action)
        self.episodes[-1].append((self.state, action, float(result[1])))
        self.state = result[0]
        return result


def make(name: str, env: Any, **fields: Any) -> Any:
    return gridzero.agents.make(name, env, **fields)


def learn(agent: Any, updates: int = 1) -> Any:
    for _ in itertools.islice(agent.learn(), updates):
        pass
    return agent


def assert_same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one.action_values(), other.action_values())
    np.testing.assert_array_equal(one.state_values(), other.state_values())


def chain(states: int, last_reward: float = 1.0) -> FiniteMDP:
    """The random walk of Sutton & Barto's example 6.2: ``states`` in a row between two ends, the right one pays."""
    ends = np.array([0, states + 1])
    successors = np.stack([np.arange(states + 2) - 1, np.arange(states + 2) + 1], axis=1).clip(0, states + 1)
    rewards = np.zeros((states + 2, 1))
    rewards[states] = last_reward / 2
    start = np.zeros(states + 2)
    start[(states + 1) // 2] = 1.0
    terminal = np.isin(np.arange(states + 2), ends)
    return FiniteMDP(successors[:, None, :], np.full((states + 2, 1, 2), 0.5), rewards, terminal, start)


def random_mdp(seed: int, states: int = 5, actions: int = 2, ends: float = 0.2) -> FiniteMDP:
    rng = np.random.default_rng(seed)
    successors = np.full((states, actions, 3), states - 1)
    successors[..., :2] = rng.integers(states - 1, size=(states, actions, 2))
    share = rng.uniform(0.2, 0.8, size=(states, actions))
    probabilities = np.stack([(1 - ends) * share, (1 - ends) * (1 - share), np.full_like(share, ends)], axis=2)
    start = np.append(np.full(states - 1, 1 / (states - 1)), 0.0)
    rewards = rng.normal(size=(states, actions))
    return FiniteMDP(successors, probabilities, rewards, np.arange(states) == states - 1, start)


Q = np.array([[1.0, 2.0], [5.0, 3.0], [7.0, 4.0], *[[0.0, 0.0]] * 5])


def after_one_step(name: str, terminated: bool, truncated: bool, **fields: Any) -> tuple[Any, int, int]:
    """The agent after 0 → 1 with reward 10, the action it took, and the one it takes next."""
    env = Script((1, 10.0, terminated, truncated))
    agent = make(name, env, gamma=0.5, step_size="0.1", epsilon="0.4", steps_per_update=1, seed=3, **fields)
    agent._action_values[:] = Q
    if name == "double-q-learning":
        agent.memory["tables"][:] = [Q, 2 * Q[:, ::-1]]
    agent.interaction.start()
    agent._begin()
    action = int(agent.memory["actions"][0])
    learn(agent)
    return agent, action, int(agent.memory["actions"][0])


@pytest.mark.parametrize(("terminated", "truncated"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("name", [*ON_POLICY, *OFF_POLICY])
def test_one_update_by_hand(name: str, terminated: bool, truncated: bool) -> None:
    fields = {"n-step-sarsa": {"n": 1}, "dyna-q": {"planning_steps": 0}}.get(name, {})
    agent, a, following = after_one_step(name, terminated, truncated, **fields)
    if name == "double-q-learning":
        # Table 0's best action in state 1 is 0, worth 2 · 3 in table 1; table 1's best is 1, worth 3 in table 0.
        updated = [
            (1 - 0.1) * table[0, a] + 0.1 * (10 + 0.5 * worth * (not terminated))
            for table, worth in ((Q, 6.0), (2 * Q[:, ::-1], 3.0))
        ]
        old = [Q[0, a], 2 * Q[0, 1 - a]]
        allowed = [(updated[0] + old[1]) / 2, (old[0] + updated[1]) / 2]
        assert min(abs(agent.action_values()[0, a] - value) for value in allowed) < 1e-12
        return
    if name in ON_POLICY and name != "expected-sarsa":
        successors = [Q[1, following]] if not truncated else [Q[1, 0], Q[1, 1]]
    else:
        successors = [0.6 * 5 + 0.4 * (5 + 3) / 2 if name == "expected-sarsa" else 5.0]
    worths = [0.0] if terminated else successors
    expected = [Q[0, a] + 0.1 * (10 + 0.5 * worth - Q[0, a]) for worth in worths]
    assert min(abs(agent.action_values()[0, a] - value) for value in expected) < 1e-12
    untouched = np.ones_like(Q, dtype=bool)
    untouched[0, a] = False
    np.testing.assert_array_equal(agent.action_values()[untouched], Q[untouched])


@pytest.mark.parametrize(("terminated", "truncated"), [(False, False), (True, False), (False, True)])
def test_td0_by_hand(terminated: bool, truncated: bool) -> None:
    env = Script((1, 10.0, terminated, truncated))
    agent = make("td0", env, gamma=0.5, step_size="0.1", initial_value=4.0, steps_per_update=1)
    agent = learn(agent)
    worth = 0.0 if terminated else 4.0
    assert agent.state_values()[0] == pytest.approx(4 + 0.1 * (10 + 0.5 * worth - 4))


@pytest.mark.parametrize("name", ALL)
def test_a_cut_off_episode_is_not_worth_nothing(name: str) -> None:
    """A single state that pays 1 for ever, cut off every third step: worth 1 / (1 - gamma) = 2 all the same."""
    fields: dict[str, Any] = {} if name in PREDICTION else {"epsilon": "1"}
    plans = {"dyna-q-plus": {"bonus": 1e-12}, "prioritized-sweeping": {"threshold": 1e-12}}
    fields |= plans.get(name, {})
    env = Script((0, 1.0, False, False), (0, 1.0, False, False), (0, 1.0, False, True))
    agent = learn(make(name, env, gamma=0.5, step_size="0.2", steps_per_update=2000, **fields))
    np.testing.assert_allclose(agent.action_values()[0], 2.0, atol=1e-6)
    env = Script((0, 1.0, False, False), (1, 1.0, True, False))
    agent = learn(make(name, env, gamma=0.5, step_size="1/k^0.7", steps_per_update=4000, **fields))
    # Half of the visits are the last step (worth 1), half the first (1 + gamma v): v = 1 + v / 4.
    assert agent.state_values()[0] == pytest.approx(4 / 3, abs=0.1)


def test_the_step_size_goes_by_the_visits_of_the_pair() -> None:
    """With 1/k and gamma 0 each value is the plain mean of its rewards."""
    env = Recorder(Script((1, 1.0, False, False), (0, 4.0, False, False), (1, 2.0, True, False), actions=2))
    agent = learn(make("q-learning", env, gamma=0.0, step_size="1/k", epsilon="1", steps_per_update=999))
    seen: dict[tuple[int, int], list[float]] = {}
    for state, action, reward in itertools.chain(*env.episodes):
        seen.setdefault((state, action), []).append(reward)
    for pair, rewards in seen.items():
        assert agent.action_values()[pair] == pytest.approx(np.mean(rewards))


def test_exploration_goes_by_the_episode() -> None:
    env = Script((1, 0.0, False, False), (2, 0.0, True, False))
    agent = make("q-learning", env, epsilon="1/k", steps_per_update=2)
    assert [update.metrics["epsilon"] for update in itertools.islice(agent.learn(), 3)] == [1 / 2, 1 / 3, 1 / 4]


def test_exploring_frequencies() -> None:
    """Of 40,000 choices with epsilon 0.3 and two equal best of four actions: chi-square, 99.9 %."""
    env = Script((0, 0.0, False, False), actions=4)
    agent = make("q-learning", env, epsilon="0.3", step_size="1e-300", steps_per_update=40_000)
    agent._action_values[0] = [1.0, 2.0, 2.0, 0.0]
    learn(agent)
    expected = np.array([0.075, 0.425, 0.425, 0.075])
    np.testing.assert_allclose(agent.exploring_policy_table()[0], expected)
    assert stats.chisquare(agent.memory["visits"][0], 40_000 * expected).pvalue > 0.001


@pytest.mark.parametrize(
    ("one", "fields", "other", "shared"),
    [
        ("n-step-sarsa", {"n": 1}, "sarsa", {"epsilon": "0.1"}),
        ("sarsa-lambda", {"trace_decay": 0.0, "trace": "accumulating"}, "sarsa", {"epsilon": "0.1"}),
        ("sarsa-lambda", {"trace_decay": 0.0, "trace": "replacing"}, "sarsa", {"epsilon": "0.1"}),
        ("expected-sarsa", {}, "q-learning", {"epsilon": "0"}),
        ("dyna-q", {"planning_steps": 0}, "q-learning", {}),
        ("dyna-q-plus", {"planning_steps": 0}, "q-learning", {}),
        ("td-n-step", {"n": 1}, "td0", {}),
    ],
)
def test_special_cases_are_exact(one: str, fields: dict[str, Any], other: str, shared: dict[str, Any]) -> None:
    agents = [
        learn(make(name, gym.make("FrozenLake-v1"), seed=4, **shared, **extra), 5)
        for name, extra in ((one, fields), (other, {}))
    ]
    assert agents[1].action_values().any() or shared
    assert_same(*agents)


def test_true_online_sarsa_without_lambda_is_sarsa() -> None:
    shared = {"epsilon": "1", "seed": 4, "gamma": 0.9}
    one = learn(make("sarsa-lambda", gym.make("CliffWalking-v1"), trace_decay=0.0, trace="dutch", **shared), 5)
    other = learn(make("sarsa", gym.make("CliffWalking-v1"), **shared), 5)
    np.testing.assert_allclose(one.action_values(), other.action_values(), rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("sarsa-lambda", {"trace_decay": 1.0, "trace": "dutch"}), ("n-step-sarsa", {"n": 600})],
)
def test_without_bootstrapping_it_is_monte_carlo(name: str, fields: dict[str, Any]) -> None:
    """Every-visit Monte Carlo with a constant step size, pairs visited several times included (section 12.6)."""
    env = Recorder(gym.make("FrozenLake-v1", max_episode_steps=500))
    agent = make(name, env, gamma=0.9, step_size="0.2", epsilon="1", steps_per_update=1, initial_value=0.5, **fields)
    expected = np.full((16, 4), 0.5)
    learnt = 0
    for update in itertools.islice(agent.learn(), 1500):
        if "episode_return" not in update.metrics:
            continue
        value, returns = 0.0, []
        for *_, reward in reversed(env.episodes[learnt]):
            value = reward + 0.9 * value
            returns.append(value)
        for (state, action, _), target in zip(env.episodes[learnt], reversed(returns), strict=True):
            expected[state, action] += 0.2 * (target - expected[state, action])
        learnt += 1
        np.testing.assert_allclose(agent.action_values(), expected, atol=1e-10)
    assert learnt > 100
    assert any(len({pair[:2] for pair in episode}) < len(episode) for episode in env.episodes)


@pytest.mark.parametrize("trace", ["accumulating", "replacing", "dutch"])
def test_traces_reach_back_as_the_returns_say(trace: str) -> None:
    """Where no pair comes twice, lambda = 1 is Monte Carlo for each kind of trace."""
    env = Script(*[(state, float(state), state == 5, False) for state in range(1, 6)], actions=1)
    agent = make("sarsa-lambda", env, gamma=0.9, step_size="0.3", trace_decay=1.0, trace=trace, steps_per_update=5)
    returns = [sum(0.9 ** (k - s) * (k + 1) for k in range(s, 5)) for s in range(5)]
    np.testing.assert_allclose(learn(agent).action_values()[:5, 0], 0.3 * np.array(returns))


@pytest.mark.parametrize("trace", ["accumulating", "replacing"])
def test_repeated_visits(trace: str) -> None:
    """One state visited twice, then the end paying 1: traces 1 + gamma lambda, or 1, times the last error."""
    env = Script((0, 0.0, False, False), (1, 1.0, True, False), actions=1)
    agent = make("sarsa-lambda", env, gamma=0.5, step_size="0.1", trace_decay=0.8, trace=trace, steps_per_update=2)
    expected = 0.1 * (1.4 if trace == "accumulating" else 1.0)
    assert learn(agent).action_values()[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("name", [*PREDICTION, *ON_POLICY])
def test_prediction_is_within_its_confidence_interval(name: str) -> None:
    mdp = random_mdp(1)
    values = mdp.policy_values(np.full((5, 2), 0.5), 0.9)
    expected = mdp.action_values(values, 0.9)[:-1]
    fields: dict[str, Any] = {} if name in PREDICTION else {"epsilon": "1"}
    agents = [
        learn(
            make(
                name,
                SimulatedMDP(mdp, 128),
                seed=seed,
                gamma=0.9,
                step_size="1/k^0.8",
                steps_per_update=60_000,
                **fields,
            )
        )
        for seed in range(10)
    ]
    assert_means(np.array([agent.action_values()[:-1] for agent in agents]), expected, width=0.1, bias=0.01)
    if name in PREDICTION:
        assert_means(np.array([agent.state_values()[:-1] for agent in agents]), values[:-1], width=0.1, bias=0.01)


@pytest.mark.parametrize("name", OFF_POLICY)
@pytest.mark.parametrize("seed", [0, 1])
def test_control_finds_the_optimal_values(name: str, seed: int) -> None:
    mdp = random_mdp(seed + 5)
    agent = learn(
        make(
            name,
            SimulatedMDP(mdp, 128),
            seed=seed,
            gamma=0.9,
            step_size="1/k^0.8",
            epsilon="0.5",
            steps_per_update=200_000,
        )
    )
    values = np.zeros(5)
    for _ in range(300):
        values = mdp.action_values(values, 0.9).max(axis=1)
    np.testing.assert_allclose(agent.action_values()[:-1], mdp.action_values(values, 0.9)[:-1], atol=0.06)


def test_td0_evaluates_the_optimal_and_any_given_policy() -> None:
    env = gym.make("CliffWalking-v1", max_episode_steps=100)
    agent = learn(make("td0", env, gamma=0.9, step_size="1", policy="optimal", steps_per_update=2000))
    assert agent.state_values()[36] == pytest.approx(-(1 - 0.9**13) / 0.1)
    agent.fix_policy(np.zeros(48, dtype=int))
    learn(agent, 5)
    # Always up: it never ends, and each episode that is cut off goes on in value.
    assert agent.state_values()[0] == pytest.approx(-10, abs=1e-3)
    assert set(agent.act(np.array([0, 36]))) == {0}


def test_random_walk_errors() -> None:
    """Figure 6.2, right: the RMS error of TD(0) with step size 0.05 after 100 episodes is about 0.05."""
    mdp = chain(5)
    exact = np.arange(1, 6) / 6
    np.testing.assert_allclose(mdp.policy_values(np.zeros(7, dtype=int), 1.0)[1:-1], exact)
    errors = []
    for seed in range(20):
        agent = make(
            "td0", SimulatedMDP(mdp, 1), gamma=1.0, step_size="0.05", initial_value=0.5, steps_per_update=1, seed=seed
        )
        learning = agent.learn()
        while agent.interaction.episodes < 100:
            next(learning)
        errors.append(np.sqrt(np.mean((agent.state_values()[1:-1] - exact) ** 2)))
    mean, reach = np.mean(errors), stats.t.ppf(0.995, 19) * np.std(errors, ddof=1) / np.sqrt(20)
    assert 0.03 < mean - reach < mean + reach < 0.07


def test_more_steps_in_the_target_err_less_on_the_long_walk() -> None:
    """Figure 7.2: over the first 10 episodes of the 19-state walk, at step size 0.4, n = 4 beats n = 1 and n = 64."""
    mdp = chain(19, last_reward=2.0)
    exact = mdp.policy_values(np.zeros(21, dtype=int), 1.0)[1:-1]
    errors = {}
    for n in (1, 4, 64):
        runs = []
        for seed in range(12):
            agent = make(
                "n-step-sarsa",
                SimulatedMDP(mdp, 1),
                n=n,
                gamma=1.0,
                step_size="0.4",
                initial_value=1.0,
                steps_per_update=1,
                seed=seed,
            )
            learning, seen = agent.learn(), []
            while len(seen) < 10:
                if "episode_return" in next(learning).metrics:
                    seen.append(np.sqrt(np.mean((agent.state_values()[1:-1] - exact) ** 2)))
            runs.append(np.mean(seen))
        errors[n] = np.array(runs)
    for worse in (1, 64):
        assert stats.ttest_rel(errors[worse], errors[4], alternative="greater").pvalue < 0.001


def test_the_cliff() -> None:
    """Example 6.6: with epsilon 0.1, Sarsa learns the safe way (-25 an episode), Q-learning walks the edge (-50)."""
    returns: dict[str, list[float]] = {"sarsa": [], "q-learning": []}
    for name, means in returns.items():
        for seed in range(3):
            env = gym.make("CliffWalking-v1")
            agent = make(name, env, gamma=1.0, step_size="0.5", epsilon="0.1", steps_per_update=4000, seed=seed)
            late = [update.metrics["episode_return"] for update in itertools.islice(agent.learn(), 4)][1:]
            means.append(float(np.mean(late)))
            if name == "q-learning":
                assert agent.state_values()[36] == pytest.approx(-13, abs=0.01)
                state, steps = 36, 0
                while state != 47:
                    action = int(agent.act(np.array([state]))[0])
                    state = env.unwrapped.P[state][action][0][1]  # type: ignore[attr-defined]
                    steps += 1
                assert steps == 13
    assert -32 < np.mean(returns["sarsa"]) < -20
    assert -60 < np.mean(returns["q-learning"]) < -40


class Bias(gym.Env[int, int]):
    """Example 6.7 with all actions in both states: in A (0) even ones end, odd ones go to B (1), which loses 0.1."""

    observation_space = gym.spaces.Discrete(3)
    action_space = gym.spaces.Discrete(8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if self.state == 0 and action % 2 == 1:
            self.state = 1
            return 1, 0.0, False, False, {}
        reward = 0.0 if self.state == 0 else float(self.np_random.normal(-0.1, 1.0))
        return 2, reward, True, False, {}


def test_maximisation_bias() -> None:
    """Figure 6.5: in the first 200 episodes Q-learning goes to B more often than double Q-learning does."""
    lost: dict[str, list[float]] = {"q-learning": [], "double-q-learning": []}
    for name, shares in lost.items():
        for seed in range(25):
            agent = make(name, Bias(), gamma=1.0, step_size="0.1", epsilon="0.1", steps_per_update=1, seed=seed)
            learning = agent.learn()
            while agent.interaction.episodes < 200:
                next(learning)
            shares.append(agent.interaction.steps / agent.interaction.episodes - 1)
    test = stats.ttest_ind(lost["q-learning"], lost["double-q-learning"], alternative="greater")
    assert test.pvalue < 0.001


def test_planning_needs_fewer_episodes() -> None:
    """Figure 8.2: in the maze of example 8.1, 50 planning steps reach short episodes within 5, none needs many more."""
    lengths: dict[int, list[list[int]]] = {0: [], 50: []}
    for planning_steps, runs in lengths.items():
        for seed in range(5):
            env = gym.make("gridzero/GridWorld-v0", layout="dyna-maze", max_episode_steps=5000)
            agent = make(
                "dyna-q",
                env,
                planning_steps=planning_steps,
                gamma=0.95,
                step_size="0.1",
                epsilon="0.1",
                steps_per_update=1,
                seed=seed,
            )
            learning = agent.learn()
            lasting: list[int] = []
            while len(lasting) < 10:
                metrics = next(learning).metrics
                if "episode_length" in metrics:
                    lasting.append(int(metrics["episode_length"]))
            runs.append(lasting)
    with_plans, without = np.array(lengths[50])[:, 5:], np.array(lengths[0])[:, 5:]
    assert with_plans.mean() < 25  # the shortest way takes 14
    assert without.mean() > 60


def test_the_model_of_dyna_counts_outcomes() -> None:
    """Of a random transition with three outcomes all are counted, as often as they came: chi-square, 99.9 %."""
    agent = learn(make("dyna-q", gym.make("FrozenLake-v1"), epsilon="1", steps_per_update=20_000))
    pair = 0 * 4 + 2  # right, from the start: stays above, right, or down
    counts, outcomes = agent.memory["counts"][pair], agent.memory["outcomes"][pair]
    assert sorted(outcomes[counts > 0]) == [0, 1, 4]
    assert counts.sum() == agent.memory["visits"][0, 2]
    assert stats.chisquare(counts[counts > 0]).pvalue > 0.001
    ends = agent.memory["outcomes"][4 * 4 : 5 * 4][agent.memory["counts"][4 * 4 : 5 * 4] > 0]
    assert -1 in ends  # the hole beside state 4 ends the episode


@pytest.mark.parametrize("name", ["q-learning", "sarsa-lambda", "td0"])
def test_blackjack(name: str) -> None:
    """A tuple of spaces for observations; the values of clear hands come out in the right order."""
    agent = learn(make(name, gym.make("Blackjack-v1"), step_size="1/k^0.6", gamma=1.0, steps_per_update=15_000))
    values = agent.action_values()
    twenty = agent.states.number((20, 10, 0))
    assert values[twenty, 0] > values[twenty, 1]  # stick on 20
    assert agent.state_values()[twenty] > agent.state_values()[agent.states.number((13, 10, 0))] - 0.2 * (
        name in PREDICTION
    )


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", ALL)
def test_a_vector_of_one_is_the_single_environment(name: str, mode: AutoresetMode) -> None:
    def cliff() -> gym.Env[Any, Any]:
        return gym.make("CliffWalking-v1", max_episode_steps=50)

    # NEXT_STEP spends a call on each reset, so both are compared after the same number of steps, not of calls.
    single = make(name, cliff(), steps_per_update=1, seed=2, gamma=0.9)
    vector = make(name, SyncVectorEnv([cliff], autoreset_mode=mode), steps_per_update=1, seed=2, gamma=0.9)
    for agent in (single, vector):
        learning = agent.learn()
        while agent.interaction.steps < 3000:
            next(learning)
    assert single.interaction.episodes == vector.interaction.episodes > 10
    assert_same(single, vector)


@pytest.mark.parametrize("name", ALL)
def test_a_native_vector_solves_the_lake(name: str) -> None:
    env = gym.make_vec("gridzero/GridWorld-v0", 64, layout="frozen-lake-4x4", vectorization_mode="vector_entry_point")
    agent = learn(make(name, env, gamma=0.99, steps_per_update=2_000_000 if name in PREDICTION else 400_000))
    mdp = FiniteMDP.from_env(env)
    if name in PREDICTION:
        expected = mdp.policy_values(np.full((16, 4), 0.25), 0.99)
        np.testing.assert_allclose(agent.state_values()[~mdp.terminal], expected[~mdp.terminal], atol=0.02)
        return
    value = float(mdp.policy_values(agent.policy_table(), 0.99) @ mdp.start)
    assert value > 0.542 * 0.95  # the optimum is 0.54202593


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("q-learning", {"gamma": 1.5}, "gamma must be between 0 and 1, not 1.5"),
        ("q-learning", {"step_size": "2"}, "step_size must never be above 1"),
        ("q-learning", {"epsilon": "often"}, "epsilon must look like"),
        ("q-learning", {"steps_per_update": 0}, "steps_per_update must be at least 1, not 0"),
        ("q-learning", {"initial_value": float("nan")}, "initial_value must be a finite number"),
        ("n-step-sarsa", {"n": 0}, "n must be at least 1, not 0"),
        ("sarsa-lambda", {"trace_decay": -0.1}, "trace_decay must be between 0 and 1"),
        ("sarsa-lambda", {"trace": "dutsch"}, "trace must be one of accumulating, replacing, dutch, not 'dutsch'"),
        ("dyna-q", {"planning_steps": -1}, "planning_steps must be at least 0"),
        ("td-n-step", {"n": 0}, "n must be at least 1, not 0"),
        ("dyna-q-plus", {"bonus": 0.0}, "bonus must be above 0, not 0.0"),
        ("prioritized-sweeping", {"planning_steps": 0}, "planning_steps must be at least 1, not 0"),
        ("prioritized-sweeping", {"threshold": float("inf")}, "threshold must be finite"),
        ("dyna-q", {"model_outcomes": 0}, "model_outcomes must be at least 1"),
        ("td0", {"policy": "best"}, "policy must be one of uniform, optimal, not 'best'"),
    ],
)
def test_bad_settings_are_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, "FrozenLake-v1", **fields)


def test_a_state_of_another_agent_is_refused() -> None:
    state = make("sarsa-lambda", "FrozenLake-v1").state_dict()
    with pytest.raises(ValueError, match="this agent and environment need"):
        make("sarsa", "FrozenLake-v1").load_state_dict(state)
    with pytest.raises(ValueError, match="this agent and environment need"):
        make("sarsa-lambda", "CliffWalking-v1").load_state_dict(state)


@pytest.mark.parametrize("name", ["sarsa", "expected-sarsa", "q-learning"])
@pytest.mark.parametrize(
    "options",
    [
        {"layout": "frozen-lake-4x4", "max_episode_steps": 7},
        {"layout": "maze:5x5", "start": "random", "actions": 5, "slip": 0.3, "slip_to": "any"},
    ],
    ids=["lake", "maze"],
)
def test_stepping_and_learning_in_one_kernel_comes_to_the_same(name: str, options: dict[str, Any]) -> None:
    """A wrapper hides the worlds from the learner, which then lets the vector take its steps."""
    one, other, resumed = (
        make(name, wrap(gym.make_vec("gridzero/GridWorld-v0", 64, **options)), seed=3, epsilon="0.3")
        for wrap in (lambda env: env, gym.wrappers.vector.RecordEpisodeStatistics, lambda env: env)
    )
    assert one.interaction.worlds is not None
    assert other.interaction.worlds is None
    assert list(itertools.islice(one.learn(), 3)) == list(itertools.islice(other.learn(), 3))
    assert_same(one, other)
    resumed.load_state_dict(one.state_dict())
    learn(other, 2)
    assert list(itertools.islice(one.learn(), 2)) == list(itertools.islice(resumed.learn(), 2))
    assert_same(one, resumed)
    assert_same(one, other)
