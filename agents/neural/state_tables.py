"""Observations of every state of an environment whose states can be counted."""

from __future__ import annotations

import contextlib
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from gridzero.agents.environments import remake_single
from gridzero.agents.spaces import Numbering, spaces_of
from gridzero.envs.mdp import FiniteMDP

MOST_STATES = 1_000_000


class StateTable:
    """The observations of all states, in order; looked at anew when the environment's model becomes another one.

    Args:
        env: a ``gym.Env`` or a ``VectorEnv``.
        masked: whether the action masks are wanted too.
    """

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], *, masked: bool = False) -> None:
        self.env: Any = env
        self.masked = masked
        self._model: FiniteMDP | None = None
        self._seen: tuple[Any, NDArray[np.bool_] | None] | None = None

    def read(self) -> tuple[Any, NDArray[np.bool_] | None]:
        """A batch of S observations, and (S, A) action masks if wanted.

        Raises:
            ValueError: when the states cannot be counted.
        """
        inner = self.env.unwrapped
        model = getattr(inner, "mdp", None)
        if self._seen is None or model is not self._model:
            space, _ = spaces_of(self.env)
            indices = isinstance(space, gym.spaces.Discrete) and not self.masked
            if isinstance(model, FiniteMDP) and hasattr(inner, "set_state") and not indices:
                self._seen = self._visit(model.num_states)
            elif self.masked:
                raise ValueError("action masks of all states are known only of environments that can be put into each")
            else:
                self._seen = _elements(space), None
            self._model = model
        return self._seen

    def _visit(self, states: int) -> tuple[list[Any], NDArray[np.bool_] | None]:
        """Put the agent on each state in turn, and then back.

        Where nobody can be, in a wall, another state's observation stands in: what is done there does not matter.
        """
        inner = self._single()
        before = inner.cell if hasattr(inner, "cell") else inner.get_state()
        seen: dict[int, tuple[Any, Any]] = {}
        for state in range(states):
            with contextlib.suppress(ValueError):
                seen[state] = inner.set_state(state), inner.action_masks() if self.masked else None
        inner.set_state(before)
        somewhere = next(iter(seen.values()))
        observations, masks = zip(*(seen.get(state, somewhere) for state in range(states)), strict=True)
        return list(observations), np.stack(masks) if self.masked else None

    def _single(self) -> Any:
        """The environment, or one like those of the vector, which is not disturbed."""
        if not isinstance(self.env, VectorEnv):
            return self.env.unwrapped
        world: Any = self.env.unwrapped
        layout = {"layout": world.layout} if hasattr(world, "layout") else {}  # as it stands, edits included
        return remake_single(self.env, **layout).unwrapped


def _elements(space: gym.Space[Any]) -> Any:
    try:
        numbering = Numbering(space, "observation space")
    except ValueError as error:
        raise ValueError(f"the states behind {space} cannot be counted") from error
    if not 0 < numbering.n <= MOST_STATES:
        raise ValueError(f"{space} has too many elements for a table: more than {MOST_STATES:,}")
    return numbering.elements(np.arange(numbering.n))
