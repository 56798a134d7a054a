from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gridzero
from gridzero.agents.tabular import chain_kernels, factorization_kernels, solver, solver_kernels
from gridzero.envs import GridWorld
from gridzero.envs.backup_kernels import predecessors
from gridzero.envs.mdp import FiniteMDP


def random_mdp(seed: int, states: int, actions: int, outcomes: int, terminal: int) -> FiniteMDP:
    """Rounded rewards and many repeated successors, so that ties, self-loops and dead ends occur."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(outcomes, 0.5), size=(states, actions))
    ends = np.zeros(states, dtype=np.bool_)
    ends[rng.permutation(states)[:terminal]] = True
    near = np.arange(states)[:, None, None] + rng.integers(-2, 3, (states, actions, outcomes))
    far = rng.integers(0, states, (states, actions, outcomes))
    return FiniteMDP(
        successors=np.where(rng.random((states, actions, outcomes)) < 0.8, near.clip(0, states - 1), far),
        probabilities=probabilities,
        rewards=rng.integers(-2, 3, (states, actions)),
        terminal=ends,
        start=np.full(states, 1 / states),
    )


def slippery_grid(size: int, slip: float, walls: NDArray[np.bool_], seed: int, *, ends: bool) -> FiniteMDP:
    """Up, right, down, left, stay; a move slips to one of the other three; a target in the middle of random rewards."""
    rng = np.random.default_rng(seed)
    states = size * size
    cells = np.arange(states).reshape(size, size)
    to = np.empty((states, 5), dtype=np.int32)
    for a, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1), (0, 0)]):
        rows = (np.arange(size) + down).clip(0, size - 1)
        columns = (np.arange(size) + right).clip(0, size - 1)
        to[:, a] = cells[rows][:, columns].reshape(-1)
    target = states // 2 + size // 2
    blocked = walls.reshape(-1).copy()
    blocked[target] = False
    to = np.where(blocked[to], np.arange(states)[:, None], to)
    arriving = np.where(np.arange(states) == target, 10.0, rng.integers(-1, 1, states))
    successors = np.empty((states, 5, 4), dtype=np.int32)
    probabilities = np.zeros((states, 5, 4))
    for a in range(5):
        order = [a, *(b for b in range(4) if b != a)][:4]
        successors[:, a] = to[:, order]
        probabilities[:, a] = [1, 0, 0, 0] if a == 4 else [1 - slip, slip / 3, slip / 3, slip / 3]
    rewards = (probabilities * arriving[successors]).sum(axis=2)
    terminal = blocked.copy()
    terminal[target] = ends
    return FiniteMDP(successors, probabilities, rewards, terminal, np.full(states, 1 / states))


def policy_iteration(mdp: FiniteMDP, gamma: float) -> NDArray[np.float64]:
    """The reference: direct sparse solves."""
    agent = gridzero.agents.make("policy-iteration", mdp, gamma=gamma)
    for _ in agent.learn():
        pass
    return np.asarray(agent.state_values())  # type: ignore[attr-defined]  # planners have it


def check(mdp: FiniteMDP, gamma: float, tolerance: float) -> None:
    solution = gridzero.agents.solve(mdp, gamma, tolerance)
    scale = np.abs(mdp.rewards).max() / (1 - gamma)
    allowed = max(tolerance, 8 * np.finfo(float).eps * scale)
    assert solution.residual <= allowed
    assert mdp.bellman_residual(solution.values, gamma) <= allowed + 1e-15 * scale
    np.testing.assert_allclose(solution.values, policy_iteration(mdp, gamma), rtol=0, atol=2 * allowed / (1 - gamma))
    q = mdp.action_values(solution.values, gamma)
    chosen = q[np.arange(mdp.num_states), solution.actions]
    np.testing.assert_allclose(chosen, q.max(axis=1), rtol=0, atol=1e-14 * scale)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    states=st.integers(1, 40),
    actions=st.integers(1, 4),
    outcomes=st.integers(1, 5),
    terminal=st.integers(0, 3),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999]),
    tolerance=st.sampled_from([1e-2, 1e-6, 1e-9, 1e-300]),
)
def test_solves_random_models(
    seed: int, states: int, actions: int, outcomes: int, terminal: int, gamma: float, tolerance: float
) -> None:
    check(random_mdp(seed, states, actions, outcomes, terminal), gamma, tolerance)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    slip=st.sampled_from([0.0, 0.2, 0.7]),
    walls=st.sampled_from([0.0, 0.25, 0.5]),
    gamma=st.sampled_from([0.9, 0.99, 0.999]),
    ends=st.booleans(),
)
def test_solves_slippery_grids(seed: int, slip: float, walls: float, gamma: float, ends: bool) -> None:
    blocked = np.random.default_rng(seed).random((25, 25)) < walls
    check(slippery_grid(25, slip, blocked, seed, ends=ends), gamma, 1e-6)


def test_values_reach_over_any_distance() -> None:
    # A corridor of 20000 cells to the end: so far off, it is worth about as little as rounding adds to -1/(1 - gamma).
    states = 20_000
    ahead = np.maximum(np.arange(states) - 1, 0)
    mdp = FiniteMDP(
        successors=np.stack([ahead, np.arange(states)], axis=1)[:, :, None],
        probabilities=np.ones((states, 2, 1)),
        rewards=np.full((states, 2), -1.0),
        terminal=np.arange(states) == 0,
        start=np.where(np.arange(states) == states - 1, 1.0, 0.0),
    )
    solution = gridzero.agents.solve(mdp, 0.999)
    np.testing.assert_allclose(solution.values, -(1 - 0.999 ** np.arange(states)) / 0.001, atol=1e-3)
    assert (solution.actions[1:10_000] == 0).all()


def test_without_discount_the_frozen_lake_is_crossed_fourteen_times_in_seventeen() -> None:
    import gymnasium

    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1"))
    assert gridzero.agents.solve(mdp, 1.0).values[0] == pytest.approx(14 / 17, abs=1e-12)


def test_a_model_of_terminal_states_alone_is_worth_nothing() -> None:
    mdp = random_mdp(0, 4, 2, 2, 4)
    solution = gridzero.agents.solve(mdp, 0.9)
    assert not solution.values.any()
    assert solution.residual == 0


@pytest.mark.parametrize(
    ("gamma", "tolerance", "message"),
    [
        (1.1, 1e-6, "gamma must be between 0 and 1, not 1.1"),
        (0.9, 0.0, "tolerance must be greater than 0, not 0"),
        (0.9, float("nan"), "tolerance must be greater than 0, not nan"),
        (1.0, 1e-6, "from state 0 none does"),
    ],
)
def test_bad_arguments_are_refused(gamma: float, tolerance: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gridzero.agents.solve(random_mdp(0, 5, 2, 2, 0), gamma, tolerance)


def test_a_second_wave_comes_nearer_to_the_optimal_values_and_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves slip, and cells cost: the first wave takes those behind the front for better than they are."""
    walls = np.zeros((60, 60), dtype=np.bool_)
    mdp = slippery_grid(60, 0.4, walls, 0, ends=False)
    gamma = 0.999
    optimum = policy_iteration(mdp, gamma)
    q = mdp.action_values(optimum, gamma)
    errors, losses = [], []
    for rough in (np.inf, 0.0):
        monkeypatch.setattr(solver, "ROUGH", rough)
        actions, values, _ = solver._first_policy(mdp, gamma, *predecessors(*mdp.packed, mdp.terminal))
        errors.append(np.abs(values - optimum).mean())
        losses.append((q.max(axis=1) - q[np.arange(mdp.num_states), actions]).mean())
    assert errors[1] < 0.5 * errors[0]
    assert losses[1] < 0.75 * losses[0]


