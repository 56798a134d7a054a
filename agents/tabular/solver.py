"""The exact optimum of a finite MDP, fast.

Policy iteration whose parts each cost a few passes over the model, independent of how far value has to travel:

1. A wave from where reward is to be had, backwards through the model, gives a first policy and an order of the states
   in which the successors of a state tend to come before it; a second one makes both better where it pays.
2. Evaluation solves the chain of the policy, in that order, by a Krylov method with an incomplete factorization. On
   grids its effort hardly grows with 1/(1 - gamma) or the distance to the goal, unlike that of sweeps.
3. Improvement backs up the states that can have changed, and spreads changes of the policy: by sweeps where they are
   many, else from state to state.

What is returned has passed a full backup in double precision.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular import chain_kernels as chains
from gridzero.agents.tabular import factorization_kernels as factorization
from gridzero.agents.tabular import solver_kernels as kernels
from gridzero.agents.tabular import wave_kernels as waves
from gridzero.agents.tabular.bellman_kernels import reward_extremes
from gridzero.agents.tabular.dynamic_programming import PolicyIteration, PolicyIterationConfig, reward_unit
from gridzero.envs.backup_kernels import loop_lengths, predecessors
from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]
Integers = NDArray[np.int32 | np.uint32]

SWEEPS = 4
"""Over all states, between an improvement that changes many of them and the next evaluation."""
PATIENCE = 30
"""After so many improvements that do not halve the residual, plain policy iteration it is, which always ends."""

ITERATIONS = 60
"""Of the Krylov method in one evaluation, at most."""

ROUGH = 0.02
"""In units of the largest reward: above such a mean residual, the values of the first wave are worth a second one."""
SAMPLE = 97
"""One state in so many is asked for it."""


@dataclass(frozen=True, eq=False)
class Solution:
    r"""The optimal values and policy that :func:`solve` computes.

    Attributes:
        values: (S,), 0 in terminal states.
        actions: (S,) int32, greedy in the values.
        residual: the Bellman residual of the values; for gamma < 1, $\|v - v^*\|_\infty$ is at most $1/(1-\gamma)$
            times it.
        improvements: how often the policy was improved.
        seconds: wall-clock time, compilation included where this was the first call.
    """

    values: FloatArray
    actions: NDArray[np.int32]
    residual: float
    improvements: int
    seconds: float


def solve(mdp: FiniteMDP, gamma: float, tolerance: float = 1e-6) -> Solution:
    """The optimal values and a policy that is greedy in them.

    Args:
        mdp: the model.
        gamma: the discount, in [0, 1]; 1 needs a policy that ends from every state, and the best such one is found.
        tolerance: the largest Bellman residual allowed, greater than 0, relative to the largest reward where that is
            below 1; below what rounding allows, what it allows.

    Raises:
        ValueError: for a discount or tolerance out of range, or with gamma = 1 a state from which no policy ends.
    """
    began = time.perf_counter()
    if not tolerance > 0:
        raise ValueError(f"tolerance must be greater than 0, not {tolerance}")
    config = PolicyIterationConfig(gamma=gamma)
    if gamma == 1:
        planner = PolicyIteration(mdp, config)
        for _ in planner.learn():
            pass
        values, actions, count = planner.state_values(), planner.policy_table().argmax(axis=1), planner.sweeps
        residual = mdp.bellman_residual(values, gamma)
    else:
        unit = reward_unit(mdp)
        scaled = mdp if unit == 1 else replace(mdp, rewards=mdp.rewards / unit)
        values, actions, residual, count = _discounted(scaled, float(gamma), float(tolerance))
        values, residual = (values, residual) if unit == 1 else (values * unit, residual * unit)
    return Solution(values, actions.astype(np.int32), residual, count, time.perf_counter() - began)


def _discounted(mdp: FiniteMDP, gamma: float, tolerance: float) -> tuple[FloatArray, NDArray[np.int32], float, int]:
    model, lengths = (*_packed(mdp), mdp.rewards), loop_lengths(mdp)
    states, live = mdp.num_states, int((~mdp.terminal).sum())
    if live == 0:
        return np.zeros(states), np.zeros(states, dtype=np.int32), 0.0, 0
    offsets, sources = predecessors(*_packed(mdp), mdp.terminal)
    actions, values, order = _first_policy(mdp, gamma, offsets, sources)
    evaluation = _Evaluation(mdp, gamma, offsets, sources, order)
    before, changed = np.empty(states), np.empty(states, dtype=np.int32)
    slack, drift, verifying = np.full(states, -np.inf), 0.0, False
    accuracy, best, stalled, improvements = 0.03, np.inf, 0, 0
    residual, _ = reward_extremes(mdp.rewards, mdp.terminal)
    tolerance = max(tolerance, 8 * np.finfo(np.float64).eps * residual / (1 - gamma))
    reached = evaluation.run(actions, values, accuracy * residual, thorough=False)
    while True:
        tail = residual < 1000 * tolerance
        noise = 0.0 if verifying else min(reached, 0.3 * tolerance) if tail else reached
        threshold = 0.5 * tolerance if tail else 0.1 * residual
        residual, listed = kernels.improve(
            *model,
            mdp.terminal,
            gamma,
            values,
            actions,
            slack,
            drift,
            changed,
            noise,
            max(noise, 0.01 * residual),
            threshold,
            *lengths,
        )
        residual = residual if verifying else max(residual, reached)
        if residual <= tolerance:
            if verifying:
                return values, actions, residual, improvements
            slack[:], verifying = -np.inf, True
            continue
        improvements += 1
        stalled = 0 if residual < 0.5 * best else stalled + 1
        if residual > best:
            accuracy = max(accuracy / 4, 1e-6)
        best = min(best, residual)
        before[:] = values
        margin = max(noise, 0.001 * residual)
        if stalled < PATIENCE and listed > states // 10:
            for k in range(SWEEPS):
                kernels.sweep(*model, mdp.terminal, gamma, 0.0, values, actions, margin, k % 2 == 1)
            settled = True
        else:
            settled = kernels.spread(
                *model,
                gamma,
                offsets,
                sources,
                values,
                actions,
                changed[:listed],
                margin,
                min(threshold, max(0.01 * residual, 0.1 * tolerance)),
                states // 16 + 1 if stalled < PATIENCE else 0,
            )
        if stalled or not settled or not tail:
            # Where an improvement changes little, more digits cost less than another improvement.
            relative = accuracy if listed > states // 32 else accuracy / 30
            sufficient = max(relative * residual, 0.3 * tolerance)
            reached = evaluation.run(actions, values, sufficient, thorough=stalled >= PATIENCE)
        drift += 2 * kernels.note_changes(offsets, sources, before, values, 0.01 * tolerance, slack)
        verifying = False


def _packed(mdp: FiniteMDP) -> tuple[NDArray[np.uint32], FloatArray]:
    """The packed model, with successors for which compiled code need not ask whether an index is negative."""
    successors, probabilities = mdp.packed
    return successors.view(np.uint32), probabilities


def _first_policy(
    mdp: FiniteMDP, gamma: float, offsets: Integers, sources: Integers
) -> tuple[NDArray[np.int32], FloatArray, Integers]:
    """Actions, a guess of their values and an order of the states, from one wave or two."""
    largest, least = reward_extremes(mdp.rewards, mdp.terminal)
    least /= 1 - gamma
    if mdp.terminal.any():
        least = min(least, 0.0)
    # Relative to the least possible value, so that far from any reward tiny differences are not rounded away.
    values = np.where(mdp.terminal, -least, 0.0)
    actions = np.zeros(mdp.num_states, dtype=np.int32)
    order = np.empty(int((~mdp.terminal).sum()), dtype=np.int32)
    packed, shift = _packed(mdp), least * (1 - gamma)
    model = *packed, mdp.rewards, mdp.terminal, gamma
    waves.first_wave(*model, shift, offsets, sources, values, actions, order)
    levels = waves.interleave(offsets, sources, order)
    if waves.mean_residual(*packed, mdp.rewards, gamma, shift, values, levels[::SAMPLE].copy()) > ROUGH * largest:
        waves.follow_wave(*model, shift, values, actions, levels)
        for backward in (False, True):
            kernels.sweep(*model, shift, values, actions, -np.inf, backward)
    return actions, np.where(mdp.terminal, 0.0, values + least), levels


class _Evaluation:
    """Evaluates policies of one model; keeps its arrays from one to the next."""

    def __init__(
        self,
        mdp: FiniteMDP,
        gamma: float,
        offsets: Integers,
        sources: Integers,
        order: Integers,
    ) -> None:
        states, n, outcomes = mdp.num_states, len(order), mdp.most_successors
        self.terminal, self.gamma = mdp.terminal, gamma
        self.model = *_packed(mdp), mdp.rewards, mdp.terminal, gamma, offsets, sources, order
        self.built = np.full(states, -1, dtype=np.int32)
        self.alone = np.zeros(states)
        self.position = np.full(states, -1, dtype=np.int32)
        self.members = np.empty(n, dtype=np.uint32)
        self.rows = 0
        self.columns = np.empty((n, outcomes), dtype=np.uint32)
        self.weights = np.empty((n, outcomes))
        self.constants = np.empty(n)
        # Rounding the weights changes values by about eps / (1 - gamma), relatively: corrections must survive that.
        precision = np.float32 if 1 - gamma > 1e-5 else np.float64
        self.light = np.empty((n, outcomes), dtype=precision)
        self.work = np.empty((8, n), dtype=precision)
        self.x = np.empty(n)
        self.changed = np.zeros(n, dtype=np.bool_)
        self.factors: factorization.Factors | None = None

    def run(self, actions: NDArray[np.int32], values: FloatArray, tolerance: float, thorough: bool) -> float:
        """Overwrite ``values`` by those of the policy; returns the residual reached.

        That is ``tolerance``, or more where this would take long and the evaluation need not be ``thorough``.
        """
        chain = self.columns, self.weights, self.light, self.constants, self.changed
        n, written = chains.update_chain(
            *self.model, actions, self.built, self.alone, self.position, self.members, self.rows, *chain
        )
        self.rows = n
        if written > n // 10:
            self.factors = None
        columns, weights, constants, light = self.columns[:n], self.weights[:n], self.constants[:n], self.light[:n]
        members, x = self.members[:n], self.x[:n]
        chains.take(values, members, x)
        found = chains.residual(columns, weights, constants, x, self.work[1])
        if found > tolerance:
            if self.factors is None:
                self.factors = factorization.no_factors(columns, light, len(self.members), factorization.SHARE)
                self.changed[:n] = True
            self.factors = factorization.factorize(columns, light, factorization.LEAST, self.factors, self.changed)
            self.changed[:n] = False
            found, _ = chains.solve_chain(
                columns,
                weights,
                light,
                constants,
                x,
                tolerance,
                ITERATIONS,
                self.factors,
                self.work,
                found,
            )
        # Where the Krylov method breaks down, sweeps still contract.
        while found > tolerance:
            found = self.gamma * chains.gauss_seidel(columns, weights, constants, x)
            if not thorough:
                break
        chains.put(x, members, self.alone, values)
        return float(found)
