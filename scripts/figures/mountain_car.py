"""Sarsa with tile coding on the mountain car, compiled: many runs of hundreds of episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.tabular.features import TileCoding
from gridzero.agents.tabular.linear_kernels import begin, n_step, traced
from gridzero.agents.tabular.td_kernels import kernel, uniform
from gridzero.agents.tabular.trace_kernels import REPLACING
from gridzero.figures.figure import add_legend, panels

FloatArray = NDArray[np.float64]

CODING = TileCoding(2, tilings=8, tiles=8)
LOW, HIGH = np.array([-1.2, -0.07]), np.array([0.5, 0.07])
"""Of position and velocity, as Sutton & Barto's software scales them."""
LONGEST = 3000
"""Steps of the mean episode after which a run is ended."""


class Car:
    """Semi-gradient n-step Sarsa or Sarsa(λ), greedy, on one mountain car (Sutton & Barto, example 10.1).

    The dynamics are those of Gymnasium's MountainCar-v0, without a limit on the length of an episode. Actions 0, 1, 2
    are full throttle reverse, none, and full throttle forward.

    Args:
        n: of n-step Sarsa.
        step_size: α, not divided by the number of tilings.
        seed: decides everything.
        decay: λ; 0 for n-step Sarsa.
        kind: of traces.

    Attributes:
        weights: (3, d).
    """

    def __init__(self, n: int, step_size: float, seed: int, *, decay: float = 0.0, kind: int = REPLACING) -> None:
        self.weights = np.zeros((3, CODING.size))
        self._settings = (1.0, 0.0, step_size, 0.0, 0.0)
        streams = np.random.SeedSequence((seed, 4)).generate_state(2, np.uint64)
        active = CODING.active
        self._knowledge = (
            self.weights,
            np.zeros(1, dtype=np.int64),
            streams[:1].copy(),
            np.zeros(1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.zeros((1, active), dtype=np.int64),
            np.ones((1, active)),
        )
        self._past = (
            np.zeros((1, n, active), dtype=np.int64),
            np.ones((1, n, active)),
            np.zeros((1, n), dtype=np.int64),
            np.zeros((1, n)),
            np.zeros(1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
        )
        self._traces = (
            np.zeros((1, self.weights.size)),
            np.zeros((1, self.weights.size), dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.zeros(1),
        )
        self._decay, self._kind = decay, kind
        self._starts = streams[1:].copy()

    def drive(self, episodes: int, limit: int = 10**9) -> NDArray[np.int64]:
        """Learn from so many episodes, or until a step limit over all of them; their lengths."""
        lengths = np.zeros(episodes, dtype=np.int64)
        coding = (CODING.shifts, float(CODING.tiles))
        trace = (self._kind, self._decay, self._traces)
        _drive(self._knowledge, self._past, trace, self._settings, self._starts, coding, lengths, limit)
        return lengths

    def cost_to_go(self, points: int = 40) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Positions (P,), velocities (P,), and -max q (P, P) over velocities and positions."""
        positions, velocities = (np.linspace(low, high, points) for low, high in zip(LOW, HIGH, strict=True))
        grid = np.stack(np.meshgrid(positions, velocities), axis=-1).reshape(-1, 2)
        indices, _ = CODING((grid - LOW) / (HIGH - LOW))
        q = self.weights[:, indices].sum(axis=2)
        return positions, velocities, -q.max(axis=0).reshape(points, points)


def mean_lengths(n: int, step_size: float, episodes: int, runs: int, seed: int, **traces: Any) -> FloatArray:
    """(E,) steps of each episode, the mean of several runs.

    A run that diverges is ended after as many steps as make the mean episode 3000 steps long.
    """
    seeds = np.random.SeedSequence(seed).generate_state(runs)
    found = [Car(n, step_size, int(own), **traces).drive(episodes, LONGEST * episodes) for own in seeds]
    return np.asarray(np.mean(found, axis=0))


def draw_lengths(curves: Mapping[str, FloatArray], runs: int) -> Any:
    """A picture of the steps of each episode, the mean of several runs, by label."""
    picture, (axes,) = panels(1, width=6.4, height=4.4)
    for label, lengths in curves.items():
        axes.semilogy(np.arange(1, len(lengths) + 1), lengths, lw=1.1, label=label)
    axes.set(xlabel="episode", ylabel="steps per episode", title=f"mean of {runs} runs", ylim=(95, 1100))
    axes.set_yticks([100, 200, 400, 1000], ["100", "200", "400", "1000"])
    axes.minorticks_off()
    add_legend(axes)
    return picture


@kernel
def accelerate(position: float, velocity: float, action: int) -> tuple[float, float]:
    """Position and velocity after one step."""
    velocity += 0.001 * (action - 1) - 0.0025 * math.cos(3 * position)
    velocity = min(max(velocity, -0.07), 0.07)
    position = min(max(position + velocity, -1.2), 0.6)
    if position == -1.2 and velocity < 0:
        velocity = 0.0
    return position, velocity


@kernel
def _observe(position: float, velocity: float, coding: Any, indices: Any) -> None:
    """The tile of each tiling, as :class:`TileCoding` numbers them."""
    shifts, tiles = coding
    side = int(tiles) + 1
    x = min(max((position + 1.2) / 1.7, 0.0), 1.0) * tiles
    y = min(max((velocity + 0.07) / 0.14, 0.0), 1.0) * tiles
    for t in range(len(shifts)):
        indices[0, t] = (t * side + int(x + shifts[t, 0])) * side + int(y + shifts[t, 1])


@kernel
def _drive(
    knowledge: Any, past: Any, trace: Any, settings: Any, starts: Any, coding: Any, lengths: Any, limit: int
) -> None:
    _, _, _, rows, actions, indices, entries = knowledge
    kind, decay, traces = trace
    nobody = np.zeros((0, 0))
    following, start = np.empty_like(indices), np.empty_like(indices)
    rewards, flags = np.full(1, -1.0), np.zeros((3, 1), np.bool_)
    flags[2, 0] = True
    taken = 0
    position, velocity = -0.6 + 0.2 * uniform(starts, 0), 0.0
    _observe(position, velocity, coding, indices)
    begin(knowledge, nobody, settings[1])
    for episode in range(len(lengths)):
        while True:
            position, velocity = accelerate(position, velocity, actions[0])
            over = position >= 0.5
            lengths[episode] += 1
            taken += 1
            _observe(position, velocity, coding, following)
            flags[0, 0] = over
            observed = following
            if over:
                position, velocity = -0.6 + 0.2 * uniform(starts, 0), 0.0
                _observe(position, velocity, coding, start)
                observed = start
            batch = (following, entries, observed, entries, rows, rewards, flags[0], flags[1], flags[2])
            if decay > 0:
                traced(knowledge, batch, nobody, settings, False, kind, decay, traces)
            else:
                n_step(knowledge, batch, nobody, settings, False, past)
            if over or taken == limit:
                break
        if taken == limit:
            return
