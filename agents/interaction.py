"""How learners meet environments: one environment or a vector of them, always as a batch, and resumable exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray


@dataclass
class Transition:
    """One step of a batch of N environments.

    Attributes:
        next_observations: the true successors, also where an episode ended (never the next episode's first one).
        rewards: (N,) float64.
        terminated: (N,) bool, the successor is worth 0.
        truncated: (N,) bool, cut off by a limit: the successor is worth what it is worth.
        valid: (N,) bool; False where the environment only reset itself (NEXT_STEP autoreset): nothing to learn from.
    """

    next_observations: Any
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    @property
    def done(self) -> NDArray[np.bool_]:
        """(N,) bool: the episode ended, either way."""
        return self.terminated | self.truncated


@dataclass(frozen=True)
class Episode:
    """A finished episode: undiscounted return, length in steps, and success where the environment says so."""

    total_reward: float
    length: int
    success: bool | None


class Interaction:
    """A learner's dealings with its environment, one or many.

    Episodes are reset as they end, so ``observations`` is always what the next actions respond to. Each episode of a
    single environment starts from a seed of its own, derived from (seed, episode): replaying one episode's actions
    restores it exactly, wrappers included; native vectors are restored by their own ``get_state``.

    Args:
        env: a ``gym.Env`` or a ``VectorEnv``.
        seed: decides every reset.

    Attributes:
        num_envs: N.
        observation_space: of one environment.
        action_space: of one environment.
        observations: the current batch: (N, …) from a vector, a list of one from a single environment.
        steps: environment steps taken, over all N.
        episodes: how many have ended.
    """

    def __init__(self, env: Any, seed: int) -> None:
        self.env = env
        self.seed = seed
        self.vector = isinstance(env, VectorEnv)
        self.num_envs: int = env.num_envs if self.vector else 1
        self.observation_space: gym.Space[Any] = env.single_observation_space if self.vector else env.observation_space
        self.action_space: gym.Space[Any] = env.single_action_space if self.vector else env.action_space
        self.mode: AutoresetMode | None = None
        if self.vector:
            self.mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.steps = 0
        self.episodes = 0
        self.started = False
        self.observations: Any = None
        self._finished: list[Episode] = []
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._resetting = np.zeros(self.num_envs, dtype=np.bool_)
        self._resets = 0
        self._actions: list[Any] = []

    def start(self) -> None:
        """Reset, unless already under way."""
        if not self.started:
            self.reset()

    def reset(self) -> None:
        """Begin new episodes everywhere; what was under way is dropped, uncounted."""
        self.started = True
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._resetting[:] = False
        if self.vector:
            self.observations, _ = self.env.reset(seed=_derived_seed(self.seed, self._resets))
            self._resets += 1
        else:
            self._reset_single()

    def _reset_single(self) -> None:
        observation, _ = self.env.reset(seed=_derived_seed(self.seed, self._resets))
        self._resets += 1
        self._actions.clear()
        self.observations = [observation]

    def step(self, actions: Any) -> Transition:
        """Act in all N environments.

        Args:
            actions: a batch (N, …), as the vector environment takes it; from a single environment, a sequence of one.
        """
        return self._step_vector(actions) if self.vector else self._step_single(actions[0])

    def _step_single(self, action: Any) -> Transition:
        self._actions.append(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        self._returns[0] += reward
        self._lengths[0] += 1
        transition = Transition(
            [observation],
            np.array([reward], dtype=np.float64),
            np.array([terminated]),
            np.array([truncated]),
            _ONE_VALID,
        )
        if terminated or truncated:
            self._close(0, info.get("is_success"))
            self._reset_single()
        else:
            self.observations = [observation]
        return transition

    def _step_vector(self, actions: Any) -> Transition:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        valid = ~self._resetting
        done = terminated | truncated
        self.steps += int(valid.sum())
        self._returns += rewards
        self._lengths += valid
        following = observations
        if done.any():
            success = info.get("is_success")
            if self.mode is AutoresetMode.SAME_STEP:
                success = info.get("final_info", {}).get("is_success", success)
                following = _with_final(observations, info["final_obs"], done)
            for i in np.flatnonzero(done):
                self._close(int(i), None if success is None else bool(success[i]))
            if self.mode is AutoresetMode.DISABLED:
                observations, _ = self.env.reset(options={"reset_mask": done})
        if self.mode is AutoresetMode.NEXT_STEP:
            self._resetting = done
        self.observations = observations
        return Transition(following, rewards, terminated, truncated, valid)

    def _close(self, index: int, success: bool | None) -> None:
        self.episodes += 1
        self._finished.append(
            Episode(float(self._returns[index]), int(self._lengths[index]), None if success is None else bool(success))
        )
        self._returns[index] = 0.0
        self._lengths[index] = 0

    def finished(self) -> list[Episode]:
        """The episodes that ended since this was last asked."""
        finished, self._finished = self._finished, []
        return finished

    def metrics(self) -> dict[str, float]:
        """Means over the episodes that ended since this or :meth:`finished` was last asked; empty if none did."""
        episodes = self.finished()
        if not episodes:
            return {}
        result = {
            "episode_return": float(np.mean([episode.total_reward for episode in episodes])),
            "episode_length": float(np.mean([episode.length for episode in episodes])),
        }
        successes = [episode.success for episode in episodes if episode.success is not None]
        if successes:
            result["success_rate"] = float(np.mean(successes))
        return result

    def state_dict(self) -> dict[str, Any]:
        """Where the episodes under way are, to be restored exactly.

        A foreign vector environment that has no ``get_state`` begins new episodes on restoring.
        """
        state: dict[str, Any] = {
            "started": self.started,
            "steps": self.steps,
            "episodes": self.episodes,
            "resets": self._resets,
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
            "resetting": self._resetting.copy(),
            "finished": [[e.total_reward, e.length, e.success] for e in self._finished],
        }
        if self.vector:
            native = getattr(self.env.unwrapped, "get_state", None)
            state["vector"] = native() if native is not None and self.started else None
        else:
            state["actions"] = np.asarray(self._actions)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.steps, self.episodes = int(state["steps"]), int(state["episodes"])
        self._resets = int(state["resets"])
        self._finished = [
            Episode(float(total), int(length), None if success is None else bool(success))
            for total, length, success in state["finished"]
        ]
        self.started = False
        if not state["started"]:
            return
        if not self.vector:
            self._resets -= 1
            self.reset()
            for action in state["actions"]:
                action = action.item() if np.ndim(action) == 0 else action
                self._actions.append(action)
                self.observations = [self.env.step(action)[0]]
        elif state["vector"] is None:
            self.reset()
            return
        else:
            self.env.reset(seed=0)
            self.observations = self.env.unwrapped.set_state(state["vector"])
            self.started = True
        self._returns = np.array(state["returns"], dtype=np.float64)
        self._lengths = np.array(state["lengths"], dtype=np.int64)
        self._resetting = np.array(state["resetting"], dtype=np.bool_)


_ONE_VALID = np.ones(1, dtype=np.bool_)
_ONE_VALID.flags.writeable = False


def _derived_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def _with_final(observations: Any, final: Any, done: NDArray[np.bool_]) -> Any:
    """The true successors under SAME_STEP autoreset: the final observations where an episode ended."""
    if isinstance(observations, tuple):
        parts = [
            _with_final(part, [f[i] if f is not None else None for f in final], done)
            for i, part in enumerate(observations)
        ]
        return tuple(parts)
    merged = np.array(observations)
    for i in np.flatnonzero(done):
        merged[i] = final[i]
    return merged
