"""Monte Carlo tree search as an agent: it looks ahead from the state that it is in."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gridzero.agents import runs
from gridzero.agents.agent import Agent
from gridzero.agents.config_checks import check_at_least, check_between, check_choice
from gridzero.agents.interaction import Interaction
from gridzero.agents.learner import Update
from gridzero.agents.search.model_search import ModelSearch
from gridzero.agents.search.simulator import Simulator
from gridzero.agents.search.tree_search import SearchResult, TreeSearch
from gridzero.agents.spaces import Numbering, spaces_of
from gridzero.agents.tabular.simulation import as_single_environment, known_model
from gridzero.envs import FiniteMDP

FloatArray = NDArray[np.float64]
Selection = Literal["uct", "puct"]
Backup = Literal["max", "mean"]
MOST_STATES = 100_000
"""States of a model of which a table of the policy is worked out."""


@dataclass(frozen=True)
class MCTSConfig:
    """Settings of Monte Carlo tree search."""

    gamma: float = 0.99
    """Discount of future rewards, from 0 to 1."""
    simulations: int = 1000
    """Simulated episodes before each action."""
    depth: int = 500
    """Steps of the longest simulated episode."""
    exploration: float = 1.0
    """Constant c of the upper confidence bound, for values relative to the range that the search has seen."""
    selection: Selection | None = None
    """"uct": q + c √(ln N / n), each action once at first; "puct": q + c π √N / (1 + n), with the guide's policy π, or
    a uniform one. By default "puct" with a guide, else "uct"."""
    backup: Backup | None = None
    """A state is worth what its best action is: "max", which finds an optimum soon; or the "mean" return of the
    simulations that came by, the first one's of random actions, as UCT was published. By default "max" where the model
    is known, else "mean"."""
    guide: str | None = None
    """A run, whose policy is the prior, and whose state values those of new states."""
    steps_per_update: int = 100
    """Environment steps between two reports."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        check_between(self, 0, 1, "gamma")
        check_at_least(self, 1, "simulations", "depth", "steps_per_update")
        check_at_least(self, 0, "exploration")
        check_choice(self, "selection", get_args(Selection))
        check_choice(self, "backup", get_args(Backup))


