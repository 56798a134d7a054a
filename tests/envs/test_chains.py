"""Random walks have the values that can be derived by hand."""

import numpy as np
import pytest

from gridzero.envs.chains import random_walk


@pytest.mark.parametrize(("states", "left", "right"), [(5, 0.0, 1.0), (19, -1.0, 1.0), (1, -1.0, 1.0)])
def test_values_rise_evenly_from_one_end_to_the_other(states: int, left: float, right: float) -> None:
    """The probability of leaving on the right is s / (n + 1) (gambler's ruin)."""
    walk = random_walk(states, left=left, right=right)
    values = walk.policy_values(np.full((states + 2, 2), 0.5), gamma=1.0)
    expected = left + (right - left) * np.arange(1, states + 1) / (states + 1)
    np.testing.assert_allclose(values[1:-1], expected, atol=1e-12)
    assert walk.start.argmax() == (states + 1) // 2


def test_the_walk_of_1000_states() -> None:
    """By symmetry the middle is worth 0; a jump from the first state leaves on the left in 100 of 200 cases."""
    walk = random_walk(1000, reach=100, left=-1.0)
    values = walk.policy_values(np.full((1002, 200), 1 / 200), gamma=1.0)
    np.testing.assert_allclose(values, -values[::-1], atol=1e-12)
    assert (np.diff(values[1:-1]) > 0).all()
    assert walk.rewards[1].mean() == -0.5
    assert walk.start.argmax() == 500


@pytest.mark.parametrize("wrong", [{"states": 0}, {"states": 5, "reach": 0}])
def test_an_empty_walk_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 state"):
        random_walk(**wrong)
