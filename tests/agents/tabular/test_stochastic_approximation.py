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
from gridzero.agents.tabular.schedules import Schedule
from gridzero.agents.tabular.stochastic_approximation import (
    contraction_error,
    mean_error,
    robbins_monro,
    robbins_monro_steps,
    stochastic_gradient,
)
from gridzero.envs import FiniteMDP

from ...models import random_mdp

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3


@pytest.mark.parametrize("seed", range(5))
def test_the_root_of_a_cubic_in_noise(seed: int) -> None:
    """Zhao, section 6.2: g(w) = w³ - 5, a_k = 1/k, noise N(0, 1).

    At the root g' = 3 · 5^(2/3) = 8.77; the variance of w_k goes to 1 / ((2 · 8.77 - 1) k): 3.5 deviations.
    """
    path = robbins_monro(lambda w, rng: w**3 - 5 + rng.normal(), 0.0, "1/k", steps=5000, rng=seed, bounds=(-3, 3))
    assert abs(path[-1] - 5 ** (1 / 3)) < 3.5 / np.sqrt((2 * 3 * 5 ** (2 / 3) - 1) * 5000)
    assert round(float(path[-1]), 1) == 1.7


def test_the_root_of_a_hyperbolic_tangent() -> None:
    """Zhao, section 6.2: g(w) = tanh(w - 1), w_1 = 3, a_k = 1/k, no noise."""
    path = robbins_monro(lambda w, rng: np.tanh(w - 1), 3.0, "1/k", steps=3000)
    assert path[0] == 3
    assert path[1] == pytest.approx(3 - np.tanh(2))
    assert path[-1] == pytest.approx(1, abs=1e-3)


def test_the_variance_is_that_of_theory() -> None:
    """g(w) = 2w: Var_{k+1} = (1 - 2 a_k)² Var_k + a_k², exactly; 3000 components, a chi-square interval at 99.9 %."""
    schedule = Schedule.parse("1/(k+2)^0.8")
    path = robbins_monro(lambda w, rng: 2 * w + rng.normal(size=w.shape), np.zeros(3000), schedule, steps=200, rng=1)
    variance = 0.0
    for k in range(1, 201):
        variance = (1 - 2 * schedule(k)) ** 2 * variance + schedule(k) ** 2
    low, high = stats.chi2.ppf([0.0005, 0.9995], 3000)
    assert low < (path[-1] ** 2).sum() / variance < high


def test_each_iterate_is_projected() -> None:
    path = robbins_monro(lambda w, rng: np.array([-100.0, 100.0]), [0.0, 0.0], "1", steps=3, bounds=(0, [2, 5]))
    np.testing.assert_array_equal(path, [[0, 0], [2, 0], [2, 0], [2, 0]])


def test_the_tolerance_ends_it() -> None:
    path = robbins_monro(lambda w, rng: w - 7, 0.0, "0.5", steps=10_000, tolerance=1e-6)
    assert len(path) - 1 == 64  # 0.5^16 · 7 is too far from 0.5^32 · 7; 0.5^32 · 7 is near enough
    assert path[-1] == pytest.approx(7, abs=1e-6)
    noisy = robbins_monro(lambda w, rng: w - rng.normal(), 0.0, "1/k", steps=2000, tolerance=1e-6)
    assert len(noisy) == 2001


def test_steps_and_path_are_the_same() -> None:
    def function(w: Any, rng: np.random.Generator) -> Any:
        return w + rng.normal(size=2)

    path = robbins_monro(function, [1.0, 2.0], "1/k^0.7", steps=9, rng=3)
    again = np.array(list(itertools.islice(robbins_monro_steps(function, [1.0, 2.0], "1/k^0.7", rng=3), 10)))
    np.testing.assert_array_equal(path, again)


@settings(max_examples=50)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_mean_estimation_is_the_running_mean(samples: list[float]) -> None:
    path = robbins_monro(mean_error(samples), 12.0, "1/k", steps=len(samples))
    np.testing.assert_allclose(path[1:], np.cumsum(samples) / np.arange(1, len(samples) + 1), atol=1e-9)


