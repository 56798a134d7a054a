"""Environments made of a model, the model of an environment, and episodes that begin in a state of one's choice."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from gridzero.agents.interaction import Interaction
from gridzero.agents.spaces import Numbering
from gridzero.envs import FiniteMDP
from gridzero.envs.model_check import ModelError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

MODEL_STEP_LIMIT = 1000
"""Steps after which an episode drawn from a bare ``FiniteMDP`` is truncated, lest it never ends."""


class SimulatedMDP(VectorEnv[Any, Any, Any]):
    """N copies of a :class:`FiniteMDP`, stepped together: for learners that are given a model alone.

    Rewards are the model's expected rewards r(s, a): of p(r | s, a) it keeps no more.

    Args:
        mdp: the model.
        num_envs: N.
        limit: the steps after which an episode is cut off; None for never.

    Example:
        >>> chain = FiniteMDP([[[1]], [[1]]], np.ones((2, 1, 1)), [[5], [0]], terminal=[False, True], start=[1, 0])
        >>> env = SimulatedMDP(chain, num_envs=3)
        >>> env.reset(seed=0)[0]
        array([0, 0, 0])
        >>> observations, rewards, terminated, truncated, info = env.step(np.zeros(3, dtype=int))
        >>> observations, rewards, terminated
        (array([1, 1, 1]), array([5., 5., 5.]), array([ True,  True,  True]))
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - Gymnasium's own way

    def __init__(self, mdp: FiniteMDP, num_envs: int, limit: int | None = None) -> None:
        self.mdp = mdp
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Discrete(mdp.num_states)
        self.single_action_space = gym.spaces.Discrete(mdp.num_actions)
        self.observation_space = gym.spaces.MultiDiscrete(np.full(num_envs, mdp.num_states))
        self.action_space = gym.spaces.MultiDiscrete(np.full(num_envs, mdp.num_actions))
        outcomes = mdp.successors.shape[2]
        self._successors = mdp.successors.reshape(-1, outcomes)
        # The last bound is left out, so that a draw just below 1 never falls behind a sum that rounding made smaller.
        self._bounds = mdp.probabilities.reshape(-1, outcomes).cumsum(axis=1)[:, :-1]
        self._states = np.zeros(num_envs, dtype=np.int64)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self._limit = np.iinfo(np.int64).max if limit is None else limit
        self._rng = np.random.default_rng(0)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[IntArray, dict[str, Any]]:
        """Draw initial states, of all or where ``options["reset_mask"]`` says; an integer seed restarts the draws."""
        if isinstance(seed, int):
            self._rng = np.random.default_rng(seed)
        mask = np.ones(self.num_envs, dtype=np.bool_)
        if options is not None and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"], dtype=np.bool_)
        self._states[mask] = self._rng.choice(self.mdp.num_states, size=int(mask.sum()), p=self.mdp.start)
        self._lengths[mask] = 0
        return self._states.copy(), {}

    def step(
        self, actions: IntArray
    ) -> tuple[IntArray, FloatArray, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One draw from p(s' | s, a) for each copy."""
        rows = self._states * self.mdp.num_actions + actions
        outcomes = (self._rng.random((self.num_envs, 1)) >= self._bounds[rows]).sum(axis=1)
        self._states = self._successors[rows, outcomes].astype(np.int64)
        rewards = self.mdp.rewards.reshape(-1)[rows]
        self._lengths += 1
        terminated = self.mdp.terminal[self._states]
        return self._states.copy(), rewards, terminated, ~terminated & (self._lengths >= self._limit), {}

    def get_state(self) -> dict[str, Any]:
        """State from which :meth:`set_state` continues."""
        return {
            "states": self._states.copy(),
            "lengths": self._lengths.copy(),
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any] | IntArray) -> IntArray:
        """Continue from a snapshot, or put the copies into these states (N,); returns the observations."""
        if isinstance(state, Mapping):
            self._rng.bit_generator.state = state["rng"]
            self._lengths = np.array(state["lengths"], dtype=np.int64)
            self._states = np.array(state["states"], dtype=np.int64)
            return self._states.copy()
        self._states = np.array(state, dtype=np.int64)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        return self._states.copy()


def as_environment(env: Any) -> Any:
    """The environment itself, or copies of a :class:`FiniteMDP`: one for each state-action pair, up to 1024."""
    return SimulatedMDP(env, min(env.num_states * env.num_actions, 1024)) if isinstance(env, FiniteMDP) else env


def as_single_environment(env: Any) -> Any:
    """The environment itself, or one copy of a :class:`FiniteMDP`, with :data:`MODEL_STEP_LIMIT`."""
    return SimulatedMDP(env, 1, MODEL_STEP_LIMIT) if isinstance(env, FiniteMDP) else env


def known_model(env: Any) -> FiniteMDP | None:
    """The model of an environment, of a vector's or a bare one, that holds in every episode; None without one."""
    if isinstance(env, FiniteMDP):
        return env
    inner = env.unwrapped
    if isinstance(inner, SimulatedMDP):
        return inner.mdp
    single = env.envs[0] if isinstance(env, SyncVectorEnv) else env
    if getattr(single.unwrapped, "generator", None) is not None:  # a new map at each reset
        return None
    try:
        return FiniteMDP.from_env(single)
    except ModelError as error:
        _warn_once(f"{error}; so there is no optimum to compare with")
        return None
    except ValueError:
        return None


@functools.cache
def _warn_once(message: str) -> None:
    """Log a warning; the same one only once."""
    logging.getLogger(__name__).warning(message)


class StartAnywhere:
    """Puts an environment into states of the learner's choice.

    It needs ``set_state`` (GridWorld, a vector of them, SimulatedMDP) or, in Gymnasium's toy-text environments, ``s``.

    Args:
        interaction: whose episodes are to begin elsewhere.
        states: numbers the observations; the states must be the observations.
        actions: numbers the actions.
        agent: what errors call the one who asks.

    Raises:
        ValueError: for an environment that cannot be put into a given state.
    """

    def __init__(self, interaction: Interaction, states: Numbering, actions: Numbering, agent: str) -> None:
        self.interaction = interaction
        self._numbering, self._actions = states, actions
        self._model: FiniteMDP | None = None
        inner = interaction.env.unwrapped
        interaction.start()  # toy-text environments have their `s` from the first reset on
        self._settable = hasattr(inner, "set_state")
        table: Any = getattr(inner, "P", None)
        if self._settable:
            known = not hasattr(inner, "mdp") or inner.mdp.num_states == states.n
        else:
            known = not interaction.vector and hasattr(inner, "s") and isinstance(table, Mapping)
            known = known and len(table) == states.n
        if not known:
            raise ValueError(
                f"{agent} puts the environment into each state, and {type(inner).__name__} cannot be put into a given "
                "one, or observes something else"
            )
        self._states: IntArray = np.arange(states.n)
        if not self._settable:
            self._states = np.flatnonzero(~FiniteMDP.from_env(inner).terminal[: states.n])

    @property
    def states(self) -> IntArray:
        """Numbers of the states worth beginning in: all but terminal ones, where the environment knows them."""
        model: Any = getattr(self.interaction.env.unwrapped, "mdp", None) if self._settable else None
        if model is not self._model:  # at first, and after the map was edited
            self._model = model
            self._states = np.flatnonzero(~model.terminal)
        return self._states

    def place(self, states: IntArray) -> None:
        """Begin new episodes, in these states (N,); what was under way is dropped."""
        self.interaction.reset()
        if self.interaction.vector:
            self.interaction.observations = self.interaction.env.unwrapped.set_state(states)
        else:
            self.interaction.observations = [self._put(int(states[0]))]

    def _put(self, state: int) -> Any:
        inner = self.interaction.env.unwrapped
        if self._settable:
            return inner.set_state(state)
        inner.s = state
        return state

    def sample(self, states: IntArray, actions: IntArray) -> tuple[IntArray, FloatArray, NDArray[np.bool_]]:
        """One transition from each of M pairs.

        Args:
            states: (M,) numbers.
            actions: (M,) numbers.

        Returns:
            The numbers of the successors (M,), the rewards (M,), and whether the episode ended (M,).
        """
        rewards, terminated = np.empty(len(states)), np.empty(len(states), dtype=np.bool_)
        successors = np.empty(len(states), dtype=np.int64)
        if self.interaction.vector:
            copies = self.interaction.num_envs
            for begin in range(0, len(states), copies):
                part = np.arange(begin, min(begin + copies, len(states)))
                chosen = np.resize(part, copies)
                self.place(states[chosen])
                transition = self.interaction.step(self._actions.elements(actions[chosen]))
                successors[part] = self._numbering.numbers(transition.next_observations)[: len(part)]
                rewards[part], terminated[part] = transition.rewards[: len(part)], transition.terminated[: len(part)]
            return successors, rewards, terminated
        env = self.interaction.env
        # One reset, not one for each sample: a step from a state that was set does not depend on what came before.
        self.interaction.reset()
        for i, (state, action) in enumerate(zip(states.tolist(), actions.tolist(), strict=True)):
            self._put(state)
            observation, rewards[i], terminated[i], _, _ = env.step(self._actions.element(action))
            successors[i] = self._numbering.number(observation)
        self.interaction.reset()
        self.interaction.steps += len(states)
        return successors, rewards, terminated
