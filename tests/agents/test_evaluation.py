"""Evaluation: intervals that cover as often as they say, optima that were published, and training left alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from scipy import stats

import gridzero
from gridzero.agents import Update, evaluate, evaluation
from gridzero.agents.checkpoint import flatten
from gridzero.agents.environments import make_environment
from gridzero.agents.evaluation import interval, wilson_interval
from gridzero.envs import FiniteMDP, GridWorld
from gridzero.envs.tasks import Problem

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3


def planner(env: Any, gamma: float = 0.99) -> gridzero.agents.Agent:
    agent = gridzero.agents.make("value-iteration", env, gamma=gamma)
    for _ in agent.learn():
        pass
    return agent


def test_frozen_lake_is_held_against_what_its_time_limit_allows() -> None:
    result = evaluate(planner("FrozenLake-v1"), episodes=10)
    assert result.limit == 100
    assert result.optimum == pytest.approx(0.7442, abs=5e-5)
    assert result.optimal_value == pytest.approx(0.54202593, abs=1e-7)
    assert result.value == pytest.approx(0.54202593, abs=1e-7)
    assert result.value_gap == pytest.approx(0.0, abs=1e-7)
    assert result.success is None


def test_the_larger_lake_too() -> None:
    result = evaluate(planner("FrozenLake8x8-v1"), episodes=1)
    assert result.limit == 200
    assert result.optimum == pytest.approx(0.9132, abs=5e-5)


def test_cliff_walking_without_a_time_limit() -> None:
    result = evaluate(planner("CliffWalking-v1", gamma=1.0), episodes=3)
    assert (result.mean, result.optimum, result.value, result.optimal_value) == (-13, -13, -13, -13)
    assert result.limit == 1000


def test_taxi_against_shortest_paths() -> None:
    """Taxi is deterministic: its optimum is 20 - (moves - 1) along shortest paths, here by breadth-first search."""
    env = gym.make(TAXI)
    table, start = env.unwrapped.P, env.unwrapped.initial_state_distrib  # type: ignore[attr-defined]
    distance = {
        state: 1 for state in table for moves in table[state].values() for _, _, _, terminated in moves if terminated
    }
    depth = 1
    while True:
        found = {
            state
            for state in table
            if state not in distance and any(distance.get(moves[0][1]) == depth for moves in table[state].values())
        }
        if not found:
            break
        depth += 1
        distance |= dict.fromkeys(found, depth)
    expected = sum(p * (21 - distance[state]) for state, p in enumerate(start) if p > 0)
    result = evaluate(planner(env), episodes=1)
    assert result.optimum == pytest.approx(expected, abs=1e-9)
    assert result.expected_return == pytest.approx(expected, abs=1e-9)


def test_a_shorter_time_limit_lowers_the_optimum() -> None:
    result = evaluate(planner(gym.make("FrozenLake-v1", is_slippery=False, max_episode_steps=5)), episodes=4)
    assert (result.mean, result.optimum, result.limit) == (0, 0, 5)
    result = evaluate(planner(gym.make("FrozenLake-v1", is_slippery=False, max_episode_steps=6)), episodes=4)
    assert (result.mean, result.optimum, result.mean_length) == (1, 1, 6)


def test_zhao_5x5_from_its_figure() -> None:
    """Fig. 3.4a: the mean of the optimal values over the 25 cells is the value of a random start."""
    figure = """5.8 5.6 6.2 6.5 5.8 6.5 7.2 8.0 7.2 6.5 7.2 8.0 10 8.0 7.2 8.0 10 10 10 8.0 7.2 9.0 10 9.0 8.1"""
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5", start="random")
    result = evaluate(planner(env, gamma=0.9), episodes=1)
    values = [float(word) for word in figure.split()]
    start = env.unwrapped.mdp.start  # type: ignore[attr-defined]
    assert result.optimal_value == pytest.approx(start @ values, abs=0.05)


def test_without_a_model_there_is_no_optimum() -> None:
    agent = gridzero.agents.make("q-learning", gym.make("Blackjack-v1"))
    result = evaluate(agent, episodes=20)
    assert (result.optimum, result.gap, result.value_gap, result.expected_return) == (None, None, None, None)
    assert -1 <= result.low <= result.mean <= result.high <= 1


def test_a_map_that_changes_with_each_episode_has_no_single_optimum() -> None:
    env = gym.make("gridzero/GridWorld-v0", layout="maze:7x7", regenerate=True)
    assert evaluate(gridzero.agents.make("q-learning", env), episodes=5).optimum is None


def test_an_improper_policy_without_discount_has_no_value() -> None:
    agent = gridzero.agents.make("q-learning", gym.make("CliffWalking-v1", max_episode_steps=50), gamma=1.0)
    result = evaluate(agent, episodes=2)  # it has learnt nothing: it walks into the wall for ever
    assert result.value is None
    assert result.optimal_value == pytest.approx(-13)
    assert result.expected_return == result.mean == -50


def test_a_bare_model() -> None:
    mdp = FiniteMDP.from_env(gym.make("FrozenLake-v1", is_slippery=False))
    result = evaluate(planner(mdp), episodes=5)
    assert (result.mean, result.mean_length, result.optimum) == (1, 6, 1)


def test_the_map_as_it_was_edited() -> None:
    env = gym.make("gridzero/GridWorld-v0", layout="S.G\n", target_terminal=True)
    assert evaluate(planner(env), episodes=3).mean == 1
    env.unwrapped.edit(0, 1, "#")  # type: ignore[attr-defined]
    result = evaluate(planner(env), episodes=3)
    assert result.success == 0
    assert result.optimum == pytest.approx(result.mean)


def test_policies_of_many_states_are_evaluated_by_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = planner("FrozenLake-v1", gamma=0.9)
    direct = evaluate(agent, episodes=1).value
    monkeypatch.setattr("gridzero.agents.evaluation.DIRECT_SOLVE_LIMIT", 0)
    assert evaluate(agent, episodes=1).value == pytest.approx(direct, abs=1e-8)


def test_a_stochastic_policy_against_the_model_itself() -> None:
    """The uniform policy of an untrained TD(0), against FiniteMDP's own evaluation."""
    agent = gridzero.agents.make("td0", gym.make("FrozenLake-v1"), gamma=0.9)
    uniform = np.full((16, 4), 0.25)
    np.testing.assert_array_equal(agent.policy_table(), uniform)  # type: ignore[attr-defined]
    mdp = FiniteMDP.from_env(agent.env)
    result = evaluate(agent, episodes=1)
    assert result.value == pytest.approx(mdp.policy_values(uniform, 0.9)[0], abs=1e-12)
    assert result.expected_return == pytest.approx(mdp.finite_horizon_values(100, policy=uniform)[0], abs=1e-12)


