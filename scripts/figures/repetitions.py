"""Many runs of one world at once, for averages over them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs import FiniteMDP

FloatArray = NDArray[np.float64]


class Repetitions(SimulatedMDP):
    """R runs of one world, each with states of its own, so that one agent's table is R tables that share nothing.

    Run i has the states i·S … (i+1)·S - 1.

    Args:
        mdp: the world, of S states.
        runs: R.
        episodes: E, how many of each run are recorded.
        limit: the steps after which an episode is cut off; None for never.
        deviations: (S, A) standard deviations of normal noise in the rewards; none if not given.
        allowed: (S, A) which actions there are; all if not given.

    Attributes:
        returns: (R, E) undiscounted; NaN for episodes to come.
        lengths: (R, E) steps; NaN for episodes to come.
        ended: (R,) episodes so far.

    Example:
        >>> chain = FiniteMDP([[[1]], [[1]]], np.ones((2, 1, 1)), [[5], [0]], terminal=[False, True], start=[1, 0])
        >>> env = Repetitions(chain, runs=2, episodes=1)
        >>> env.reset(seed=0)[0]
        array([0, 2])
        >>> _ = env.step(np.zeros(2, dtype=int))
        >>> env.returns[:, 0], env.done
        (array([5., 5.]), True)
    """

    def __init__(
        self,
        mdp: FiniteMDP,
        runs: int,
        episodes: int,
        *,
        limit: int | None = None,
        deviations: ArrayLike | None = None,
        allowed: ArrayLike | None = None,
    ) -> None:
        super().__init__(mdp, runs, limit)
        self.single_observation_space = gym.spaces.Discrete(mdp.num_states * runs)
        self.observation_space = gym.spaces.MultiDiscrete(np.full(runs, mdp.num_states * runs))
        self._offsets = np.arange(runs) * mdp.num_states
        self._deviations = None if deviations is None else np.asarray(deviations, dtype=np.float64)
        self._allowed = np.ones(mdp.rewards.shape, dtype=np.bool_) if allowed is None else np.asarray(allowed)
        self.returns = np.full((runs, episodes), np.nan)
        self.lengths = np.full((runs, episodes), np.nan)
        self.ended = np.zeros(runs, dtype=np.int64)
        self._totals, self._steps = np.zeros(runs), np.zeros(runs)

    @property
    def done(self) -> bool:
        """Whether all is recorded."""
        return bool(self.ended.min() >= self.returns.shape[1])

    def action_masks(self) -> NDArray[np.bool_]:
        """(R, A) which actions there are now."""
        return np.array(self._allowed[self._states])

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Begin episodes, of all runs or where ``options["reset_mask"]`` says."""
        states, info = super().reset(seed=seed, options=options)
        return states + self._offsets, info

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of each run."""
        before = self._states
        states, rewards, terminated, truncated, info = super().step(actions)
        if self._deviations is not None:
            rewards = rewards + self._deviations[before, actions] * self._rng.normal(size=self.num_envs)
        self._totals += rewards
        self._steps += 1
        over = terminated | truncated
        if over.any():
            recorded = np.flatnonzero(over & (self.ended < self.returns.shape[1]))
            self.returns[recorded, self.ended[recorded]] = self._totals[recorded]
            self.lengths[recorded, self.ended[recorded]] = self._steps[recorded]
            self.ended += over
            self._totals[over] = self._steps[over] = 0
        return states + self._offsets, rewards, terminated, truncated, info


def record(agent: Any, env: Repetitions) -> None:
    """Let an agent learn until the episodes of all runs are recorded."""
    for _ in agent.learn():
        if env.done:
            return


def errors_by_episode(agent: Any, env: Repetitions, exact: FloatArray) -> FloatArray:
    """Root mean square errors of state values after each episode of each run, while an agent learns.

    Args:
        agent: with ``steps_per_update`` 1, so that no episode's end is missed.
        env: its environment.
        exact: (S,) values, NaN for states that do not count.

    Returns:
        (R, E).
    """
    counted = ~np.isnan(exact)
    errors, known = np.full(env.returns.shape, np.nan), np.zeros(env.num_envs, dtype=np.int64)
    for _ in agent.learn():
        new = np.flatnonzero((env.ended > known) & (known < errors.shape[1]))
        if new.size:
            values = agent.state_values().reshape(env.num_envs, -1)[new][:, counted]
            errors[new, known[new]] = np.sqrt(((values - exact[counted]) ** 2).mean(axis=1))
            known = env.ended.copy()
        if env.done:
            break
    return errors


def greedy_way(mdp: FiniteMDP, action_values: FloatArray, limit: int = 1000) -> list[int]:
    """The states that the greedy policy (the first of equals) passes from the start to the end, both included.

    Args:
        mdp: a world in which nothing is left to chance.
        action_values: (S, A).
        limit: of steps; a way that has not ended by then is cut off.
    """
    policy = action_values.argmax(axis=1)
    way = [int(mdp.start.argmax())]
    while not mdp.terminal[way[-1]] and len(way) <= limit:
        way.append(int(mdp.successors[way[-1], policy[way[-1]], 0]))
    return way
