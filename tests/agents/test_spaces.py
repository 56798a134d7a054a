from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from hypothesis import given, settings
from hypothesis import strategies as st

from gridzero.agents.spaces import Numbering

SIMPLE = st.one_of(
    st.builds(lambda n, start: gym.spaces.Discrete(n, start=start), st.integers(1, 6), st.integers(-3, 3)),
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(gym.spaces.MultiDiscrete),
    st.builds(lambda nvec: gym.spaces.MultiDiscrete(nvec, start=[2, -1]), st.tuples(st.integers(1, 3), st.just(2))),
    st.just(gym.spaces.MultiDiscrete([[2, 3], [1, 2]])),
    st.integers(1, 4).map(gym.spaces.MultiBinary),
    st.just(gym.spaces.MultiBinary((2, 2))),
)
SPACES = st.one_of(SIMPLE, st.lists(SIMPLE, min_size=1, max_size=3).map(gym.spaces.Tuple))


@given(SPACES)
@settings(max_examples=60)
def test_numbers_and_elements_are_one_to_one(space: gym.Space[Any]) -> None:
    numbering = Numbering(space)
    elements = [numbering.element(number) for number in range(numbering.n)]
    assert all(space.contains(element) for element in elements)
    assert [numbering.number(element) for element in elements] == list(range(numbering.n))
    assert len({str(element) for element in elements}) == numbering.n


@given(SPACES, st.integers(0, 2**31), st.integers(1, 5))
@settings(max_examples=60)
def test_batches_are_what_vector_environments_use(space: gym.Space[Any], seed: int, count: int) -> None:
    numbering = Numbering(space)
    space.seed(seed)
    samples = [space.sample() for _ in range(count)]
    batch: Any = concatenate(space, samples, create_empty_array(space, count))
    numbers = numbering.numbers(batch)
    np.testing.assert_array_equal(numbers, [numbering.number(sample) for sample in samples])
    np.testing.assert_array_equal(numbering.numbers(samples), numbers)
    back = list(iterate(batch_space(space, count), numbering.elements(numbers)))
    assert [numbering.number(element) for element in back] == numbers.tolist()


def test_the_last_component_changes_fastest() -> None:
    assert Numbering(gym.spaces.MultiDiscrete([3, 4])).number(np.array([1, 2])) == 1 * 4 + 2


@pytest.mark.parametrize(
    "space", [gym.spaces.Box(0, 1), gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Text(3)])]
)
def test_a_space_that_is_not_discrete_is_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(ValueError, match="the agent needs a discrete observation space, not"):
        Numbering(space, "observation space")


@pytest.mark.parametrize(("count", "exponent"), [(7, 9), (64, 83)])  # the latter overflows 64 bits
def test_a_space_with_too_many_elements_is_refused(count: int, exponent: int) -> None:
    with pytest.raises(ValueError, match=rf"the observation space has about 10\^{exponent} elements"):
        Numbering(gym.spaces.MultiDiscrete([20] * count), "observation space")


@pytest.mark.parametrize(
    ("space", "outside"),
    [
        (gym.spaces.Discrete(5), [5, -1, 10**9]),
        (gym.spaces.Discrete(5, start=3), [2, 8]),
        (gym.spaces.MultiDiscrete([2, 3]), [np.array([0, 3]), np.array([-1, 2])]),  # whose numbers would be 3 and -1
        (gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.MultiBinary(2)]), [(1, np.array([2, 0]))]),
    ],
)
def test_what_is_not_in_the_space_has_no_number(space: gym.Space[Any], outside: list[Any]) -> None:
    numbering = Numbering(space, "observation space")
    for element in outside:
        with pytest.raises(ValueError, match=r"is not in it$"):
            numbering.number(element)
        with pytest.raises(ValueError, match=r"^the environment's observation space is .* is not in it$"):
            numbering.numbers([numbering.element(0), element])