def test_a_single_episode_has_no_interval_and_its_record_is_still_json() -> None:
    result = evaluate(gridzero.agents.make("q-learning", "Blackjack-v1"), episodes=1)
    assert (result.low, result.high) == (-np.inf, np.inf)
    json.loads(json.dumps(result.to_json()), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("env_id", "options", "episodes"),
    [
        ("gridzero/GridWorld-v0", {"layout": "frozen-lake-4x4"}, 20_000),
        ("gridzero/GridWorld-v0", {"layout": "cliff", "slip": 0.2}, 20_000),
        ("FrozenLake-v1", {}, 600),
    ],
)
def test_the_sampled_mean_is_unbiased(env_id: str, options: dict[str, Any], episodes: int) -> None:
    """Within 3.9 standard errors (99.99 %); episodes differ in length, and short ones must not be favoured."""
    result = evaluate(planner(gym.make(env_id, **options)), episodes=episodes, seed=1)
    assert result.expected_return is not None
    error = (result.high - result.low) / (2 * 1.96)
    assert abs(result.mean - result.expected_return) < 3.9 * error


def test_intervals_of_evaluate_cover_the_exact_return() -> None:
    """Of 100 evaluations at 95 %, as many cover as the binomial distribution allows in 99.98 % of all cases."""
    agent = planner(gym.make("gridzero/GridWorld-v0", layout="frozen-lake-4x4"))
    results = [evaluate(agent, episodes=100, seed=seed) for seed in range(100)]
    assert results[0].expected_return is not None
    covered = sum(r.low <= results[0].expected_return <= r.high for r in results)
    assert stats.binom.ppf(1e-4, 100, 0.95) <= covered <= stats.binom.ppf(1 - 1e-4, 100, 0.95)


def test_students_interval_covers_as_often_as_it_says() -> None:
    """5,000 samples of 8 normal numbers; the share that covers within 3.9 standard errors of 0.95."""
    rng = np.random.default_rng(0)
    covered = sum(low <= 2 <= high for low, high in (interval(rng.normal(2, 3, 8)) for _ in range(5000)))
    assert abs(covered / 5000 - 0.95) < 3.9 * np.sqrt(0.95 * 0.05 / 5000)


