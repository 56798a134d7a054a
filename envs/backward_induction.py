"""Optimal values of a finite horizon, by backward induction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gridzero.envs import backup_kernels as kernels

if TYPE_CHECKING:
    from gridzero.envs.mdp import FiniteMDP

BLOCKS = 1024
"""Most blocks that the states are divided into; a block is backed up or left out as a whole."""


def optimal_values(mdp: FiniteMDP, horizon: int, gamma: float) -> NDArray[np.float64]:
    """(S,) values with ``horizon`` steps to go (Puterman, section 4.5).

    Only states with a successor whose value has just changed are backed up, in blocks; where no value changes any
    more, as where every episode is over by now, it ends.
    """
    blocks = min(mdp.num_states, BLOCKS)
    depends = kernels.dependencies(mdp.packed[0], blocks)
    due, changed = np.ones(blocks, dtype=np.bool_), np.empty(blocks, dtype=np.bool_)
    values, spare = np.zeros(mdp.num_states), np.empty(mdp.num_states)
    for _ in range(horizon):
        kernels.optimal_backup(*mdp.packed, mdp.rewards, mdp.terminal, gamma, values, spare, due, changed)
        values, spare = spare, values
        if not changed.any():
            break
        np.any(depends[:, changed], axis=1, out=due)
    return values
