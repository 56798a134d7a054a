"""Adapter from Gymnasium environments, single or vector, to Stable-Baselines3's ``VecEnv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv

from gridzero.agents.interaction import Interaction


class GymnasiumVecEnv(VecEnv):
    """A ``VecEnv`` over Gymnasium environments.

    An episode's end and the next one's first observation come in one step, as Stable-Baselines3 has it: the infos have
    ``terminal_observation``, ``TimeLimit.truncated`` and all that the environment says (``is_success``, say). Wrapped
    in SB3's ``VecMonitor`` it also reports returns and lengths.

    Args:
        interaction: the environments, resetting at once; it can be saved and restored in mid-episode.

    Raises:
        ValueError: for spaces that Stable-Baselines3 does not take.
    """

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction
        self.env = interaction.env
        self._taken: Any = None
        check_space(interaction.observation_space, "observations")
        check_space(interaction.action_space, "actions")
        super().__init__(interaction.num_envs, interaction.observation_space, interaction.action_space)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Let ``seed`` decide all episodes from the next reset on."""
        seeds = super().seed(seed)
        self.interaction.reseed(int(seeds[0] or 0))
        self._reset_seeds()
        return seeds

    def set_options(self, options: Any = None) -> None:
        """Raise ValueError for reset options: an episode under way is restored from its seed alone.

        Raises:
            ValueError: when there are any.
        """
        if options and any([options] if isinstance(options, dict) else options):
            raise ValueError(f"these environments are reset without options, not with {options}")

    def reset(self) -> Any:
        """Begin new episodes; the observations (N, …)."""
        self.interaction.reset()
        return batched(self.interaction.observations, self.observation_space)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember the actions (N, …)."""
        self._taken = actions

    def step_wait(self) -> Any:
        """Act: observations (N, …), rewards (N,) float32, done (N,) bool, and N infos."""
        transition = self.interaction.step(self._taken)
        info, vector = transition.info, self.interaction.vector
        infos = divided(info, self.num_envs) if vector else [dict(info)]
        done = transition.done
        cut = transition.truncated & ~transition.terminated
        for own, truncated in zip(infos, cut.tolist(), strict=True):
            own["TimeLimit.truncated"] = truncated
        if done.any():
            last = batched(transition.next_observations, self.observation_space)
            for i in np.flatnonzero(done).tolist():
                infos[i]["terminal_observation"] = _one(last, i)
        observations = batched(self.interaction.observations, self.observation_space)
        return observations, transition.rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each environment; what a native vector's have in common is repeated.

        Raises:
            AttributeError: where there is none.
        """
        if isinstance(self.env, gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv):
            return self._chosen(list(self.env.get_attr(attr_name)), indices)
        return self._chosen(self._each(self._own(attr_name)), indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of all environments.

        Raises:
            ValueError: for only some of them.
        """
        if len(self._chosen(list(range(self.num_envs)), indices)) != self.num_envs:
            raise ValueError("an attribute is set in all environments or in none")
        if isinstance(self.env, gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv):
            self.env.set_attr(attr_name, value)
        else:
            setattr(self.env.unwrapped, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of each environment and return the results; a native vector is called once, for all."""
        if isinstance(self.env, gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv):
            return self._chosen(list(self.env.call(method_name, *method_args, **method_kwargs)), indices)
        return self._chosen(self._each(self._own(method_name)(*method_args, **method_kwargs)), indices)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """Whether each environment has a wrapper of this class; those of a vector have none that can be seen."""
        wrapped = not self.interaction.vector and is_wrapped(self.env, wrapper_class)
        return self._chosen([wrapped] * self.num_envs, indices)

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """A picture (H, W, 3) of each environment."""
        if self.interaction.vector:
            return list(self.env.render() or [None] * self.num_envs)
        return [self.env.render()]

    def _own(self, name: str) -> Any:
        if self.interaction.vector:
            return getattr(self.env.unwrapped, name)
        return self.env.get_wrapper_attr(name)

    def _each(self, value: Any) -> list[Any]:
        """The value for each environment: its own part of a batch, else the one that all share."""
        batch = self.interaction.vector and isinstance(value, np.ndarray | tuple | list)
        return list(value) if batch and len(value) == self.num_envs else [value] * self.num_envs

    def _chosen(self, values: list[Any], indices: Any) -> list[Any]:
        return [values[i] for i in self._get_indices(indices)]


def as_vec_env(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], *, seed: int = 0) -> GymnasiumVecEnv:
    """A Gymnasium environment, or a vector of them, for Stable-Baselines3, which takes no Gymnasium ``VectorEnv``.

    Args:
        env: a ``gym.Env``, or a ``VectorEnv``: native ones of ours, ``SyncVectorEnv`` and ``AsyncVectorEnv`` in any
            autoreset mode, others in ``SAME_STEP`` mode.
        seed: decides all episodes, until ``seed()`` gives another one, as every algorithm of SB3 does that has a seed.

    Raises:
        ValueError: for a vector that resets in the next step only, or for spaces that SB3 does not take.

    Example:
        >>> import gymnasium as gym, gridzero
        >>> from stable_baselines3 import PPO
        >>> envs = gym.make_vec("gridzero/GridWorld-v0", 8, vectorization_mode="vector_entry_point", layout="zhao-3x3")
        >>> model = PPO("MlpPolicy", gridzero.agents.as_vec_env(envs), n_steps=16, n_epochs=1, seed=0)
        >>> model.learn(128).num_timesteps
        128
    """
    return GymnasiumVecEnv(Interaction(env, seed, reset_at_once=True))


def check_space(space: gym.Space[Any], what: str) -> None:
    """Raise ValueError for a space that Stable-Baselines3 has no networks for.

    Raises:
        ValueError: for text, tuples, graphs, nested dictionaries, and numberings that do not begin with 0.
    """
    parts = list(space.spaces.values()) if isinstance(space, gym.spaces.Dict) and what == "observations" else [space]
    for part in parts:
        if not isinstance(
            part, gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary
        ):
            raise ValueError(f"Stable-Baselines3 has no networks for {what} in a {type(part).__name__} space")
        if isinstance(part, gym.spaces.Discrete | gym.spaces.MultiDiscrete) and np.any(part.start != 0):
            raise ValueError(f"Stable-Baselines3 needs {what} numbered from 0, not {part}")


def batched(observations: Any, space: gym.Space[Any]) -> Any:
    """Observations (N, …) as Stable-Baselines3 takes them: from a vector as they are, a list stacked."""
    if isinstance(space, gym.spaces.Dict):
        if isinstance(observations, Mapping):
            return dict(observations)
        return {key: np.stack([np.asarray(one[key]) for one in observations]) for key in space.spaces}
    return np.stack([np.asarray(one) for one in observations]) if isinstance(observations, list) else observations


def _one(observations: Any, index: int) -> Any:
    if isinstance(observations, Mapping):
        return {key: part[index] for key, part in observations.items()}
    return observations[index]


def divided(info: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    """Split a vector's info into one for each environment.

    >>> divided({"coins": np.array([3, 0]), "_coins": np.array([True, False])}, 2)
    [{'coins': 3}, {}]
    """
    parts: list[dict[str, Any]] = [{} for _ in range(number)]
    for key, values in info.items():
        if key.startswith("_"):
            continue
        if isinstance(values, Mapping):
            values = divided(values, number)
        elif isinstance(values, np.ndarray) and values.ndim == 1:
            values = values.tolist()
        present = info.get(f"_{key}")
        for i in range(number) if present is None else np.flatnonzero(present).tolist():
            parts[i][key] = values[i]
    return parts
