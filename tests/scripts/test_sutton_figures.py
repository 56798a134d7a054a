"""The figures of Sutton & Barto, with few repetitions: what they claim, and that repetitions are runs of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gridzero import figures
from gridzero.agents import make as make_agent
from gridzero.envs import FiniteMDP, GridWorld
from gridzero.envs.chains import random_walk
from gridzero.figures import blackjack_hands, changing_mazes, sutton_8_5
from gridzero.figures.repetitions import Repetitions, greedy_way, record


def module(name: str) -> Any:
    return figures.load(name)


def test_a_run_among_many_is_the_run_alone() -> None:
    """The same moves teach a run what they teach a learner that has nothing else: replayed one by one."""
    walk = random_walk(5)
    env = Repetitions(walk, 3, episodes=4)
    moves: list[tuple[np.ndarray, ...]] = []
    step = env.step

    def recorded(actions: Any) -> Any:
        before = env._states.copy()
        result = step(actions)
        moves.append((before, actions.copy(), result[1], result[0] - env._offsets, result[2]))
        return result

    env.step = recorded  # type: ignore[method-assign]
    agent: Any = make_agent("q-learning", env, gamma=0.9, step_size="0.3", steps_per_update=1)
    record(agent, env)
    expected = np.zeros((3, 7, 2))
    for before, actions, rewards, after, ended in moves:
        for run in range(3):
            target = rewards[run] + 0.9 * (0 if ended[run] else expected[run, after[run]].max())
            pair = run, before[run], actions[run]
            expected[pair] += 0.3 * (target - expected[pair])
    np.testing.assert_allclose(agent.action_values().reshape(3, 7, 2), expected, atol=1e-12)
    assert (env.ended >= 4).all()
    assert np.isin(env.returns, (0, 1)).all()
    assert env.lengths.min() >= 3


def test_the_value_of_the_hand_is_the_published_one() -> None:
    value = blackjack_hands.GAME.policy_values(blackjack_hands.stick_on_twenty(), 1.0)[blackjack_hands.HAND]
    assert value == pytest.approx(-0.27726, abs=0.0005)
    world, kept = blackjack_hands.led_to(blackjack_hands.GAME, blackjack_hands.HAND)
    policy = np.append(blackjack_hands.stick_on_twenty()[kept], 0)
    assert world.policy_values(policy, 1.0)[-1] == pytest.approx(value)


def test_importance_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures 5.3 and 5.4: ordinary errs more at first; where its variance is infinite, weighted is exact."""
    figure = module("sutton-5-3")
    monkeypatch.setattr(figure, "EPISODES", 60)
    monkeypatch.setattr(figure, "COUNTS", np.arange(1, 61))
    errors = {kind: ((figure.estimates(kind, 0, 60) + 0.2772) ** 2).mean() for kind in figure.KINDS}
    assert errors["weighted"] < 0.5 * errors["ordinary"]
    _, values = module("sutton-5-4").estimates("weighted", 3000, 0)
    np.testing.assert_allclose(values, 1.0)


def test_random_walks() -> None:
    """Example 6.2 and figure 7.2: TD beats Monte Carlo, four steps beat one and very many."""
    figure = module("sutton-example-6-2")
    assert figure.errors("TD", "0.1", 0, 20)[20:].mean() < 0.8 * figure.errors("MC", "0.03", 0, 20)[20:].mean()
    figure = module("sutton-7-2")
    assert figure.error(4, 0.4, 0, 20) < min(figure.error(1, 0.4, 0, 20), figure.error(64, 0.4, 0, 20)) - 0.05


def test_the_cliff() -> None:
    """Figure 6.3 at step size 1: expected Sarsa learns much faster than Sarsa."""
    figure = module("sutton-6-3")
    returns = {name: figure.mean_returns(name, 1.0, 50, 20, 0).mean() for name in ("expected-sarsa", "sarsa")}
    assert returns["expected-sarsa"] > returns["sarsa"] + 15


def test_maximisation_bias() -> None:
    figure = module("sutton-6-5")
    shares = {name: figure.left_shares(name, 0, 500) for name in figure.COLORS}
    assert shares["q-learning"].max() > 0.8
    assert shares["double-q-learning"][20:].max() < 0.45
    assert 0.05 < shares["q-learning"][-50:].mean() < 0.2


def test_mazes_that_change() -> None:
    """Figure 8.5, one run: only Dyna-Q+ is faster after a shortcut was opened than the old way allows."""
    rates = {}
    for name in changing_mazes.LEARNERS:
        earned = sutton_8_5.MAZE.earned(name, 0)
        rates[name] = changing_mazes.mean_rate(earned, 5000, 6000)
    assert rates["dyna-q"] < 1000 / 16 < rates["dyna-q-plus"]


def test_the_greedy_way() -> None:
    world = GridWorld(layout="dyna-maze").mdp
    values = np.zeros(world.num_states)
    for _ in range(50):
        values = world.action_values(values, 0.9).max(axis=1)
    assert len(greedy_way(world, world.action_values(values, 0.9))) == 15
    still = FiniteMDP([[[0]]], np.ones((1, 1, 1)), [[0.0]], terminal=[False], start=[1.0])  # type: ignore[arg-type]
    assert len(greedy_way(still, np.zeros((1, 1)), limit=7)) == 8
