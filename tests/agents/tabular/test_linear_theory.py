"""Fixed points of linear TD against theory that is written otherwise, and against what the agents learn."""

import itertools
from typing import Any

import numpy as np
import pytest

import gridzero
from gridzero.agents.tabular.features import Aggregation, Polynomial
from gridzero.agents.tabular.linear_theory import on_policy_distribution, td_fixed_point, value_error
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs.chains import random_walk

WALK = random_walk(19, left=-1.0)
POLICY = np.full((21, 2), 0.5)
EXACT = WALK.policy_values(POLICY, 1.0)
SHARES = on_policy_distribution(WALK, POLICY)
POINTS = (np.arange(21) / 20)[:, None]


def test_the_distribution_is_that_of_long_simulation() -> None:
    """200,000 steps; the standard error of each share is below 0.001 even with correlated steps."""
    env = SimulatedMDP(WALK, 1000)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    counts = np.zeros(21)
    for _ in range(400):
        _, _, terminated, _, _ = env.step(rng.integers(2, size=1000))
        if terminated.any():
            env.reset(options={"reset_mask": terminated})
    for _ in range(600):
        np.add.at(counts, env._states, 1)
        _, _, terminated, _, _ = env.step(rng.integers(2, size=1000))
        if terminated.any():
            env.reset(options={"reset_mask": terminated})
    np.testing.assert_allclose(counts / counts.sum(), SHARES, atol=0.005)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_value_error_is_within_the_bound(decay: float) -> None:
    """VE(w_TD) <= (1 - γλ) / (1 - γ) min VE (Sutton & Barto, eq. 9.14 and 12.8), and λ = 1 reaches the minimum."""
    gamma = 0.9
    features = Aggregation(1, 5).dense(POINTS)
    exact, shares = WALK.policy_values(POLICY, gamma), on_policy_distribution(WALK, POLICY, 1.0)
    weights = np.sqrt(shares)[:, None]
    best = features @ np.linalg.lstsq(weights * features, weights[:, 0] * exact, rcond=None)[0]
    least = value_error(best, exact, shares)
    error = value_error(features @ td_fixed_point(WALK, POLICY, features, shares, gamma, decay), exact, shares)
    assert least <= error <= (1 - gamma * decay) / (1 - gamma) * least
    monte_carlo = features @ td_fixed_point(WALK, POLICY, features, shares, 1.0, decay=1.0)
    undiscounted = features @ np.linalg.lstsq(weights * features, weights[:, 0] * EXACT, rcond=None)[0]
    np.testing.assert_allclose(monte_carlo[1:-1], undiscounted[1:-1], atol=1e-9)


def test_the_fixed_point_solves_the_projected_bellman_equation() -> None:
    """Expected TD errors are orthogonal to the features (eq. 9.13): summed over all transitions by hand."""
    features = Polynomial(1, order=3).dense(POINTS)
    w = td_fixed_point(WALK, POLICY, features, SHARES, 0.95)
    total = np.zeros(4)
    for s in range(1, 20):
        for a in range(2):
            following = int(WALK.successors[s, a, 0])
            value = 0.0 if WALK.terminal[following] else features[following] @ w
            total += SHARES[s] * 0.5 * (WALK.rewards[s, a] + 0.95 * value - features[s] @ w) * features[s]
    np.testing.assert_allclose(total, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "decay"),
    [({"n": 1}, 0.0), ({"trace_decay": 0.8}, 0.8), ({"n": 2000, "step_size": "0.002"}, 1.0)],
)
def test_agents_come_to_the_fixed_point(fields: dict[str, Any], decay: float) -> None:
    """On the average of what 50 walks at once teach; over six seeds none was further off than 0.018."""
    matrix = Aggregation(1, 4).dense(POINTS)
    limit = matrix @ td_fixed_point(WALK, POLICY, matrix, SHARES, 0.9, decay)
    common = {"gamma": 0.9, "features": "aggregation", "groups": 4, "step_size": "0.01", "steps_per_update": 5000}
    agent: Any = gridzero.agents.make("td-linear", SimulatedMDP(WALK, 50), seed=0, **(common | fields))
    learnt = [agent.state_values() for _ in itertools.islice(agent.learn(), 50)]
    np.testing.assert_allclose(np.mean(learnt[15:], axis=0)[1:-1], limit[1:-1], atol=0.03)
