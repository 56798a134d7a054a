"""Behaviour cloning of the exact optimal policy, or of another agent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridzero.agents.agent import Agent
from gridzero.agents.interaction import Interaction
from gridzero.agents.learner import Update
from gridzero.agents.neural.configs.imitation import ImitationConfig
from gridzero.agents.neural.networks.heads import MARGINS, MarginHead, action_margin, cosines
from gridzero.agents.neural.networks.mlp_policy import MLPPolicy
from gridzero.agents.neural.neural_agent import NeuralAgent, check_environment
from gridzero.agents.neural.vectors import copies
from gridzero.agents.seeds import spawn_seeds
from gridzero.agents.spaces import Numbering, spaces_of
from gridzero.agents.tabular.simulation import known_model
from gridzero.agents.tabular.value_errors import reachable
from gridzero.envs.mdp import FiniteMDP

EXAMPLES_PER_UPDATE = 1000
EPISODE_STEPS = 10_000
TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Demonstrations of an expert.

    Attributes:
        states: (N,) numbers of the states; None where they are not counted.
        observations: name → (N, …), as the network's reader gives them; looked up again where states are counted.
        right: (N, A) bool, the actions that the expert finds best.
    """

    states: NDArray[np.int64] | None
    observations: Mapping[str, Tensor]
    right: Tensor


