"""Agents that wrap the algorithms of Stable-Baselines3 and, where it is installed, of sb3-contrib.

``gridzero.agents.neural.sb3.agents.DQN`` is the agent for ``stable_baselines3.DQN``, and so on. Its config is generated
from the algorithm's own arguments, so it has the names and defaults of SB3's documentation.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import is_image_space

from gridzero.agents.agent import Agent
from gridzero.agents.autoreset import resets_each
from gridzero.agents.environments import describe
from gridzero.agents.interaction import Interaction
from gridzero.agents.learner import Update
from gridzero.agents.neural.neural_agent import check_environment
from gridzero.agents.neural.sb3.config import OWN_SETTINGS, config_for
from gridzero.agents.neural.sb3.state import get_state, set_state
from gridzero.agents.neural.sb3.vec_env import GymnasiumVecEnv, batched
from gridzero.agents.neural.state_tables import StateTable
from gridzero.agents.seeds import spawn_seeds
from gridzero.agents.tabular.tabular import greedy_policy
from gridzero.agents.wrappers import wrapped
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

UPDATE_STEPS = 1000
SMALLEST_IMAGE = 36
"""Pixels a side that SB3's convolutional network needs; smaller images are flattened."""


def __getattr__(name: str) -> type[SB3Agent]:
    if name.startswith("_"):
        raise AttributeError(name)
    return agent_for(name)


@functools.cache
def agent_for(name: str) -> type[SB3Agent]:
    """The agent class for an algorithm.

    Args:
        name: of its class in ``stable_baselines3`` or ``sb3_contrib``.

    Raises:
        AttributeError: when neither has it.
    """
    for module in ("stable_baselines3", "sb3_contrib"):
        with contextlib.suppress(ImportError):
            algorithm = getattr(importlib.import_module(module), name, None)
            if inspect.isclass(algorithm) and issubclass(algorithm, BaseAlgorithm):
                attributes = {"algorithm": algorithm, "Config": config_for(name), "__doc__": f"{module}.{name}."}
                return type(name, (SB3Agent,), {**attributes, "__module__": __name__})
    raise AttributeError(f"Stable-Baselines3 has no algorithm {name}")


