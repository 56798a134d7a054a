"""Tabular agents with action masks: nothing that is not allowed is done, and the optimum is that of what is allowed."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy import stats

import gridzero
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs import FiniteMDP

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3
MASKED = [
    "sarsa",
    "expected-sarsa",
    "q-learning",
    "double-q-learning",
    "n-step-sarsa",
    "sarsa-lambda",
    "dyna-q",
    "dyna-q-plus",
    "prioritized-sweeping",
    "mc-epsilon-greedy",
    "mc-off-policy",
]


class Checked(gym.Wrapper[Any, Any, Any, Any]):
    """Counts what was done though the last info did not allow it."""

    broken = taken = 0

    def reset(self, **options: Any) -> Any:
        observation, self.info = self.env.reset(**options)
        return observation, self.info

    def step(self, action: Any) -> Any:
        self.taken += 1
        self.broken += not self.info["action_mask"][action]
        observation, reward, terminated, truncated, self.info = self.env.step(action)
        return observation, reward, terminated, truncated, self.info


class MaskedModel(SimulatedMDP):
    """A model in which some actions are not allowed: they would be the best ones."""

    def __init__(self, mdp: FiniteMDP, count: int, allowed: np.ndarray) -> None:
        super().__init__(mdp, count)
        self.allowed = allowed
        self.broken = 0

    def action_masks(self) -> np.ndarray:
        return self.allowed[self._states]

    def step(self, actions: Any) -> Any:
        self.broken += int((~self.allowed[self._states, actions] & self.allowed[self._states].any(axis=1)).sum())
        return super().step(actions)


def worlds(seed: int) -> tuple[FiniteMDP, FiniteMDP, np.ndarray]:
    """A random world with four actions of which some pay much and are forbidden; the same without these; and a mask."""
    rng = np.random.default_rng(seed)
    states, actions = 6, 4
    successors = np.full((states, actions, 3), states - 1)
    successors[..., :2] = rng.integers(states - 1, size=(states, actions, 2))
    share = rng.uniform(0.2, 0.8, size=(states, actions))
    probabilities = np.stack([0.8 * share, 0.8 * (1 - share), np.full_like(share, 0.2)], axis=2)
    rewards = rng.normal(size=(states, actions))
    allowed = rng.random((states, actions)) < 0.6
    allowed[np.arange(states), rng.integers(actions, size=states)] = True
    rewards[~allowed] += 10
    start = np.append(np.full(states - 1, 1 / (states - 1)), 0.0)
    terminal = np.arange(states) == states - 1
    first = allowed.argmax(axis=1)
    kept = np.where(allowed, np.arange(actions), first[:, None])  # a forbidden action is one that is allowed
    rows = np.arange(states)[:, None]
    whole = FiniteMDP(successors, probabilities, rewards, terminal, start)
    return (
        whole,
        FiniteMDP(successors[rows, kept], probabilities[rows, kept], rewards[rows, kept], terminal, start),
        allowed,
    )


@pytest.mark.parametrize("name", [name for name in MASKED if name != "dyna-q-plus" and name[:2] != "mc"])
def test_the_optimum_is_that_of_what_is_allowed(name: str) -> None:
    """Off-policy learners come to q*, on-policy ones to the values of the uniform policy over what is allowed."""
    whole, masked, allowed = worlds(3)
    env = MaskedModel(whole, 128, allowed)
    on_policy = "sarsa" in name
    agent: Any = gridzero.agents.make(
        name,
        env,
        gamma=0.9,
        step_size="1/k^0.8",
        epsilon="1" if on_policy else "0.5",
        action_masks=True,
        steps_per_update=200_000,
        **({"planning_steps": 2} if name in ("dyna-q", "prioritized-sweeping") else {}),
    )
    next(agent.learn())
    assert env.broken == 0
    values = np.zeros(6)
    uniform = allowed / allowed.sum(axis=1, keepdims=True)
    for _ in range(300):
        q = masked.action_values(values, 0.9)
        values = (uniform * q).sum(axis=1) if on_policy else q.max(axis=1)
    expected = np.where(allowed, q, -np.inf)[:-1]
    np.testing.assert_allclose(agent.action_values()[:-1], expected, atol=0.15)
    assert np.isfinite(agent.state_values()).all()


@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, None) for name in MASKED), *itertools.product(("sarsa", "mc-epsilon-greedy"), AutoresetMode)],
)
def test_nothing_forbidden_is_done_in_taxi(name: str, mode: AutoresetMode | None) -> None:
    """Alone, and in a vector in each autoreset mode, where masks come with the infos; interrupted, too."""
    made: list[Checked] = []

    def make() -> Any:
        envs = [Checked(gym.make(TAXI, max_episode_steps=40)) for _ in range(1 if mode is None else 3)]
        made.extend(envs)
        if mode is None:
            return envs[0]
        return SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=mode)  # type: ignore[misc]

    small = {"episodes_per_update": 12} if name.startswith("mc") else {"steps_per_update": 400}
    agent, other = (gridzero.agents.make(name, make(), action_masks=True, **small) for _ in range(2))
    list(itertools.islice(agent.learn(), 2))
    other.load_state_dict(agent.state_dict())
    after = [list(itertools.islice(one.learn(), 2)) for one in (agent, other)]
    assert after[0] == after[1] or not other.interaction.restored
    # In NEXT_STEP mode the step that resets heeds no action.
    assert sum(env.broken for env in made) == 0
    assert sum(env.taken for env in made) > 1000


def test_random_actions_are_uniform_over_what_is_allowed() -> None:
    """Of 20,000 choices with epsilon 0.3, one of five actions the best and two forbidden: chi-square, 99.9 %."""

    class Still(gym.Env[int, int]):
        observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(5)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return 0, {}

        def step(self, action: int) -> Any:
            return 0, 0.0, False, False, {}

        def action_masks(self) -> Any:
            return [True, False, True, False, True]

    agent: Any = gridzero.agents.make(
        "q-learning", Still(), epsilon="0.3", step_size="1e-300", steps_per_update=20_000, action_masks=True
    )
    agent._action_values[0] = [1.0, 9.0, 2.0, 9.0, 0.0]
    next(agent.learn())
    visits = agent.memory["visits"][0]
    assert visits[[1, 3]].sum() == 0
    expected = np.array([0.1, 0.0, 0.8, 0.0, 0.1])
    np.testing.assert_allclose(agent.exploring_policy_table()[0], expected)
    assert stats.chisquare(visits[[0, 2, 4]], 20_000 * expected[[0, 2, 4]]).pvalue > 0.001


def test_a_grid_world_is_never_bumped_into(tmp_path: Any) -> None:
    """Masked moves are those into walls; a checkpoint with them is read again."""
    env = gym.make("gridzero/GridWorld-v0", layout="dyna-maze", reward_boundary=-100)
    agent: Any = gridzero.agents.make("q-learning", env, action_masks=True, epsilon="0.5")
    returns = [update.metrics.get("episode_return", 0) for update in itertools.islice(agent.learn(), 5)]
    assert min(returns) >= 0
    gridzero.agents.save(agent, tmp_path / "checkpoint")


def test_without_masks_there_is_a_line() -> None:
    agent: Any = gridzero.agents.make("q-learning", "FrozenLake-v1", action_masks=True)
    with pytest.raises(ValueError, match=r"FrozenLakeEnv has neither action_masks\(\) nor info"):
        next(agent.learn())


def test_monte_carlo_values_what_is_allowed() -> None:
    """With epsilon 1 it follows the uniform policy over what is allowed, and finds the values of that."""
    whole, masked, allowed = worlds(3)
    env = MaskedModel(whole, 128, allowed)
    agent: Any = gridzero.agents.make(
        "mc-epsilon-greedy",
        env,
        gamma=0.9,
        step_size="1/k",
        epsilon="1",
        action_masks=True,
        first_visit=False,
        episode_length=200,
        episodes_per_update=30_000,
    )
    next(agent.learn())
    assert env.broken == 0
    values = masked.policy_values(allowed / allowed.sum(axis=1, keepdims=True), 0.9)
    expected = np.where(allowed, masked.action_values(values, 0.9), -np.inf)[:-1]
    np.testing.assert_allclose(agent.action_values()[:-1], expected, atol=0.15)
