from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

import gridzero
from gridzero.agents.tabular.dynamic_programming import Planner, PolicyIteration, ValueIteration
from gridzero.envs.mdp import FiniteMDP

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3

SWEEPS = ["synchronous", "in-place", "gauss-seidel"]


def random_mdp(seed: int, states: int = 12, actions: int = 3, outcomes: int = 3, terminal: int = 2) -> FiniteMDP:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(outcomes, 0.7), size=(states, actions))
    ends = np.zeros(states, dtype=np.bool_)
    ends[rng.permutation(states)[:terminal]] = True
    return FiniteMDP(
        successors=rng.integers(0, states, (states, actions, outcomes)),
        probabilities=probabilities,
        rewards=rng.normal(size=(states, actions)).round(1),
        terminal=ends,
        start=np.full(states, 1 / states),
    )


def chain(rewards: float, back: float = 0.3) -> FiniteMDP:
    """A corridor of five cells whose left end is terminal: action 0 goes left but may slip right, action 1 stays."""
    states = 5
    successors = np.zeros((states, 2, 2), dtype=np.int32)
    probabilities = np.zeros((states, 2, 2))
    for s in range(states):
        successors[s, 0] = max(s - 1, 0), min(s + 1, states - 1)
        probabilities[s, 0] = 1 - back, back
        successors[s, 1] = s
        probabilities[s, 1, 0] = 1
    return FiniteMDP(
        successors, probabilities, np.full((states, 2), rewards), np.arange(states) == 0, np.eye(states)[4]
    )


def two_states() -> FiniteMDP:
    """Zhao, section 4.2: left, stay, right; the boundary and s1 cost 1, s2 pays 1."""
    return FiniteMDP(
        successors=[[[0], [0], [1]], [[0], [1], [1]]],
        probabilities=np.ones((2, 3, 1)),
        rewards=[[-1, 0, 1], [0, 1, -1]],
        terminal=[False, False],
        start=[1, 0],
    )


def zhao_grid(
    height: int, width: int, forbidden: set[tuple[int, int]], target: tuple[int, int], cost: float
) -> FiniteMDP:
    """Zhao's grids, cells 1-based: up, right, down, left, stay; boundary -1, target 1 and not absorbing."""
    successors = np.zeros((height * width, 5, 1), dtype=np.int32)
    rewards = np.zeros((height * width, 5))
    for row in range(1, height + 1):
        for column in range(1, width + 1):
            for a, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1), (0, 0)]):
                to = row + down, column + right
                s = (row - 1) * width + column - 1
                if not (1 <= to[0] <= height and 1 <= to[1] <= width):
                    to = row, column
                    rewards[s, a] = -1.0
                elif to == target:
                    rewards[s, a] = 1.0
                elif to in forbidden:
                    rewards[s, a] = cost
                successors[s, a, 0] = (to[0] - 1) * width + to[1] - 1
    states = height * width
    return FiniteMDP(
        successors, np.ones((states, 5, 1)), rewards, np.zeros(states, dtype=np.bool_), np.full(states, 1 / states)
    )


ZHAO_5X5 = {(2, 2), (2, 3), (3, 3), (4, 2), (4, 4), (5, 2)}


def planner(name: str, env: Any, **fields: Any) -> Planner:
    agent = gridzero.agents.make(name, env, **fields)
    assert isinstance(agent, Planner)
    return agent


def run(agent: Planner, updates: int | None = None) -> list[gridzero.agents.Update]:
    seen = []
    for update in agent.learn():
        seen.append(update)
        if len(seen) == updates:
            break
        assert len(seen) < 100_000
    return seen