def test_students_interval_is_scipys() -> None:
    sample = np.array([1.0, 2.5, -3.0, 4.0, 0.5])
    expected = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert interval(sample) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (500, 1000)])
def test_wilsons_interval_is_scipys(successes: int, trials: int) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_returns_at_the_ends_of_what_is_possible_are_a_rate() -> None:
    assert interval(np.ones(50), (0.0, 1.0)) == wilson_interval(50, 50)
    low, high = wilson_interval(3, 50)
    assert interval(np.repeat([-100.0, 0.0], [47, 3]), (-100.0, 0.0)) == pytest.approx(
        (100 * low - 100, 100 * high - 100)
    )


def test_returns_that_are_0_and_1_by_chance_are_not_a_rate() -> None:
    """The sample does not say that nothing else can happen."""
    sample = np.array([0.0, 1.0, 1.0, 1.0])
    expected = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert interval(sample) == pytest.approx((expected.low, expected.high))
    assert interval(np.ones(50)) == (1.0, 1.0)


def test_an_interval_stays_in_the_possible_range() -> None:
    assert interval(np.array([0.0, 0.5, 1.0, 1.0]), (0.0, 1.0))[1] == 1.0


class RareDisaster(gym.Env[int, int]):
    """Two steps; each costs 100 with probability 1 %, of which only a table tells."""

    observation_space = gym.spaces.Discrete(3)
    action_space = gym.spaces.Discrete(1)

    def __init__(self, told: bool) -> None:
        if told:
            self.P = {s: {0: [(0.99, s + 1, 0.0, s == 1), (0.01, s + 1, -100.0, s == 1)]} for s in range(2)}
            self.P[2] = {0: [(1.0, 2, 0.0, True)]}
            self.initial_state_distrib = np.eye(3)[0]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.s = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.s += 1
        return self.s, -100.0 * (self.np_random.random() < 0.01), self.s == 2, False, {}


def test_an_interval_that_a_rare_disaster_may_be_missing_from_says_so() -> None:
    """The exact return of -2 is covered, or there is a warning: in at least 93 % of 60 evaluations, at 99.9 %."""
    agent = gridzero.agents.make("q-learning", RareDisaster(told=False))
    results = [evaluate(agent, episodes=50, seed=seed) for seed in range(60)]
    silent = sum(not r.low <= -2 <= r.high and not r.warnings for r in results)
    assert silent <= stats.binom.ppf(0.999, 60, 0.07)
    assert any(r.warnings for r in results)
    assert all(r.to_json()["warnings"] == list(r.warnings) for r in results)


def test_rare_disasters_intervals_cover_in_93_percent_of_samples() -> None:
    """20,000 samples of 50 episodes of two steps; those without any disaster are the ones that are warned of."""
    rng = np.random.default_rng(0)
    returns = -100.0 * rng.binomial(2, 0.01, size=(20_000, 50))
    mean, error = returns.mean(axis=1), returns.std(axis=1, ddof=1) / np.sqrt(50)
    half = stats.t.ppf(0.975, 49) * error
    some = returns.min(axis=1) < 0
    assert interval(returns[some][0]) == pytest.approx((mean[some][0] - half[some][0], mean[some][0] + half[some][0]))
    covered = (np.abs(mean + 2) <= half) | ~some
    assert covered.mean() >= 0.93


def test_what_the_table_says_is_possible_bounds_the_interval() -> None:
    """A perfect sample of the model: no disaster, but the table tells of up to two."""
    agent = gridzero.agents.make("q-learning", RareDisaster(told=True))
    for seed in range(10):
        result = evaluate(agent, episodes=20, seed=seed)
        assert -200 <= result.low <= result.mean <= result.high <= 0
        assert result.expected_return == pytest.approx(-2)
        assert result.gap == pytest.approx(0)


def test_a_time_limit_that_is_too_short_is_warned_of() -> None:
    agent = gridzero.agents.make(
        "q-learning", gym.make("gridzero/GridWorld-v0", layout="maze:21x21:1", max_episode_steps=9)
    )
    (warning,) = evaluate(agent, episodes=2).warnings
    assert "cannot be reached" in warning
    assert "9 steps" in warning


