"""Agent that acts by a neural policy: acting, tables for small worlds, and state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from gridzero.agents.action_masks import allowed_actions
from gridzero.agents.agent import Agent
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.muon import hidden_matrices
from gridzero.agents.neural.optimiser import Optimiser
from gridzero.agents.neural.policy import Policy
from gridzero.agents.neural.state_tables import StateTable
from gridzero.agents.seeds import spawn_seeds
from gridzero.agents.tabular.tabular import greedy_policy
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]


class NeuralAgent(Agent):
    """An agent that acts by a :class:`Policy` and trains it with Adam, or with Muon.

    Args:
        env: a ``gym.Env`` or a ``VectorEnv``, as it was given.
        config: of the subclass; it has ``adam_epsilon``, ``max_gradient_norm`` and, where there is a choice,
            ``optimiser`` and ``action_masks``.
        seed: decides everything that is random.
        vector: the environments it learns in.
        network: the policy.

    Attributes:
        vector: the environments it learns in.
        network: the :class:`Policy` that it trains.
        optimiser: of the network's parameters.
        rng: the generator of everything the learner itself draws.
        steps: environment steps taken so far.
        environment_seed: decides the episodes of the vector.
    """

    config: Any

    def __init__(self, env: Any, config: Any, *, seed: int, vector: VectorEnv[Any, Any, Any], network: Policy) -> None:
        super().__init__(env, config, seed=seed)
        if process_group().world_size > 1 and not network.parallel:
            raise ValueError(f"{type(network).__name__} learns in one process; start it without torchrun")
        self.environment_seed, _, own_seed = agent_seeds(seed)
        self.vector = vector
        self.network = network
        self.rng = np.random.default_rng(own_seed)
        trained = network.trained()
        muon, model = getattr(config, "optimiser", None) == "muon", getattr(network, "whole", network)
        matrices = hidden_matrices(model, trained) if muon else ()
        self.optimiser = Optimiser(
            trained, epsilon=config.adam_epsilon, max_norm=config.max_gradient_norm, matrices=matrices
        )
        self.steps = 0
        self._memory: torch.Tensor | None = None
        self._allowed: NDArray[np.bool_] | None = None
        self._states = StateTable(env, masked=getattr(config, "action_masks", False))

    def act(self, observations: Any, *, explore: bool = False, action_masks: NDArray[np.bool_] | None = None) -> Any:
        """Actions (N, …) for observations (N, …), as a vector environment takes them; texts for texts.

        A policy with a memory remembers from call to call; :meth:`reset_memory` tells it where episodes begin.

        Args:
            observations: a batch as a vector environment gives it, or a list.
            explore: draw from the policy instead of taking the most likely action.
            action_masks: (N, A) what is allowed, for a policy that was trained with masks; by default what the
                environment allowed that :meth:`attend` was told of.
        """
        rng = self.rng if explore else None
        action_masks, self._allowed = self._allowed if action_masks is None else action_masks, None
        actions, self._memory = self.network.act(observations, self._memory, rng, action_masks)
        return actions

    def attend(self, env: Any, info: Mapping[str, Any]) -> None:
        """Take note of the actions that an environment allows next, for a policy that was trained with masks."""
        network: Any = self.network
        if getattr(network, "masked", False):
            self._allowed = allowed_actions(env, info, network.actions.outputs)

    def reset_memory(self, episodes: NDArray[np.bool_] | None = None) -> None:
        """Empty the memory with which :meth:`act` goes on: in these (N,) environments, by default in all."""
        if episodes is None:
            self._memory = None
        elif self._memory is not None:
            self._memory = self._memory.masked_fill(torch.from_numpy(episodes).unsqueeze(1), 0.0)

    def action_probabilities(self, observations: Any, action_masks: NDArray[np.bool_] | None = None) -> FloatArray:
        """(N, A) probabilities of the actions that :meth:`act` chooses when it explores.

        Args:
            observations: as for :meth:`act`.
            action_masks: as for :meth:`act`.

        Raises:
            ValueError: where actions are not Discrete, or the policy is not a network without memory.
        """
        return np.asarray(self.network.action_probabilities(observations, action_masks).numpy(), dtype=np.float64)

    def exploring_policy_table(self) -> FloatArray:
        """(S, A) probabilities of the actions that :meth:`act` chooses when it explores."""
        self.network.check_table()  # before its states are visited
        return self.action_probabilities(*self._states.read())

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities of the actions that :meth:`act` chooses greedily: all on the most likely one."""
        return greedy_policy(self.exploring_policy_table())

    def action_values(self) -> FloatArray:
        """(S, A) one step of the model, then :meth:`state_values`.

        Raises:
            ValueError: without a model, or when the states cannot be counted.
        """
        return FiniteMDP.from_env(self.env).action_values(self.state_values(), self.config.gamma)

    def state_values(self) -> FloatArray:
        """(S,) exact values of :meth:`exploring_policy_table`; needs a model."""
        return FiniteMDP.from_env(self.env).policy_values(self.exploring_policy_table(), self.config.gamma)

    def state_dict(self) -> dict[str, Any]:
        """Networks, normalisation, optimiser, generator and count of steps."""
        return {
            "networks": {name: _array(tensor) for name, tensor in self.network.tensors().items()},
            "optimiser": {name: _array(tensor) for name, tensor in self.optimiser.state_dict().items()},
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when it is of other networks.
        """
        self.network.load_tensors(
            {name: torch.from_numpy(np.array(array)) for name, array in state["networks"].items()}
        )
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.steps = int(state["steps"])

    def decide_together(self, decision: bool) -> bool:
        """The first process's decision, where several learn together."""
        return bool(process_group().all_gather(decision)[0])

    def save_artifacts(self, folder: Path) -> None:
        """Write the policy's own files: a language model in Hugging Face's format."""
        self.network.save_artifacts(folder)

    def load_artifacts(self, folder: Path) -> None:
        """Continue from the files that :meth:`save_artifacts` wrote into ``folder``."""
        self.network.load_artifacts(folder)


def agent_seeds(seed: int) -> list[int]:
    """Seeds of the environments, of the initial weights and of the agent's own draws."""
    return spawn_seeds(seed, 3)


def check_environment(env: Any) -> None:
    """Raise ValueError for what is neither a ``gym.Env`` nor a ``VectorEnv``, such as a bare model."""
    if not isinstance(env, gym.Env | VectorEnv):
        raise ValueError(f"this agent learns from a Gymnasium environment, not from {type(env).__name__}")


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy as NumPy has it; half precision, which it lacks, as single."""
    tensor = tensor.detach().cpu()
    return np.array(tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy())
