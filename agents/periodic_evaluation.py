"""Evaluations during training, at a small and bounded share of its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv

from gridzero.agents.episodes import copy_environment, play, play_model
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs.mdp import FiniteMDP

SHARE, ALLOWANCE = 0.02, 1000
"""Steps of training that evaluation may take the time of: for each step of training, and once."""
POINTS = 20
"""Evaluations, at most, in a run whose length is known."""
EPISODES, NATIVE_EPISODES = 4, 16
"""Episodes of an evaluation, all played at once: of environments one by one, of those that step at once."""
OVERHEAD, NATIVE_COST = 4, 10
"""What it takes to step a vector once, in steps of training: acting, beside a step of each environment; measured for
tabular agents, PPO and GRPO on one thread (1 to 10 for vectors that step at once)."""
METRICS = frozenset({"evaluation_return", "evaluation_success_rate", "evaluation_reward/*"})
TEXT_COST = 10
"""What it takes to write one text, in texts of training, which are written many at once."""


class PeriodicEvaluation:
    """Plays a few episodes without exploring, now and then, in an environment and with a random stream of its own.

    When it is due depends on steps and episodes alone, never on the clock: the same seed has the same evaluations,
    interrupted or not, and training has the same numbers with and without them.

    Args:
        agent: that is trained.
        planned: the steps that it will be trained for; None where that is not known.
        state: what :meth:`state` returned, on resuming.
        bounded: at a small share of the time; else at every point, whatever it costs, for training that ends by them.

    Attributes:
        enabled: whether there are evaluations at all; none of agents that plan, of which a step is a sweep.
    """

    def __init__(
        self, agent: Any, planned: int | None, state: Mapping[str, float] | None = None, *, bounded: bool = True
    ) -> None:
        self.agent, self.planned, self.bounded = agent, planned, bounded
        self.enabled = agent.default_steps is not None and hasattr(agent, "act")
        state = state or {}
        self._last, self._spent = int(state.get("last", 0)), float(state.get("spent", 0.0))
        self._expected = float(state.get("expected", 0.0))
        self._env: Any = None

    def state(self) -> dict[str, float]:
        """State from which evaluation resumes."""
        return {"last": self._last, "spent": self._spent, "expected": self._expected}

    def note(self, metrics: Mapping[str, float]) -> None:
        """Take in how long the episodes of training are: those of evaluation are expected to be as long."""
        self._expected = float(metrics.get("episode_length", self._expected))

    def due(self, step: int) -> bool:
        """Whether an evaluation is due at a step, and can be paid for."""
        gap = max(1000, self._last // 10) if self.planned is None else max(1, self.planned // POINTS)
        if not self.enabled or step < self._last + gap:
            return False
        return not self.bounded or self._spent + self._cost(max(1.0, self._expected)) <= ALLOWANCE + SHARE * step

    def evaluate(self, step: int) -> dict[str, float]:
        """Metrics of the agent as it is at a step."""
        seed = int(np.random.SeedSequence([self.agent.seed, step]).generate_state(1)[0])
        env, reset_memory = self._environment(), getattr(self.agent, "reset_memory", lambda: None)
        reset_memory()
        if isinstance(env, FiniteMDP):
            played = play_model(self.agent, env, NATIVE_EPISODES, seed)
        else:
            played = play(self.agent, env, env.num_envs, seed)
        reset_memory()
        self._last, self._spent = step, self._spent + self._cost(float(played.lengths.max()))
        found = {"evaluation_return": float(played.returns.mean())}
        if played.successes is not None:
            found["evaluation_success_rate"] = float(played.successes.mean())
        return found | {f"evaluation_reward/{name}": float(own.mean()) for name, own in played.rewards.items()}

    def _environment(self) -> Any:
        if self._env is None:
            env, single = self.agent.env, self.agent.attends
            if isinstance(env, SimulatedMDP):
                env = env.mdp
            if not isinstance(env, FiniteMDP):
                env, _ = copy_environment(env, NATIVE_EPISODES, EPISODES, single=single)
            self._env = env
        return self._env

    def _cost(self, length: float) -> float:
        """Time that an evaluation takes whose longest episode has so many steps, in steps of training."""
        env = self._environment()
        if isinstance(env, FiniteMDP):
            return length * NATIVE_COST
        if isinstance(env.single_action_space, gym.spaces.Text):
            return length * float(env.num_envs * TEXT_COST)
        if isinstance(env, SyncVectorEnv):
            return length * float(OVERHEAD + env.num_envs)
        trained = int(getattr(self.agent.env, "num_envs", 1))
        return length * max(NATIVE_COST, trained // 2)

    def close(self) -> None:
        """Close the environment."""
        if self._env is not None and not isinstance(self._env, FiniteMDP):
            self._env.close()
