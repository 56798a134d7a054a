"""Sequences of step sizes and of exploration rates, and whether they meet the Robbins-Monro conditions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_FORM = re.compile(
    rf"(?P<scale>{_NUMBER})(?:/(?:k|\(k\+(?P<shift>{_NUMBER})\))(?:(?:\^|\*\*)(?P<power>{_NUMBER}))?(?P<decays>))?"
)

SLOW_DECAY = "1/k^0.2"
"""Exploration rates that tend to 0 with an infinite sum: 1, 0.63 in the 10th episode, 0.29 in the 500th."""


@dataclass(frozen=True)
class Schedule:
    r"""$a_k = \mathrm{scale} \cdot (k + \mathrm{shift})^{-\mathrm{power}}$ for k = 1, 2, …; constant when power is 0.

    Attributes:
        scale: at least 0.
        shift: at least 0.
        power: at least 0.

    Raises:
        ValueError: for a number that is negative or not finite.

    Example:
        >>> schedule = Schedule.parse("10/(k+9)")
        >>> schedule(1), schedule([1, 11]), schedule.converges
        (1.0, array([1. , 0.5]), True)
    """

    scale: float = 1.0
    shift: float = 0.0
    power: float = 0.0

    def __post_init__(self) -> None:
        for name in ("scale", "shift", "power"):
            value = float(getattr(self, name))
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number, at least 0, not {value}")
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, source: str | float | Schedule, name: str = "schedule", maximum: float = math.inf) -> Schedule:
        """The schedule that a text such as ``"0.5/k^0.7"`` says.

        Args:
            source: ``"0.1"`` or the number itself (constant), ``"1/k"``, ``"0.5/k^0.7"``, ``"10/(k+9)"``,
                ``"2/(k+5)^0.8"``; a schedule is returned as it is.
            name: what errors call it.
            maximum: the most that any value may be (1 for a probability).

        Raises:
            ValueError: for a text of another form, or a value above ``maximum``.

        >>> Schedule.parse("2/(k+5)^0.8")
        Schedule(scale=2.0, shift=5.0, power=0.8)
        >>> Schedule.parse("1/n", "step_size")
        Traceback (most recent call last):
        ValueError: step_size must look like 0.1, 1/k, 0.5/k^0.7, 10/(k+9) or 2/(k+5)^0.8, not '1/n'
        """
        if isinstance(source, Schedule):
            schedule = source
        else:
            found = _FORM.fullmatch(re.sub(r"\s", "", str(source)))
            if found is None:
                raise ValueError(
                    f"{name} must look like 0.1, 1/k, 0.5/k^0.7, 10/(k+9) or 2/(k+5)^0.8, not {str(source)!r}"
                )
            power = 0.0 if found["decays"] is None else float(found["power"] or 1)
            schedule = cls(float(found["scale"]), float(found["shift"] or 0), power)
        if schedule(1) > maximum:
            raise ValueError(f"{name} must never be above {maximum:g}; {schedule} starts at {schedule(1):g}")
        return schedule

    @overload
    def __call__(self, k: int) -> float: ...

    @overload
    def __call__(self, k: ArrayLike) -> NDArray[np.float64]: ...

    def __call__(self, k: Any) -> Any:
        """The value at the k-th use, k = 1, 2, …; an array for an array of k."""
        if isinstance(k, (int, np.integer)):
            return self.scale * (int(k) + self.shift) ** -self.power
        return self.scale * (np.asarray(k, dtype=np.float64) + self.shift) ** -self.power

    @property
    def converges(self) -> bool:
        r"""Whether $\sum a_k = \infty$ and $\sum a_k^2 < \infty$ (Robbins & Monro 1951; Zhao, theorem 6.1).

        They hold for a power above 1/2 and at most 1. Under a constant step size the estimates keep a variance in
        the order of the step size.
        """
        return self.scale > 0 and 0.5 < self.power <= 1

    @property
    def conditions(self) -> str:
        """Which of the two conditions hold, in a few words.

        >>> Schedule.parse("0.1").conditions
        'sum of a_k infinite: yes, sum of a_k^2 finite: no'
        """
        infinite, finite = self.scale > 0 and self.power <= 1, self.scale == 0 or self.power > 0.5
        answer = {True: "yes", False: "no"}
        return f"sum of a_k infinite: {answer[infinite]}, sum of a_k^2 finite: {answer[finite]}"

    def __str__(self) -> str:
        """The text that :meth:`parse` reads back as this very schedule."""
        if self.power == 0:
            return _text(self.scale)
        base = f"(k+{_text(self.shift)})" if self.shift else "k"
        return f"{_text(self.scale)}/{base}" + (f"^{_text(self.power)}" if self.power != 1 else "")


def parse_step_size(source: str) -> Schedule:
    """Schedule of step sizes.

    Raises:
        ValueError: for a text of another form, values above 1, or 0.
    """
    schedule = Schedule.parse(source, "step_size", maximum=1)
    if schedule.scale == 0:
        raise ValueError("step_size must be above 0: nothing would be learnt")
    return schedule


def _text(number: float) -> str:
    return str(int(number)) if number == int(number) and number < 1e15 else repr(number)
