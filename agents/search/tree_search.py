"""Monte Carlo tree search with an environment as generative model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.search.simulator import Simulator
from gridzero.agents.spaces import Numbering

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SearchResult:
    """Result of a search for the state that it began in.

    Attributes:
        visits: (A,) simulations that began with each action.
        values: (A,) their values; 0 where there were none.
        size: nodes of the tree.
        depth: of its longest branch.
    """

    visits: NDArray[np.int64]
    values: FloatArray
    size: int
    depth: int


@dataclass
class Node:
    """A history: what was done and seen since the root.

    Attributes:
        visits: (A,) how often each action was tried.
        q: (A,) values.
        rewards: (A,) means.
        children: for each action, what followed, by what was seen, with how often; None for the end of an episode.
        value: what backing up takes it for.
    """

    visits: NDArray[np.int64]
    q: FloatArray
    rewards: FloatArray
    children: list[dict[Any, tuple[int, Node | None]]]
    value: float = 0.0

    @classmethod
    def empty(cls, actions: int) -> Node:
        """A node of which nothing is known."""
        return cls(np.zeros(actions, np.int64), np.zeros(actions), np.zeros(actions), [{} for _ in range(actions)])


@dataclass
class TreeSearch:
    """Searches a tree of histories, which need no state that can be numbered.

    Attributes:
        simulator: continues episodes.
        actions: numbers them.
        gamma: discount.
        exploration: constant of the upper confidence bound.
        depth: longest simulation.
        puct: whether actions are selected by PUCT, with uniform priors.
        maxima: whether values are those of the best actions, else means of returns.
    """

    simulator: Simulator
    actions: Numbering
    gamma: float
    exploration: float
    depth: int
    puct: bool
    maxima: bool
    _low: float = field(default=math.inf, init=False)
    _high: float = field(default=-math.inf, init=False)

    def search(self, snapshot: Any, simulations: int, rng: np.random.Generator) -> SearchResult:
        """Simulate so often from a snapshot."""
        self._low, self._high = math.inf, -math.inf
        root = Node.empty(self.actions.n)
        size, deepest = 1, 0
        for _ in range(simulations):
            grown, depth = self._simulate(root, self.simulator.begin(snapshot, rng), rng)
            size, deepest = size + grown, max(deepest, depth)
        return SearchResult(root.visits, root.q, size, deepest)

    def _simulate(self, root: Node, env: Any, rng: np.random.Generator) -> tuple[int, int]:
        """One walk through the tree and out of it; says by how many nodes it grew, and how deep it was."""
        node: Node | None = root
        path: list[tuple[Node, int, float]] = []
        grown, value = 0, 0.0
        while node is not None and len(path) < self.depth:
            action = self._select(node, rng)
            observation, reward, terminated, truncated, _ = env.step(self.actions.element(action))
            path.append((node, action, float(reward)))
            key = (_hashable(observation), float(reward), bool(terminated))
            known = node.children[action].get(key)
            over = bool(terminated or truncated)
            child = (None if over else Node.empty(self.actions.n)) if known is None else known[1]
            node.children[action][key] = (1 if known is None else known[0] + 1, child)
            node = child
            if known is None and child is not None:
                grown = 1
                value = child.value = 0.0 if self.maxima else self._rollout(env, self.depth - len(path), rng)
                break
        for before, action, reward in reversed(path):
            value = self._back_up(before, action, reward, value)
        return grown, len(path)

    def _back_up(self, node: Node, action: int, reward: float, value: float) -> float:
        node.visits[action] += 1
        count = node.visits[action]
        node.rewards[action] += (reward - node.rewards[action]) / count
        target = reward + self.gamma * value
        if self.maxima:
            following = node.children[action].values()
            mean = sum(times * child.value for times, child in following if child is not None) / count
            node.q[action] = node.rewards[action] + self.gamma * mean
        else:
            node.q[action] += (target - node.q[action]) / count
        q = float(node.q[action])
        self._low, self._high = min(self._low, q), max(self._high, q)
        node.value = float(node.q[node.visits > 0].max())
        return node.value if self.maxima else target

    def _select(self, node: Node, rng: np.random.Generator) -> int:
        """The action with the highest upper confidence bound; see :func:`~.model_kernels.select`."""
        untried = np.flatnonzero(node.visits == 0)
        scale = self._high - self._low
        means = (node.q - self._low) / scale if scale > 0 else np.zeros(self.actions.n)
        total = node.visits.sum()
        if self.puct:
            means = np.where(node.visits > 0, means, 0.0)
            bounds = means + self.exploration / self.actions.n * math.sqrt(total + 1) / (1 + node.visits)
        elif untried.size:
            return int(rng.choice(untried))
        else:
            bounds = means + self.exploration * np.sqrt(math.log(total) / node.visits)
        return int(rng.choice(np.flatnonzero(bounds >= bounds.max())))

    def _rollout(self, env: Any, steps: int, rng: np.random.Generator) -> float:
        """The return of random actions."""
        total, discount = 0.0, 1.0
        for _ in range(steps):
            action = self.actions.element(int(rng.integers(self.actions.n)))
            _, reward, terminated, truncated, _ = env.step(action)
            total += discount * float(reward)
            discount *= self.gamma
            if terminated or truncated:
                break
        return total


def _hashable(observation: Any) -> Any:
    if isinstance(observation, dict):
        return tuple((name, _hashable(part)) for name, part in observation.items())
    if isinstance(observation, tuple):
        return tuple(_hashable(part) for part in observation)
    return observation.tobytes() if isinstance(observation, np.ndarray) else observation