def linear_program(mdp: FiniteMDP, gamma: float) -> NDArray[np.float64]:
    """min sum v subject to v(s) >= r(s, a) + gamma P(s, a) v (Puterman, section 6.9)."""
    live = np.flatnonzero(~mdp.terminal)
    rows = (live[:, None] * mdp.num_actions + np.arange(mdp.num_actions)).reshape(-1)
    own = sparse.csr_matrix(
        (np.ones(rows.size), (np.arange(rows.size), rows // mdp.num_actions)), (rows.size, mdp.num_states)
    )
    bounds = [(0, 0) if ends else (None, None) for ends in mdp.terminal]
    found = linprog(
        np.ones(mdp.num_states),
        A_ub=gamma * mdp.transition_matrix[rows] - own,
        b_ub=-mdp.rewards.reshape(-1)[rows],
        bounds=bounds,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert found.success, found.message
    return np.asarray(found.x)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    states=st.integers(1, 25),
    actions=st.integers(1, 4),
    outcomes=st.integers(1, 4),
    terminal=st.integers(0, 3),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
)
def test_all_methods_and_a_linear_program_agree(
    seed: int, states: int, actions: int, outcomes: int, terminal: int, gamma: float
) -> None:
    mdp = random_mdp(seed, states, actions, outcomes, terminal)
    expected = linear_program(mdp, gamma)
    found = {"policy-iteration": planner("policy-iteration", mdp, gamma=gamma)}
    for sweep in SWEEPS:
        found[f"vi {sweep}"] = planner("value-iteration", mdp, gamma=gamma, sweep=sweep, tolerance=1e-12)
        found[f"tpi {sweep}"] = planner(
            "truncated-policy-iteration", mdp, gamma=gamma, sweep=sweep, evaluation_sweeps=7, tolerance=1e-12
        )
    for name, agent in found.items():
        run(agent)
        np.testing.assert_allclose(agent.state_values(), expected, atol=1e-9, rtol=0, err_msg=name)
        greedy = mdp.policy_values(agent.policy_table(), gamma)
        np.testing.assert_allclose(greedy, expected, atol=1e-8, rtol=0, err_msg=f"policy of {name}")
        np.testing.assert_allclose(agent.action_values(), mdp.action_values(expected, gamma), atol=1e-9)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0.0, 0.99))
def test_policy_iteration_never_lowers_a_value(seed: int, gamma: float) -> None:
    agent = planner("policy-iteration", random_mdp(seed, 20, 4), gamma=gamma)
    values = [agent.state_values() for _ in agent.learn()]
    for before, after in itertools.pairwise(values):
        assert (after >= before - 1e-10).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0.0, 1.0), scale=st.floats(0.1, 100))
def test_a_synchronous_sweep_contracts_and_is_monotone(seed: int, gamma: float, scale: float) -> None:
    mdp = random_mdp(seed)
    rng = np.random.default_rng(seed)
    u, v = (np.where(mdp.terminal, 0.0, rng.normal(scale=scale, size=mdp.num_states)) for _ in range(2))
    if gamma == 1.0:
        gamma = 0.999
    images = []
    for values in (u, v, np.maximum(u, v)):
        agent = planner("value-iteration", mdp, gamma=gamma)
        agent.load_state_dict({**agent.state_dict(), "values": values})
        run(agent, 1)
        images.append(agent.state_values())
    assert np.abs(images[0] - images[1]).max() <= gamma * np.abs(u - v).max() + 1e-12
    assert (images[2] >= np.maximum(images[0], images[1]) - 1e-12).all()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_error_bound_holds_at_every_sweep(sweep: str) -> None:
    mdp = random_mdp(3, 30)
    best = linear_program(mdp, 0.95)
    agent = planner("value-iteration", mdp, gamma=0.95, sweep=sweep)
    for update in agent.learn():
        assert np.abs(agent.state_values() - best).max() <= update.metrics["error_bound"] + 1e-9


def test_gauss_seidel_needs_one_sweep_where_synchronous_needs_one_per_cell() -> None:
    # Five cells in a row, the end on the left: in index order each cell's successor has its final value already.
    both = chain(-1.0, back=0.0)
    mdp = FiniteMDP(both.successors[:, :1], both.probabilities[:, :1], both.rewards[:, :1], both.terminal, both.start)
    assert len(run(planner("value-iteration", mdp, gamma=1.0, sweep="synchronous"))) == 5
    assert len(run(planner("value-iteration", mdp, gamma=1.0, sweep="in-place"))) == 2


