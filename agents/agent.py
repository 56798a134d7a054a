"""Agent interface: a learner that acts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from gridzero.agents.learner import Learner


class Agent(Learner):
    """A learner that acts in its environment, and so can be evaluated and watched."""

    @abstractmethod
    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """A batch of observations in, a batch of actions out; greedy unless asked to explore."""
