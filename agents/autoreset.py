"""Returns of vector environments where one episode ends and the next begins, in the three autoreset modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray


def resets_each(env: VectorEnv[Any, Any, Any]) -> bool:
    """Whether a reset takes a mask of the environments to reset and a seed for each, in any autoreset mode."""
    inner = env.unwrapped
    return isinstance(inner, gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv) or hasattr(inner, "get_state")


def with_final(observations: Any, final: Any, done: NDArray[np.bool_]) -> Any:
    """The batch with the true last observations where an episode ended (SAME_STEP autoreset)."""
    if isinstance(observations, Mapping):
        return {
            key: with_final(part, [None if last is None else last[key] for last in final], done)
            for key, part in observations.items()
        }
    if isinstance(observations, tuple) and isinstance(observations[0], str):
        return tuple(last if over else text for text, last, over in zip(observations, final, done, strict=True))
    if isinstance(observations, tuple):
        return tuple(
            with_final(part, [None if last is None else last[k] for last in final], done)
            for k, part in enumerate(observations)
        )
    merged = np.array(observations)
    for i in np.flatnonzero(done):
        merged[i] = final[i]
    return merged


def with_final_info(info: Mapping[str, Any], done: NDArray[np.bool_]) -> dict[str, Any]:
    """The infos of the steps, where an episode ended without those of the next one's reset (SAME_STEP autoreset)."""
    merged = {key: value for key, value in info.items() if key.lstrip("_") not in ("final_obs", "final_info")}
    for key, final in info.get("final_info", {}).items():
        both = isinstance(final, np.ndarray) and key in merged
        merged[key] = _choose(done, final, merged[key]) if both else final
    return merged


def merged_info(info: Mapping[str, Any], new: Mapping[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos of a step, and of the episodes that began after it where the mask says so."""
    both = {key for key, value in new.items() if isinstance(value, np.ndarray) and key in info}
    return {**info, **{key: _choose(mask, new[key], info[key]) for key in both}}


def _choose(mask: NDArray[np.bool_], ones: Any, others: Any) -> Any:
    """Merge two batches (N, …): ``ones`` where the mask (N,) is set."""
    return np.where(mask.reshape(-1, *[1] * (np.ndim(ones) - 1)), ones, others)