def test_truncated_to_one_sweep_is_value_iteration_and_untruncated_is_policy_iteration() -> None:
    mdp = random_mdp(11, 25)
    one = planner("truncated-policy-iteration", mdp, gamma=0.9, evaluation_sweeps=1)
    for sweep in planner("value-iteration", mdp, gamma=0.9).learn():
        run(one, 1)
        reference = planner("value-iteration", mdp, gamma=0.9)
        run(reference, sweep.step)
        np.testing.assert_allclose(one.state_values(), reference.state_values(), rtol=0, atol=1e-13)
    # Started alike (improvement of v = 0), both go through the same policies and so the same values.
    many = planner("truncated-policy-iteration", mdp, gamma=0.9, evaluation_sweeps=5000)
    exact = planner("policy-iteration", mdp, gamma=0.9)
    exact.load_state_dict({**exact.state_dict(), "actions": mdp.rewards.argmax(axis=1)})
    for _ in exact.learn():
        run(many, 1)
        np.testing.assert_allclose(many.state_values(), exact.state_values(), rtol=0, atol=1e-11)


def test_zhao_two_by_two_value_iteration_by_hand() -> None:
    agent = planner("value-iteration", zhao_grid(2, 2, {(1, 2)}, (2, 2), -1), gamma=0.9)
    run(agent, 1)
    np.testing.assert_allclose(agent.state_values(), [0, 1, 1, 1])
    run(agent, 1)
    np.testing.assert_allclose(agent.state_values(), [0.9, 1.9, 1.9, 1.9])


def test_zhao_two_state_policy_iteration_by_hand() -> None:
    agent = planner("policy-iteration", two_states(), gamma=0.9)
    run(agent, 1)
    np.testing.assert_allclose(agent.state_values(), [-10, -9])
    np.testing.assert_allclose(agent.action_values(), [[-10, -9, -7.1], [-9, -7.1, -9.1]])
    np.testing.assert_array_equal(agent.policy_table().argmax(axis=1), [2, 1])
    run(agent)
    np.testing.assert_allclose(agent.state_values(), [10, 10])


@pytest.mark.parametrize(
    ("cost", "published"),
    [
        (-1, "5.8 5.6 6.2 6.5 5.8 6.5 7.2 8.0 7.2 6.5 7.2 8.0 10 8.0 7.2 8.0 10 10 10 8.0 7.2 9.0 10 9.0 8.1"),
        (-10, "3.5 3.9 4.3 4.8 5.3 3.1 3.5 4.8 5.3 5.9 2.8 2.5 10 5.9 6.6 2.5 10 10 10 7.3 2.3 9.0 10 9.0 8.1"),
    ],
)
@pytest.mark.parametrize("name", ["value-iteration", "policy-iteration", "truncated-policy-iteration"])
def test_zhao_figure_3_4(name: str, cost: float, published: str) -> None:
    agent = planner(name, zhao_grid(5, 5, ZHAO_5X5, (4, 3), cost), gamma=0.9)
    run(agent)
    np.testing.assert_allclose(agent.state_values(), np.array(published.split(), dtype=float), atol=0.05 + 1e-6)


def test_zhao_figure_4_4_starts_from_the_policy_that_stays() -> None:
    agent = planner("policy-iteration", zhao_grid(5, 5, ZHAO_5X5, (4, 3), -10), gamma=0.9)
    agent.load_state_dict({**agent.state_dict(), "actions": np.full(25, 4)})
    run(agent, 1)
    expected = np.zeros((5, 5))
    for row, column in ZHAO_5X5:
        expected[row - 1, column - 1] = -100
    expected[3, 2] = 10
    np.testing.assert_allclose(agent.state_values().reshape(5, 5), expected, atol=1e-9)


