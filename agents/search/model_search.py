"""Monte Carlo tree search on a finite model, from any of its states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.search import model_kernels
from gridzero.agents.search.tree_search import SearchResult
from gridzero.envs import FiniteMDP

FloatArray = NDArray[np.float64]


class ModelSearch:
    """Searches a model's graph of states, and remembers what it found at the root of each search.

    Args:
        mdp: the model.
        config: the agent's settings.
        puct: whether actions are selected by PUCT.
        maxima: whether the values of best actions are backed up.
        seed: decides, with the state, what a search draws.
        guide: an agent with ``policy_table`` and perhaps ``state_values``; None for no guide.

    Attributes:
        visits: (S, A) simulations that began with an action.
        values: (S, A) of the actions; 0 where none began.

    Raises:
        ValueError: for a guide of other states or actions.
    """

    def __init__(self, mdp: FiniteMDP, config: Any, puct: bool, maxima: bool, seed: int, guide: Any = None) -> None:
        self.mdp, self.config, self.seed = mdp, config, seed
        self._rules = (puct, maxima)
        states, actions, outcomes = mdp.successors.shape
        self.visits = np.zeros((states, actions), dtype=np.int64)
        self.values = np.zeros((states, actions))
        self._sizes = np.zeros((states, 2), dtype=np.int64)
        self._last: int | None = None
        self._tables = (
            np.zeros((states, actions), dtype=np.int64),
            np.zeros((states, actions, outcomes), dtype=np.int64),
            np.zeros((states, actions)),
            np.zeros(states),
            np.zeros(states, dtype=np.bool_),
            np.zeros(states, dtype=np.int64),
        )
        self._touched = 0
        self._path = np.zeros((config.depth, 3), dtype=np.int64)
        self._guide = _tables_of(guide, states, actions)

    def search(self, state: int) -> SearchResult:
        """Result of a search from a state; the same one each time."""
        if not self.visits[state].any():
            if self.mdp.terminal[state]:  # nothing that is done there matters
                self.visits[state] = 1
            else:
                self._search(state)
                self.visits[state] = self._tables[0][state]
                self.values[state] = self._tables[2][state]
        size, depth = self._sizes[state].tolist()
        return SearchResult(self.visits[state], self.values[state], size, depth)

    def _search(self, state: int) -> None:
        mdp, config = self.mdp, self.config
        *_, expanded, touched = self._tables
        expanded[touched[: self._touched]] = False
        size, depth = model_kernels.search(
            (mdp.successors, mdp.probabilities, mdp.rewards, mdp.terminal),
            self._guide,
            (config.gamma, config.exploration, config.depth, *self._rules),
            state,
            config.simulations,
            np.random.SeedSequence((self.seed, state)).generate_state(1, np.uint64),
            self._tables,
            self._path,
        )
        self._last, self._touched = state, size
        self._sizes[state] = size, depth

    def state_values(self) -> FloatArray:
        """(S,) values of the best actions at the roots of searches, 0 elsewhere."""
        best = np.where(self.visits > 0, self.values, -np.inf).max(axis=1)
        return np.where(np.isfinite(best), best, 0.0)

    def visits_from(self, root: int) -> NDArray[np.int64]:
        """(S,) how often the simulations of the search from a state come by each; 0 for a terminal state."""
        found = np.zeros(self.mdp.num_states, dtype=np.int64)
        if self.mdp.terminal[root]:
            return found
        if self._last != root:
            self._search(root)
        states = self._tables[-1][: self._touched]
        found[states] = self._tables[0][states].sum(axis=1)
        return found


def _tables_of(guide: Any, states: int, actions: int) -> tuple[FloatArray, FloatArray]:
    """Priors (S, A) and values (S,) of a guide; of no length where it has none."""
    priors, values = np.zeros((0, actions)), np.zeros(0)
    if guide is None:
        return priors, values
    read = getattr(guide, "policy_table", None)
    if read is None:
        raise ValueError(f"{guide.name} has no table of its policy, which a guide needs")
    given = np.asarray(read(), dtype=np.float64)
    extra = states - len(given)
    if given.shape[1:] != (actions,) or extra not in (0, 1):
        raise ValueError(f"the guide's policy is {given.shape}; this environment needs {(states, actions)}")
    priors = np.vstack([given, np.full((extra, actions), 1 / actions)])
    try:
        values = np.append(np.asarray(guide.state_values(), dtype=np.float64)[:states], np.zeros(extra))[:states]
    except (AttributeError, ValueError):  # it estimates none
        values = np.zeros(0)
    return priors, values