def test_predecessors_are_the_states_one_step_before() -> None:
    mdp = random_mdp(7, 30, 3, 3, 3)
    offsets, sources = predecessors(mdp.successors, mdp.probabilities, mdp.terminal)
    for t in range(mdp.num_states):
        expected = {
            s
            for s in range(mdp.num_states)
            if s != t and not mdp.terminal[s] and not mdp.terminal[t] and (mdp.successors[s] == t).any()
        }
        found = sources[offsets[t] : offsets[t + 1]].tolist()
        assert len(found) == len(set(found))
        assert set(found) == expected


def factors_of(columns: NDArray[np.int32], light: NDArray[np.float32], least: float) -> factorization_kernels.Factors:
    nothing = factorization_kernels.no_factors(columns, light, len(columns), factorization_kernels.SHARE)
    return factorization_kernels.factorize(columns, light, least, nothing, np.ones(len(columns), dtype=np.bool_))


@pytest.mark.parametrize("edges", ["grid", "random"])
def test_krylov_solution_of_a_chain_equals_a_dense_solve(edges: str) -> None:
    rng = np.random.default_rng(0)
    n = 200
    neighbours = (np.arange(n)[:, None] + [-1, 1, -14, 14]) % n
    columns = (neighbours if edges == "grid" else rng.integers(0, n, (n, 4))).astype(np.int32)
    weights = rng.dirichlet(np.ones(4), size=n) * 0.995
    weights[columns == np.arange(n)[:, None]] = 0.0
    constants = rng.normal(size=n)
    matrix = np.eye(n)
    np.add.at(matrix, (np.arange(n)[:, None], columns), -weights)
    x = np.zeros(n)
    light, work = weights.astype(np.float32), np.empty((8, n), dtype=np.float32)
    factors = factors_of(columns, light, factorization_kernels.LEAST)
    start = chain_kernels.residual(columns, weights, constants, x, work[1])
    assert start == np.abs(constants).max()
    residual, iterations = chain_kernels.solve_chain(
        columns, weights, light, constants, x, 1e-10, 100, factors, work, start
    )
    assert residual <= 1e-10
    assert iterations < 20
    np.testing.assert_allclose(x, np.linalg.solve(matrix, constants), atol=1e-7)