def test_dvoretzky() -> None:
    """The iterates are those of the form itself; and they go to 0."""
    alpha, beta = Schedule.parse("1/k^0.8"), Schedule.parse("0.5/k")
    path = robbins_monro(contraction_error(lambda w, rng: rng.normal(), alpha, beta), 4.0, alpha, steps=4000, rng=2)
    rng, w = np.random.default_rng(2), 4.0
    for k in range(1, 4001):
        w = (1 - alpha(k)) * w + beta(k) * rng.normal()
    assert path[-1] == pytest.approx(w, abs=1e-12)
    assert abs(path[-1]) < 0.02


@pytest.mark.parametrize("batch_size", [1, 10])
def test_stochastic_gradient_descent_finds_the_least_squares_fit(batch_size: int) -> None:
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(200, 3))
    outputs = inputs @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=200)
    data = np.column_stack([inputs, outputs])

    def gradient(w: Any, batch: Any) -> Any:
        return (batch[:, :3] @ w - batch[:, 3])[:, None] * batch[:, :3]

    path = robbins_monro(stochastic_gradient(gradient, data, batch_size), np.zeros(3), "2/(k+20)", steps=10_000, rng=0)
    np.testing.assert_allclose(path[-1], np.linalg.lstsq(inputs, outputs)[0], atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"tolerance": -1.0}, "tolerance must be at least 0"),
        ({"tolerance": float("nan")}, "tolerance must be at least 0"),
        ({"step_size": "k"}, "step_size must look like"),
        ({"bounds": (1, 0)}, "bounds must be"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        robbins_monro(lambda w, rng: w, 0.0, **options)
    with pytest.raises(ValueError, match="there must be data"):
        stochastic_gradient(lambda w, x: x, [])


def train(env: Any, steps: int, seed: int = 0, policy: Any = None, **fields: Any) -> Any:
    agent: Any = gridzero.agents.make("robbins-monro", env, seed=seed, **fields)
    if policy is not None:
        agent.fix_policy(policy)
    for update in agent.learn():
        if update.step >= steps:
            break
    return agent


def test_the_equation_of_a_policy_within_confidence_intervals() -> None:
    """The means over seeds follow the noiseless iteration, since it is linear: 99.9 % t intervals, Bonferroni.

    That iteration itself comes within 0.05 of the exact values.
    """
    mdp = random_mdp(0)
    policy = np.random.default_rng(1).dirichlet(np.ones(3), size=6)
    sweeps, schedule = 300, Schedule.parse("10/(k+9)")
    runs = np.array(
        [
            train(mdp, 18 * sweeps, seed, policy, gamma=0.9, step_size=str(schedule)).action_values()
            for seed in range(12)
        ]
    )
    mean = np.zeros((6, 3))
    for k in range(1, sweeps + 1):
        backup = mdp.action_values((policy * mean).sum(axis=1), 0.9)
        mean += schedule(k) * (backup - mean)
    reach = stats.t.ppf(1 - 0.001 / (2 * 15), 11) * runs.std(axis=0, ddof=1) / np.sqrt(12)
    assert (np.abs(runs.mean(axis=0) - mean) <= reach + 1e-12)[:5].all()
    assert np.median(reach[:5]) < 0.25
    exact = mdp.action_values(mdp.policy_values(policy, 0.9), 0.9)
    np.testing.assert_allclose(mean, exact, atol=0.05)


def test_the_uniform_policy_is_the_default_one() -> None:
    mdp = random_mdp(2)
    agent = train(mdp, 40_000, equation="policy", gamma=0.5, step_size="2/(k+1)")
    np.testing.assert_array_equal(agent.policy_table(), np.full((6, 3), 1 / 3))
    np.testing.assert_allclose(agent.state_values(), mdp.policy_values(agent.policy_table(), 0.5), atol=0.05)


@pytest.mark.parametrize("sampling", ["generative", "trajectory"])
def test_the_optimality_equation(sampling: str) -> None:
    mdp = random_mdp(3)
    agent = train(mdp, 80_000, gamma=0.8, step_size="5/(k+4)", sampling=sampling, epsilon="1")
    optimal = mdp.finite_horizon_values(200, 0.8)
    reached = [0, 1, 2, 3, 4]
    np.testing.assert_allclose(agent.state_values()[reached], optimal[reached], atol=0.1)


def test_sweeps_are_robbins_monro_steps_of_the_whole_vector() -> None:
    """In a deterministic world, where there is no noise, exactly."""
    mdp: FiniteMDP = gym.make("gridzero/GridWorld-v0", layout="zhao-3x3").unwrapped.mdp

    def function(w: Any, rng: np.random.Generator) -> Any:
        return w - mdp.action_values(w.max(axis=1), 0.9)

    pairs = 45
    agent = train(mdp, 30 * pairs, gamma=0.9, step_size="1/k^0.6", steps_per_update=30 * pairs)
    path = robbins_monro(function, np.zeros((9, 5)), "1/k^0.6", steps=30)
    np.testing.assert_allclose(agent.action_values(), path[-1], atol=1e-12)


@pytest.mark.parametrize(("env", "steps", "most"), [("FrozenLake-v1", 60_000, 0.15), ("CliffWalking-v1", 40_000, 0.01)])
def test_gymnasiums_environments(env: str, steps: int, most: float) -> None:
    """Exact gap of the greedy policy to the optimum from the start."""
    mdp = FiniteMDP.from_env(gym.make(env))
    agent = train(env, steps)
    optimal = mdp.finite_horizon_values(3000, 0.99)
    assert mdp.start @ (optimal - mdp.finite_horizon_values(3000, 0.99, agent.policy_table())) < most


@pytest.mark.slow
def test_taxi() -> None:
    mdp = FiniteMDP.from_env(gym.make(TAXI))
    policy = train(TAXI, 600_000).policy_table()
    policy = np.vstack([policy, np.full((mdp.num_states - len(policy), 6), 1 / 6)])
    gap = mdp.start @ (mdp.finite_horizon_values(3000, 0.99) - mdp.finite_horizon_values(3000, 0.99, policy))
    assert gap < 0.01


def test_blackjack_is_sampled_along_trajectories() -> None:
    """It cannot be put into a state; sticking on 20 or 21 and drawing to 11 or less is what anyone would do."""
    agent = train("Blackjack-v1", 20_000, gamma=1.0, epsilon="1", step_size="1/k^0.7")
    assert agent.starts is None
    actions = agent.policy_table().argmax(axis=1)
    assert [actions[agent.states.number((total, 10, 0))] for total in (20, 21)] == [0, 0]
    assert [actions[agent.states.number((total, 10, 0))] for total in (9, 10, 11)] == [1, 1, 1]
    with pytest.raises(ValueError, match="BlackjackEnv cannot be put into a given one"):
        train("Blackjack-v1", 1, sampling="generative")


@pytest.mark.parametrize("sampling", ["generative", "trajectory"])
@pytest.mark.parametrize("kind", ["single", "native", "model"])
def test_interrupted_and_resumed_is_uninterrupted(kind: str, sampling: str) -> None:
    def make() -> Any:
        if kind == "single":
            env: Any = gym.make("FrozenLake-v1")
        elif kind == "native":
            env = gym.make_vec("gridzero/GridWorld-v0", 7, vectorization_mode="vector_entry_point", slip=0.2)
        else:
            env = random_mdp(4)
        return gridzero.agents.make("robbins-monro", env, seed=5, sampling=sampling, steps_per_update=100)

    whole, first, second = make(), make(), make()
    updates = list(itertools.islice(whole.learn(), 5))
    assert list(itertools.islice(first.learn(), 2)) == updates[:2]
    saved = first.state_dict()
    list(itertools.islice(first.learn(), 1))
    second.load_state_dict(saved)
    assert list(itertools.islice(second.learn(), 3)) == updates[2:]
    np.testing.assert_array_equal(second.action_values(), whole.action_values())
    assert second.rng.bit_generator.state == whole.rng.bit_generator.state


@pytest.mark.parametrize(("step_size", "met"), [("1/k", 1.0), ("0.1", 0.0)])
def test_it_says_whether_the_conditions_are_met(step_size: str, met: float) -> None:
    agent: Any = gridzero.agents.make("robbins-monro", random_mdp(0), step_size=step_size)
    assert next(agent.learn()).metrics["conditions_met"] == met
    assert agent.step_size.converges == bool(met)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("equation", "heat", "equation must be one of optimality, policy, not 'heat'"),
        ("sampling", "x", "sampling must be one of auto, generative, trajectory"),
        ("gamma", -1, "gamma must be between 0 and 1"),
        ("steps_per_update", 0, "steps_per_update must be at least 1"),
        ("step_size", "", "step_size must look like"),
    ],
)
def test_bad_fields(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gridzero.agents.make("robbins-monro", random_mdp(0), **{field: value})
