"""A learner of one's own: every method that gridzero asks of an agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridzero.agents import Agent, Update


@dataclass(frozen=True)
class HillClimbingConfig:
    """Settings of hill climbing."""

    change: float = 0.3
    """Share of the states whose action is drawn anew."""


class HillClimbing(Agent):
    """Change a table of actions at random, play an episode, keep the change unless the return fell."""

    Config = HillClimbingConfig
    config: HillClimbingConfig

    def __init__(self, env: Any, config: HillClimbingConfig, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self.rng = np.random.default_rng(seed)
        self.table = self.rng.integers(env.action_space.n, size=int(env.observation_space.n))
        self.best, self.steps = -np.inf, 0

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """The actions of the table."""
        return self.table[np.asarray(observations)]

    def learn(self) -> Iterator[Update]:
        """One change an update."""
        while True:
            changed = self.rng.random(len(self.table)) < self.config.change
            table = np.where(changed, self.rng.integers(self.env.action_space.n, size=len(self.table)), self.table)
            observation, _ = self.env.reset(seed=int(self.rng.integers(2**31)))
            total, done = 0.0, False
            while not done:
                observation, reward, terminated, truncated, _ = self.env.step(int(table[observation]))
                total, done, self.steps = total + float(reward), terminated or truncated, self.steps + 1
            if total >= self.best:
                self.table, self.best = table, total
            yield Update(self.steps, {"episode_return": total})

    def state_dict(self) -> dict[str, Any]:
        """The table, the best return, the steps and the generator."""
        state: dict[str, Any] = {"table": self.table, "best": float(self.best), "steps": self.steps}
        return {**state, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.table, self.best, self.steps = np.array(state["table"]), state["best"], state["steps"]
        self.rng.bit_generator.state = state["rng"]
