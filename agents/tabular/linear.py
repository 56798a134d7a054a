"""Learning with linear function approximation: values are weighted sums of features of the observation.

Equation, section and figure numbers are those of Sutton & Barto, *Reinforcement Learning*, 2nd edition.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.config_checks import check_at_least, check_between
from gridzero.agents.interaction import Interaction
from gridzero.agents.learner import Update
from gridzero.agents.seeds import spawn_seeds
from gridzero.agents.spaces import Numbering, spaces_of
from gridzero.agents.tabular import linear_kernels as kernels
from gridzero.agents.tabular.feature_choice import STEP_SIZES, FeatureConfig, ObservationFeatures
from gridzero.agents.tabular.features import Features
from gridzero.agents.tabular.schedules import Schedule, parse_step_size
from gridzero.agents.tabular.simulation import as_single_environment
from gridzero.agents.tabular.tabular import FloatArray, draw_choices, epsilon_greedy_policy, greedy_policy


@dataclass(frozen=True)
class LinearConfig(FeatureConfig):
    """Settings of all agents with linear function approximation."""

    gamma: float = 0.99
    """Discount of future rewards, from 0 to 1."""
    step_size: str = "auto"
    """Step size at the k-th update: 0.1, 1/k, 0.5/k^0.7, 10/(k+9), …; divided by the number of tilings where there are
    any. auto: 0.3 with tiles, 0.1 with tabular and aggregation, 0.01 with polynomial and fourier."""
    initial_value: float = 0.0
    """Initial estimate of every value; a high one makes the agent try everything (optimism)."""
    steps_per_update: int = 1000
    """Environment steps between two reports."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0, 1, "gamma")
        if not math.isfinite(self.initial_value):
            raise ValueError(f"initial_value must be a finite number, not {self.initial_value}")
        check_at_least(self, 1, "steps_per_update")
        if self.step_size != "auto":
            parse_step_size(self.step_size)


@dataclass(frozen=True)
class LinearControlConfig(LinearConfig):
    """Settings of Q-learning with linear function approximation."""

    epsilon: str = "0.1"
    """Probability of a random action in the k-th episode: 0.1, 1/k, 10/(k+9), …"""

    def __post_init__(self) -> None:
        super().__post_init__()
        Schedule.parse(self.epsilon, "epsilon", maximum=1)


