"""Visits are counted exactly, and the bonus for them leaves reported returns alone."""

from __future__ import annotations

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
import torch

from gridzero.agents import make
from gridzero.agents.neural.exploration import VisitCounts, rows_of
from gridzero.agents.neural.objectives import exploration_bonus

from .worlds import Bandit, Identity, vector


def test_counts_are_those_of_a_dictionary():
    """Over batches of random rows, and from a state saved on the way."""
    rng = np.random.default_rng(0)
    visits, counter = VisitCounts(), Counter()
    for size in rng.integers(0, 400, 30):
        rows = rng.integers(-3, 4, (size, 3))
        counter.update(map(tuple, rows.tolist()))
        assert visits.visit(rows).tolist() == [counter[tuple(row)] for row in rows.tolist()]
        saved = VisitCounts()
        saved.load_state_dict(visits.state_dict())
        visits = saved
    assert sorted(visits.counts.tolist()) == sorted(counter.values())


def test_rows_tell_all_parts_of_observations_and_actions_apart():
    observations = {"image": torch.arange(8, dtype=torch.uint8).reshape(2, 2, 2), "choice": torch.tensor([[5], [6]])}
    rows = rows_of(observations, torch.tensor([[1, 0], [0, 1]]))
    assert rows.tolist() == [[0, 1, 2, 3, 5, 1, 0], [4, 5, 6, 7, 6, 0, 1]]


def test_bonus_of_the_first_update():
    """A bandit with one state: after n draws of each arm the mean bonus is Σ n · β/√n over all draws."""
    agent = make("ppo", vector(Bandit, 4), rollout_steps=25, exploration_bonus=0.5)
    metrics = next(iter(agent.learn())).metrics
    counts = torch.from_numpy(agent.visits.counts)
    assert counts.sum() == 100
    expected = (counts * exploration_bonus(counts, 0.5)).sum() / 100
    assert metrics["exploration_bonus"] == pytest.approx(float(expected), rel=1e-5)
    assert metrics["episode_return"] <= 1.0  # the environment's own


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_returns_and_first_actions_do_not_depend_on_the_bonus(name):
    """The first update sees the same episodes and reports the same returns; what is learned from them differs."""
    runs = []
    for bonus in (0.0, 1.0):
        agent = make(name, gym.make("FrozenLake-v1"), hidden=(8,), exploration_bonus=bonus)
        metrics = dict(next(iter(agent.learn())).metrics)
        metrics.pop("exploration_bonus", None)
        runs.append((metrics.get("episode_return"), agent.exploring_policy_table()))
    assert runs[0][0] == runs[1][0]
    assert not np.allclose(runs[0][1], runs[1][1])


@pytest.mark.parametrize(
    ("observation", "action", "what"), [("box", "discrete", "observations"), ("discrete", "box", "actions")]
)
def test_what_cannot_be_counted_is_refused(observation, action, what):
    with pytest.raises(ValueError, match=f"exploration_bonus counts {what}"):
        make("ppo", vector(lambda: Identity(observation, action), 2), exploration_bonus=0.1)
