"""The exact optimum of a finite MDP, as fast as this package can find it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.dynamic_programming import TruncatedPolicyIteration, TruncatedPolicyIterationConfig
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    r"""What :func:`solve` found.

    Attributes:
        values: (S,), 0 in terminal states.
        actions: (S,) int32, greedy in the values, the first of equals.
        residual: the Bellman residual of the values; for gamma < 1, $\|v - v^*\|_\infty$ is at most $1/(1-\gamma)$
            times it.
        sweeps: passes over the states, of any kind.
        seconds: wall-clock time, compilation included where this was the first call.
    """

    values: FloatArray
    actions: NDArray[np.int32]
    residual: float
    sweeps: int
    seconds: float


def solve(mdp: FiniteMDP, gamma: float, tolerance: float = 1e-6) -> Solution:
    """The optimal values and a policy that is greedy in them.

    Args:
        mdp: the model.
        gamma: the discount, in [0, 1]; 1 needs a policy that ends from every state.
        tolerance: the largest Bellman residual allowed, greater than 0.

    Raises:
        ValueError: for a discount or tolerance out of range, or with gamma = 1 a state from which no policy ends.
    """
    began = time.perf_counter()
    planner = TruncatedPolicyIteration(
        mdp,
        TruncatedPolicyIterationConfig(gamma=gamma, tolerance=tolerance, sweep="gauss-seidel", evaluation_sweeps=20),
    )
    for _ in planner.learn():
        pass
    values = planner.state_values()
    q = mdp.action_values(values, gamma)
    return Solution(
        values,
        q.argmax(axis=1).astype(np.int32),
        mdp.bellman_residual(values, gamma),
        planner.sweeps,
        time.perf_counter() - began,
    )
