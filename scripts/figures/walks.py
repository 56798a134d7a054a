"""Episodes of a policy in a finite MDP, drawn once, and the errors of learners that all see the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.features import Features
from gridzero.agents.tabular.linear_kernels import n_step, traced, value
from gridzero.agents.tabular.td_kernels import draw, kernel, uniform
from gridzero.envs import FiniteMDP

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Walks:
    """Episodes, one after the other.

    Attributes:
        states: (T + E,) the states of each of E episodes, its last one included.
        rewards: (T + E,) the reward of the step from each; 0 from an episode's last state.
        begins: (E + 1,) where each begins; the last entry is the end.
        terminated: (E,) False where an episode was cut off.
    """

    states: NDArray[np.int64]
    rewards: FloatArray
    begins: NDArray[np.int64]
    terminated: NDArray[np.bool_]


def draw_walks(
    mdp: FiniteMDP, policy: FloatArray, episodes: int, seed: int, *, limit: int = 1_000_000, start: Any = None
) -> Walks:
    """Draw episodes.

    Args:
        mdp: the world.
        policy: (S, A) probabilities.
        episodes: E.
        seed: decides everything.
        limit: the steps after which an episode is cut off.
        start: (S,) distribution of the first state; the world's own if not given.
    """
    initial = (mdp.start if start is None else np.asarray(start, dtype=np.float64)).cumsum()[None]
    streams = np.random.SeedSequence((seed, 3)).generate_state(1, np.uint64)
    room, used = 1024, -1
    while used < 0:
        states, rewards = np.zeros(room, dtype=np.int64), np.zeros(room)
        begins, terminated = np.zeros(episodes + 1, dtype=np.int64), np.zeros(episodes, dtype=np.bool_)
        model = (mdp.successors, mdp.probabilities.cumsum(axis=2), mdp.rewards, mdp.terminal)
        record = (states, rewards, begins, terminated)
        used = _draw(model, policy.cumsum(axis=1), initial, streams.copy(), limit, record)
        room *= 4
    return Walks(states[:used], rewards[:used], begins, terminated)


@kernel
def _draw(model: Any, policy: Any, initial: Any, streams: Any, limit: int, record: Any) -> int:
    """Fill the record; the entries used, or -1 where there is too little room."""
    successors, bounds, rewards_of, terminal = model
    states, rewards, begins, terminated = record
    used = 0
    for episode in range(len(terminated)):
        begins[episode] = used
        state = draw(initial, 0, streams, 0)
        steps = 0
        while True:
            if used == len(states):
                return -1
            states[used] = state
            used += 1
            if terminal[state] or steps == limit:
                break
            action = draw(policy, state, streams, 0)
            rewards[used - 1] = rewards_of[state, action]
            outcome, last = 0, bounds.shape[2] - 1
            if last > 0:
                mark = uniform(streams, 0)
                while outcome < last and mark >= bounds[state, action, outcome]:
                    outcome += 1
            state = successors[state, action, outcome]
            steps += 1
        terminated[episode] = terminal[state]
    begins[len(terminated)] = used
    return used


@dataclass(frozen=True)
class Task:
    """What is estimated from walks.

    Attributes:
        walks: of all runs, one after the other.
        runs: R; each has equally many episodes.
        features: of all states.
        initial: (d,) weights that each run begins with, or (R, d).
        exact: (S,) true values.
        counts: (S,) how much each state counts in the error; they sum to 1.
        gamma: the discount.
    """

    walks: Walks
    runs: int
    features: Features
    initial: FloatArray
    exact: FloatArray
    counts: FloatArray
    gamma: float = 1.0

    def _arrays(self) -> tuple[Any, Any, Any, Any, Any, FloatArray]:
        episodes = len(self.walks.terminated) // self.runs
        initial = np.broadcast_to(self.initial, (self.runs, self.initial.shape[-1])).copy()
        walks = (self.walks.states, self.walks.rewards, self.walks.begins, self.walks.terminated)
        return walks, tuple(self.features), initial, self.exact, self.counts, np.zeros((self.runs, episodes))

    def n_step_errors(self, n: int, step_size: float) -> FloatArray:
        """(R, E) errors after each episode of semi-gradient n-step TD (Sutton & Barto, eq. 9.15)."""
        arrays = self._arrays()
        _learn(*arrays, (self.gamma, 0.0, step_size, 0.0, 0.0), n, 0, 0.0)
        return arrays[-1]

    def trace_errors(self, decay: float, step_size: float, kind: int) -> FloatArray:
        """(R, E) errors after each episode of TD(λ) with traces of a kind (sections 12.2, 12.5)."""
        arrays = self._arrays()
        _learn(*arrays, (self.gamma, 0.0, step_size, 0.0, 0.0), 0, kind, self.gamma * decay)
        return arrays[-1]

    def return_errors(self, decay: float, step_size: float) -> FloatArray:
        """(R, E) errors after each episode of the offline λ-return algorithm (eq. 12.4)."""
        arrays = self._arrays()
        _learn_offline(*arrays, self.gamma, decay, step_size)
        return arrays[-1]


@kernel
def _error(weights: Any, features: Any, exact: Any, counts: Any) -> float:
    total = 0.0
    for state in range(len(exact)):
        if counts[state] > 0:
            total += counts[state] * (value(weights, 0, features[0][state], features[1][state]) - exact[state]) ** 2
    return float(np.sqrt(total))


@kernel
def _learn(
    walks: Any,
    features: Any,
    initial: Any,
    exact: Any,
    counts: Any,
    errors: Any,
    settings: Any,
    n: int,
    kind: int,
    decay: float,
) -> None:
    """The agents' own kernels on one transition after the other: n-step TD, or with n = 0 traces."""
    states, all_rewards, begins, ends = walks
    runs, episodes = errors.shape
    size, active = initial.shape[1], features[0].shape[1]
    policy = np.ones((1, 1))
    indices, observed = np.empty((1, active), np.int64), np.empty((1, active), np.int64)
    entries, next_entries = np.empty((1, active)), np.empty((1, active))
    rows, rewards, valid = np.zeros(1, np.int64), np.zeros(1), np.ones(1, np.bool_)
    terminated, truncated = np.zeros(1, np.bool_), np.zeros(1, np.bool_)
    for run in range(runs):
        weights = initial[run : run + 1].copy()
        streams = np.zeros(1, np.uint64)
        first, held, length = np.zeros(1, np.int64), np.zeros(1, np.int64), max(n, 1)
        past_indices, past_entries = np.zeros((1, length, active), np.int64), np.zeros((1, length, active))
        past = (past_indices, past_entries, np.zeros((1, length), np.int64), np.zeros((1, length)), first, held)
        traces = (np.zeros((1, size)), np.zeros((1, size), np.int64), held, np.zeros(1))
        knowledge = (weights, np.zeros(1, np.int64), streams, rows, np.zeros(1, np.int64), indices, entries)
        for episode in range(episodes):
            number = run * episodes + episode
            last = begins[number + 1] - 1
            indices[0], entries[0] = features[0][states[begins[number]]], features[1][states[begins[number]]]
            for t in range(begins[number], last):
                observed[0], next_entries[0] = features[0][states[t + 1]], features[1][states[t + 1]]
                rewards[0] = all_rewards[t]
                terminated[0] = t + 1 == last and ends[number]
                truncated[0] = t + 1 == last and not ends[number]
                following = (observed, next_entries)
                batch = (*following, *following, rows, rewards, terminated, truncated, valid)
                if n > 0:
                    n_step(knowledge, batch, policy, settings, False, past)
                else:
                    traced(knowledge, batch, policy, settings, False, kind, decay, traces)
            errors[run, episode] = _error(weights, features, exact, counts)


