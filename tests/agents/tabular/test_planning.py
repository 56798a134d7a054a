from __future__ import annotations

import heapq
import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.agents.tabular.planning_kernels import pop, push
from gridzero.agents.tabular.solver import solve
from gridzero.envs import FiniteMDP


def test_the_queue_gives_the_largest_first() -> None:
    """Against Python's heap, with priorities that are raised and pairs that come back."""
    rng = np.random.default_rng(0)
    count = 40
    queue = (np.zeros(count, int), np.zeros(count), np.full(count, -1), np.zeros(1, int))
    waiting: dict[int, float] = {}
    for _ in range(1500):
        if waiting and rng.random() < 0.4:
            (largest, pair) = heapq.nsmallest(1, [(-priority, pair) for pair, priority in waiting.items()])[0]
            assert pop(queue) == pair
            assert waiting.pop(pair) == -largest
        else:
            pair, priority = int(rng.integers(count)), float(rng.random())
            push(queue, pair, priority)
            waiting[pair] = max(priority, waiting.get(pair, 0.0))
        assert queue[3][0] == len(waiting)
        assert {pair for pair in range(count) if queue[2][pair] >= 0} == set(waiting)


def test_the_lists_of_what_leads_to_a_state_are_those_of_the_model() -> None:
    """With two outcomes kept of each pair, on ice with three: they come and go all the time."""
    env = gym.make("FrozenLake-v1")
    agent: Any = gridzero.agents.make("prioritized-sweeping", env, model_outcomes=2, epsilon="1", steps_per_update=4000)
    next(agent.learn())
    memory = agent.memory
    kept = {
        (int(e), int(s)) for e, s in enumerate(memory["outcomes"].ravel()) if memory["counts"].ravel()[e] and s >= 0
    }
    found = set()
    for state in range(16):
        edge = memory["first_edges"][state]
        while edge >= 0:
            found.add((int(edge), state))
            edge = memory["next_edges"][edge]
    assert found == kept


def test_prioritized_sweeping_is_exact_in_a_certain_world() -> None:
    env = gym.make("gridzero/GridWorld-v0", layout="dyna-maze")
    agent: Any = gridzero.agents.make(
        "prioritized-sweeping", env, gamma=0.95, threshold=1e-9, epsilon="1", planning_steps=20, steps_per_update=30_000
    )
    next(agent.learn())
    mdp = FiniteMDP.from_env(env)
    expected = mdp.action_values(solve(mdp, 0.95).values, 0.95)
    tried = agent.tried()
    assert tried.mean() > 0.8
    np.testing.assert_allclose(agent.action_values()[tried], expected[tried], atol=1e-6)


def backups_until_optimal(name: str, seed: int) -> int:
    """Updates until the greedy way from the start is a shortest one (figure of example 8.4)."""
    env = gym.make("gridzero/GridWorld-v0", layout="dyna-maze", max_episode_steps=5000)
    agent: Any = gridzero.agents.make(
        name, env, planning_steps=5, gamma=0.95, step_size="1", epsilon="0.1", steps_per_update=20, seed=seed
    )
    model = FiniteMDP.from_env(env)
    start = int(model.start.argmax())
    for update in agent.learn():
        state, steps, best = start, 0, agent.action_values().argmax(axis=1)
        while not model.terminal[state] and steps < 14:
            state = int(model.successors[state, best[state], 0])
            steps += 1
        if model.terminal[state]:
            return int(agent.memory["backups"][0]) if "backups" in agent.memory else 6 * update.step
    raise AssertionError


def test_prioritized_sweeping_needs_fewer_updates_than_dyna() -> None:
    """Example 8.4: a factor of 5 to 10; here on one maze, 3 at the least, over 5 seeds."""
    counts = {
        name: np.mean([backups_until_optimal(name, seed) for seed in range(5)])
        for name in ("prioritized-sweeping", "dyna-q")
    }
    assert 3 * counts["prioritized-sweeping"] < counts["dyna-q"]


class Actions(gym.Wrapper[int, int, int, int]):
    """Keeps what was done."""

    def __init__(self, env: gym.Env[int, int]) -> None:
        super().__init__(env)
        self.taken: list[int] = []

    def step(self, action: int) -> Any:
        self.taken.append(action)
        return self.env.step(action)


def test_the_bonus_of_dyna_q_plus_by_hand() -> None:
    """One state, four actions: after each real step planning pays κ √τ for each, τ steps after its last.

    With γ = 0 and step size 1 a value is the reward, nothing before the first try, and the bonus of its last update.
    """
    env = Actions(gym.make("gridzero/GridWorld-v0", layout="SG\n"))
    agent: Any = gridzero.agents.make(
        "dyna-q-plus", env, gamma=0.0, step_size="1", bonus=0.01, planning_steps=200, steps_per_update=1, epsilon="0.5"
    )
    for update in itertools.islice(agent.learn(), 12):
        tried = {action: step for step, action in enumerate(env.taken, start=1)}
        for a in range(4):
            reward = {1: 1.0}.get(a, -1.0) if a in tried else 0.0
            bonus = 0.01 * (update.step - tried.get(a, 0)) ** 0.5
            assert agent.action_values()[0, a] == pytest.approx(reward + bonus)


def test_dyna_q_plus_finds_the_shortcut_and_dyna_q_does_not() -> None:
    """Example 8.3: the way through the left takes 16 steps; after 3,000 steps one of 10 is opened on the right."""
    found = {}
    for name, fields in (("dyna-q-plus", {"bonus": 1e-3}), ("dyna-q", {})):
        env: Any = gym.make("gridzero/GridWorld-v0", layout="shortcut-maze", max_episode_steps=10_000)
        agent: Any = gridzero.agents.make(
            name,
            env,
            planning_steps=50,
            model_outcomes=1,
            gamma=0.95,
            step_size="1",
            epsilon="0.1",
            steps_per_update=3000,
            **fields,
        )
        learning = agent.learn()
        next(learning)
        env.unwrapped.edit(3, 8, ".")
        next(learning)
        next(learning)
        model = FiniteMDP.from_env(env)
        start = int(model.start.argmax())
        found[name] = model.finite_horizon_values(10, policy=agent.policy_table())[start] == 1
    assert found == {"dyna-q-plus": True, "dyna-q": False}
