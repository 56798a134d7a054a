"""States of agents, compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents.checkpoint import flatten


def assert_same_state(one: Any, other: Any) -> None:
    """Two states hold the same numbers, bit for bit."""
    (tree, arrays), (other_tree, other_arrays) = flatten(one), flatten(other)
    assert tree == other_tree
    assert arrays.keys() == other_arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, other_arrays[key], err_msg=key)
