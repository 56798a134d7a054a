"""Returns with confidence intervals, held against the exact optimum."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.episodes import STEP_LIMIT, copy_environment, first_environment, play, play_model
from gridzero.agents.intervals import interval, sample_warnings, wilson_interval
from gridzero.agents.return_range import LARGEST_TABLE, limit_warnings, return_range
from gridzero.agents.tabular.simulation import SimulatedMDP, known_model
from gridzero.envs import html
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

DIRECT_SOLVE_LIMIT = 20_000
LONGEST_INDUCTION = 10**10
"""Outcomes looked at, steps times states times actions times outcomes: some five seconds."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    r"""Result of an evaluation: returns of an agent, and the exact optimum where it is known.

    Attributes:
        episodes: how many were played.
        mean: the mean undiscounted return.
        low, high: its 95 % confidence interval: Student's t within the range of possible returns where that is known
            (from a table of transitions, or 0 to 1 where the return is the success); Wilson's where every return is at
            an end of that range. See ``warnings`` for what it cannot cover.
        mean_length: steps per episode.
        success: the share of episodes that the environment called a success; None where it does not say.
        success_low, success_high: its 95 % interval (Wilson).
        rewards: of reward functions besides the verdict's, by name: the mean, unweighted, and its 95 % interval.
        limit: the steps after which an episode is cut off.
        optimum: the best expected return within ``limit``, exact; None where the model is not known, or so large, with
            uncertain outcomes, that it would take long.
        expected_return: the expected return of the agent's policy within ``limit``, exact: ``mean`` without the noise.
        gamma: the agent's discount, that of the next two.
        value: $v_\pi(s_0)$ of the agent's policy, averaged over the start, exact.
        optimal_value: $v^*(s_0)$.
        warnings: sentences on what the numbers do not show: events that the sample may have missed, a time limit
            under which the target is out of reach.

    The gap is ``optimum - expected_return``, exact, where the policy's expected return is known, else
    ``optimum - mean``, which has the noise of the mean; tables, JSON and metrics mean the same by it.
    """

    episodes: int
    mean: float
    low: float
    high: float
    mean_length: float
    success: float | None = None
    success_low: float | None = None
    success_high: float | None = None
    rewards: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    limit: int = STEP_LIMIT
    optimum: float | None = None
    expected_return: float | None = None
    gamma: float | None = None
    value: float | None = None
    optimal_value: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def gap(self) -> float | None:
        """The expected return, exact where it is known, short of the optimum."""
        if self.optimum is None:
            return None
        return self.optimum - (self.mean if self.expected_return is None else self.expected_return)

    @property
    def value_gap(self) -> float | None:
        """Optimal value less the policy's value; no sampling noise."""
        if self.value is None or self.optimal_value is None:
            return None
        return self.optimal_value - self.value

    def __repr__(self) -> str:
        success = "" if self.success is None else f", success {self.success:.1%}"
        gap = "" if self.gap is None else f", {self.gap:.4g} short of the optimum {self.optimum:.4g}"
        mean = f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"
        return f"<Evaluation: return {mean} over {self.episodes} episodes{success}{gap}>"

    def _repr_html_(self) -> str:
        """The numbers as a table, in notebooks."""
        rows = {name.replace("_", " "): value for name, value in self.to_json().items() if value not in (None, [], {})}
        return html.table("Evaluation", rows)

    def to_json(self) -> dict[str, Any]:
        """All fields and both gaps; null for what is not finite (the interval around a single episode)."""
        fields = {**dataclasses.asdict(self), "gap": self.gap, "value_gap": self.value_gap}
        fields = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in fields.items()}
        return {**fields, "warnings": list(self.warnings)}

    METRICS: ClassVar = frozenset({f"evaluation_{name}" for name in ("return", "success_rate", "gap", "value_gap")})

    def metrics(self) -> dict[str, float]:
        """The numbers to log along the way."""
        named = {
            "evaluation_return": self.mean,
            "evaluation_success_rate": self.success,
            "evaluation_gap": self.gap,
            "evaluation_value_gap": self.value_gap,
        }
        return {name: value for name, value in named.items() if value is not None}