class SB3Agent(Agent):
    """An algorithm of Stable-Baselines3, behind the interface of all agents.

    It is trained in stretches of 1000 steps, saved as tensors and JSON, without pickle, and resumed exactly. SB3 draws
    from the global generators of NumPy and PyTorch; the agent has states of its own and lends them only while SB3
    runs.

    Args:
        env: a ``gym.Env`` or a ``VectorEnv``. A foreign vector that resets in the next step only is made again as a
            ``SyncVectorEnv``, because SB3 begins episodes at once.
        config: of the algorithm.
        seed: decides everything that is random.

    Attributes:
        model: the algorithm.
        vec_env: its environments.

    Raises:
        ValueError: for an environment that the algorithm does not take.
    """

    algorithm: ClassVar[Any]
    model: Any

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        check_environment(env)
        self.environment_seed, self.own_seed = spawn_seeds(seed, 2)
        self.interaction = Interaction(_resetting_at_once(env), self.environment_seed, reset_at_once=True)
        self.vec_env = GymnasiumVecEnv(self.interaction)
        self.numpy_state: Any = np.random.RandomState(self.own_seed).get_state()
        self.torch_state = torch.Generator().manual_seed(self.own_seed).get_state()
        with self._randomness():
            try:
                self.model = self.algorithm(self._policy_name(), self.vec_env, **self._arguments())
            except (AssertionError, ValueError, TypeError, NotImplementedError) as error:
                message = re.sub(r"<class .[\w.]*?(\w+).>", r"\1", " ".join(str(error).split()))
                raise ValueError(f"{self.algorithm.__name__}: {message}") from error
        self.model.action_space.seed(self.own_seed)
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        # SB3's schedules end with each call of its learn().
        self.model._update_current_progress_remaining = self._update_progress
        self.masked = self.algorithm.__name__ == "MaskablePPO"
        self._states = StateTable(env, masked=self.masked)
        self._memory: Any = None
        self._beginning: Any = None

    def _policy_name(self) -> str:
        wanted: str = self.config.policy
        space = self.vec_env.observation_space
        if wanted == "auto":
            if isinstance(space, gym.spaces.Dict):
                wanted = "MultiInput"
            else:
                large = is_image_space(space) and sorted(space.shape or ())[1] >= SMALLEST_IMAGE
                wanted = "Cnn" if large else "Mlp"
        names = list(self.algorithm.policy_aliases)
        policy: str | None = next(
            (name for name in names if name == self.config.policy or name.startswith(wanted)), None
        )
        if policy is None:
            raise ValueError(f"{self.algorithm.__name__} has the policies {', '.join(names)}, not {wanted}")
        return policy

    def _arguments(self) -> dict[str, Any]:
        own = {name for name, *_ in OWN_SETTINGS} | {"action_noise"}
        given = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config) if f.name not in own}
        if self.config.hidden is not None:
            given["policy_kwargs"] = {"net_arch": list(self.config.hidden)}
        if self.config.linear_learning_rate:
            given["learning_rate"] = functools.partial(_linear_decay, self.config.learning_rate)
        if getattr(self.config, "action_noise", 0.0):
            size = self.vec_env.action_space.shape or ()
            given["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, self.config.action_noise))
        return given

    def _update_progress(self, steps: int, total: int) -> None:
        self.model._current_progress_remaining = max(0.0, 1.0 - steps / self.config.schedule_steps)

    @contextlib.contextmanager
    def _randomness(self) -> Iterator[None]:
        """Let SB3 draw from this agent's generators, and give the global ones back as they were."""
        numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - SB3 uses it
        np.random.set_state(self.numpy_state)  # noqa: NPY002
        torch.set_rng_state(self.torch_state)
        try:
            yield
        finally:
            self.numpy_state, self.torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
            np.random.set_state(numpy_state)  # noqa: NPY002
            torch.set_rng_state(torch_state)

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per 1000 environment steps, or per rollout where that is longer; never ends."""
        while True:
            logged = self.model.logger.name_to_value
            logged.clear()
            with self._randomness():
                self.model.learn(UPDATE_STEPS, log_interval=None, reset_num_timesteps=False)
            metrics = {name.rpartition("/")[2]: float(value) for name, value in logged.items()}
            yield Update(self.interaction.steps, self.interaction.metrics() | metrics)

    def act(self, observations: Any, *, explore: bool = False, action_masks: NDArray[np.bool_] | None = None) -> Any:
        """Actions (N, …) for observations (N, …), as a vector environment takes them.

        A recurrent policy remembers from call to call; :meth:`reset_memory` tells it where episodes begin.

        Args:
            observations: a batch as a vector environment gives it, or a list.
            explore: draw from the policy, with the algorithm's exploration, instead of taking its best action.
            action_masks: (N, A) what is allowed, for MaskablePPO.
        """
        batch = batched(observations, self.vec_env.observation_space)
        masks = {"action_masks": action_masks} if self.masked else {}
        size = len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)
        if self._beginning is None or len(self._beginning) != size:
            self._memory, self._beginning = None, np.ones(size, dtype=np.bool_)
        with self._randomness() if explore else contextlib.nullcontext():
            actions, self._memory = self.model.predict(
                batch, self._memory, self._beginning, deterministic=not explore, **masks
            )
        self._beginning = np.zeros(size, dtype=np.bool_)
        return actions

    def reset_memory(self, episodes: NDArray[np.bool_] | None = None) -> None:
        """Empty the memory with which :meth:`act` goes on: in these (N,) environments, by default in all."""
        if episodes is None:
            self._beginning = None
        elif self._beginning is not None:
            self._beginning = self._beginning | episodes

    def _table(self) -> tuple[Any, NDArray[np.bool_] | None]:
        if hasattr(self.model, "_last_lstm_states"):
            raise ValueError("a policy with a memory has no table of states")
        if not isinstance(self.vec_env.action_space, gym.spaces.Discrete):
            raise ValueError(f"only Discrete actions have a table, not {self.vec_env.action_space}")
        observations, masks = self._states.read()
        return batched(observations, self.vec_env.observation_space), masks

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it does not explore."""
        observations, masks = self._table()
        given = {"action_masks": masks} if self.masked else {}
        actions, _ = self.model.predict(observations, deterministic=True, **given)
        return np.asarray(np.eye(int(self.model.action_space.n))[actions])

    def exploring_policy_table(self) -> FloatArray:
        """(S, A) probabilities of what :meth:`act` does when it explores."""
        observations, masks = self._table()
        if hasattr(self.model, "exploration_rate"):
            epsilon, greedy = self.model.exploration_rate, self.policy_table()
            return np.asarray(epsilon / greedy.shape[1] + (1 - epsilon) * greedy)
        if not hasattr(self.model.policy, "get_distribution"):
            return self.policy_table()
        with torch.no_grad():
            tensor, _ = self.model.policy.obs_to_tensor(observations)
            actions = self.model.policy.get_distribution(tensor, *([masks] if self.masked else []))
        return _array(actions.distribution.probs)

    def action_values(self) -> FloatArray:
        """(S, A) outputs of the algorithm's network, else one step of the model and then :meth:`state_values`.

        Raises:
            ValueError: without such a network and without a model, or when the states cannot be counted.
        """
        observations, _ = self._table()
        network = getattr(self.model, "q_net", None) or getattr(self.model, "quantile_net", None)
        if network is None:
            return FiniteMDP.from_env(self.env).action_values(self.state_values(), self.config.gamma)
        with torch.no_grad():
            values = network(self.model.policy.obs_to_tensor(observations)[0])
        return _array(values.mean(dim=1) if values.ndim == 3 else values)

    def state_values(self) -> FloatArray:
        """(S,) the critic's values, else those of the best actions.

        Raises:
            ValueError: for an algorithm that estimates no values, or when the states cannot be counted.
        """
        observations, _ = self._table()
        if hasattr(self.model.policy, "predict_values"):
            with torch.no_grad():
                return _array(self.model.policy.predict_values(self.model.policy.obs_to_tensor(observations)[0])[:, 0])
        if not hasattr(self.config, "gamma"):
            raise ValueError(f"{self.algorithm.__name__} estimates no values")
        return np.asarray((greedy_policy(self.action_values()) * self.action_values()).sum(axis=1))

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers, replay buffer, counters, generators, and where the episodes under way are."""
        return {
            "model": get_state(self.model),
            "numpy": list(self.numpy_state),
            "torch": self.torch_state.numpy().copy(),
            "interaction": self.interaction.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when it is of other networks or environments.
        """
        self.interaction.load_state_dict(state["interaction"])
        set_state(self.model, state["model"])
        if not self.interaction.restored:
            self.model._last_obs = None  # episodes begin anew
        self.numpy_state = tuple(state["numpy"])
        self.torch_state = torch.from_numpy(np.array(state["torch"], dtype=np.uint8))


def _linear_decay(rate: float, remaining: float) -> float:
    return rate * remaining


def _array(tensor: torch.Tensor) -> FloatArray:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)


def _resetting_at_once(env: Any) -> Any:
    """The environment, or, where it is a vector that cannot reset at once, one like it that can."""
    if not isinstance(env, VectorEnv) or resets_each(env):
        return env
    if env.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        return env
    described = describe(env)
    if described is None:
        return env
    mode = {"autoreset_mode": AutoresetMode.DISABLED}
    around: Any = functools.partial(wrapped, wrappers=described["wrappers"])
    return gym.make_vec(
        described["id"],
        num_envs=env.num_envs,
        vectorization_mode="sync",
        vector_kwargs=mode,
        wrappers=[around] if described["wrappers"] else None,
        **copy.deepcopy(described["kwargs"]),
    )
