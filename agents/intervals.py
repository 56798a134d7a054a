"""Confidence intervals for means and rates, and warnings of what they cannot cover."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95


def interval(returns: FloatArray, possible: tuple[float, float] | None = None) -> tuple[float, float]:
    """A 95 % confidence interval for the mean: Student's t, within the possible range of returns where it is known.

    Where every return is at one of the ends of that range, Wilson's. Returns that are equal by chance give an interval
    without width: nothing in the sample tells how far away a rare return may be.

    Args:
        returns: (n,).
        possible: the least and the greatest return that an episode can have; None if they are not known.

    >>> interval(np.array([1.0, 2.0, 3.0]))
    (-0.484..., 4.484...)
    >>> interval(np.array([1.0, 1.0, 1.0]), possible=(0.0, 1.0))
    (0.438..., 1.0)
    """
    if possible is not None and np.isin(returns, possible).all() and possible[0] < possible[1]:
        least, most = possible
        low, high = wilson_interval(int((returns == most).sum()), len(returns))
        return least + (most - least) * low, least + (most - least) * high
    mean = float(returns.mean())
    if len(returns) < 2:
        low, high = -math.inf, math.inf
    else:
        from scipy.special import stdtrit  # scipy.stats would take ten times as long to import

        error = float(returns.std(ddof=1)) / math.sqrt(len(returns))
        half = float(stdtrit(len(returns) - 1, (1 + CONFIDENCE) / 2)) * error
        low, high = mean - half, mean + half
    return (low, high) if possible is None else (max(low, min(possible[0], mean)), min(high, max(possible[1], mean)))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """A 95 % confidence interval for a probability (Wilson 1927); sound at 0 and 1 too.

    >>> wilson_interval(10, 10)
    (0.722..., 1.0)
    """
    z = 1.959963984540054
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == trials else centre + half)


def sample_warnings(
    returns: FloatArray, low: float, high: float, possible: tuple[float, float] | None, expected: float | None
) -> tuple[str, ...]:
    """Warn of an interval that a rare event, absent from the sample, would move."""
    if len(returns) < 2 or low < high or (possible is not None and possible[0] == possible[1]):
        return ()
    if expected is not None and math.isclose(expected, float(returns.mean()), rel_tol=1e-9, abs_tol=1e-12):
        return ()
    share = 1 - (1 - CONFIDENCE) ** (1 / len(returns))
    return (
        f"all {len(returns)} returns are equal, so the interval has no width; "
        f"events in up to {share:.1%} of episodes may be missing from the sample",
    )
