"""Interaction of a learner with its environment or vector: always a batch, and resumable exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from gridzero.agents.action_masks import allowed_actions
from gridzero.agents.autoreset import merged_info, resets_each, with_final, with_final_info
from gridzero.agents.plain_state import plain_state, restore_plain_state
from gridzero.agents.spaces import action_batch, restored_action, spaces_of

CHAPTER_STEPS = 256
"""An episode that begins this many steps after the last seed gets a new seed: what a restore replays stays short."""


@dataclass(slots=True)
class Transition:
    """One step of a batch of N environments.

    Attributes:
        next_observations: the true successors, also where an episode ended (never the next episode's first one).
        rewards: (N,) float64.
        terminated: (N,) bool, the successor is worth 0.
        truncated: (N,) bool, cut off by a limit: the successor is worth what it is worth.
        valid: (N,) bool; False where the environment only reset itself (NEXT_STEP autoreset): nothing to learn from.
        info: of these steps, as the environment gave it: a vector's with a value for each in every entry.
    """

    next_observations: Any
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    info: Mapping[str, Any]

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
    """Interaction of a learner with its environment, one or many.

    Episodes are reset as they end, so ``observations`` is always what the next actions respond to.

    It can be restored exactly, in mid-episode too. Native vectors restore themselves (``get_state``, ``set_state``). A
    single environment, and each one of a foreign vector in ``AutoresetMode.DISABLED``, is seeded anew with the first
    episode that begins :data:`CHAPTER_STEPS` steps or more after its last seed; replaying the actions since then
    restores it, wrappers included. Foreign vectors in the other modes are restored where all they know is in plain
    attributes (Gymnasium's native CartPole); others begin new episodes on restoring.

    Args:
        env: a ``gym.Env`` or a ``VectorEnv``.
        seed: decides every reset.
        reset_at_once: begin the next episode in the step that ended one, also where a vector would do so in the next
            step only: every step is then one to learn from.

    Raises:
        ValueError: when a vector is to reset at once and cannot.

    Attributes:
        num_envs: N.
        observation_space: of one environment.
        action_space: of one environment.
        mode: when a vector resets its environments, or has them reset; None for a single one.
        observations: the current batch: (N, …) from a vector, a list of one from a single environment.
        info: of these observations, as the environment gave it.
        steps: environment steps taken, over all N.
        episodes: how many have ended.
        restored: False once :meth:`load_state_dict` had to begin new episodes instead of going on with the saved ones.
    """

    def __init__(self, env: Any, seed: int, *, reset_at_once: bool = False) -> None:
        self.env = env
        self.seed = seed
        self.vector = isinstance(env, VectorEnv)
        self.num_envs: int = env.num_envs if self.vector else 1
        self.observation_space, self.action_space = spaces_of(env)
        self.mode: AutoresetMode | None = None
        if self.vector:
            self.mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._native = self.vector and hasattr(env.unwrapped, "get_state")
        if reset_at_once and self.mode is AutoresetMode.NEXT_STEP:
            if not resets_each(env):
                name = type(env.unwrapped).__name__
                raise ValueError(f"{name} resets in the next step only; make it with another autoreset_mode")
            self.mode = AutoresetMode.DISABLED
        self._replays = not self.vector or (self.mode is AutoresetMode.DISABLED and not self._native)
        self.steps = 0
        self.episodes = 0
        self.started = False
        self.restored = True
        self.observations: Any = None
        self.info: Mapping[str, Any] = {}
        self._finished: list[Any] = []  # of episodes: (return, length, success), or (n, 3) of them
        # Lists, because a single environment adds to them at every step, where numpy's scalars are slow.
        self._returns: Any = np.zeros(self.num_envs) if self.vector else [0.0]
        self._lengths: Any = np.zeros(self.num_envs, dtype=np.int64) if self.vector else [0]
        self._resetting = np.zeros(self.num_envs, dtype=np.bool_)
        self._chapters = np.zeros(self.num_envs, dtype=np.int64)
        self._actions: list[list[Any]] = [[] for _ in range(self.num_envs)]

    def start(self) -> None:
        """Reset, unless already under way."""
        if not self.started:
            self.reset()

    def reseed(self, seed: int) -> None:
        """Let this seed decide all resets from now on; episodes begin anew at the next :meth:`start`."""
        self.seed = seed
        self._chapters = np.zeros(self.num_envs, dtype=np.int64)
        self.started = False

    def reset(self) -> None:
        """Begin new episodes everywhere; what was under way is dropped, uncounted."""
        self.started = True
        for i in range(self.num_envs):
            self._returns[i], self._lengths[i] = 0.0, 0
        self._resetting = np.zeros(self.num_envs, dtype=np.bool_)
        if not self._replays:
            self.observations, self.info = self.env.reset(seed=_derived_seed(self.seed, 0, int(self._chapters[0])))
            self._chapters += 1
            return
        seeds = [self._next_chapter(i) for i in range(self.num_envs)]
        if self.vector:
            self.observations, self.info = self.env.reset(seed=seeds)
        else:
            self.observations = [self._reset_single(seeds[0])]

    def _reset_single(self, seed: int | None) -> Any:
        observation, self.info = self.env.reset(seed=seed)
        return observation

    def _next_chapter(self, index: int) -> int:
        seed = _derived_seed(self.seed, index, int(self._chapters[index]))
        self._chapters[index] += 1
        self._actions[index].clear()
        return seed

    def _next_seed(self, index: int) -> int | None:
        return self._next_chapter(index) if len(self._actions[index]) >= CHAPTER_STEPS else None

    def step(self, actions: Any) -> Transition:
        """Act in all N environments.

        Args:
            actions: a batch (N, …), as the vector environment takes it; from a single environment, a sequence of one.
        """
        return self._step_vector(actions) if self.vector else self._step_single(actions[0])

    def _step_single(self, action: Any) -> Transition:
        if isinstance(action, np.integer):
            action = int(action)  # what an environment that looks things up is fastest with
        self._actions[0].append(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        self._returns[0] += float(reward)
        self._lengths[0] += 1
        following = [observation]
        self.info = info
        if terminated or truncated:
            success = info.get("is_success")
            self._finished.append((self._returns[0], self._lengths[0], np.nan if success is None else float(success)))
            self.episodes += 1
            self._returns[0], self._lengths[0] = 0.0, 0
            self.observations = [self._reset_single(self._next_seed(0))]
        else:
            self.observations = following
        return Transition(
            following, np.array([reward], np.float64), _FLAGS[terminated], _FLAGS[truncated], _FLAGS[True], info
        )

    def _step_vector(self, actions: Any) -> Transition:
        if self._replays:
            for taken, action in zip(
                self._actions, gym.vector.utils.iterate(self.env.action_space, actions), strict=True
            ):
                taken.append(action)
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        valid = ~self._resetting
        done = terminated | truncated
        self.steps += int(np.count_nonzero(valid))
        self._returns += rewards
        self._lengths += valid
        following = observations
        self.info = info
        if done.any():
            if self.mode is AutoresetMode.SAME_STEP:
                following = with_final(observations, info["final_obs"], done)
                info = with_final_info(info, done)
            self._close(done, info)
            if self.mode is AutoresetMode.DISABLED:
                observations = self._reset_some(done)
        if self.mode is AutoresetMode.NEXT_STEP:
            self._resetting = done
        self.observations = observations
        return Transition(following, rewards, terminated, truncated, valid, info)

    def _close(self, done: NDArray[np.bool_], info: Mapping[str, Any]) -> None:
        ended = np.flatnonzero(done)
        success = np.full(len(ended), np.nan)
        if "is_success" in info:
            success = np.asarray(info["is_success"])[ended].astype(np.float64)
            if "_is_success" in info:
                success[~info["_is_success"][ended]] = np.nan
        self._finished.append(np.stack([self._returns[ended], self._lengths[ended], success], axis=1))
        self.episodes += len(ended)
        self._returns[ended] = 0.0
        self._lengths[ended] = 0

    def _reset_some(self, mask: NDArray[np.bool_]) -> Any:
        if self._replays:
            seeds = [self._next_seed(i) if mask[i] else None for i in range(self.num_envs)]
            observations, info = self.env.reset(seed=seeds, options={"reset_mask": mask})
        else:
            observations, info = self.env.reset(options={"reset_mask": mask})
        self.info = merged_info(self.info, info, mask)
        return observations

    def action_masks(self, actions: int) -> NDArray[np.bool_]:
        """(N, A) which actions are allowed now; see :func:`~gridzero.agents.action_masks.allowed_actions`."""
        return allowed_actions(self.env, self.info, actions)

    @property
    def worlds(self) -> tuple[Any, ...] | None:
        """The arrays from which a learner's compiled kernel steps a plain native vector itself; None for others.

        Its lanes and tables (:attr:`~gridzero.envs.GridWorldVector.worlds`), and of the episodes: returns (N,), lengths
        (N,), room for rows (4 N, 3) of those that end, and (3,) actions taken, episodes ended, steps of the batch.
        """
        worlds = getattr(self.env, "worlds", None) if self.env.unwrapped is self.env else None
        if worlds is None:
            return None
        rows, counts = np.empty((4 * self.num_envs, 3)), np.zeros(3, dtype=np.int64)
        return (*worlds, (self._returns, self._lengths, rows, counts))

    def advance(self, worlds: tuple[Any, ...]) -> int:
        """Count the steps that a learner's kernel has taken in :attr:`worlds`: how many of the batch."""
        *_, rows, (acted, ended, rounds) = worlds[-1]
        self.steps += int(acted)
        self.episodes += int(ended)
        if ended:
            self._finished.append(rows[:ended].copy())
        return int(rounds)

    def arrive(self, observations: Any, done: NDArray[np.bool_]) -> None:
        """Take note of where the steps that a learner's kernel took have led."""
        self.observations, self._resetting = observations, done

    def finished(self) -> list[Episode]:
        """The episodes that ended since this was last asked."""
        return [
            Episode(total, int(length), None if np.isnan(success) else bool(success))
            for total, length, success in self._take_finished().tolist()
        ]

    def _take_finished(self) -> NDArray[np.float64]:
        """(n, 3) returns, lengths and successes since this was last asked."""
        taken, self._finished = self._all_finished(), []
        return taken

    def _all_finished(self) -> NDArray[np.float64]:
        return np.concatenate([np.empty((0, 3)), *(np.reshape(part, (-1, 3)) for part in self._finished)])

    METRICS: ClassVar = frozenset({"episode_return", "episode_length", "episodes", "success_rate"})

    def metrics(self) -> dict[str, float]:
        """Means over the episodes that ended since this or :meth:`finished` was last asked, and how many ended in all.

        Empty if none did.
        """
        if not self._finished:
            return {}
        returns, lengths, successes = self._take_finished().T
        result = {"episode_return": float(returns.mean()), "episode_length": float(lengths.mean())}
        result["episodes"] = float(self.episodes)
        known = ~np.isnan(successes)
        if known.any():
            result["success_rate"] = float(successes[known].mean())
        return result

    def state_dict(self) -> dict[str, Any]:
        """State of the episodes under way, to be restored exactly (but see the class on foreign vectors)."""
        state: dict[str, Any] = {
            "started": self.started,
            "steps": self.steps,
            "episodes": self.episodes,
            "returns": np.array(self._returns, dtype=np.float64),
            "lengths": np.array(self._lengths, dtype=np.int64),
            "resetting": self._resetting.copy(),
            "chapters": self._chapters.copy(),
            "finished": self._all_finished(),
        }
        if self._replays:
            state["actions"] = [np.array(actions) for actions in self._actions]
        elif self._native and self.started:
            state["vector"] = self.env.unwrapped.get_state()
        elif self.started and isinstance(self.observations, np.ndarray):
            attributes = plain_state(self.env.unwrapped)
            if attributes is not None:
                state["plain"] = {"attributes": attributes, "observations": self.observations.copy()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when it comes from another number of environments.
        """
        if len(state["returns"]) != self.num_envs:
            raise ValueError(f"the state is of {len(state['returns'])} environments, not of {self.num_envs}")
        self.steps, self.episodes = int(state["steps"]), int(state["episodes"])
        self._finished = [np.asarray(state["finished"], dtype=np.float64)] if len(state["finished"]) else []
        self._chapters = np.array(state["chapters"], dtype=np.int64)
        self.started, self.restored = False, True
        if not state["started"]:
            return
        if self._replays:
            self._actions = [[restored_action(self.action_space, a) for a in actions] for actions in state["actions"]]
            self.observations = self._replay_vector() if self.vector else self._replay_single()
        elif "vector" in state:
            self.env.reset(seed=0)
            self.observations = self.env.unwrapped.set_state(state["vector"])
        elif "plain" in state:
            self.env.reset(seed=0)
            restore_plain_state(self.env.unwrapped, state["plain"]["attributes"])
            self.observations = np.array(state["plain"]["observations"])
        else:
            self.reset()
            self.restored = False
            return
        self.started = True
        self._returns = np.array(state["returns"], dtype=np.float64)
        self._lengths = np.array(state["lengths"], dtype=np.int64)
        if not self.vector:
            self._returns, self._lengths = self._returns.tolist(), self._lengths.tolist()
        self._resetting = np.array(state["resetting"], dtype=np.bool_)

    def _chapter_seed(self, index: int) -> int:
        return _derived_seed(self.seed, index, int(self._chapters[index]) - 1)

    def _replay_single(self) -> Any:
        observation, self.info = self.env.reset(seed=self._chapter_seed(0))
        for action in self._actions[0]:
            observation, _, terminated, truncated, self.info = self.env.step(action)
            if terminated or truncated:
                observation, self.info = self.env.reset()
        return [observation]

    def _replay_vector(self) -> Any:
        """Replay all at once, each environment starting so late that all arrive together.

        Until then an environment takes steps that do not matter.
        """
        seeds = [self._chapter_seed(i) for i in range(self.num_envs)]
        waits = [max(map(len, self._actions)) - len(actions) for actions in self._actions]
        some = next((actions[0] for actions in self._actions if actions), None)
        observations, self.info = self.env.reset(seed=seeds)
        for t in range(max(waits + [wait + len(a) for wait, a in zip(waits, self._actions, strict=True)])):
            batch = [
                a[t - wait] if 0 <= t - wait < len(a) else some for wait, a in zip(waits, self._actions, strict=True)
            ]
            observations, _, terminated, truncated, self.info = self.env.step(
                action_batch(self.env.single_action_space, batch)
            )
            starting = np.array([wait == t + 1 for wait in waits])
            mask = starting | terminated | truncated
            if mask.any():
                new = [seed if start else None for seed, start in zip(seeds, starting, strict=True)]
                observations, info = self.env.reset(seed=new, options={"reset_mask": mask})
                self.info = merged_info(self.info, info, mask)
        return observations


_FLAGS = {flag: np.full(1, flag) for flag in (False, True)}
for _array in _FLAGS.values():
    _array.flags.writeable = False


def _derived_seed(seed: int, index: int, chapter: int) -> int:
    return int(np.random.SeedSequence((seed, index, chapter)).generate_state(1)[0])
