from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridzero.agents.tabular.schedules import Schedule

NUMBERS = st.floats(0, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", [0.1, 0.1, 0.1]),
        ("1/k", [1, 1 / 2, 1 / 3]),
        ("0.5/k^0.7", [0.5, 0.5 / 2**0.7, 0.5 / 3**0.7]),
        (" 0.5 / k ** 0.7 ", [0.5, 0.5 / 2**0.7, 0.5 / 3**0.7]),
        ("10/(k+9)", [1, 10 / 11, 10 / 12]),
        ("2/(k+5)^0.8", [2 / 6**0.8, 2 / 7**0.8, 2 / 8**0.8]),
        ("1e-3", [1e-3] * 3),
        (".5", [0.5] * 3),
    ],
)
def test_the_forms_it_reads(text: str, expected: list[float]) -> None:
    schedule = Schedule.parse(text)
    np.testing.assert_allclose([schedule(k) for k in (1, 2, 3)], expected, rtol=1e-15)
    np.testing.assert_allclose(schedule(np.array([1, 2, 3])), expected, rtol=1e-15)


def test_numbers_and_schedules_are_taken_as_they_are() -> None:
    assert Schedule.parse(0.25) == Schedule(0.25)
    assert Schedule.parse(1) == Schedule(1)
    assert Schedule.parse(Schedule(1, 2, 0.6)) == Schedule(1, 2, 0.6)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_text_is_read_back_as_the_same_values(scale: float, shift: float, power: float) -> None:
    schedule = Schedule(scale, shift, power)
    again = Schedule.parse(str(schedule))
    assert [again(k) for k in (1, 7, 1000)] == [schedule(k) for k in (1, 7, 1000)]


@pytest.mark.parametrize(
    "text", ["", "k", "1/n", "-0.1", "1/k^", "1/(k-1)", "1/(k+1", "1/k/k", "nan", "inf", "0.1.2", "١"]
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^step_size must look like") as error:
        Schedule.parse(text, "step_size")
    assert "\n" not in str(error.value)


def test_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match="power must be"):
        Schedule(1, 0, -1)
    with pytest.raises(ValueError, match="scale must be"):
        Schedule(float("nan"))
    with pytest.raises(ValueError, match="epsilon must never be above 1; 3/k starts at 3"):
        Schedule.parse("3/k", "epsilon", maximum=1)
    assert Schedule.parse("10/(k+9)", "epsilon", maximum=1)(1) == 1


@pytest.mark.parametrize(
    ("text", "converges"),
    [
        ("0.1", False),
        ("1/k", True),
        ("1/k^0.5", False),
        ("1/k^0.51", True),
        ("1/k^1.01", False),
        ("3/(k+100)^0.75", True),
        ("0/k", False),
    ],
)
def test_the_conditions(text: str, converges: bool) -> None:
    schedule = Schedule.parse(text)
    assert schedule.converges is converges
    assert (schedule.conditions == "sum of a_k infinite: yes, sum of a_k^2 finite: yes") is converges
