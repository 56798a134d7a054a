"""Measurement: contenders take turns, medians count."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_clock = CLOCKS["wall"]


def use_clock(name: str) -> None:
    """Measure by wall time, or by processor time, all threads together."""
    global _clock
    _clock = CLOCKS[name]


def clock() -> float:
    """Seconds since some moment."""
    return _clock()


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        work: what was done.
        unit: of both figures; seconds are better when fewer, rates when more.
        ours: gridzero's median.
        peer: with what it is compared; empty where the bar is a figure of its own.
        theirs: the peer's median; None where it is not installed.
        ratio: how many times better than the peer, the median over the rounds.
        bar: what is to be reached; None where the row is only for information.
        on: what the bar is on: "ratio", at least; or "ours", at least for rates, at most for seconds.
        note: what else is to be known.
    """

    work: str
    unit: str
    ours: float
    peer: str = ""
    theirs: float | None = None
    ratio: float | None = None
    bar: float | None = None
    on: str = "ours"
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None where there is none, or nothing to compare with."""
        value = self.ours if self.on == "ours" else self.ratio
        if self.bar is None or value is None:
            return None
        return value <= self.bar if self.on == "ours" and not self.unit.endswith("/s") else value >= self.bar


def rounds(contenders: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Let the contenders measure themselves in turn, ``repeats`` times, so that other load hits all alike.

    >>> rounds({"a": lambda: 1.0, "b": lambda: 2.0}, repeats=2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, measure in contenders.items():
            figures[name].append(measure())
    return figures


def median_ratio(better: list[float], worse: list[float]) -> float:
    """The median over the rounds of one figure over the other.

    >>> median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0])
    3.0
    """
    return statistics.median(a / b for a, b in zip(better, worse, strict=True))


def installed(name: str) -> bool:
    """Whether a peer can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None