def test_a_target_too_far_for_the_discount_is_warned_of() -> None:
    """At gamma 0.5 value iteration ends after 27 sweeps; the way is longer, and where no value is known, a maze."""
    env = make_environment("gridzero/GridWorld-v0", {"layout": "maze:15x15:0"})
    (warning,) = evaluate(planner(env, 0.5), episodes=1).warnings
    assert "a larger gamma" in warning
    assert evaluate(planner(env), episodes=1).warnings == ()


def test_an_optimum_that_would_take_long_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LONGEST_INDUCTION", 10_000)
    for slip, known in ((0.0, True), (0.2, False)):
        result = evaluate(planner(GridWorld("empty:5x5", slip=slip)), episodes=2)
        assert (result.optimum is not None, result.expected_return is not None) == (known, known)
        assert result.value_gap == pytest.approx(0, abs=1e-6)
        assert [("take long" in warning) for warning in result.warnings] == [True] * (not known)


@pytest.mark.parametrize(
    ("layout", "suffices"), [("maze:11x11:11", True), ("maze:21x21:0", True), ("maze:100x100:1", False)]
)
def test_mazes_have_a_time_limit_that_suffices(layout: str, suffices: bool) -> None:
    """The shortest way by the optimal values of the model: a step costs 1 in it."""
    mdp = GridWorld(layout).mdp
    fewest = -dataclasses.replace(mdp, rewards=np.full(mdp.rewards.shape, -1.0)).finite_horizon_values(10_000)[0]
    for num_envs in (None, 2):
        env: Any = make_environment("gridzero/GridWorld-v0", {"layout": layout}, num_envs)
        limit = env.spec.kwargs.get("max_episode_steps", env.spec.max_episode_steps)
        if suffices:
            assert limit == 200
        else:
            assert limit == fewest * 4 > 800
    result = evaluate(gridzero.agents.make("q-learning", "gridzero/GridWorld-v0"), env, episodes=1)
    assert result.warnings == ()
    assert result.optimum == 1


def test_success_is_absent_where_there_is_no_target() -> None:
    env = gym.make("gridzero/GridWorld-v0", layout="S.\n..\n")
    assert evaluate(gridzero.agents.make("q-learning", env), episodes=2).success is None


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others() -> None:
    agent = planner(gym.make("FrozenLake-v1"))
    first, again, other = (evaluate(agent, episodes=40, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert (first.mean, first.mean_length) != (other.mean, other.mean_length)


def test_parts_of_the_reward_have_a_mean_and_an_interval_each() -> None:
    class Counter(gridzero.agents.Agent):
        def learn(self) -> Iterator[Update]:
            yield from ()

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            pass

        def act(self, observations: Any, *, explore: bool = False) -> Any:
            return ["1" * (i % 4 + 1) for i in range(len(observations))]

    def length(problem: Problem, completions: Sequence[str]) -> list[float]:
        return [float(len(completion)) for completion in completions]

    env = gym.make("gridzero/TextGeneration-v0", rewards={"correct": 1.0, "brevity": 0.5, length: 0.0})
    result = evaluate(Counter(env, None), episodes=40)
    assert result.rewards["length"] == pytest.approx((2.5, *interval(np.tile([1.0, 2.0, 3.0, 4.0], 10))))
    assert [*result.to_json()["rewards"]] == ["brevity", "length"]


def test_success_is_reported_where_the_environment_says_so() -> None:
    result = evaluate(planner(gym.make("gridzero/GridWorld-v0", layout="frozen-lake-4x4")), episodes=500)
    assert result.success == result.mean
    assert (result.success_low, result.success_high) == pytest.approx((result.low, result.high))


@pytest.mark.parametrize("episodes", [0, -1])
def test_a_number_of_episodes_that_is_not_positive_is_refused(episodes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(planner("FrozenLake-v1"), episodes=episodes)


def test_evaluating_changes_nothing_in_a_learner_or_its_environment() -> None:
    def learner() -> Any:
        return gridzero.agents.make("q-learning", gym.make("FrozenLake-v1"), steps_per_update=130)

    plain, watched = learner(), learner()
    for _, (a, b) in zip(range(10), zip(plain.learn(), watched.learn(), strict=True), strict=False):
        evaluate(watched, episodes=3)
        assert a == b
    (tree, arrays), (tree_, arrays_) = flatten(plain.state_dict()), flatten(watched.state_dict())
    assert tree == tree_
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], arrays_[name])
