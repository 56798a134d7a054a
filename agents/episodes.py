"""Episodes played for evaluation: in copies of an environment, or drawn from a bare model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.autoreset import merged_info
from gridzero.agents.environment_check import check_interface
from gridzero.agents.environments import Description, describe, find_spec, remake, second
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.agents.tabular.tabular import draw_choices
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

STEP_LIMIT = 1000
"""Steps after which an episode is truncated where the environment has no limit."""
PART = "reward/"
"""Prefix of the keys in an environment's info under which it reports the parts of a reward."""


class Played(NamedTuple):
    """Results of n episodes.

    Attributes:
        returns: (n,).
        lengths: (n,) steps.
        successes: (n,), whether the environment called each a success; None where it does not say.
        rewards: (n,) of each name, where the environment's info has the parts of its reward as ``reward/NAME``.
    """

    returns: FloatArray
    lengths: FloatArray
    successes: NDArray[np.bool_] | None
    rewards: Mapping[str, FloatArray]


def copy_environment(env: Any, native: int, others: int, single: bool = False) -> tuple[VectorEnv[Any, Any, Any], int]:
    """A vector of environments like this one, and its time limit.

    Args:
        env: an environment, a vector, or an id.
        native: how many, where there is a vector that steps all at once.
        others: how many elsewhere.
        single: copies that can each be put back to a state, even where there is such a vector.
    """
    if single and isinstance(env, gym.Env):
        return second(env, others), int(getattr(env.spec, "max_episode_steps", None) or STEP_LIMIT)
    described = Description(id=env, kwargs={}) if isinstance(env, str) else describe(env)
    if described is None:
        limit = getattr(env.spec, "max_episode_steps", None)
        return second(env, others, STEP_LIMIT if limit is None else None), int(limit or STEP_LIMIT)
    changed: dict[str, Any] = {}
    if not isinstance(env, str):
        if hasattr(env.unwrapped, "layout"):
            changed["layout"] = env.unwrapped.layout  # as it stands, edits included, and need not be made again
        changed |= getattr(env.unwrapped, "evaluation_options", {})  # such as problems that were held out of training
    spec = find_spec(described["id"])
    kwargs: dict[str, Any] = described["kwargs"] | {"autoreset_mode": None} | changed
    limit = int(kwargs.setdefault("max_episode_steps", spec.max_episode_steps or STEP_LIMIT))
    at_once = spec.vector_entry_point is not None and not described.get("wrappers")
    vector: Any = remake({**described, "kwargs": kwargs}, native if at_once else others)
    return vector, limit


def check_second_environment(agent: Agent) -> None:
    """Check that evaluation will have an environment of its own, and try that one out.

    Raises:
        ValueError: when another one like the agent's can neither be made nor copied, or does not return what
            environments return.
    """
    if isinstance(agent.env, FiniteMDP | SimulatedMDP):
        return
    env = copy_environment(agent.env, 1, 1)[0]
    try:
        if isinstance(env, gym.vector.SyncVectorEnv):
            spec = env.envs[0].spec
            check_interface(env.envs[0], type(env.envs[0].unwrapped).__name__ if spec is None else spec.id)
    finally:
        env.close()


def first_environment(env: VectorEnv[Any, Any, Any]) -> Any:
    """The first of a vector's environments, where it has them as objects; else the vector itself."""
    return env.envs[0] if isinstance(env, gym.vector.SyncVectorEnv) else env


def play(agent: Agent, env: VectorEnv[Any, Any, Any], episodes: int, seed: int) -> Played:
    """Play episodes in a vector, each environment its share: taking the first to end would favour short ones."""
    width = env.num_envs
    share = np.full(width, episodes // width)
    share[: episodes % width] += 1
    totals, lengths = np.zeros(width), np.zeros(width)
    done = np.zeros(width, dtype=np.bool_)
    results: list[tuple[float, float, bool | None, dict[str, float]]] = []
    roots = np.random.SeedSequence(seed)
    disabled = env.metadata.get("autoreset_mode") is gym.vector.AutoresetMode.DISABLED

    def seeds() -> Any:
        if not isinstance(env, gym.vector.SyncVectorEnv):  # native ones spread one seed themselves
            return int(roots.spawn(1)[0].generate_state(1)[0])
        return [int(child.generate_state(1)[0]) for child in roots.spawn(width)]

    observations, info = env.reset(seed=seeds())
    while share.any():
        agent.attend(env, info)
        resetting = done & (not disabled)
        observations, rewards, terminated, truncated, info = env.step(agent.act(observations))
        playing = (share > 0) & ~resetting
        totals[playing] += rewards[playing]
        lengths[playing] += 1
        done = np.asarray(terminated) | np.asarray(truncated)
        for i in np.flatnonzero(done & playing):
            success = bool(info["is_success"][i]) if "is_success" in info else None
            parts = {name.removeprefix(PART): float(info[name][i]) for name in info if name.startswith(PART)}
            results.append((float(totals[i]), float(lengths[i]), success, parts))
            totals[i] = lengths[i] = 0.0
            share[i] -= 1
        if disabled and done.any():
            observations, begun = env.reset(seed=seeds(), options={"reset_mask": done})
            info = merged_info(info, begun, done)
    columns = list(zip(*results, strict=True))
    successes = None if None in columns[2] else np.array(columns[2], dtype=np.bool_)
    rewards = {name: np.array([parts[name] for parts in columns[3]]) for name in columns[3][0]}
    return Played(np.array(columns[0]), np.array(columns[1]), successes, rewards)


def play_model(agent: Agent, mdp: FiniteMDP, episodes: int, seed: int) -> Played:
    """Episodes of a bare model, all at once; each step pays its expected reward."""
    rng = np.random.default_rng(seed)
    states = rng.choice(mdp.num_states, size=episodes, p=mdp.start)
    totals, lengths = np.zeros(episodes), np.zeros(episodes)
    for _ in range(STEP_LIMIT):
        live = ~mdp.terminal[states]
        if not live.any():
            break
        actions = np.asarray(agent.act(states))
        totals += np.where(live, mdp.rewards[states, actions], 0.0)
        lengths += live
        chosen = draw_choices(mdp.probabilities[states, actions], rng)
        states = np.where(live, mdp.successors[states, actions, chosen], states)
    return Played(totals, lengths, None, {})