def test_a_factorization_that_drops_nothing_solves_a_chain_exactly() -> None:
    rng = np.random.default_rng(0)
    n = 30
    columns = rng.integers(0, n, (n, 3)).astype(np.int32)
    weights = rng.dirichlet(np.ones(3), size=n) * 0.99
    weights[columns == np.arange(n)[:, None]] = 0.0
    matrix = np.eye(n)
    np.add.at(matrix, (np.arange(n)[:, None], columns), -weights)
    factors = factors_of(columns, weights.astype(np.float32), 0.0)
    r, zeros, x = rng.normal(size=n).astype(np.float32), *np.zeros((2, n), dtype=np.float32)
    assert factorization_kernels.solve_lower(factors, r, 0.0, zeros, 0.0, zeros, np.empty_like(r), x) == abs(r).max()
    factorization_kernels.solve_upper(factors, x)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, r), rtol=1e-3, atol=1e-3)


def test_a_factorization_follows_changes_of_the_chain() -> None:
    """Where rows have changed, factors brought up to date serve about as well as new ones, and better than old ones."""
    rng = np.random.default_rng(0)
    n, least = 2_500, factorization_kernels.LEAST
    columns = ((np.arange(n)[:, None] + [-1, 1, -50, 50]) % n).astype(np.int32)
    weights = rng.dirichlet(np.ones(4), size=n) * 0.999
    constants = rng.normal(size=n)

    def iterations(factors: factorization_kernels.Factors) -> int:
        x = np.zeros(n)
        light, work = weights.astype(np.float32), np.empty((8, n), dtype=np.float32)
        start = chain_kernels.residual(columns, weights, constants, x, work[1])
        residual, used = chain_kernels.solve_chain(
            columns, weights, light, constants, x, 1e-8, 200, factors, work, start
        )
        assert residual <= 1e-8
        return used

    factors = factors_of(columns, weights.astype(np.float32), least)
    for count in (3, 200, 3):
        changed = np.zeros(n, dtype=np.bool_)
        changed[rng.permutation(n)[:count]] = True
        old = factorization_kernels.Factors(*(array.copy() for array in factors))
        weights[changed] = rng.dirichlet(np.ones(4), size=count) * 0.999
        light = weights.astype(np.float32)
        factors = factorization_kernels.factorize(columns, light, least, factors, changed)
        # Each of the refinements may begin one more iteration, for rounding.
        assert iterations(factors) <= iterations(factors_of(columns, light, least)) + 2
        assert count < 200 or iterations(factors) < iterations(old)


