"""Statistical tests of what learners estimate."""

from __future__ import annotations

import numpy as np
from scipy import stats


def assert_means(
    samples: np.ndarray, expected: np.ndarray, width: float = 0.15, confidence: float = 0.999, bias: float = 1e-12
) -> None:
    """Each mean over axis 0 is within its t interval; all hold together with the confidence (Bonferroni).

    The intervals must be narrow enough to say something: the median one reaches no further than ``width``. A bias is
    allowed for where finitely many steps leave one, as bootstrapping does.
    """
    runs, cells = len(samples), expected.size
    reach = stats.t.ppf(1 - (1 - confidence) / (2 * cells), runs - 1) * samples.std(axis=0, ddof=1) / np.sqrt(runs)
    np.testing.assert_array_less(np.abs(samples.mean(axis=0) - expected), reach + bias)
    assert np.median(reach) < width
