"""Sweeps over the states that are due equal sweeps over all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridzero.agents.tabular import frontier
from gridzero.agents.tabular.dynamic_programming import ValueIteration, ValueIterationConfig
from gridzero.envs import GridWorld, backup_kernels
from gridzero.envs.mdp import FiniteMDP

from ...models import random_mdp


def plain_sweeps(mdp: FiniteMDP, gamma: float, sweeps: int) -> list[tuple[np.ndarray, float, int]]:
    """Values, largest change and changes of the greedy action of each sweep, by numpy."""
    values, actions, found = np.zeros(mdp.num_states), np.zeros(mdp.num_states, dtype=int), []
    for _ in range(sweeps):
        q = mdp.action_values(values, gamma)
        best = q.argmax(axis=1)
        found.append((q.max(axis=1), np.abs(q.max(axis=1) - values).max(), int((best != actions).sum())))
        values, actions = q.max(axis=1), best
    return found


def check(mdp: FiniteMDP, gamma: float, sweeps: int) -> None:
    values, actions, made = np.zeros(mdp.num_states), np.zeros(mdp.num_states, dtype=np.int32), frontier.Frontier(mdp)
    for expected, residual, changes in plain_sweeps(mdp, gamma, sweeps):
        values, *said = made.sweep(values, actions, gamma)
        np.testing.assert_array_equal(values, expected)
        assert said == [residual, changes]


@pytest.mark.parametrize("few", [0.0, 0.5, 8.0])
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0]), st.integers(1, 3), st.integers(2, 40))
def test_the_sweeps_are_those_over_all_states(few: float, seed: int, gamma: float, outcomes: int, states: int) -> None:
    mdp = random_mdp(np.random.default_rng(seed), states=states, actions=2, outcomes=outcomes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontier, "FEW", few)
        check(mdp, gamma, 30)


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_a_grid_too_by_several_threads(slip: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (frontier, backup_kernels):
        monkeypatch.setattr(module, "MANY_STATES", 100)
    monkeypatch.setattr("numba.get_num_threads", lambda: 3)
    check(GridWorld("obstacles:20x20:1", target_terminal=False, slip=slip).mdp, 0.9, 60)


def test_value_iteration_goes_on_from_where_it_stopped_and_after_an_edit() -> None:
    world = GridWorld("obstacles:20x20:1")
    config = ValueIterationConfig(gamma=0.9)
    whole, half = ValueIteration(world, config), ValueIteration(world, config)
    for update in half.learn():
        if update.step == 20:
            break
    resumed = ValueIteration(world, config)
    resumed.load_state_dict(half.state_dict())
    assert [*whole.learn()][20:] == [*resumed.learn()]
    np.testing.assert_array_equal(whole.state_values(), resumed.state_values())
    world.edit(3, 3, "#")
    for _ in whole.learn():
        pass
    fresh = ValueIteration(world, config)
    for _ in fresh.learn():
        pass
    np.testing.assert_allclose(whole.state_values(), fresh.state_values(), atol=1e-6)
