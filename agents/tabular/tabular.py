"""What all tabular agents share: values and a policy as arrays, and acting on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.interaction import Interaction
from gridzero.agents.spaces import Numbering

FloatArray = NDArray[np.float64]


def greedy_policy(action_values: ArrayLike) -> FloatArray:
    """All probability on the best action, the first of equals.

    Args:
        action_values: (S, A).

    Returns:
        (S, A) probabilities.

    >>> greedy_policy([[1.0, 2.0], [3.0, 3.0]])
    array([[0., 1.], [1., 0.]])
    """
    q = np.asarray(action_values)
    return np.asarray(np.arange(q.shape[1]) == q.argmax(axis=1)[:, None], dtype=np.float64)


def epsilon_greedy_policy(action_values: ArrayLike, epsilon: float) -> FloatArray:
    """The greedy policy mixed with the uniform one: epsilon/A everywhere, 1 - epsilon more on the best (Zhao, 5.4).

    >>> epsilon_greedy_policy([[1.0, 2.0]], epsilon=0.5)
    array([[0.25, 0.75]])
    """
    greedy = greedy_policy(action_values)
    return np.asarray(epsilon / greedy.shape[1] + (1 - epsilon) * greedy)


class TabularAgent(Agent):
    """An agent whose knowledge is a table of action values.

    Attributes:
        states: numbers the observations 0 … S-1.
        actions: numbers the actions 0 … A-1.
        rng: the generator of everything the learner itself draws.
    """

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        vector = isinstance(env, VectorEnv)
        self.states = Numbering(env.single_observation_space if vector else env.observation_space, "observation space")
        self.actions = Numbering(env.single_action_space if vector else env.action_space, "action space")
        environment_seed, own_seed = (
            int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(2)
        )
        self.interaction = Interaction(env, environment_seed)
        self.rng = np.random.default_rng(own_seed)
        self._action_values = np.zeros((self.states.n, self.actions.n))

    def action_values(self) -> FloatArray:
        """(S, A) current estimates of q."""
        return self._action_values.copy()

    def state_values(self) -> FloatArray:
        """(S,) values of :meth:`policy` under the current action values."""
        return np.asarray((self.policy() * self._action_values).sum(axis=1))

    def policy(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it does not explore."""
        return greedy_policy(self._action_values)

    def exploring_policy(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it explores."""
        return epsilon_greedy_policy(self._action_values, float(self.config.epsilon))

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """Actions (N,) for observations (N,), each as the environment's own space has it."""
        states = self.states.numbers(observations)
        if not explore:
            return self.actions.elements(self.policy()[states].argmax(axis=1))
        cumulative = self.exploring_policy()[states].cumsum(axis=1)
        drawn = self.rng.random((len(states), 1)) * cumulative[:, -1:]
        return self.actions.elements((drawn >= cumulative).sum(axis=1))

    def state_dict(self) -> dict[str, Any]:
        """The table, the generator, and where the episodes under way are."""
        return {
            "action_values": self._action_values.copy(),
            "rng": self.rng.bit_generator.state,
            "interaction": self.interaction.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        values = np.asarray(state["action_values"], dtype=np.float64)
        if values.shape != self._action_values.shape:
            raise ValueError(
                f"the state has action values {values.shape}; this environment needs {self._action_values.shape}"
            )
        self._action_values[:] = values
        self.rng.bit_generator.state = state["rng"]
        self.interaction.load_state_dict(state["interaction"])
