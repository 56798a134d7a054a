"""Curves over seeds: bins of steps, mean or interquartile mean, bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.suggestions import closest
from gridzero.plotting.groups import LoggedRun

FloatArray = NDArray[np.float64]
Average = Literal["mean", "iqm"]
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a picture.

    Attributes:
        label: its name.
        x: (P,) steps, episodes or seconds.
        middle: (P,) mean or interquartile mean over the seeds.
        low: (P,) of the 95 % interval; NaN for a single seed.
        high: (P,).
        seeds: how many are behind it.
        bin: the width that each point is a mean over, in units of ``x``; 0 where points are as they were logged.
        optimum: what the metric could be, where that is known.
    """

    label: str
    x: FloatArray
    middle: FloatArray
    low: FloatArray
    high: FloatArray
    seeds: int
    bin: float = 0.0
    optimum: float | None = None


def column(run: LoggedRun, metric: str, axis: str) -> tuple[FloatArray, FloatArray]:
    """Positions on an axis and values, where both were logged and are finite.

    Args:
        run: what logged them.
        metric: of the values.
        axis: "step", "episodes" or "seconds".
    """
    pairs = [(row[axis], row[metric]) for row in run.rows if row.get(axis) is not None and row.get(metric) is not None]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def last_value(run: LoggedRun, metric: str) -> float:
    """The last value of a metric.

    Raises:
        ValueError: when the run has none.
    """
    values = column(run, metric, "step")[1]
    if not values.size:
        raise ValueError(f"{run.path} has no metric {metric!r}; {closest(metric, sorted(run.metrics))}")
    return float(values[-1])


def average(
    label: str,
    columns: Sequence[tuple[FloatArray, FloatArray]],
    *,
    points: int = 200,
    smooth: int = 1,
    statistic: Average = "mean",
    optimum: float | None = None,
) -> Curve:
    """The curve of some seeds, as far as all of them go.

    Runs that logged at the same places keep these if there are few enough; others are averaged over bins first.

    Args:
        label: of the curve.
        columns: positions and values of each seed, at least one of each.
        points: of the curve, at most.
        smooth: points of a running mean over each seed's curve; 1 for none.
        statistic: over the seeds.
        optimum: what the metric could be, where that is known.
    """
    same = all(np.array_equal(x, columns[0][0]) for x, _ in columns)
    if same and len(columns[0][0]) <= points:
        x, width = columns[0][0], 0.0
        table = np.stack([values for _, values in columns])
    else:
        edges = np.linspace(0, min(x[-1] for x, _ in columns), min(points, max(len(x) for x, _ in columns)) + 1)
        x = edges[1:]
        width = float(edges[1]) if any(np.histogram(at, edges)[0].max() > 1 for at, _ in columns) else 0.0
        table = np.stack([_filled(bin_means(at, values, edges)) for at, values in columns])
        known = ~np.isnan(table).any(axis=0)
        x, table = x[known], table[:, known]
    table = running_mean(table, smooth)
    low, high = intervals(table, statistic)
    return Curve(label, x, middle(table, statistic), low, high, len(columns), width, optimum)


def middle(table: NDArray[Any], statistic: Average, axis: int = 0) -> FloatArray:
    """The mean over an axis, or the interquartile mean: that of the middle half (Agarwal et al. 2021, section 4.3).

    >>> middle(np.array([[0.0], [1.0], [2.0], [100.0]]), "iqm")
    array([1.5])
    """
    if statistic == "mean":
        return np.asarray(table.mean(axis=axis), dtype=np.float64)
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(table, 0.25, axis=axis), dtype=np.float64)


def intervals(table: FloatArray, statistic: Average = "mean") -> tuple[FloatArray, FloatArray]:
    """Ends of the 95 % percentile bootstrap interval at each point, over the seeds (Efron 1979); NaN for one seed.

    A resampled mean is never outside the values that were seen, so neither is the interval.

    Args:
        table: (seeds, P).
        statistic: over the seeds.
    """
    if len(table) < 2 or not table.size:
        nothing = np.full(table.shape[1], math.nan)
        return nothing, nothing
    from scipy.stats import bootstrap

    found = bootstrap(
        (table,),
        lambda sample, axis: middle(sample, statistic, axis),
        axis=0,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=max(1, 4_000_000 // table.size),
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return np.asarray(found.low, dtype=np.float64), np.asarray(found.high, dtype=np.float64)


def running_mean(table: FloatArray, width: int) -> FloatArray:
    """The mean of each value and the ``width`` - 1 before it along the last axis; of fewer where there are fewer.

    >>> running_mean(np.array([[1.0, 3.0, 5.0]]), 2)
    array([[1., 2., 4.]])
    """
    if width <= 1 or not table.size:
        return table
    sums = np.cumsum(np.pad(table, ((0, 0), (1, 0))), axis=1)
    ends = np.arange(1, table.shape[1] + 1)
    starts = np.maximum(ends - width, 0)
    return np.asarray((sums[:, ends] - sums[:, starts]) / (ends - starts))


def bin_means(x: FloatArray, values: FloatArray, edges: FloatArray) -> FloatArray:
    """The mean of the values in each bin (edge, next edge]; NaN where there is none. Beyond the last edge: left out.

    >>> bin_means(np.array([1.0, 2.0, 6.0]), np.array([1.0, 3.0, 5.0]), np.array([0.0, 2.0, 4.0, 6.0]))
    array([ 2., nan,  5.])
    """
    inside = x <= edges[-1]
    index = np.clip(np.searchsorted(edges, x[inside], side="left") - 1, 0, len(edges) - 2)
    count = np.bincount(index, minlength=len(edges) - 1)
    total = np.bincount(index, weights=values[inside], minlength=len(edges) - 1)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _filled(values: FloatArray) -> FloatArray:
    """Bins without a value between two that have one, filled in along a straight line."""
    known = np.flatnonzero(~np.isnan(values))
    at = np.arange(len(values))
    return np.interp(at, known, values[known], left=math.nan, right=math.nan) if known.size else values
