"""Finding the root of a function that can only be measured with noise (Robbins & Monro 1951; Zhao, ch. 6)."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridzero.agents.config_checks import check_at_least, check_between, check_choice
from gridzero.agents.learner import Update
from gridzero.agents.tabular.monte_carlo_kernels import choose_actions, measure
from gridzero.agents.tabular.schedules import Schedule
from gridzero.agents.tabular.simulation import StartAnywhere, as_environment
from gridzero.agents.tabular.tabular import FloatArray, PredictionAgent

Noisy = Callable[[Any, np.random.Generator], Any]


def robbins_monro_steps(
    function: Noisy,
    start: ArrayLike,
    step_size: str | float | Schedule = "1/k",
    *,
    rng: np.random.Generator | int = 0,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
) -> Iterator[Any]:
    r"""The iterates $w_1, w_2, \dots$ of $w_{k+1} = \Pi\,[w_k - a_k\, \tilde g(w_k, \eta_k)]$ (Zhao, eq. 6.5).

    They converge to the root of $g$ with probability 1 if $0 < c_1 \le \nabla g \le c_2$, the step sizes meet the
    conditions of :attr:`Schedule.converges`, and the noise has mean 0 and bounded variance given the past.

    Args:
        function: ``function(w, rng)``, a noisy measurement of g at w; of w's shape.
        start: w_1, a number or an array.
        step_size: the schedule of a_k.
        rng: what the function draws its noise from, or the seed of it.
        bounds: (low, high), numbers or arrays: each iterate is projected into this box.

    Yields:
        Numbers (numpy's scalars), or new arrays of the shape of ``start``.

    Raises:
        ValueError: for bounds in the wrong order.
    """
    schedule = Schedule.parse(step_size, "step_size")
    rng = np.random.default_rng(rng)
    if bounds is not None and not np.all(np.asarray(bounds[0]) <= np.asarray(bounds[1])):
        raise ValueError(f"bounds must be (low, high) with low at most high, not {bounds}")
    w = np.array(start, dtype=np.float64)[()]
    for k in itertools.count(1):
        yield w
        w = w - schedule(k) * np.asarray(function(w, rng), dtype=np.float64)
        if bounds is not None:
            w = np.clip(w, *bounds)


def robbins_monro(
    function: Noisy,
    start: ArrayLike,
    step_size: str | float | Schedule = "1/k",
    *,
    steps: int = 10_000,
    tolerance: float = 0.0,
    rng: np.random.Generator | int = 0,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
) -> FloatArray:
    """The path that :func:`robbins_monro_steps` takes to the root; its last row is the estimate.

    Args:
        function: see :func:`robbins_monro_steps`, like ``start``, ``step_size``, ``rng`` and ``bounds``.
        start: where the path begins.
        step_size: schedule of step sizes.
        steps: at most this many.
        tolerance: stop at step 16, 32, 64, … if over the last half of the path no component moved further than this
            from where it is now; 0 (the default) never stops early.
        rng: generator of the noise, or its seed.
        bounds: lower and upper bounds of the iterates.

    Returns:
        (n + 1, …) with n the steps taken and … the shape of ``start``.

    Raises:
        ValueError: for fewer than 1 step or a negative tolerance.

    Example:
        The root of w³ - 5 from measurements with noise of variance 1 (Zhao, Fig. 6.4):

        >>> path = robbins_monro(lambda w, rng: w**3 - 5 + rng.normal(), 0.0, "1/k", bounds=(-3, 3))
        >>> float(path[-1].round(2))
        1.71
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, not {tolerance}")
    iterates = robbins_monro_steps(function, start, step_size, rng=rng, bounds=bounds)
    path: list[Any] = []
    check = 16
    for k, w in enumerate(itertools.islice(iterates, steps + 1)):
        path.append(w)
        if tolerance > 0 and k == check:
            if np.abs(np.array(path[k // 2 :]) - w).max() <= tolerance:
                break
            check *= 2
    return np.array(path)


def mean_error(samples: ArrayLike) -> Noisy:
    r"""g(w) = w - E[X], measured as $w - x_k$ (Zhao, section 6.1); with a_k = 1/k the iterates are running means.

    Args:
        samples: (n, …) x_1, x_2, …; there can be at most n steps.

    >>> robbins_monro(mean_error([2.0, 4.0, 9.0]), 0.0, "1/k", steps=3)
    array([0., 2., 3., 5.])
    """
    remaining = iter(np.asarray(samples, dtype=np.float64))
    return lambda w, rng: w - next(remaining)


def contraction_error(noise: Noisy, alpha: str | Schedule, beta: str | Schedule) -> Noisy:
    r"""Dvoretzky's form $w_{k+1} = (1 - \alpha_k)\, w_k + \beta_k \eta_k$ (Zhao, theorem 6.2), with step sizes alpha.

    It goes to 0 with probability 1 if $\sum\alpha_k = \infty$, $\sum\alpha_k^2$ and $\sum\beta_k^2$ are finite, and
    the noise has mean 0 and bounded variance given the past.

    Args:
        noise: ``noise(w, rng)``, one $\eta_k$.
        alpha: the schedule that :func:`robbins_monro` is given too.
        beta: the schedule of the noise.

    >>> noise = contraction_error(lambda w, rng: 1.0, "1/k", "0.5/k")
    >>> robbins_monro(noise, 8.0, "1/k", steps=2)
    array([8. , 0.5, 0.5])
    """
    steps = itertools.count(1)
    alpha, beta = Schedule.parse(alpha, "alpha"), Schedule.parse(beta, "beta")

    def function(w: Any, rng: np.random.Generator) -> Any:
        k = next(steps)
        return w - beta(k) / alpha(k) * np.asarray(noise(w, rng))

    return function


def stochastic_gradient(gradient: Callable[[Any, Any], Any], data: ArrayLike, batch_size: int = 1) -> Noisy:
    r"""g(w) = E[∇f(w, X)], measured on a minibatch drawn with replacement (Zhao, section 6.4).

    Args:
        gradient: ``gradient(w, x)`` with x (B, …) a batch of the data; gives one gradient for each, (B, …).
        data: (n, …).
        batch_size: B; 1 is stochastic gradient descent.

    Raises:
        ValueError: for no data, or a batch size below 1.

    >>> data = np.array([1.0, 2.0, 6.0])
    >>> path = robbins_monro(stochastic_gradient(lambda w, x: w - x, data, batch_size=2), 0.0, "1/k", steps=20_000)
    >>> bool(abs(path[-1] - data.mean()) < 0.05)
    True
    """
    samples = np.asarray(data, dtype=np.float64)
    if len(samples) == 0 or batch_size < 1:
        raise ValueError(f"there must be data and a batch size of at least 1, not {len(samples)} and {batch_size}")

    def function(w: Any, rng: np.random.Generator) -> Any:
        batch = samples[rng.integers(len(samples), size=batch_size)]
        return np.asarray(gradient(w, batch)).mean(axis=0)

    return function


@dataclass(frozen=True)
class RobbinsMonroConfig:
    """Settings of Robbins–Monro."""

    gamma: float = 0.99
    """Discount of future rewards, from 0 to 1."""
    equation: Literal["optimality", "policy"] = "optimality"
    """Which Bellman equation to solve: the optimality equation, or that of the uniform policy (of another one through
    the method fix_policy)."""
    step_size: str = "100/(k+99)"
    """Schedule of step sizes, k counting the samples of a pair. The conditions for convergence ask for a power above
    1/2 and at most 1; near 1 it takes a scale and a shift of about 1/(1-gamma) to be fast."""
    sampling: Literal["auto", "generative", "trajectory"] = "auto"
    """generative: sweeps of one sample from each pair, where the environment can be put into any state; trajectory: as
    it comes; auto: the first where possible."""
    epsilon: str = "0.1"
    """Schedule of the probability of a random action on trajectories, k counting episodes."""
    steps_per_update: int = 1000
    """Environment steps between two reports, at least."""

    def __post_init__(self) -> None:
        check_between(self, 0, 1, "gamma")
        check_at_least(self, 1, "steps_per_update")
        check_choice(self, "equation", ("optimality", "policy"))
        check_choice(self, "sampling", ("auto", "generative", "trajectory"))

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        return {"epsilon": "sampling generative"} if self.sampling == "generative" else {}


class RobbinsMonro(PredictionAgent):
    r"""A Bellman equation as a root to find (Zhao, sections 6.2 and 7.2 to 7.4).

    With $w = q$ and a sample $(s, a, r, s')$, $\tilde g(w) = w(s, a) - [r + \gamma\, v_w(s')]$, where $v_w(s')$ is
    $\max_{a'} w(s', a')$ or $\sum_{a'} \pi(a' \mid s')\, w(s', a')$: the noise has mean 0, and the root is $q^*$ or
    $q_\pi$. On sweeps of samples from all pairs this is :func:`robbins_monro_steps` for the vector w; on trajectories
    each step measures one component, and it is Q-learning or expected Sarsa.

    Args:
        env: an environment, a vector of them, or a ``FiniteMDP``.
        config: see :class:`RobbinsMonroConfig`.
        seed: decides everything.

    Attributes:
        step_size: the schedule; ``step_size.converges`` and ``step_size.conditions`` say what is to be expected of it.
        visits: (S, A), how many samples each pair has had.
        starts: what puts the environment into any state; None on trajectories.

    Raises:
        ValueError: for generative sampling of an environment that cannot be put into a given state.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("robbins-monro", "FrozenLake-v1", gamma=0.9, step_size="10/(k+9)")
        >>> for update in agent.learn():
        ...     if update.step > 100_000:
        ...         break
        >>> agent.step_size.converges, bool(abs(agent.state_values()[0] - 0.0689) < 0.01)
        (True, True)
    """

    Config = RobbinsMonroConfig

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(as_environment(env), config, seed=seed)
        self.env = env
        self.step_size = Schedule.parse(config.step_size, "step_size")
        self.visits = np.zeros(self._action_values.shape, dtype=np.int64)
        if config.equation == "policy":
            self.fix_policy(np.full(self._action_values.shape, 1 / self.actions.n))
        self.starts: StartAnywhere | None = None
        if config.sampling != "trajectory":
            try:
                self.starts = StartAnywhere(self.interaction, self.states, self.actions, "generative sampling")
            except ValueError:
                if config.sampling == "generative":
                    raise
        logging.getLogger(__name__).info("step size %s: %s", self.step_size, self.step_size.conditions)

    def unused(self) -> Mapping[str, str]:
        """Exploration, where samples come from every pair in turn."""
        return {} if self.starts is None else {"epsilon": "generative sampling"}

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` for each ``steps_per_update`` steps, without end."""
        self.interaction.start()
        advance = self._follow if self.starts is None else self._sweep
        while True:
            until = self.interaction.steps + self.config.steps_per_update
            errors = []
            while self.interaction.steps < until:
                errors.append(advance())
            metrics = {
                "residual": float(np.mean(errors)),
                "step_size": float(self.step_size(max(int(self.visits.max()), 1))),
                "conditions_met": float(self.step_size.converges),
                **self.interaction.metrics(),
                **self.error_metrics(),
            }
            yield Update(self.interaction.steps, metrics)

    def metric_names(self) -> frozenset[str]:
        """Those of episodes, and how the equation and its step sizes stand."""
        return self.interaction.METRICS | {"residual", "step_size", "conditions_met", "rms_error"}

    def _values(self) -> FloatArray:
        if self.fixed_policy is None:
            return np.asarray(self._action_values.max(axis=1))
        return np.asarray((self.fixed_policy * self._action_values).sum(axis=1))

    def _sweep(self) -> float:
        """A step of the whole vector: all pairs are measured at the same w."""
        starts: Any = self.starts
        states = np.repeat(starts.states, self.actions.n)
        actions = np.tile(np.arange(self.actions.n), len(starts.states))
        successors, rewards, terminated = starts.sample(states, actions)
        targets = rewards + self.config.gamma * ~terminated * self._values()[successors]
        measured = self._action_values[states, actions] - targets
        self.visits[states, actions] += 1
        self._action_values[states, actions] -= self.step_size(self.visits[states, actions]) * measured
        return float(np.abs(measured).mean())

    def _follow(self) -> float:
        """A step along the trajectories: the pairs that come by are measured."""
        states = self.states.numbers(self.interaction.observations)
        base = np.zeros((0, 0)) if self.fixed_policy is None else self.fixed_policy
        actions, _ = choose_actions(self._action_values, base, self.epsilon, states, self.rng.random(len(states)))
        vector = self.interaction.vector
        chosen = self.actions.elements(actions) if vector else [self.actions.element(int(actions[0]))]
        transition = self.interaction.step(chosen)
        schedule = self.step_size
        error: float = measure(
            self._action_values,
            self.visits,
            base,
            self.config.gamma,
            (schedule.scale, schedule.shift, schedule.power),
            states,
            actions,
            transition.rewards,
            self.states.numbers(transition.next_observations),
            transition.terminated,
            transition.valid,
        )
        return error

    def tried(self) -> NDArray[np.bool_]:
        """(S, A) whether an action was ever learnt from in a state; the values of the others are only guesses."""
        return np.asarray(self.visits > 0)

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes."""
        return {**super().state_dict(), "visits": self.visits.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.visits[:] = state["visits"]
