"""Seconds to solve a slippery grid to a Bellman residual of 1e-6."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sparse

from gridzero.agents.tabular.solver import solve
from gridzero.benchmarks.measure import Row, clock, installed, median_ratio, rounds
from gridzero.envs import FiniteMDP

GAMMA = 0.99
RESIDUAL = 1e-6
ROUNDS = 3


def rows(quick: bool) -> list[Row]:
    """Rows of the comparisons."""
    solve(grid(10), GAMMA)  # compiles
    return [*_large(quick), *_peers(quick)]


def grid(side: int) -> FiniteMDP:
    """A grid with random obstacles; 5 actions, of which 3 in 10 moves go astray: 4 outcomes."""
    from gridzero.envs import GridWorld

    return GridWorld(f"obstacles:{side}x{side}:0", actions=5, slip=0.3, slip_to="any").mdp


def _seconds(mdp: FiniteMDP, gamma: float) -> float:
    began = clock()
    solution = solve(mdp, gamma, RESIDUAL)
    elapsed = clock() - began
    assert solution.residual <= RESIDUAL, f"residual {solution.residual}"
    return elapsed


def _large(quick: bool) -> list[Row]:
    side, repeats = (300, 3) if quick else (1000, 5)
    large, quarter = grid(side), grid(side // 2)
    figures = rounds(
        {
            "0.99": lambda: _seconds(large, GAMMA),
            "0.999": lambda: _seconds(large, 0.999),
            "quarter": lambda: _seconds(quarter, GAMMA),
        },
        repeats,
    )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    states = f"{large.num_states:,} states"
    per_state = [
        a / large.num_states / (b / quarter.num_states)
        for a, b in zip(figures["0.99"], figures["quarter"], strict=True)
    ]
    far = median_ratio(figures["0.999"], figures["0.99"])
    bar = None if quick else 2.0
    return [
        Row(f"solve {states}, gamma 0.99, to 1e-6", "s", medians["0.99"], bar=bar),
        Row("time at gamma 0.999 over time at 0.99", "times", far, bar=3.0, note=f"{medians['0.999']:.2f} s"),
        Row(
            f"time per state, {states} over {quarter.num_states:,}", "times", statistics.median(per_state),
            note="1 is linear",
        ),
    ]  # fmt: skip


def _peers(quick: bool) -> list[Row]:
    mdp = grid(50 if quick else 200)
    contenders: dict[str, Callable[[], float]] = {"ours": lambda: _seconds(mdp, GAMMA)}
    preparations = {"quantecon": _quantecon, "mdpsolver": _mdpsolver}
    for name, prepare in preparations.items():
        if installed(name):
            contenders[name] = prepare(mdp)
    figures = rounds(contenders, ROUNDS)
    ours = statistics.median(figures["ours"])
    work = f"solve {mdp.num_states:,} states, gamma 0.99, to 1e-6"
    result = []
    for name in preparations:
        if name in figures:
            ratio = median_ratio(figures[name], figures["ours"])
            theirs = statistics.median(figures[name])
            note = f"{theirs / mdp.num_states * 1e6:.2f} against {ours / mdp.num_states * 1e6:.2f} µs a state"
            result.append(Row(work, "s", ours, name, theirs, ratio, 1.0, "ratio", note))
        else:
            result.append(Row(work, "s", ours, name, bar=1.0, on="ratio", note="not installed"))
    return result


def _absorbing(mdp: FiniteMDP) -> tuple[Any, Any, Any]:
    """Successors, probabilities and rewards with terminal states spelt out: they lead to themselves and pay nothing."""
    successors, probabilities, rewards = mdp.successors.copy(), mdp.probabilities.copy(), mdp.rewards.copy()
    successors[mdp.terminal] = np.flatnonzero(mdp.terminal)[:, None, None]
    probabilities[mdp.terminal] = 0.0
    probabilities[mdp.terminal, :, 0] = 1.0
    rewards[mdp.terminal] = 0.0
    return successors, probabilities, rewards


EPSILON = 2 * GAMMA * RESIDUAL / (1 - GAMMA)
"""The peers stop at |v' - v| < epsilon (1 - gamma) / (2 gamma): with this one, at the residual that we stop at."""


def quantecon_problem(mdp: FiniteMDP) -> Any:
    """The model as quantecon's sparse ``DiscreteDP``."""
    from quantecon.markov import DiscreteDP

    successors, probabilities, rewards = _absorbing(mdp)
    states, actions, outcomes = successors.shape
    bounds = np.arange(0, successors.size + 1, outcomes)
    transitions = sparse.csr_matrix(
        (probabilities.reshape(-1), successors.reshape(-1), bounds), shape=(states * actions, states)
    )
    transitions.sum_duplicates()
    pairs = np.repeat(np.arange(states), actions), np.tile(np.arange(actions), states)
    return DiscreteDP(rewards.reshape(-1), transitions, GAMMA, *pairs)


def _quantecon(mdp: FiniteMDP) -> Callable[[], float]:
    problem = quantecon_problem(mdp)

    def measure() -> float:
        began = clock()
        problem.solve(method="modified_policy_iteration", epsilon=EPSILON, max_iter=100_000)
        return clock() - began

    measure()  # compiles
    return measure


def mdpsolver_problem(mdp: FiniteMDP) -> Any:
    """The model as mdpsolver takes it: nested lists, without zeros or repeated successors."""
    import mdpsolver

    successors, probabilities, rewards = _absorbing(mdp)
    columns: list[list[list[int]]] = []
    weights: list[list[list[float]]] = []
    for state in range(mdp.num_states):
        merged = []
        for nexts, chances in zip(successors[state], probabilities[state], strict=True):
            outcomes, slots = np.unique(nexts[chances > 0], return_inverse=True)
            merged.append((outcomes.tolist(), np.bincount(slots, weights=chances[chances > 0]).tolist()))
        columns.append([outcomes for outcomes, _ in merged])
        weights.append([chances for _, chances in merged])
    problem = mdpsolver.model()
    problem.mdp(discount=GAMMA, rewards=rewards.tolist(), tranMatProbs=weights, tranMatColumns=columns)
    return problem


def _mdpsolver(mdp: FiniteMDP) -> Callable[[], float]:
    problems = iter([mdpsolver_problem(mdp) for _ in range(ROUNDS)])  # each starts from nothing

    def measure() -> float:
        problem = next(problems)
        began = clock()
        problem.solve(algorithm="mpi", tolerance=EPSILON)
        return clock() - began

    return measure
