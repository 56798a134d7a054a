"""Seeds of the parts of a learner, spawned from its one seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spawn_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """Seeds of ``count`` independent random generators.

    >>> spawn_seeds(0, 2)
    [3757552657, 673228719]
    """
    return [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(count)]
