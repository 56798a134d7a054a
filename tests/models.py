"""Random models that several tests are held on."""

from __future__ import annotations

import numpy as np

from gridzero.envs import FiniteMDP


def random_mdp(
    rng: np.random.Generator | int,
    states: int = 6,
    actions: int = 3,
    outcomes: int = 3,
    terminals: int = 1,
    leak: float = 0.0,
) -> FiniteMDP:
    """A random model; with ``leak`` every action goes to the last, terminal state with at least that probability."""
    rng = np.random.default_rng(rng)
    successors = rng.integers(0, states, (states, actions, outcomes))
    probabilities = rng.dirichlet(np.ones(outcomes), (states, actions))
    if leak:
        successors[:, :, -1] = states - 1
        probabilities = (1 - leak) * probabilities
        probabilities[:, :, -1] += leak
    terminal = np.zeros(states, dtype=bool)
    terminal[states - terminals :] = terminals > 0
    return FiniteMDP(
        successors, probabilities, rng.normal(size=(states, actions)), terminal, rng.dirichlet(np.ones(states))
    )