@pytest.mark.slow
def test_a_policy_that_goes_to_and_fro_to_avoid_penalties_is_evaluated_in_few_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Moves slip sideways only, so that far from the target two cells keep an agent for certain."""
    solve_chain, iterations = chain_kernels.solve_chain, 0

    def counted(*arguments: Any) -> tuple[float, int]:
        nonlocal iterations
        residual, used = solve_chain(*arguments)
        iterations += used
        return residual, used

    monkeypatch.setattr(chain_kernels, "solve_chain", counted)
    model = GridWorld("obstacles:500x500:0", reward_step=-0.04, slip=0.2).mdp
    assert gridzero.agents.solve(model, 0.99).residual <= 1e-6
    assert iterations < 60


def _random_model(seed: int, ends: bool) -> FiniteMDP:
    rng = np.random.default_rng(seed)
    states, actions, outcomes = 8, 3, 2
    probabilities = rng.dirichlet(np.ones(outcomes), size=(states, actions))
    rewards = rng.normal(size=(states, actions)) - (3.0 if ends else 0.0)
    terminal = np.arange(states) == states - 1 if ends else np.zeros(states, dtype=bool)
    successors = rng.integers(states, size=(states, actions, outcomes))
    if ends:
        successors[:, 0, 0] = states - 1
    return FiniteMDP(successors, probabilities, rewards, terminal, np.full(states, 1 / states))


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-3, 1e3, 1e12])
@pytest.mark.parametrize("gamma", [0.9, 0.999, 1.0])
def test_optimal_values_scale_with_the_rewards(scale: float, gamma: float) -> None:
    """v* is linear in a positive factor of the rewards, and the optimal actions do not depend on it."""
    for seed in range(5):
        mdp = _random_model(seed, ends=gamma == 1)
        scaled = replace(mdp, rewards=mdp.rewards * scale)
        plain = gridzero.agents.solve(mdp, gamma, tolerance=1e-12)
        size = np.abs(plain.values).max()
        agents: list[Any] = [gridzero.agents.make("policy-iteration", scaled, gamma=gamma)]
        if gamma < 0.99:
            agents += [
                gridzero.agents.make(name, scaled, gamma=gamma)
                for name in ("value-iteration", "truncated-policy-iteration")
            ]
        for agent in agents:
            for _ in agent.learn():
                pass
            np.testing.assert_allclose(agent.state_values() / scale, plain.values, atol=1e-6 * size)
            np.testing.assert_array_equal(
                agent.policy_table().argmax(axis=1)[~mdp.terminal], plain.actions[~mdp.terminal]
            )
        solution = gridzero.agents.solve(scaled, gamma, tolerance=1e-12)
        np.testing.assert_allclose(solution.values / scale, plain.values, atol=1e-9 * size)
        np.testing.assert_array_equal(solution.actions[~mdp.terminal], plain.actions[~mdp.terminal])


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_a_large_reward_elsewhere_does_not_hide_a_small_gain(gamma: float) -> None:
    mdp = FiniteMDP(
        [[[2], [2]], [[2], [2]], [[2], [2]]],
        np.ones((3, 2, 1)),
        [[1e9, 0.0], [0.0, 5e-4], [0.0, 0.0]],
        terminal=[False, False, True],
        start=[0.5, 0.5, 0.0],
    )
    solution = gridzero.agents.solve(mdp, gamma, tolerance=1e-6)
    assert solution.actions[:2].tolist() == [0, 1]
    assert solution.values.tolist() == [1e9, 5e-4, 0.0]
    assert solution.residual <= 1e-6


def test_a_loop_that_pays_for_ever_is_refused_without_discount() -> None:
    mdp = FiniteMDP(
        [[[0], [1]], [[1], [1]]], np.ones((2, 2, 1)), [[1.0, 0.0], [0.0, 0.0]], terminal=[False, True], start=[1.0, 0.0]
    )
    with pytest.raises(ValueError, match="never"):
        gridzero.agents.solve(mdp, 1.0)


@pytest.mark.parametrize("options", [{"slip_to": "any", "actions": 5}, {"slip_to": "perpendicular"}, {"slip": 0.0}])
def test_arrays_that_repeat_are_solved_like_whole_ones(options: dict[str, Any]) -> None:
    """A slippery grid shares successors or probabilities; the same model with every entry written out does not."""
    mdp = GridWorld("obstacles:12x12:3", **{"slip": 0.3, "reward_step": -0.04, **options}).mdp
    whole = replace(mdp, successors=mdp.successors.copy(), probabilities=mdp.probabilities.copy())
    assert mdp.packed[1].size < whole.packed[1].size
    for gamma in (0.9, 0.999):
        mine, other = (gridzero.agents.solve(model, gamma, tolerance=1e-10) for model in (mdp, whole))
        np.testing.assert_allclose(mine.values, other.values, atol=1e-7)
        for name in ("value-iteration", "policy-iteration", "truncated-policy-iteration"):
            agent: Any = gridzero.agents.make(name, mdp, gamma=gamma)
            for _ in agent.learn():
                pass
            np.testing.assert_allclose(agent.state_values(), other.values, atol=1e-5)


def test_improvement_passes_over_no_state_in_which_another_action_has_become_better() -> None:
    """After changes of the values, small everywhere and large here and there, it does what looking at all does."""
    rng = np.random.default_rng(0)
    states, gamma = 400, 0.9
    successors = rng.integers(0, states, (states, 3, 2)).astype(np.uint32)
    probabilities = rng.dirichlet(np.ones(2), size=(states, 3))
    rewards, terminal = rng.normal(size=(states, 3)), np.arange(states) == 0
    offsets, sources = predecessors(successors, probabilities, terminal)
    sizes = np.empty(3), np.empty(2)
    values, changed = rng.normal(size=states), np.empty(states, dtype=np.int32)
    actions, slack, drift, passed = np.zeros(states, dtype=np.int32), np.full(states, -np.inf), 0.0, 0
    for size in (0.1, 0.01, 0.1, 0.001):
        best = actions.copy()
        model = successors, probabilities, rewards, terminal, gamma, values
        solver_kernels.improve(*model, best, np.full(states, -np.inf), 0.0, changed, 0.0, 1.0, 1.0, *sizes)
        passed += np.count_nonzero(slack >= drift)
        solver_kernels.improve(*model, actions, slack, drift, changed, 0.0, 1.0, 1.0, *sizes)
        np.testing.assert_array_equal(actions, best)
        before = values.copy()
        values += size * rng.uniform(-1, 1, states) * (rng.random(states) < 0.9)
        values[rng.integers(0, states, 3)] += 1.0
        drift += 2 * solver_kernels.note_changes(offsets, sources, before, values, 1e-8, slack)
    assert passed > states
