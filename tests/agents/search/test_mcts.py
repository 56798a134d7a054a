"""Monte Carlo tree search against exact optima."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.agents.periodic_evaluation import PeriodicEvaluation
from gridzero.agents.search.simulator import Simulator
from gridzero.agents.tabular.solver import solve
from gridzero.envs import FiniteMDP, GridWorld


def share_of_optimal_actions(agent: Any, mdp: FiniteMDP, every: int = 1) -> float:
    """Of the states in which it matters what is done."""
    gamma = agent.config.gamma
    q = mdp.action_values(solve(mdp, gamma, tolerance=1e-12).values, gamma)
    states = np.flatnonzero(~mdp.terminal & (np.ptp(q, axis=1) > 1e-9))[::every]
    chosen = q[states, agent.act(states)]
    return float((chosen >= q[states].max(axis=1) - 1e-9).mean())


def test_takes_the_optimal_action_on_the_slippery_lake() -> None:
    env = gym.make("FrozenLake-v1")
    agent = gridzero.agents.make("mcts", env, simulations=3000)
    assert share_of_optimal_actions(agent, FiniteMDP.from_env(env)) >= 0.95


@pytest.mark.parametrize("layout", ["maze:7x7:0", "maze:9x9:1"])
def test_takes_the_optimal_action_in_small_mazes(layout: str) -> None:
    env = GridWorld(layout)
    agent = gridzero.agents.make("mcts", env, simulations=2000)
    assert share_of_optimal_actions(agent, env.mdp, every=4) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "simulations"), [("four-rooms", 10_000), ("maze:15x15:0", 10_000), ("maze:15x15:1", 10_000)]
)
@pytest.mark.parametrize("seed", range(3))
def test_takes_the_optimal_action_in_larger_worlds(layout: str, simulations: int, seed: int) -> None:
    env = GridWorld(layout)
    agent = gridzero.agents.make("mcts", env, simulations=simulations, depth=1000, seed=seed)
    assert share_of_optimal_actions(agent, env.mdp, every=5) >= 0.95


def test_means_of_returns_find_the_better_of_two_actions() -> None:
    """UCT on a bandit of one step: 0.4 for sure, or 1 with probability 0.6."""
    mdp = FiniteMDP(
        [[[1, 1], [1, 1]], [[1, 1], [1, 1]]], np.full((2, 2, 2), 0.5), [[0.4, 0.6], [0, 0]], [False, True], [1, 0]
    )
    agent = gridzero.agents.make("mcts", mdp, simulations=500, backup="mean")
    found = agent.search(np.array([0]))[0]
    np.testing.assert_allclose(found.values, [0.4, 0.6])
    assert found.visits.sum() == 500
    assert agent.act(np.array([0])).tolist() == [1]


def test_a_guide_of_optimal_values_needs_few_simulations(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = gym.make("gridzero/GridWorld-v0", layout="maze:15x15:0")
    gridzero.agents.train(gridzero.agents.make("value-iteration", env), run="runs/best", evaluation_episodes=2)
    few = {"simulations": 12, "depth": 20}
    alone = gridzero.agents.make("mcts", env, **few)
    guided = gridzero.agents.make("mcts", env, guide="best", **few)
    assert guided.puct
    assert share_of_optimal_actions(guided, env.unwrapped.mdp) == 1.0
    assert share_of_optimal_actions(alone, env.unwrapped.mdp) < 0.6


def test_a_tree_of_histories_balances_a_pole_that_is_copied() -> None:
    agent = gridzero.agents.make("mcts", "CartPole-v1", simulations=30, depth=20, gamma=1.0)
    assert not agent.maxima
    result = gridzero.agents.evaluate(agent, gym.make("CartPole-v1", max_episode_steps=40), episodes=1)
    assert result.mean == 40  # random actions last for 22 steps, on average


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1"])
def test_a_tree_of_histories_is_evaluated_on_the_way(env_id: str) -> None:
    agent = gridzero.agents.make("mcts", env_id, simulations=2, depth=5)
    assert -1 <= PeriodicEvaluation(agent, planned=40).evaluate(20)["evaluation_return"] <= 500


def test_a_tree_of_histories_does_not_know_the_luck_to_come() -> None:
    """On the slippery lake, seen as one-hot, the start is worth what luck allows, not 1."""
    env = gym.make("gridzero/GridWorld-v0", layout="frozen-lake-4x4", observation="one_hot")
    agent = gridzero.agents.make("mcts", env, simulations=300, depth=60)
    observation, _ = env.reset(seed=0)
    found = agent.search([observation])[0]
    assert found.visits.sum() == 300
    assert 0 <= found.values.max() < 0.5  # the optimum is 0.542


def test_searching_leaves_the_environment_alone() -> None:
    env = gym.make("gridzero/GridWorld-v0", layout="frozen-lake-4x4", observation="one_hot")
    twin = gym.make("gridzero/GridWorld-v0", layout="frozen-lake-4x4", observation="one_hot")
    agent = gridzero.agents.make("mcts", env, simulations=20, depth=20)
    observation, _ = env.reset(seed=3)
    twin.reset(seed=3)
    for _ in range(5):
        action = agent.act([observation])[0]
        observation, *rest = env.step(action)
        other, *others = twin.step(action)
        np.testing.assert_array_equal(observation, other)
        assert rest[:3] == others[:3]
        if rest[1]:
            break


@pytest.mark.parametrize("more", [{}, {"layout": "maze:7x7", "regenerate": True}])
def test_simulations_begin_where_an_environment_of_a_vector_is(more: dict[str, Any]) -> None:
    vector: Any = gridzero.agents.environments.make_environment(
        "gridzero/GridWorld-v0", {"observation": "window", "slip": 0.3, **more}, 3
    )
    vector.reset(seed=5)
    single: Any = gridzero.agents.environments.remake_single(vector)
    for action in ([0, 1, 2], [3, 0, 1], [1, 2, 0]):
        vector.step(np.array(action))
    single.unwrapped.set_state(vector.unwrapped.state_of(1))
    simulator = Simulator(vector)
    begun = simulator.begin(simulator.snapshot(vector, 1), np.random.default_rng(0))
    assert begun.cell == vector.unwrapped.cells[1]
    for action in (0, 1, 1, 2):
        observations, *_ = vector.step(np.array([0, action, 0]))
        np.testing.assert_array_equal(single.unwrapped.step(action)[0], observations[1])
    agent = gridzero.agents.make("mcts", vector, simulations=3)
    agent.attend(vector, {})
    assert np.shape(agent.act(observations)) == (3,)


def test_an_environment_whose_copies_differ_is_refused() -> None:
    class Drifting(gym.Env[Any, Any]):
        observation_space, action_space = gym.spaces.Discrete(1 << 30), gym.spaces.Discrete(2)
        steps = 0

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
            return 0, {}

        def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
            Drifting.steps += 1  # shared by all copies
            return Drifting.steps, 0.0, False, False, {}

    with pytest.raises(ValueError, match="copies of it do not go the same way"):
        Simulator(Drifting())


def test_actions_that_are_not_discrete_are_refused() -> None:
    with pytest.raises(ValueError, match="discrete action space"):
        gridzero.agents.make("mcts", "Pendulum-v1")


def test_the_visits_of_the_search_from_here_are_a_layer() -> None:
    env = gym.make("gridzero/GridWorld-v0", layout="four-rooms", start=14)
    agent = gridzero.agents.make("mcts", env, simulations=100)
    env.reset(seed=0)
    agent.policy_table()
    visits = agent.search_visits()
    assert visits.shape == (169,)
    assert visits[14] >= 100
    assert visits[14] == visits.max()
    env.step(2)
    env.step(2)
    assert agent.search_visits()[env.unwrapped.cell] >= 100  # type: ignore[attr-defined]