def evaluate(agent: Agent, env: Any = None, *, episodes: int = 100, seed: int = 0) -> Evaluation:
    """Play episodes without exploring or learning, and compare with the exact optimum where the model is known.

    The agent's own environment is not touched: another one is made like it, with its ``evaluation_options`` where it
    has such (a text environment's are the problems held out of training). Episodes end where the environment says, at
    its time limit, or, where it has none, after 1000 steps.

    Args:
        agent: only its ``act`` and, for the exact values, its ``policy`` are used.
        env: an environment or an id; the agent's own kind if not given.
        episodes: at least 1.
        seed: decides every reset; the same seed gives the same episodes for every agent.

    Raises:
        ValueError: when ``episodes`` is not positive, or no second environment can be made.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, not {episodes}")
    env = agent.env if env is None else env
    if isinstance(env, SimulatedMDP):  # what a tabular agent makes of a bare model
        env = env.mdp
    table: Any = None
    targets: NDArray[np.bool_] | None = None
    if isinstance(env, FiniteMDP):
        model: FiniteMDP | None = env
        optimum: float | None = None
        limit = STEP_LIMIT
        played = play_model(agent, env, episodes, seed)
    else:
        copy, limit = copy_environment(env, min(episodes, 1024), min(episodes, 16), single=agent.attends)
        try:
            model = known_model(copy)
            optimum = getattr(copy.unwrapped, "optimum", None)
            table, targets = (None, None) if model is None else (_table(copy, model), _targets(copy))
            played = play(agent, copy, episodes, seed)
        finally:
            copy.close()
    returns, lengths, successes, rewards = played
    if targets is not None and not targets.any():
        successes = None  # nothing can succeed
    same_map = _same_map(agent.env, env)
    exact = {"optimum": optimum} if model is None else _exact(agent, model, limit, same_map)
    possible: tuple[float, float] | None = None
    if table is not None and model is not None:
        possible = return_range(table, model.start, limit, _policy(agent, model) if same_map else None)
    low, high = interval(returns, possible)
    rate: tuple[float | None, float | None, float | None] = (None, None, None)
    if successes is not None:
        rate = (float(successes.mean()), *wilson_interval(int(successes.sum()), episodes))
    warnings = sample_warnings(returns, low, high, possible, exact.get("expected_return"))
    if model is not None and "optimum" not in exact:
        warnings += (
            f"with {model.num_states:,} states and uncertain outcomes, the optimum within {limit:,} steps would take "
            "long and is left out; the discounted values are exact",
        )
    if model is not None and targets is not None and targets.any():
        warnings += limit_warnings(model, targets, limit)
    warnings += _discount_warnings(exact, limit)
    return Evaluation(
        episodes,
        float(returns.mean()),
        low,
        high,
        float(lengths.mean()),
        *rate,
        rewards={name: (float(values.mean()), *_interval(values)) for name, values in rewards.items()},
        limit=limit,
        **exact,
        warnings=warnings,
    )


def _discount_warnings(exact: Mapping[str, float | None], limit: int) -> tuple[str, ...]:
    """Warn where a policy is the best by discounted values, and far from it by the returns within the limit."""
    names = ("optimum", "expected_return", "optimal_value", "value", "gamma")
    best, found, best_value, value, gamma = (exact.get(name) for name in names)
    if best is None or found is None or best_value is None or value is None or gamma is None:
        return ()
    if best - found <= 0.05 * abs(best) or best_value - value > 1e-6 * max(1.0, abs(best_value)):
        return ()
    return (
        f"the policy is the best at gamma {gamma:g} to within {best_value - value:.0e}, but what it misses of the "
        f"optimum within {limit:,} steps lies too far ahead to count there; a larger gamma sees it",
    )


def _interval(values: FloatArray) -> tuple[float, float]:
    """The interval of a mean; of a share where all values are 0 or 1."""
    return interval(values, (0.0, 1.0) if np.isin(values, (0, 1)).all() else None)


def _table(env: VectorEnv[Any, Any, Any], model: FiniteMDP) -> Any:
    """The table of transitions, with the reward of each outcome, of a small environment that has one."""
    single = first_environment(env)
    if model.num_states > LARGEST_TABLE:
        return None
    source = getattr(single.unwrapped, "model", None)
    table = getattr(single.unwrapped, "P", getattr(source, "P", None))
    return table if isinstance(table, Mapping) else None


def _targets(env: VectorEnv[Any, Any, Any]) -> NDArray[np.bool_] | None:
    """(S,) the target cells of a grid world; None for another environment."""
    layout: Any = getattr(first_environment(env).unwrapped, "layout", None)
    if layout is None:
        return None
    targets: NDArray[np.bool_] = np.array([tile.target for tile in layout.legend])[layout.cells.reshape(-1)]
    return targets


def _same_map(one: Any, other: Any) -> bool:
    """Whether states mean the same in two environments of one kind: on another map the agent sees other things."""
    layouts: list[Any] = [getattr(getattr(env, "unwrapped", None), "layout", None) for env in (one, other)]
    return one is other or None in layouts or np.array_equal(layouts[0].cells, layouts[1].cells)


def _exact(agent: Agent, mdp: FiniteMDP, limit: int, same_map: bool) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    policy = _policy(agent, mdp) if same_map else None
    chain = None if policy is None else mdp.chain(policy)
    if not _takes_long(mdp, limit):
        result["optimum"] = float(mdp.start @ mdp.finite_horizon_values(limit))
        if chain is not None:
            result["expected_return"] = float(mdp.start @ chain.finite_horizon_values(limit))
    gamma = getattr(agent.config, "gamma", None)
    if gamma is not None:
        from gridzero.agents.tabular.solver import solve

        result["gamma"] = float(gamma)
        try:
            result["optimal_value"] = float(mdp.start @ solve(mdp, gamma, tolerance=1e-9).values)
            result["value"] = None if chain is None else float(mdp.start @ _chain_values(chain, gamma))
        except ValueError:  # gamma = 1 and a policy that never ends: its value is not finite
            pass
    return result


def _takes_long(mdp: FiniteMDP, limit: int) -> bool:
    """Whether backward induction over ``limit`` steps does; where outcomes are certain it never does."""
    return mdp.most_successors > 1 and mdp.packed[0].shape[2] * mdp.rewards.size * limit > LONGEST_INDUCTION


def _chain_values(chain: FiniteMDP, gamma: float) -> FloatArray:
    """Exact values; for many states by sweeps, because the factors of a direct solve fill up."""
    if chain.num_states <= DIRECT_SOLVE_LIMIT:
        return chain.policy_values(np.zeros(chain.num_states, dtype=np.int64), gamma)
    from gridzero.agents.tabular.solver import solve

    return solve(chain, gamma, tolerance=1e-9).values


def _policy(agent: Agent, mdp: FiniteMDP) -> FloatArray | None:
    """The agent's policy over the states of the model; None where its observations are not these states."""
    read_table = getattr(agent, "policy_table", None)
    if read_table is None:
        return None
    try:
        policy = np.asarray(read_table(), dtype=np.float64)
    except ValueError:  # its observations cannot be enumerated
        return None
    extra = mdp.num_states - len(policy)
    if policy.shape[1:] != (mdp.num_actions,) or extra not in (0, 1):
        return None
    # FiniteMDP.from_table adds one terminal state where it must; what is done there does not matter.
    return np.vstack([policy, np.full((extra, mdp.num_actions), 1 / mdp.num_actions)])
