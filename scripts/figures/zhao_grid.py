"""The 5x5 grid of Zhao's book, which most of its figures are about."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents.tabular.solver import solve
from gridzero.envs import FiniteMDP, GridWorld
from gridzero.figures.figure import FloatArray, draw_grid

GAMMA = 0.9
FORBIDDEN = ((1, 1), (1, 2), (2, 2), (3, 1), (3, 3), (4, 1))
TARGET = (3, 2)
SHORTEST = 11
"""Moves from the top left to the target without a forbidden cell."""
MOVES = "urdlo"
"""Up, right, down, left, stay, as :func:`policy_of` reads them."""

OPTIMAL = {  # reward of a forbidden cell: figure 3.4a, figure 3.4d
    -1: "5.8 5.6 6.2 6.5 5.8 6.5 7.2 8.0 7.2 6.5 7.2 8.0 10 8.0 7.2 8.0 10 10 10 8.0 7.2 9.0 10 9.0 8.1",
    -10: "3.5 3.9 4.3 4.8 5.3 3.1 3.5 4.8 5.3 5.9 2.8 2.5 10 5.9 6.6 2.5 10 10 10 7.3 2.3 9.0 10 9.0 8.1",
}
"""Published optimal state values."""


def model(reward_forbidden: float = -1.0) -> FiniteMDP:
    """The exact model with this reward for entering a forbidden cell."""
    return GridWorld(layout="zhao-5x5", reward_forbidden=reward_forbidden).mdp


def optimal_values(mdp: FiniteMDP) -> FloatArray:
    """(S,) exact."""
    return solve(mdp, GAMMA, tolerance=1e-12).values


def numbers(text: str) -> FloatArray:
    """Numbers as they are printed, one after the other."""
    return np.array(text.split(), dtype=np.float64)


def policy_of(moves: str) -> FloatArray:
    """(25, 5) probabilities of a policy that is written down row by row, a letter of :data:`MOVES` for each cell.

    Example:
        >>> policy_of("urdlo " * 5)[:5].argmax(axis=1).tolist()
        [0, 1, 2, 3, 4]
    """
    return np.eye(5)[[MOVES.index(move) for move in moves.replace(" ", "")]]


def epsilon_greedy(moves: FloatArray, epsilon: float) -> FloatArray:
    """(25, 5) probabilities of a deterministic policy with ε/5 more for every action."""
    return np.asarray(epsilon / 5 + (1 - epsilon) * moves)


def moves_to_target(policy: FloatArray) -> int:
    """Moves of a deterministic policy (25, 5) from the top left to the target; 100 if it is never reached."""
    following = model().successors[np.arange(25), policy.argmax(axis=1), 0]
    cell, moves = 0, 0
    while cell != TARGET[0] * 5 + TARGET[1] and moves < 100:
        cell, moves = int(following[cell]), moves + 1
    return moves


def draw(axes: Any, values: FloatArray, policy: FloatArray | None = None, title: str = "") -> None:
    """Draw state values (25,) and perhaps a policy (25, 5)."""
    arrows = None if policy is None else policy.reshape(5, 5, -1)
    draw_grid(axes, values.reshape(5, 5), arrows, forbidden=FORBIDDEN, target=TARGET, title=title)