@kernel
def _learn_offline(
    walks: Any,
    features: Any,
    initial: Any,
    exact: Any,
    counts: Any,
    errors: Any,
    gamma: float,
    decay: float,
    step_size: float,
) -> None:
    """After each episode, an update towards the λ-return of each of its states, from the values before it."""
    states, rewards, begins, terminated = walks
    runs, episodes = errors.shape
    for run in range(runs):
        weights = initial[run : run + 1].copy()
        for episode in range(episodes):
            number = run * episodes + episode
            begin, last = begins[number], begins[number + 1] - 1
            following = 0.0
            if not terminated[number]:
                following = value(weights, 0, features[0][states[last]], features[1][states[last]])
            returns = np.empty(last - begin)
            target = following
            for t in range(last - 1, begin - 1, -1):
                target = rewards[t] + gamma * ((1.0 - decay) * following + decay * target)
                returns[t - begin] = target
                following = value(weights, 0, features[0][states[t]], features[1][states[t]])
            for t in range(begin, last):
                indices, entries = features[0][states[t]], features[1][states[t]]
                error = returns[t - begin] - value(weights, 0, indices, entries)
                for k in range(len(indices)):
                    weights[0, indices[k]] += step_size * error * entries[k]
            errors[run, episode] = _error(weights, features, exact, counts)
