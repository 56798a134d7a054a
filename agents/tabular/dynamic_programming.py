"""Agents that plan: value iteration, policy iteration, and truncated policy iteration between them (Zhao, ch. 4)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.config_checks import check_at_least, check_between, check_choice
from gridzero.agents.learner import Update
from gridzero.agents.spaces import Numbering, spaces_of
from gridzero.agents.tabular import bellman_kernels
from gridzero.agents.tabular.frontier import Frontier
from gridzero.envs.backup_kernels import loop_lengths, optimality_sweep
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

Sweep = Literal["synchronous", "in-place", "gauss-seidel"]


class Planner(Agent):
    """An agent that knows the model: it needs no experience, only sweeps.

    Args:
        env: an environment with a model (see :meth:`FiniteMDP.from_env`), or a ``FiniteMDP``.
        config: the settings.
        seed: of no consequence, planning is deterministic.

    Attributes:
        mdp: the model. Where the environment's ``mdp`` has been replaced by another (a cell was edited, say),
            :meth:`learn` notices and plans on from the present values.
        sweeps: how many there have been, what :class:`Update` counts as steps.
        converged: no further sweep is needed.

    Raises:
        ValueError: for an environment without a model, or with gamma = 1 a state from which no policy ends.
    """

    default_steps = None

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self._source = None if isinstance(env, FiniteMDP) else env.envs[0] if hasattr(env, "envs") else env
        self.sweeps = 0
        self._adopt(env if self._source is None else FiniteMDP.from_env(self._source))

    def _adopt(self, mdp: FiniteMDP, values: FloatArray | None = None) -> None:
        self.mdp = mdp
        self.converged = False
        self._lengths = loop_lengths(mdp)
        self._unit = reward_unit(mdp)
        self._largest_reward, _ = bellman_kernels.reward_extremes(mdp.rewards, mdp.terminal)
        self._values = np.zeros(mdp.num_states) if values is None else np.where(mdp.terminal, 0.0, values)
        self._first_size = _size(self._values)
        self._actions = ending_policy(mdp) if self.config.gamma == 1 else np.zeros(mdp.num_states, dtype=np.int32)
        self._forget_backup()

    def _forget_backup(self) -> None:
        """Forget what depends on the values, which have changed."""
        self._action_values: FloatArray | None = None
        self._greedy: NDArray[np.integer[Any]] | None = None

    def _notice_edit(self) -> None:
        model = None if self._source is None else getattr(self._source.unwrapped, "mdp", None)
        if isinstance(model, FiniteMDP) and model is not self.mdp:
            # Without discounting, values that an edit made wrong may never fade.
            keep = self.config.gamma < 1 and model.num_states == self.mdp.num_states
            self._adopt(model, self._values if keep else None)

    def learn(self) -> Iterator[Update]:
        """One update per improvement, until converged; metrics as the class says."""
        self._notice_edit()
        while not self.converged:
            metrics = self._iterate()
            self._forget_backup()
            yield Update(self.sweeps, metrics)
            self._notice_edit()

    @abstractmethod
    def _iterate(self) -> dict[str, float]:
        """Do one improvement and say how it went."""

    def metric_names(self) -> frozenset[str]:
        """Residual, changes of the policy, and with a discount the bound of the error."""
        return frozenset({"residual", "policy_changes", *(("error_bound",) if self.config.gamma < 1 else ())})

    def _metrics(self, residual: float, changes: int) -> dict[str, float]:
        metrics = {"residual": residual, "policy_changes": float(changes)}
        if self.config.gamma < 1:
            metrics["error_bound"] = residual / (1 - self.config.gamma)
        return metrics

    def _negligible(self, residual: float) -> bool:
        if residual <= float(self.config.tolerance) * self._unit:
            return True
        rounding = 8 * float(np.finfo(np.float64).eps)
        # To look for the largest value takes longer than to sweep over few states: first a bound of it.
        largest = self._first_size + self.sweeps * self._largest_reward
        return residual <= rounding * largest and residual <= rounding * _size(self._values)

    @property
    def _model(self) -> tuple[NDArray[np.int32], FloatArray, FloatArray, NDArray[np.bool_], float]:
        mdp = self.mdp
        return *mdp.packed, mdp.rewards, mdp.terminal, float(self.config.gamma)

    def state_values(self) -> FloatArray:
        """(S,) present values."""
        return self._values.copy()

    def action_values(self) -> FloatArray:
        """(S, A) one backup of the present values."""
        return self._backed_up().copy()

    def _backed_up(self) -> FloatArray:
        if self._action_values is None:
            self._action_values = self.mdp.action_values(self._values, self.config.gamma)
        return self._action_values

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities, all on one action."""
        return np.asarray(np.arange(self.mdp.num_actions) == self._choices()[:, None], dtype=np.float64)

    def _choices(self) -> NDArray[Any]:
        if self._greedy is None:
            self._greedy = np.asarray(self._backed_up().argmax(axis=1))
        return self._greedy

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """The policy's actions; a planner has nothing to explore.

        Args:
            observations: a batch as the environment gives it; for a bare ``FiniteMDP``, states.
            explore: makes no difference.

        Raises:
            ValueError: when the observations do not number the states (an image does not, say).
        """
        if self._source is None:
            return self._choices()[np.asarray(observations, dtype=np.int64)]
        observation_space, action_space = spaces_of(self.env)
        states = Numbering(observation_space, "observation space")
        # The model from a table of transitions may have one more state, where episodes end.
        if states.n not in (self.mdp.num_states, self.mdp.num_states - 1):
            raise ValueError(
                f"a planner acts on observations that number the {self.mdp.num_states} states; "
                f"{observation_space} has {states.n} elements"
            )
        actions = Numbering(action_space, "action space")
        return actions.elements(self._choices()[states.numbers(observations)])

    def state_dict(self) -> dict[str, Any]:
        """The values, the actions, and how far planning has come."""
        return {
            "values": self._values.copy(),
            "actions": self._actions.copy(),
            "sweeps": self.sweeps,
            "converged": self.converged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        values = np.array(state["values"], dtype=np.float64)
        actions = np.array(state["actions"], dtype=np.int32)
        expected = (self.mdp.num_states,)
        if values.shape != expected or actions.shape != expected:
            raise ValueError(f"the state has values {values.shape}; this model needs {expected}")
        if actions.min() < 0 or actions.max() >= self.mdp.num_actions:
            raise ValueError(
                f"the state has actions {actions.min()}..{actions.max()}, not 0..{self.mdp.num_actions - 1}"
            )
        self._values, self._actions = values, actions
        self._first_size = _size(values)
        self.sweeps, self.converged = int(state["sweeps"]), bool(state["converged"])
        self._forget_backup()


@dataclass(frozen=True)
class ValueIterationConfig:
    """Settings of value iteration."""

    gamma: float = 0.99
    """Discount, in [0, 1]."""
    tolerance: float = 1e-8
    """Stop when no value changes by more in a sweep, relative to the largest reward where that is below 1; the Bellman
    residual is then smaller still."""
    sweep: Sweep = "synchronous"
    """synchronous: from the old values (two arrays). in-place: each new value is used at once, states in index order.
    gauss-seidel: in-place, forwards and backwards in turn."""

    def __post_init__(self) -> None:
        _check(self)
        check_choice(self, "sweep", get_args(Sweep))


class ValueIteration(Planner):
    r"""$v_{k+1} = \max_a (r_a + \gamma P_a v_k)$ (Zhao, algorithm 4.1; Sutton & Barto, section 4.4).

    Metrics: ``residual`` (largest change of a value; of synchronous sweeps, the Bellman residual before the sweep),
    ``policy_changes`` (states where the greedy action changed), and for gamma < 1 ``error_bound``
    ($\ge \|v_{k+1} - v^*\|_\infty$).

    With gamma = 1 never to end counts too, unlike in policy iteration and ``solve``, which find the best policy that
    ends: where a loop pays 0 and the way out costs, values stay at 0 here; where a loop pays more than 0, they grow
    without end here, and the other two raise ValueError.
    """

    Config = ValueIterationConfig

    def _adopt(self, mdp: FiniteMDP, values: FloatArray | None = None) -> None:
        super()._adopt(mdp, values)
        self._frontier = Frontier(mdp)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self._frontier = Frontier(self.mdp)

    def _iterate(self) -> dict[str, float]:
        if self.config.sweep == "synchronous":
            self._values, residual, changes = self._frontier.sweep(self._values, self._actions, self.config.gamma)
            self.sweeps += 1
        else:
            residual, changes, _ = _sweep(optimality_sweep, self, 0, self.mdp.num_states, *self._lengths)
        self.converged = self._negligible(residual)
        return self._metrics(residual, changes)


def optimal_policy(env: Any, gamma: float, states: int) -> FloatArray:
    """(S, A) probabilities of a policy that value iteration finds.

    Args:
        env: an environment with a model, or a ``FiniteMDP``.
        gamma: the discount, in [0, 1].
        states: S; the model from a table of transitions may have one more, where episodes end, which is left out.
    """
    planner = ValueIteration(env, ValueIterationConfig(gamma=gamma))
    for _ in planner.learn():
        pass
    return planner.policy_table()[:states]


@dataclass(frozen=True)
class PolicyIterationConfig:
    """Settings of policy iteration."""

    gamma: float = 0.99
    """Discount, in [0, 1]. With 1, the best is found among the policies that end."""
    tolerance: float = 1e-12
    """An action gives way to another only if that is better by more, relative to its rewards and values."""

    def __post_init__(self) -> None:
        _check(self)


class PolicyIteration(Planner):
    """Exact evaluation by a sparse direct solve, then greedy improvement (Zhao, algorithm 4.2).

    After an update, the values are those of the policy before the improvement, the policy the one after it. The first
    policy takes action 0 everywhere; with gamma = 1, the way to a terminal state with the fewest steps.

    Metrics: ``residual`` (largest gain of an action over the policy's), ``policy_changes``, ``error_bound``.
    """

    Config = PolicyIterationConfig

    def _adopt(self, mdp: FiniteMDP, values: FloatArray | None = None) -> None:
        super()._adopt(mdp, values)
        self._evaluated: set[int] = set()

    def _iterate(self) -> dict[str, float]:
        before = self._values
        self._values = self.mdp.policy_values(self._actions, self.config.gamma)
        self._evaluated.add(hash(self._actions.tobytes()))
        tolerance = self.config.tolerance
        gain, changes = bellman_kernels.improve_policy(*self._model, self._values, self._actions, tolerance)
        # Each improvement raises some value and lowers none; where rounding hides that, it is done.
        stuck = self.sweeps > 0 and float((self._values - before).max()) <= 0
        stuck = stuck or (changes > 0 and hash(self._actions.tobytes()) in self._evaluated)
        self.sweeps += 1
        self.converged = changes == 0 or stuck
        return self._metrics(gain, changes)

    def _choices(self) -> NDArray[Any]:
        return self._actions


@dataclass(frozen=True)
class TruncatedPolicyIterationConfig:
    """Settings of truncated policy iteration."""

    gamma: float = 0.99
    """Discount, in [0, 1]."""
    tolerance: float = 1e-8
    """Stop when the Bellman residual before an improvement is no larger, relative to the largest reward where that is
    below 1."""
    sweep: Sweep = "synchronous"
    """How evaluation goes over the states: synchronous: from the old values (two arrays). in-place: each new value is
    used at once, states in index order. gauss-seidel: in-place, forwards and backwards in turn."""
    evaluation_sweeps: int = 5
    """Evaluation sweeps per improvement, at least 1: with 1 (synchronous) it is value iteration, with many it is policy
    iteration."""

    def __post_init__(self) -> None:
        _check(self)
        check_choice(self, "sweep", get_args(Sweep))
        check_at_least(self, 1, "evaluation_sweeps")


class TruncatedPolicyIteration(Planner):
    """Greedy improvement, then a few evaluation sweeps from the present values (Zhao, algorithm 4.3).

    Evaluation stops early when it no longer changes anything. Metrics: ``residual`` (the Bellman residual before the
    improvement), ``policy_changes``, ``error_bound``.
    """

    Config = TruncatedPolicyIterationConfig

    def _iterate(self) -> dict[str, float]:
        unused = np.empty_like(self._values)
        whole = 0, self.mdp.num_states, *self._lengths
        residual, changes, _ = optimality_sweep(*self._model, self._values, unused, self._actions, False, *whole)
        for _ in range(self.config.evaluation_sweeps):
            if _sweep(bellman_kernels.evaluation_sweep, self) == 0:
                break
        self.converged = self._negligible(residual)
        return self._metrics(residual, changes)


def _sweep(kernel: Any, planner: Planner, *which: Any) -> Any:
    """One sweep of the configured kind over the planner's values; returns what the kernel returns.

    Its last arguments, after the direction, are ``which``.
    """
    kind = planner.config.sweep
    out = np.zeros_like(planner._values) if kind == "synchronous" else planner._values
    backward = kind == "gauss-seidel" and planner.sweeps % 2 == 1
    result = kernel(*planner._model, planner._values, out, planner._actions, backward, *which)
    planner._values = out
    planner.sweeps += 1
    return result


def _size(values: FloatArray) -> float:
    return float(np.abs(values).max())


def reward_unit(mdp: FiniteMDP) -> float:
    """The power of 2 just below the largest absolute reward, at most 1; 1 where all are 0."""
    largest, _ = bellman_kernels.reward_extremes(mdp.rewards, mdp.terminal)
    return min(1.0, math.ldexp(0.5, math.frexp(largest)[1])) if largest > 0 else 1.0


def ending_policy(mdp: FiniteMDP) -> NDArray[np.int32]:
    """(S,) actions that end the episode from every state with probability 1, by the fewest steps if all goes well.

    Raises:
        ValueError: when no policy ends from some state.
    """
    backwards = mdp.transition_matrix.T.tocsr()
    backwards.eliminate_zeros()
    actions = np.zeros(mdp.num_states, dtype=np.int32)
    reached = mdp.terminal.copy()
    frontier: NDArray[Any] = np.flatnonzero(reached)
    while frontier.size:
        pairs = backwards[frontier].indices
        before, first = np.unique(pairs // mdp.num_actions, return_index=True)
        new = ~reached[before]
        frontier = before[new]
        actions[frontier] = pairs[first[new]] % mdp.num_actions
        reached[frontier] = True
    if not reached.all():
        raise ValueError(
            f"gamma = 1 needs a policy that ends from every state; from state {int(np.argmin(reached))} none does"
        )
    return actions


def _check(config: Any) -> None:
    check_between(config, 0, 1, "gamma")
    check_at_least(config, 0, "tolerance")