class MCTS(Agent):
    """Monte Carlo tree search: before each action it simulates what may follow.

    Where the model is known and observations number its states, the search runs compiled on the model, and a state is
    one node however it is reached. Elsewhere the environment itself is the generative model, put back to its state with
    ``get_state`` and ``set_state`` or copied, and a node is a history; the actions must be discrete. Nothing is learnt
    from one state to the next: learning means playing. A search depends on the seed and the state alone.

    Metrics: those of the episodes; ``root_value``, the value of the best action; ``tree_size`` and ``tree_depth``:
    means over the searches of the update.

    Args:
        env: an environment, a vector of them, or a ``FiniteMDP``.
        config: the settings.
        seed: decides everything that is random.

    Raises:
        ValueError: for actions that are not discrete, an environment that can neither be put back nor copied, or a
            guide that does not fit.

    Source: Kocsis & Szepesvári (2006), Bandit based Monte-Carlo planning (UCT); Silver et al. (2017), Mastering the
    game of Go without human knowledge (PUCT); Keller & Helmert (2013), Trial-based heuristic tree search for finite
    horizon MDPs (backing up maxima); Schrittwieser et al. (2020), MuZero, appendix B (values relative to their range).

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("mcts", "FrozenLake-v1", simulations=3000)
        >>> agent.act([0, 4, 14]).tolist()
        [0, 0, 1]
    """

    Config = MCTSConfig
    config: MCTSConfig
    default_steps: int | None = 1000
    _tree: TreeSearch  # where no model is known

    def __init__(self, env: Any, config: MCTSConfig, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self.interaction = Interaction(as_single_environment(env), seed)
        self.actions = Numbering(self.interaction.action_space, "action space")
        self.rng = np.random.default_rng((seed, 1))
        self._attended: Any = self.interaction.env
        self._source = None if isinstance(env, FiniteMDP) else env
        model = env if isinstance(env, FiniteMDP) else observed_model(env)
        self.puct = (config.selection or ("uct" if config.guide is None else "puct")) == "puct"
        self.maxima = (config.backup or ("mean" if model is None else "max")) == "max"
        self._root: int | None = None
        self._model: ModelSearch | None = None
        if model is not None:
            self.states = Numbering(self.interaction.observation_space, "observation space")
            self._adopt(model)
        else:
            if config.guide is not None:
                raise ValueError("a guide needs an environment whose model is known and whose observations are states")
            self.attends = True
            self._tree = TreeSearch(
                Simulator(env), self.actions, config.gamma, config.exploration, config.depth, self.puct, self.maxima
            )

    def _adopt(self, model: FiniteMDP) -> None:
        guide = None if self.config.guide is None else runs.load(self.config.guide)
        self._model = ModelSearch(model, self.config, self.puct, self.maxima, self.seed, guide)

    def _current(self) -> ModelSearch | None:
        """The search on the model, as the map is now."""
        if self._model is not None:
            model = getattr(getattr(self._source, "unwrapped", None), "mdp", None)
            if isinstance(model, FiniteMDP) and model is not self._model.mdp:
                self._adopt(model)
        return self._model

    def attend(self, env: Any, info: Mapping[str, Any]) -> None:
        """Take note of the environment that the next observations come from."""
        self._attended = env

    def search(self, observations: Any) -> list[SearchResult]:
        """Search from the states that are observed, or in which the attended environment is."""
        model = self._current()
        if model is not None:
            states = self.states.numbers(observations).tolist()
            self._root = states[0]
            return [model.search(state) for state in states]
        found = []
        for row, numbers in enumerate(self._rows(observations)):
            rng = np.random.default_rng((self.seed, zlib.crc32(repr(numbers).encode())))
            found.append(self._tree.search(self._tree.simulator.snapshot(self._attended, row), self.simulations, rng))
        return found

    def _rows(self, observations: Any) -> list[Any]:
        """Numbers of each observation of a batch, as lists."""
        space = self.interaction.observation_space
        if not isinstance(space, gym.spaces.Tuple | gym.spaces.Dict):
            return [np.asarray(one).tolist() for one in observations]
        if not isinstance(observations, list):
            observations = gym.vector.utils.iterate(gym.vector.utils.batch_space(space, 1), observations)
        return [np.asarray(gym.spaces.flatten(space, one)).tolist() for one in observations]

    @property
    def simulations(self) -> int:
        """Number of simulations before an action."""
        return self.config.simulations

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """The best actions that the searches found; to explore, each as often as it was tried."""
        return self.actions.elements(self._choices(self.search(observations), explore))

    def _choices(self, found: list[SearchResult], explore: bool) -> NDArray[np.int64]:
        if explore:
            return np.array([self.rng.choice(self.actions.n, p=one.visits / one.visits.sum()) for one in found])
        return np.array([best_action(one, self.maxima) for one in found], dtype=np.int64)

    def learn(self) -> Iterator[Update]:
        """Without end: an update each ``steps_per_update`` steps that it has played."""
        interaction = self.interaction
        interaction.start()
        rounds = math.ceil(self.config.steps_per_update / interaction.num_envs)
        while True:
            numbers: list[tuple[float, int, int]] = []
            for _ in range(rounds):
                self.attend(interaction.env, interaction.info)
                found = self.search(interaction.observations)
                choices = self._choices(found, explore=False)
                actions = self.actions.elements(choices)
                numbers += [
                    (float(one.values[choice]), one.size, one.depth)
                    for one, choice in zip(found, choices.tolist(), strict=True)
                ]
                interaction.step(actions if interaction.vector else [self.actions.element(int(choices[0]))])
            means = dict(zip(("root_value", "tree_size", "tree_depth"), np.mean(numbers, axis=0).tolist(), strict=True))
            yield Update(interaction.steps, interaction.metrics() | means)

    def metric_names(self) -> frozenset[str]:
        """Those of episodes and of trees."""
        return self.interaction.METRICS | {"root_value", "tree_size", "tree_depth"}

    def _tables(self) -> ModelSearch:
        model = self._current()
        if model is None:
            raise ValueError("the states of this environment cannot be numbered")
        return model

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does, searched from every state.

        Raises:
            ValueError: where states cannot be numbered, or are more than :data:`MOST_STATES`.
        """
        model = self._tables()
        count = min(self.states.n, model.mdp.num_states)
        if count > MOST_STATES:
            raise ValueError(f"a table of {count:,} searches is too long; at most {MOST_STATES:,}")
        found = [model.search(state) for state in range(count)]
        return np.asarray(np.eye(self.actions.n)[self._choices(found, explore=False)])

    def action_values(self) -> FloatArray:
        """(S, A) values in the states that were searched from, 0 elsewhere."""
        return self._tables().values.copy()

    def state_values(self) -> FloatArray:
        """(S,) values of the best actions in the states that were searched from, 0 elsewhere."""
        return np.asarray(self._tables().state_values())

    def tried(self) -> NDArray[np.bool_]:
        """(S, A) actions that were tried at the root of a search."""
        return np.asarray(self._tables().visits > 0)

    def search_visits(self) -> NDArray[np.int64]:
        """(S,) how often simulations come by each state, in the search from where the attended environment is.

        Where it does not tell its state, from the first of those last acted in; 0 before that.
        """
        model, inner = self._tables(), getattr(self._attended, "unwrapped", None)
        here = getattr(inner, "cell", getattr(inner, "s", None))
        root = int(here) if isinstance(here, int | np.integer) else self._root
        return model.visits_from(root) if root is not None else np.zeros(model.mdp.num_states, dtype=np.int64)

    def state_dict(self) -> dict[str, Any]:
        """The generator, and where the episodes under way are; searches depend on nothing else."""
        return {"rng": self.rng.bit_generator.state, "interaction": self.interaction.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.rng.bit_generator.state = state["rng"]
        self.interaction.load_state_dict(state["interaction"])


def best_action(found: SearchResult, maxima: bool) -> int:
    """The most valuable of the actions that were tried, where values are maxima, else the one most often tried."""
    ranked = np.where(found.visits > 0, found.values, -np.inf) if maxima else found.visits
    return int(ranked.argmax())


def observed_model(env: Any) -> FiniteMDP | None:
    """The model of an environment whose observations number its states; None for another one."""
    model = known_model(env)
    if model is None:
        return None
    try:
        states = Numbering(spaces_of(env)[0])
    except ValueError:
        return None
    return model if states.n in (model.num_states, model.num_states - 1) else None
