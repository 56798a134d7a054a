"""Environments as generative models: put back to where they were, as often as wanted, with other luck each time."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv

from gridzero.agents.environments import remake_single

_TRANSPARENT = (gym.wrappers.PassiveEnvChecker, gym.wrappers.OrderEnforcing, gym.wrappers.TimeLimit)
_CHECKED_STEPS = 20


class Simulator:
    """Continues episodes of an environment from a snapshot, without touching the environment itself.

    An environment with ``get_state`` and ``set_state`` is put back by them; any other is copied with
    ``copy.deepcopy``, which is exact where all that decides the future is in the object: two copies are stepped side
    by side first, and must agree. What is random comes from a generator that the caller gives: a search must not know
    the luck to come. A time limit is no part of a state that is set, so that simulations may go beyond it.

    Args:
        env: a single environment, or a vector of them whose rows can be told apart.

    Raises:
        ValueError: for an environment that can neither be put back nor copied.
    """

    def __init__(self, env: Any) -> None:
        single = _single(env)
        inner = single.unwrapped
        self.settable = hasattr(inner, "get_state") and hasattr(inner, "set_state") and _plain(single)
        self._scratch = copy.deepcopy(inner) if self.settable else None
        if not self.settable:
            _check_copies(single)

    def snapshot(self, env: Any, row: int = 0) -> Any:
        """Present state of an environment, or the one of a vector in a row."""
        if isinstance(env.unwrapped, SyncVectorEnv):
            env = env.unwrapped.envs[row]
        if isinstance(env.unwrapped, VectorEnv):
            if not hasattr(env.unwrapped, "state_of"):
                raise ValueError(
                    f"{type(env.unwrapped).__name__} does not tell the states of its rows; search a single environment"
                )
            return env.unwrapped.state_of(row)
        return env.unwrapped.get_state() if self.settable else copy.deepcopy(env)

    def begin(self, snapshot: Any, rng: np.random.Generator) -> Any:
        """An environment that is where the snapshot was taken; good until the next call."""
        if self._scratch is not None:
            state = snapshot
            if "key" in snapshot:  # of the stream that a GridWorld draws from
                state = {**snapshot, "key": int(rng.integers(2**63)), "draws": 0}
            self._scratch.set_state(state)
            return self._scratch
        env = copy.deepcopy(snapshot)
        env.unwrapped.np_random = np.random.default_rng(int(rng.integers(2**63)))
        return env


def _single(env: Any) -> Any:
    """The environment itself, or one like those of a vector."""
    if isinstance(env.unwrapped, SyncVectorEnv):
        return env.unwrapped.envs[0]
    if not isinstance(env, VectorEnv):
        return env
    return remake_single(env)


def _plain(env: Any) -> bool:
    """Whether no wrapper changes what actions do or pay."""
    while isinstance(env, gym.Wrapper):
        if not isinstance(env, _TRANSPARENT):
            return False
        env = env.env
    return True


def _check_copies(env: Any) -> None:
    """Raise ValueError where two copies of an environment do not go the same way."""
    name = type(env.unwrapped).__name__
    try:
        one, other = copy.deepcopy(env), copy.deepcopy(env)
        same = _same(one.reset(seed=0)[0], other.reset(seed=0)[0])
        one.action_space.seed(0)
        for _ in range(_CHECKED_STEPS):
            action = one.action_space.sample()
            left, right = one.step(action), other.step(action)
            same = same and all(_same(a, b) for a, b in zip(left[:4], right[:4], strict=True))
            if left[2] or left[3]:
                same = same and _same(one.reset()[0], other.reset()[0])
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} can neither be put back (get_state, set_state) nor copied: {text}") from error
    if not same:
        raise ValueError(f"{name} cannot be searched: copies of it do not go the same way, and it has no get_state")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return all(_same(*pair) for pair in zip(one, other, strict=True))
    return np.array_equal(one, other)