class LinearAgent(Agent):
    """The one loop of learning with linear function approximation.

    With N environments each step gives N transitions, learnt from one after the other. A successor that ends the
    episode is worth 0; one where the episode was merely cut off is worth what it is worth.

    Args:
        env: an environment or a vector, observations in a Box or any discrete space, or a ``FiniteMDP``, from which
            episodes of at most :data:`~gridzero.agents.tabular.simulation.MODEL_STEP_LIMIT` steps are drawn.
        config: the settings.
        seed: decides everything that is random.

    Raises:
        ValueError: for spaces or settings that do not go together.

    Attributes:
        features: feature vectors of observations.
        weights: (A, d) of the action values; (1, d) of the state values where those of a policy are estimated.
        memory: all that it has learnt and drawn, as named arrays.
    """

    Config: ClassVar[type[Any]] = LinearControlConfig

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(as_single_environment(env), config, seed=seed)
        observation_space, action_space = spaces_of(self.env)
        self.actions = Numbering(action_space, "action space")
        self.features = ObservationFeatures(self.env, observation_space, config)
        environment_seed, own_seed = spawn_seeds(seed, 2)
        self.interaction = Interaction(self.env, environment_seed)
        self.rng = np.random.default_rng(own_seed)
        self._epsilon = Schedule.parse(getattr(config, "epsilon", 0.0), "epsilon", maximum=1)
        self._step_size = Schedule.parse(
            STEP_SIZES[self.features.kind] if config.step_size == "auto" else config.step_size
        )
        self._waits = self.interaction.mode is AutoresetMode.NEXT_STEP
        self._policy = np.zeros((0, 0))
        count, active = self.interaction.num_envs, self.features.map.active
        self.memory: dict[str, NDArray[Any]] = {
            "weights": np.tile(self.features.map.constant(config.initial_value), (self._rows(), 1)),
            "updates": np.zeros(1, dtype=np.int64),
            "streams": np.random.SeedSequence((seed, 1)).generate_state(count, np.uint64),
            "states": np.zeros(count, dtype=np.int64),
            "actions": np.zeros(count, dtype=np.int64),
            "indices": np.zeros((count, active), dtype=np.int64),
            "entries": np.zeros((count, active)),
        }
        self._knowledge = tuple(self.memory.values())
        self.memory |= self._create_memory()

    @property
    def weights(self) -> FloatArray:
        """The weights themselves, not a copy: what is written into them, it goes on from."""
        return self.memory["weights"]

    @property
    def epsilon(self) -> float:
        """The probability of a random action in the episode under way."""
        return self._epsilon(self.interaction.episodes + 1)

    def unused(self) -> Mapping[str, str]:
        """Settings that the features in use do not need."""
        return self.features.unused()

    def _rows(self) -> int:
        """Rows of the weights."""
        return self.actions.n

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        """The arrays that an algorithm needs beyond those that all have."""
        return {}

    @abstractmethod
    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        """Learn from one step of all N environments and choose the next actions; the sum of absolute errors."""

    def learn(self) -> Iterator[Update]:
        """Learn without end: an update every ``steps_per_update`` steps, with the mean error of the predictions.

        Raises:
            ValueError: when the weights diverge.
        """
        interaction = self.interaction
        if not interaction.started:
            interaction.start()
            self._begin()
        rounds = math.ceil(self.config.steps_per_update / interaction.num_envs)
        step_size, tilings = self._step_size, self.features.map.tilings
        while True:
            errors, before, episodes = 0.0, interaction.steps, -1
            for _ in range(rounds):
                actions = self.memory["actions"]
                taken = self.actions.elements(actions) if interaction.vector else [self.actions.element(actions[0])]
                transition = interaction.step(taken)
                following = observed = self.features(transition.next_observations)
                if interaction.observations is not transition.next_observations:
                    observed = self.features(interaction.observations)
                if interaction.episodes != episodes:
                    episodes = interaction.episodes
                    scale = step_size.scale / tilings
                    settings = (self.config.gamma, self.epsilon, scale, step_size.shift, step_size.power)
                batch = (
                    *following,
                    *observed,
                    self._policy_rows(interaction.observations),
                    transition.rewards,
                    transition.terminated,
                    transition.truncated,
                    transition.valid,
                )
                errors += self._learn_from(batch, settings)
            mean = errors / max(interaction.steps - before, 1)
            if not math.isfinite(mean):
                raise ValueError(
                    f"{self.name} diverged at step {interaction.steps:,}: its weights are no longer finite; a smaller "
                    f"step_size than {self._step_size} may help"
                )
            yield Update(interaction.steps, interaction.metrics() | {"td_error": mean} | self._further_metrics())

    def metric_names(self) -> frozenset[str]:
        """Those of episodes, the mean error of predictions, and what subclasses add."""
        return self.interaction.METRICS | {"td_error", "epsilon"}

    def _further_metrics(self) -> dict[str, float]:
        return {"epsilon": self.epsilon}

    def _policy_rows(self, observations: Any) -> NDArray[np.int64]:
        """(N,) the rows of the given policy's table; all 0 where there is no more than one."""
        if len(self._policy) <= 1:
            return np.zeros(self.interaction.num_envs, dtype=np.int64)
        return self.features.numbers(observations)

    def _begin(self) -> None:
        observations = self.interaction.observations
        self.memory["indices"][:], self.memory["entries"][:] = self.features(observations)
        self.memory["states"][:] = self._policy_rows(observations)
        for name in ("held", "first", "traces"):
            if name in self.memory:
                self.memory[name][:] = 0
        kernels.begin(self._knowledge, self._policy, self.epsilon)

    def values(self, observations: Any) -> FloatArray:
        """(N, R) what each row of the weights makes of a batch of observations."""
        return self._products(self.weights, self.features(observations))

    def _products(self, weights: FloatArray, features: Features) -> FloatArray:
        indices, entries = features
        return np.stack([(row[indices] * entries).sum(axis=1) for row in weights], axis=1)

    def action_values(self) -> FloatArray:
        """(S, A) estimates of q for every state.

        Raises:
            ValueError: when the observations cannot be counted.
        """
        return self._products(self.weights, self.features.of_all_states())

    def state_values(self) -> FloatArray:
        """(S,) values of :meth:`policy_table` under the present action values."""
        return np.asarray((self.policy_table() * self.action_values()).sum(axis=1))

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it does not explore."""
        return greedy_policy(self.action_values())

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """Actions (N,) for observations (N,), each as the environment's own space has it."""
        q = self.values(observations)
        return self._draw(epsilon_greedy_policy(q, self.epsilon) if explore else greedy_policy(q), explore)

    def _draw(self, probabilities: FloatArray, explore: bool) -> Any:
        if not explore:
            return self.actions.elements(probabilities.argmax(axis=1))
        return self.actions.elements(draw_choices(probabilities, self.rng))

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes, with the episodes under way."""
        return {
            "memory": {name: array.copy() for name, array in self.memory.items()},
            "rng": self.rng.bit_generator.state,
            "interaction": self.interaction.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when it is of another agent, other features or another environment.
        """
        saved = {name: np.asarray(array) for name, array in state["memory"].items()}
        shapes = {name: array.shape for name, array in self.memory.items()}
        if (found := {name: array.shape for name, array in saved.items()}) != shapes:
            raise ValueError(f"the state has {found}; this agent and environment need {shapes}")
        for name, array in saved.items():
            self.memory[name][...] = array
        self.rng.bit_generator.state = state["rng"]
        self.interaction.load_state_dict(state["interaction"])
        if not self.interaction.restored:
            self._begin()


class LinearQLearning(LinearAgent):
    r"""Semi-gradient Q-learning: $w_a \leftarrow w_a + \alpha\,[r + \gamma \max q(s', \cdot) - q(s, a)]\, x(s)$.

    Section 11.1, of which this is the greedy target policy; Zhao, section 8.3.2.
    Off-policy learning with function approximation may diverge (section 11.2); a smaller step size often helps.
    """

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        return float(kernels.q_learning(self._knowledge, batch, self._policy, settings, self._waits))