def test_zhao_figure_5_4_target_after_so_many_sweeps() -> None:
    agent = planner("value-iteration", zhao_grid(5, 5, ZHAO_5X5, (4, 3), -10), gamma=0.9)
    published = {1: 1, 2: 1.9, 3: 2.7, 4: 3.4, 14: 7.7, 15: 7.9, 30: 9.6, 100: 10}
    for update in agent.learn():
        if update.step in published:
            assert agent.state_values()[3 * 5 + 2] == pytest.approx(published.pop(update.step), abs=0.05)
    assert not published


@pytest.mark.parametrize("name", ["value-iteration", "policy-iteration", "truncated-policy-iteration"])
@pytest.mark.parametrize(("gamma", "expected"), [(0.9, 0.0688909), (0.99, 0.54202593), (1.0, 14 / 17)])
def test_frozen_lake(name: str, gamma: float, expected: float) -> None:
    agent = planner(name, "FrozenLake-v1", gamma=gamma, tolerance=1e-12)
    run(agent)
    assert agent.state_values()[0] == pytest.approx(expected, abs=5e-8)


@pytest.mark.parametrize("name", ["value-iteration", "policy-iteration", "truncated-policy-iteration"])
@pytest.mark.parametrize("vector", [False, True])
def test_cliff_walking_is_left_in_thirteen_steps(name: str, vector: bool) -> None:
    env = (
        gym.make_vec("CliffWalking-v1", num_envs=2, vectorization_mode="sync")
        if vector
        else gym.make("CliffWalking-v1")
    )
    agent = planner(name, env, gamma=1.0)
    run(agent)
    assert agent.mdp.start @ agent.state_values() == -13
    observations, _ = env.reset(seed=0)
    for _ in range(13):
        actions = agent.act(observations if vector else [observations], explore=True)
        observations, _, terminated, _, _ = env.step(actions if vector else actions[0])
    assert np.all(terminated)


def test_taxi_return_equals_the_discounted_plan_followed() -> None:
    env = gym.make(TAXI)
    agent = planner("policy-iteration", env, gamma=0.99)
    run(agent)
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        expected, total, discount, terminated = agent.state_values()[observation], 0.0, 1.0, False
        while not terminated:
            observation, reward, terminated, _, _ = env.step(agent.act([observation])[0])
            total += discount * float(reward)
            discount *= 0.99
        assert total == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["value-iteration", "policy-iteration", "truncated-policy-iteration"])
def test_without_discount_some_policy_must_end(name: str) -> None:
    mdp = random_mdp(0, terminal=0)
    with pytest.raises(ValueError, match="from state 0 none does"):
        planner(name, mdp, gamma=1.0)


@pytest.mark.parametrize("name", ["value-iteration", "policy-iteration", "truncated-policy-iteration"])
def test_without_discount_policies_that_never_end_are_overcome(name: str) -> None:
    # Action 1 stays for ever at -1 a step. Going left, a biased walk: 1/(0.7 - 0.3) steps per cell, less at the wall.
    agent = planner(name, chain(-1.0), gamma=1.0, tolerance=1e-13)
    run(agent)
    np.testing.assert_array_equal(agent.policy_table()[1:, 0], 1)
    ratio = 0.3 / 0.7
    steps = [0.0]
    for cell in range(1, 5):  # steps from cell to cell - 1: t_4 = 1/0.7, t_c = 1/0.7 + ratio * t_{c+1}
        steps.append(steps[-1] + sum(ratio**i for i in range(5 - cell)) / 0.7)
    np.testing.assert_allclose(agent.state_values(), -np.array(steps), atol=1e-9)


