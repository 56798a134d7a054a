"""The finite Markov decision process as arrays: the ground truth that every agent is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.envs import html
from gridzero.envs.transition_tables import table_arrays

if TYPE_CHECKING:
    import scipy.sparse as sparse

FloatArray = NDArray[np.float64]

ROW_SUM_TOLERANCE = 1e-9
_REPEATED_AXES = {"successors": 1, "probabilities": 0}


@dataclass(frozen=True, eq=False, repr=False)
class FiniteMDP:
    r"""The model $p(s', r \mid s, a)$ with at most K successors for each state-action pair.

    States and actions are numbered from 0. Unused successor slots have probability 0 (any valid index); several slots
    of a pair may hold the same successor, their probabilities add up.
    Terminal states are absorbing and worth 0: what their rows say is ignored by every solver.

    Where all actions have the same successors, or all states the same probabilities (as in grids, where an action is a
    distribution over directions), the array can be a view that repeats them (``np.broadcast_to``), which takes no
    memory.

    Attributes:
        successors: (S, A, K) int32, indices of the next states.
        probabilities: (S, A, K) float64, each row sums to 1.
        rewards: (S, A) float64, the expected reward $r(s, a) = \sum_{s', r} r\, p(s', r \mid s, a)$.
        terminal: (S,) bool.
        start: (S,) float64, the distribution of the initial state.
        packed: successors and probabilities as compiled functions read them: (S, 1, K) successors where all actions
            share them, (1, A, K) probabilities where all states share them.

    Raises:
        ValueError: when shapes disagree, a number is not finite, an index is out of range, or a distribution does not
            sum to 1; the message names the first offending state and action.

    Example:
        Two states; action 0 stays and pays 0, action 1 switches and pays 1.

        >>> mdp = FiniteMDP(
        ...     successors=[[[0], [1]], [[1], [0]]],
        ...     probabilities=np.ones((2, 2, 1)),
        ...     rewards=[[0, 1], [0, 1]],
        ...     terminal=[False, False],
        ...     start=[1, 0],
        ... )
        >>> mdp.policy_values([1, 1], gamma=0.5)
        array([2., 2.])
    """

    successors: NDArray[np.int32]
    probabilities: FloatArray
    rewards: FloatArray
    terminal: NDArray[np.bool_]
    start: FloatArray
    packed: tuple[NDArray[np.int32], FloatArray] = field(init=False)

    def __post_init__(self) -> None:
        dtypes = {
            "successors": np.int32,
            "probabilities": np.float64,
            "rewards": np.float64,
            "terminal": np.bool_,
            "start": np.float64,
        }
        packed: dict[str, NDArray[Any]] = {}
        for name, dtype in dtypes.items():
            given = np.asarray(getattr(self, name))
            if name == "successors":
                self._check_successors(given)  # before the cast, which would wrap large numbers around
            once = _once(given, name)
            packed[name] = np.ascontiguousarray(once, dtype=dtype)
            whole = packed[name] if once is given else np.broadcast_to(packed[name], given.shape)
            object.__setattr__(self, name, whole)
        read_only = tuple(packed[name].view() for name in ("successors", "probabilities"))
        for array in read_only:  # as those of repeating views are: functions are compiled once for all models
            array.flags.writeable = False
        object.__setattr__(self, "packed", read_only)
        self._check_shapes()
        self._check_numbers()

    @staticmethod
    def _check_successors(given: NDArray[Any]) -> None:
        if given.ndim != 3 or 0 in given.shape:
            raise ValueError(f"successors must have shape (S, A, K), all positive; it has {given.shape}")
        if given.dtype.kind not in "iu":
            raise ValueError(f"successors must be integers, not {given.dtype}")
        states, given = given.shape[0], _once(given, "successors")
        if given.min() < 0 or given.max() >= states:
            s, a, k = (int(i) for i in np.argwhere((given < 0) | (given >= states))[0])
            raise ValueError(f"successors[{s}, {a}, {k}] is {given[s, a, k]}; states go from 0 to {states - 1}")

    def _check_shapes(self) -> None:
        states, actions, outcomes = self.successors.shape
        expected: dict[str, tuple[int, ...]] = {
            "probabilities": (states, actions, outcomes),
            "rewards": (states, actions),
            "terminal": (states,),
            "start": (states,),
        }
        for name, shape in expected.items():
            given = getattr(self, name).shape
            if given != shape:
                raise ValueError(f"{name} must have shape {shape} to go with successors; it has {given}")

    def _check_numbers(self) -> None:
        for name in ("probabilities", "rewards", "start"):
            array = self.packed[1] if name == "probabilities" else getattr(self, name)
            with np.errstate(over="ignore"):
                total = array.sum()  # finite unless some entry is not, or the sum overflows
            if not np.isfinite(total) and not np.isfinite(array).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise ValueError(f"{name}{list(where)} is {array[where]}; every entry must be finite")
        probabilities = self.packed[1]
        if probabilities.min() < 0:
            s, a, k = (int(i) for i in np.argwhere(probabilities < 0)[0])
            raise ValueError(f"probabilities[{s}, {a}, {k}] is {probabilities[s, a, k]}; it cannot be negative")
        sums = probabilities.sum(axis=2)
        if max(sums.max() - 1, 1 - sums.min()) > ROW_SUM_TOLERANCE:
            s, a = (int(i) for i in np.argwhere(np.abs(sums - 1) > ROW_SUM_TOLERANCE)[0])
            raise ValueError(f"probabilities[{s}, {a}] sums to {sums[s, a]:.12g}; it must sum to 1")
        if self.start.min() < 0:
            s = int(np.argmax(self.start < 0))
            raise ValueError(f"start[{s}] is {self.start[s]}; it cannot be negative")
        if abs(self.start.sum() - 1) > ROW_SUM_TOLERANCE:
            raise ValueError(f"start must be a distribution; it sums to {self.start.sum():.12g}")

    def __repr__(self) -> str:
        sizes = f"{self.num_states} states, {self.num_actions} actions, at most {self.most_successors} successors"
        return f"FiniteMDP({sizes})"

    def _repr_html_(self) -> str:
        """Sizes and ranges as a table, in notebooks."""
        return html.model(self)

    @property
    def num_states(self) -> int:
        """Number of states, S."""
        return int(self.successors.shape[0])

    @property
    def num_actions(self) -> int:
        """Number of actions, A."""
        return int(self.successors.shape[1])

    @property
    def most_successors(self) -> int:
        """Most successors with a probability above 0 that a pair has; the same one twice counts as two."""
        return int(np.count_nonzero(self.packed[1], axis=2).max())

    @cached_property
    def transition_matrix(self) -> sparse.csr_matrix:
        """P as a sparse (S·A, S) matrix, row s·A + a; it shares the memory of this object's arrays if none repeats."""
        import scipy.sparse as sparse  # here, as importing it takes as long as all else in gridzero

        states, actions, outcomes = self.successors.shape
        rows = np.arange(0, states * actions * outcomes + 1, outcomes, dtype=np.int64)
        if rows[-1] <= np.iinfo(np.int32).max:
            rows = rows.astype(np.int32)
        return sparse.csr_matrix(
            (self.probabilities.reshape(-1), self.successors.reshape(-1), rows), shape=(states * actions, states)
        )

    def action_values(self, state_values: ArrayLike, gamma: float) -> FloatArray:
        r"""One backup: $q(s, a) = r(s, a) + \gamma \sum_{s'} p(s' \mid s, a)\, v(s')$ (Sutton & Barto, eq. 4.10).

        Args:
            state_values: (S,); the entries of terminal states count as 0.
            gamma: the discount, in [0, 1].

        Returns:
            (S, A), 0 in terminal states.
        """
        from gridzero.envs import backup_kernels  # here, as it imports numba

        values = np.ascontiguousarray(state_values, dtype=np.float64)
        q = np.empty_like(self.rewards)
        backup_kernels.action_values(*self.packed, self.rewards, self.terminal, float(gamma), values, q)
        return q

    def bellman_residual(self, state_values: ArrayLike, gamma: float) -> float:
        r"""$\max_s |\max_a q(s, a) - v(s)|$, 0 at $v^*$; $\|v - v^*\|_\infty$ is at most $1/(1-\gamma)$ times it."""
        values = np.where(self.terminal, 0.0, np.asarray(state_values, dtype=np.float64))
        return float(np.abs(self.action_values(values, gamma).max(axis=1) - values).max())

    def policy_matrix(self, policy: ArrayLike) -> FloatArray:
        """A policy as (S, A) probabilities, from (S,) action indices or (S, A) probabilities.

        Raises:
            ValueError: for another shape, an action out of range, or rows that are not distributions.
        """
        given = np.asarray(policy)
        shape = (self.num_states, self.num_actions)
        if given.shape == shape[:1] and given.dtype.kind in "iu":
            if given.min() < 0 or given.max() >= self.num_actions:
                raise ValueError(
                    f"actions go from 0 to {self.num_actions - 1}; the policy has {given.min()}..{given.max()}"
                )
            matrix = np.zeros(shape)
            matrix[np.arange(self.num_states), given] = 1.0
            return matrix
        if given.shape != shape:
            raise ValueError(
                f"a policy is (S,) = {shape[:1]} integers or (S, A) = {shape} probabilities, not {given.shape}"
            )
        matrix = given.astype(np.float64)
        fine = (matrix >= 0).all(axis=1) & (np.abs(matrix.sum(axis=1) - 1) <= 1e-6)
        if not fine.all():
            s = int(np.argmin(fine))
            raise ValueError(f"the policy in state {s} is {matrix[s].tolist()}, not a distribution over actions")
        return matrix

    def policy_values(self, policy: ArrayLike, gamma: float) -> FloatArray:
        r"""$v_\pi = (I - \gamma P_\pi)^{-1} r_\pi$ by a sparse direct solve (Zhao, eq. 2.7).

        A grid of 10⁶ cells takes some ten seconds and 2 GB.

        Args:
            policy: (S,) actions or (S, A) probabilities.
            gamma: the discount, in [0, 1]; 1 needs a policy that ends from every state (a proper one).

        Returns:
            (S,) state values, 0 in terminal states.

        Raises:
            ValueError: when gamma is 1 and the policy does not end from some state.
        """
        import scipy.sparse as sparse
        from scipy.sparse.linalg import splu

        _check_gamma(gamma)
        matrix = self.policy_matrix(policy)
        live = np.flatnonzero(~self.terminal)
        values = np.zeros(self.num_states)
        if live.size == 0:
            return values
        rows = live[:, None] * self.num_actions + np.arange(self.num_actions)
        mixing = sparse.csr_matrix(
            (matrix[live].reshape(-1), rows.reshape(-1), np.arange(0, rows.size + 1, self.num_actions)),
            shape=(live.size, self.num_states * self.num_actions),
        )
        mixing.eliminate_zeros()  # actions that the policy never takes
        transitions = (mixing @ self.transition_matrix).tocsr()
        if gamma == 1.0:
            self._check_proper(transitions, live)
        rewards = (matrix[live] * self.rewards[live]).sum(axis=1)
        system = sparse.identity(live.size, format="csc") - gamma * transitions[:, live].tocsc()
        # Diagonally dominant, so it needs no pivoting; a symmetric ordering then halves the fill.
        factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        values[live] = factors.solve(rewards)
        return values

    def _check_proper(self, transitions: sparse.csr_matrix, live: NDArray[np.int64]) -> None:
        import scipy.sparse as sparse
        from scipy.sparse.csgraph import breadth_first_order

        # Backwards from one more node, which stands for all terminal states.
        forwards = transitions[:, live].tocoo()
        (ends,) = np.nonzero(np.asarray(transitions[:, np.flatnonzero(self.terminal)].sum(axis=1)).reshape(-1))
        possible = forwards.data > 0
        sources = np.concatenate([forwards.col[possible], np.full(ends.size, live.size)])
        destinations = np.concatenate([forwards.row[possible], ends])
        backwards = sparse.csr_matrix(
            (np.ones(sources.size, dtype=np.int8), (sources, destinations)), shape=(live.size + 1, live.size + 1)
        )
        reached = np.zeros(live.size + 1, dtype=np.bool_)
        reached[breadth_first_order(backwards, live.size, return_predecessors=False)] = True
        if not reached.all():
            stuck = int(live[np.flatnonzero(~reached)[0]])
            raise ValueError(f"gamma = 1 needs a policy that ends; from state {stuck} this one never does")

    def finite_horizon_values(self, horizon: int, gamma: float = 1.0, policy: ArrayLike | None = None) -> FloatArray:
        r"""The best expected return within ``horizon`` steps, by backward induction (Puterman, ch. 4.5).

        Args:
            horizon: the number of steps left, at least 0.
            gamma: the discount; 1 (the default) gives the plain return that a time-limited episode is scored by.
            policy: (S,) or (S, A), stationary; if given, its own return instead of the best one.

        Returns:
            (S,) values with ``horizon`` steps to go.
        """
        if horizon < 0:
            raise ValueError(f"horizon must be at least 0, not {horizon}")
        _check_gamma(gamma)
        if policy is not None:
            return self.chain(policy).finite_horizon_values(horizon, gamma)
        from gridzero.envs.backward_induction import optimal_values  # here, as it imports numba

        return optimal_values(self, horizon, float(gamma))

    def chain(self, policy: ArrayLike) -> FiniteMDP:
        r"""The Markov chain of a policy: a model with one action, $P_\pi$ and $r_\pi$ (Zhao, eq. 2.7).

        Args:
            policy: (S,) actions or (S, A) probabilities.
        """
        matrix = self.policy_matrix(policy)
        states, actions, outcomes = self.successors.shape
        if (matrix.max(axis=1) == 1.0).all():
            taken = (np.arange(states), matrix.argmax(axis=1))
            parts = [array[taken][:, None] for array in (self.successors, self.probabilities, self.rewards)]
        else:
            parts = [
                self.successors.reshape(states, 1, actions * outcomes),
                (matrix[:, :, None] * self.probabilities).reshape(states, 1, actions * outcomes),
                (matrix * self.rewards).sum(axis=1, keepdims=True),
            ]
            parts[1] /= parts[1].sum(axis=2, keepdims=True)
        return FiniteMDP(parts[0], parts[1], parts[2], self.terminal, self.start)

    @classmethod
    def from_env(cls, env: Any) -> FiniteMDP:
        """The model of an environment that knows it.

        The model is held against steps of a copy (:mod:`gridzero.envs.model_check`), wrappers included.

        Args:
            env: an environment, scalar or vector, with ``mdp`` or (as Gymnasium's FrozenLake, CliffWalking and Taxi)
                with ``P``: ``P[s][a]`` is a list of (probability, next state, reward, terminated).

        Raises:
            ValueError: when it has neither, or behaves otherwise than its model.
        """
        from gridzero.envs.model_check import check_model

        inner = env.unwrapped
        try:
            model = inner.mdp
        except AttributeError as error:
            if hasattr(type(inner), "mdp"):  # there could be one, and this says why there is none
                raise ValueError(str(error)) from None
            model = None
        if isinstance(model, cls):
            if not hasattr(inner, "num_envs"):
                check_model(env, model)
            return model
        table = getattr(inner, "P", None)
        if table is None and getattr(inner, "envs", None):  # Gymnasium's SyncVectorEnv
            return cls.from_env(inner.envs[0])
        if not isinstance(table, Mapping):
            raise ValueError(f"{type(inner).__name__} has no model: neither `mdp` nor `P` (a table of transitions)")
        model = cls.from_table(table, getattr(inner, "initial_state_distrib", None))
        check_model(env, table)
        return model

    @classmethod
    def from_table(
        cls,
        table: Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]],
        start: ArrayLike | None = None,
    ) -> FiniteMDP:
        """The model from Gymnasium's toy-text format, ``table[s][a] = [(probability, next, reward, terminated), …]``.

        A state that is only ever entered with ``terminated`` set becomes terminal. Where some state that the start can
        reach is entered in both ways, or is itself a start, the ending transitions lead to one more, terminal state,
        number S.

        Args:
            table: the transitions, states and actions numbered from 0.
            start: (S,) distribution of the initial state; if not given, uniform over the states that never end an
                episode (over all, if all do).

        Raises:
            ValueError: for a table with gaps, rows of different length, a state out of range, or what
                :class:`FiniteMDP` refuses.

        Example:
            >>> table = {0: {0: [(0.5, 0, -1, False), (0.5, 1, 3, True)]}, 1: {0: [(1, 1, 0, True)]}}
            >>> FiniteMDP.from_table(table).policy_values([0, 0], gamma=1)
            array([2., 0.])
        """
        return cls(*table_arrays(table, start))


def _once(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The array, with length 1 along the axis along which it may be a view that repeats, if it is one."""
    axis = _REPEATED_AXES.get(name)
    if axis is None or array.ndim != 3 or array.strides[axis] != 0:
        return array
    return array[:, :1] if axis else array[:1]


def _check_gamma(gamma: float) -> None:
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be between 0 and 1, not {gamma}")
