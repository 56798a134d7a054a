"""Random walks: the small prediction problems that Sutton & Barto compare learners on."""

from __future__ import annotations

import numpy as np

from gridzero.envs.mdp import FiniteMDP


def random_walk(states: int, *, reach: int = 1, left: float = 0.0, right: float = 1.0) -> FiniteMDP:
    """Random walk on a row of states that ends when it leaves the row at either side.

    An action is a jump, so that each reward is the one of its own transition: the walk is that of the uniform policy.
    Actions 0 … reach-1 go 1 … reach to the left, the others as far to the right. It begins in the middle.

    The walks of Sutton & Barto (2nd ed.): ``random_walk(5)`` (example 6.2), ``random_walk(19, left=-1)`` (example 7.1)
    and ``random_walk(1000, reach=100, left=-1)`` (example 9.1).

    Args:
        states: n, numbered 1 … n from left to right; 0 and n+1 are the terminal states.
        reach: the length of the longest jump; one beyond an end stops there.
        left: reward of leaving the row on the left.
        right: reward of leaving it on the right.

    Raises:
        ValueError: without a state or a jump.

    Example:
        >>> walk = random_walk(5)
        >>> walk.policy_values(np.full((7, 2), 0.5), gamma=1.0)[1:-1].round(3)
        array([0.167, 0.333, 0.5  , 0.667, 0.833])
    """
    if states < 1 or reach < 1:
        raise ValueError(f"a random walk has at least 1 state and a reach of at least 1, not {states} and {reach}")
    last = states + 1
    jumps = np.concatenate([-np.arange(1, reach + 1), np.arange(1, reach + 1)])
    successors = np.clip(np.arange(states + 2)[:, None] + jumps, 0, last)
    rewards = np.where(successors == 0, left, np.where(successors == last, right, 0.0))
    terminal = np.isin(np.arange(states + 2), (0, last))
    rewards[terminal] = 0.0
    start = np.arange(states + 2) == last // 2
    return FiniteMDP(successors[:, :, None], np.ones((*successors.shape, 1)), rewards, terminal, start)