def test_policy_iteration_without_discount_says_when_reward_can_be_collected_for_ever() -> None:
    with pytest.raises(ValueError, match="never does"):
        run(planner("policy-iteration", chain(1.0), gamma=1.0))


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("name", ["value-iteration", "policy-iteration", "truncated-policy-iteration"])
def test_interrupted_and_resumed_equals_uninterrupted(name: str, sweep: str) -> None:
    fields = {"gamma": 0.97} if name == "policy-iteration" else {"gamma": 0.97, "sweep": sweep}
    mdp = random_mdp(5, 60, 5)
    whole = planner(name, mdp, **fields)
    updates = run(whole)
    for stop in range(1, len(updates) + 1, max(1, len(updates) // 5)):
        first, second = planner(name, mdp, **fields), planner(name, mdp, **fields)
        run(first, stop)
        second.load_state_dict(first.state_dict())
        np.testing.assert_array_equal(second.action_values(), first.action_values())
        assert run(second) == updates[stop:]
        for key, value in whole.state_dict().items():
            np.testing.assert_array_equal(second.state_dict()[key], value)


def test_an_edit_is_noticed_and_planning_goes_on_from_the_present_values() -> None:
    class World(gym.Env[Any, Any]):
        observation_space = gym.spaces.Discrete(25)
        action_space = gym.spaces.Discrete(5)
        mdp = zhao_grid(5, 5, ZHAO_5X5, (4, 3), -1)

    world = World()
    agent = planner("value-iteration", world, gamma=0.9, tolerance=1e-10)
    first = len(run(agent))
    assert run(agent) == []
    world.mdp = zhao_grid(5, 5, ZHAO_5X5 - {(2, 2)}, (4, 3), -1)
    again = run(agent)
    assert 0 < len(again) < first
    fresh = planner("value-iteration", world.mdp, gamma=0.9, tolerance=1e-10)
    run(fresh)
    np.testing.assert_allclose(agent.state_values(), fresh.state_values(), atol=1e-8)


def test_actions_are_given_as_the_environment_takes_them() -> None:
    class World(gym.Env[Any, Any]):
        observation_space = gym.spaces.MultiDiscrete([5, 5])
        action_space = gym.spaces.Discrete(5, start=10)
        mdp = zhao_grid(5, 5, ZHAO_5X5, (4, 3), -1)

    agent = planner("policy-iteration", World(), gamma=0.9)
    run(agent)
    np.testing.assert_array_equal(agent.act([np.array([3, 2]), np.array([4, 2])]), [14, 10])  # stay, up


def test_observations_that_do_not_number_the_states_are_refused() -> None:
    class World(gym.Env[Any, Any]):
        observation_space: gym.Space[Any] = gym.spaces.MultiBinary(25)
        action_space = gym.spaces.Discrete(5)
        mdp = zhao_grid(5, 5, ZHAO_5X5, (4, 3), -1)

    agent = planner("value-iteration", World(), gamma=0.9)
    with pytest.raises(ValueError, match="number the 25 states"):
        agent.act([np.zeros(25, dtype=np.int8)])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("value-iteration", {"gamma": 1.5}, "gamma must be between 0 and 1, not 1.5"),
        ("policy-iteration", {"tolerance": -1.0}, "tolerance must be at least 0, not -1.0"),
        (
            "value-iteration",
            {"sweep": "jacobi"},
            "sweep must be one of synchronous, in-place, gauss-seidel, not 'jacobi'",
        ),
        ("truncated-policy-iteration", {"evaluation_sweeps": 0}, "evaluation_sweeps must be at least 1, not 0"),
    ],
)
def test_bad_settings_are_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gridzero.agents.make(name, two_states(), **fields)


def test_an_environment_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="has no model"):
        gridzero.agents.make("value-iteration", "CartPole-v1")


def test_a_foreign_state_is_refused() -> None:
    agent = PolicyIteration(two_states(), PolicyIteration.Config())
    other = ValueIteration(random_mdp(0), ValueIteration.Config()).state_dict()
    with pytest.raises(ValueError, match=r"this model needs \(2,\)"):
        agent.load_state_dict(other)
    with pytest.raises(ValueError, match="actions"):
        agent.load_state_dict({**agent.state_dict(), "actions": np.array([0, 3])})