class Imitation(NeuralAgent):
    """Behaviour cloning: a classifier that tells, from the observation, what the expert would do.

    The examples are all states that are not terminal and that some policy reaches, where these can be counted and the
    expert has a policy in each; otherwise what an expert with the same observations sees and does in its episodes.
    Several equally good actions are all right: the loss holds each of them against the wrong ones only. A step is an
    example seen.

    Metrics: loss, accuracy (the share of examples with a right action on top), and the margins between the best right
    action and the best wrong one, in cosine and in logit, each a mean over the examples of the update.

    Source: Pomerleau (1989), ALVINN: An autonomous land vehicle in a neural network. For the heads see
    :mod:`~gridzero.agents.neural.networks.heads`.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("imitation", "FrozenLake-v1", head="arcface")
        >>> update = next(agent.learn())
        >>> sorted(update.metrics)[:2]
        ['accuracy', 'cosine_margin']
    """

    Config = ImitationConfig
    config: ImitationConfig
    network: MLPPolicy

    def __init__(self, env: Any, config: ImitationConfig, *, seed: int = 0) -> None:
        check_environment(env)
        observations, actions = spaces_of(env)
        if not isinstance(actions, gym.spaces.Discrete):
            raise ValueError(f"imitation tells Discrete actions apart, not {actions}")
        torso_seed, head_seed = spawn_seeds((seed, 1), 2)
        policy = MLPPolicy(
            observations,
            actions,
            hidden=config.hidden,
            activation=config.activation,
            critic=False,
            normalise=config.normalise_observations,
            seed=torso_seed,
        )
        self.head = policy.action_head = MarginHead(
            config.hidden[-1],
            int(actions.n),
            config.head,
            MARGINS[config.head] if config.margin is None else config.margin,
            config.scale,
            torch.Generator().manual_seed(head_seed),
        )
        super().__init__(env, config, seed=seed, vector=copies(env, None), network=policy)
        self.actions = Numbering(actions, "action space")
        self.gradient_steps = 0
        self.demonstrations: Demonstrations | None = None
        self._expert: Agent | None = None

    def imitate(self, expert: Agent) -> None:
        """Learn from this agent from now on, whoever ``expert`` in the config is."""
        self._expert, self.demonstrations = expert, None

    def setup(self) -> None:
        """Ask the expert, unless that was done; see :meth:`ask_expert` for errors."""
        self.ask_expert()

    def ask_expert(self) -> Demonstrations:
        """The expert's actions, asked for unless that was done.

        Raises:
            ValueError: when there is no such expert, or it does not fit.
        """
        if self.demonstrations is not None:
            return self.demonstrations
        if self._expert is None and self.config.expert == "optimal":
            if self.config.demonstrations is not None:
                raise ValueError(
                    "the optimal policy is known in every state; demonstrations are for the episodes of runs"
                )
            found = self._everywhere(self._optimal())
        else:
            expert = self._expert or _load(self.config.expert)
            table = _table(expert) if self.config.demonstrations is None else None
            model = known_model(self.env) if table is not None else None
            fits = table is not None and model is not None and table.shape == (model.num_states, model.num_actions)
            found = self._everywhere(table) if fits and table is not None else self._episodes(expert)
        everything = torch.ones(len(found.right), dtype=torch.bool)
        self.network.update_statistics(found.observations, everything)
        self.demonstrations = found
        return found

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` for each 1000 examples or pass over all, whichever is more; never ends."""
        demonstrations = self.ask_expert()
        observations = self.network.standardise(dict(demonstrations.observations))
        right = demonstrations.right
        while True:
            sums: dict[str, float] = {}
            seen = 0
            for _ in range(max(1, math.ceil(EXAMPLES_PER_UPDATE / len(right)))):
                shuffled = torch.from_numpy(self.rng.permutation(len(right)))
                for rows in shuffled.tensor_split(math.ceil(len(right) / self.config.minibatch_size)):
                    batch = {name: tensor[rows] for name, tensor in observations.items()}
                    for name, value in self._step(batch, right[rows]).items():
                        sums[name] = sums.get(name, 0.0) + value * len(rows)
                    seen += len(rows)
            self.steps += seen
            yield Update(self.steps, {name: total / seen for name, total in sums.items()})

    def _step(self, observations: Mapping[str, Tensor], right: Tensor) -> dict[str, float]:
        """One gradient step, and what is to be told of it."""
        features = self.network.actor(observations)
        loss = self.head.loss(features, right, self.annealing()).mean()
        self.optimiser.step([loss], self.config.learning_rate)
        self.gradient_steps += 1
        with torch.no_grad():
            measured = self._measure(features, right)
        return {"loss": loss.item()} | {name: float(values.mean()) for name, values in measured.items()}

    def metric_names(self) -> frozenset[str]:
        """Loss, accuracy and margins."""
        return frozenset({"loss", "accuracy", "cosine_margin", "logit_margin"})

    def annealing(self) -> float:
        """λ of sphereface now: max(floor, λ_0 / (1 + rate · gradient steps))."""
        fallen = self.config.annealing / (1 + self.config.annealing_rate * self.gradient_steps)
        return max(self.config.annealing_floor, fallen)

    def _measure(self, features: Tensor, right: Tensor) -> dict[str, Tensor]:
        logits = self.head(features)
        return {
            "accuracy": right.gather(1, logits.argmax(dim=1, keepdim=True)).squeeze(1).float(),
            "cosine_margin": action_margin(cosines(features, self.head.weight), right),
            "logit_margin": action_margin(logits, right),
        }

    @torch.no_grad()
    def measure(self, observations: Any, right: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
        """Accuracy and margins of the right actions in a batch of observations.

        Args:
            observations: (N, …) as a vector environment gives them, or a list.
            right: (N, A) bool, at least one and not all in each row.

        Returns:
            accuracy: (N,) 1 where a right action is on top, else 0.
            cosine_margin: (N,) cosine of the best right action less that of the best wrong one.
            logit_margin: (N,) the same of the logits.
        """
        features = self.network.actor(self.network.read(observations))
        measured = self._measure(features, torch.from_numpy(right))
        return {name: values.numpy().astype(np.float64) for name, values in measured.items()}

    def _optimal(self) -> NDArray[np.bool_]:
        """(S, A) the optimal actions."""
        from gridzero.agents.tabular.solver import solve

        try:
            model = FiniteMDP.from_env(self.env)
        except ValueError as error:
            raise ValueError(f"{error}; expert takes a run too") from error
        values = solve(model, self.config.gamma, tolerance=1e-12).values
        action_values = model.action_values(values, self.config.gamma)
        best = action_values.max(axis=1, keepdims=True)
        return np.asarray(action_values >= best - TIE * max(1.0, float(np.abs(best).max())))

    def _everywhere(self, right: NDArray[np.bool_]) -> Demonstrations:
        """An example for each state where something is decided: reachable, not terminal, some action wrong."""
        model = FiniteMDP.from_env(self.env)
        states = np.flatnonzero(reachable(model, np.ones(right.shape)) & ~right.all(axis=1))
        if not len(states):
            raise ValueError("there is nothing to imitate: in every state the expert finds all actions equally good")
        return Demonstrations(states, self._look(states), torch.from_numpy(right[states]))

    def _look(self, states: NDArray[np.int64]) -> dict[str, Tensor]:
        """The observations of states, before they are standardised."""
        table = self.network.raw(*self._states.read())
        return {name: tensor[torch.from_numpy(states)] for name, tensor in table.items()}

    def _episodes(self, expert: Agent) -> Demonstrations:
        """Observations and actions of the expert in episodes of its own."""
        own = spaces_of(self.env)
        sees, does = (None, None) if isinstance(expert.env, FiniteMDP) else spaces_of(expert.env)
        if (sees, does) != own:
            raise ValueError(f"the expert sees {sees} and does {does}, not {own[0]} and {own[1]} as this learner")
        interaction = Interaction(self.vector, self.environment_seed)
        interaction.start()
        wanted = self.config.demonstrations or EPISODE_STEPS
        seen: list[dict[str, Tensor]] = []
        done: list[NDArray[np.int64]] = []
        count = 0
        while count < wanted:
            observations = self.network.raw(interaction.observations)
            actions = expert.act(interaction.observations)
            valid = interaction.step(actions).valid
            seen.append({name: tensor[torch.from_numpy(valid)] for name, tensor in observations.items()})
            done.append(self.actions.numbers(actions)[valid])
            count += int(valid.sum())
        taken = np.concatenate(done)[:wanted]
        stacked = {name: torch.cat([part[name] for part in seen])[:wanted] for name in seen[0]}
        right = np.arange(self.actions.n) == taken[:, None]
        return Demonstrations(None, stacked, torch.from_numpy(right))

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, generator, counts, and what the expert showed."""
        shown: dict[str, Any] | None = None
        if self.demonstrations is not None:
            states, right = self.demonstrations.states, self.demonstrations.right
            observations = {} if states is not None else self.demonstrations.observations
            shown = {
                "states": None if states is None else states.copy(),
                "observations": {name: tensor.numpy().copy() for name, tensor in observations.items()},
                "right": right.numpy().copy(),
            }
        return super().state_dict() | {"gradient_steps": self.gradient_steps, "demonstrations": shown}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.gradient_steps = int(state["gradient_steps"])
        shown = state["demonstrations"]
        self.demonstrations = None
        if shown is not None:
            states = None if shown["states"] is None else np.array(shown["states"], dtype=np.int64)
            kept = {name: torch.from_numpy(np.array(array)) for name, array in shown["observations"].items()}
            observations = kept if states is None else self._look(states)
            self.demonstrations = Demonstrations(states, observations, torch.from_numpy(np.array(shown["right"])))


def _load(name: str) -> Agent:
    """The agent of a run."""
    from gridzero.agents import runs

    try:
        path = runs.find(name)
    except ValueError as error:
        raise ValueError(f"expert takes 'optimal' or a run; {error}") from None
    return runs.load(path)


def _table(expert: Agent) -> NDArray[np.bool_] | None:
    """(S, A) what the expert finds best in each state; None where it has no such table."""
    found = getattr(expert, "policy_table", None)
    if found is None:
        return None
    try:
        policy = np.asarray(found())
    except ValueError:
        return None
    return np.asarray(policy == policy.max(axis=1, keepdims=True))
