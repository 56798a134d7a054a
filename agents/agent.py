"""Agent interface: a learner that acts."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from gridzero.agents.learner import Learner
from gridzero.envs import html


class Agent(Learner):
    """A learner that acts in its environment, and so can be evaluated and watched.

    Attributes:
        attends: whether it has to put copies of the environment into other states, so that these must be single ones.
    """

    attends: bool = False

    def _repr_png_(self) -> bytes | None:
        """Values and policy over the grid that it learns on, in notebooks; None where it is no grid."""
        from gridzero.envs.rendering.notebook import picture_of

        return picture_of(self.env, self)

    def _repr_html_(self) -> str:
        """Settings as a table beside the picture, in notebooks."""
        return html.table(repr(self), dataclasses.asdict(self.config), self._repr_png_())

    @abstractmethod
    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """A batch of observations in, a batch of actions out; greedy unless asked to explore."""

    def attend(self, env: Any, info: Mapping[str, Any]) -> None:
        """Take note of the environment whose observations come next, and of the info that came with them.

        From its state a search looks ahead; it says which actions a masked policy may take. To be called before each
        :meth:`act` in an environment.
        """
