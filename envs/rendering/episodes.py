"""A record of what happens in an environment: visits, the path of the agent, returns."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from gridzero.envs.rendering.boards import Board

RECENT = 100
"""Number of the last episodes that the success rate is of."""


class Episodes:
    """Records the episodes of a single environment, whoever steps it.

    It wraps the environment's ``reset`` and, while ``listening``, its ``step``, and passes everything on unchanged. Of
    a vector of environments nothing is recorded.

    Args:
        env: the unwrapped environment.
        board: its grid, None if it has none; without it there are no visits and no trace.
        trace_length: how many cells of the trace to keep.

    Attributes:
        count: episodes begun.
        steps: steps recorded in the present one.
        total_steps: steps recorded since the beginning.
        total_reward: what they paid in the present episode.
        whole: the present episode has been recorded from its start.
        outcomes: whether each recent episode that was recorded as a whole was a success.
        visits: (H·W) how often each cell was entered, in the recorded steps.
        trace: the last cells of the present episode, oldest first.
    """

    def __init__(self, env: Any, board: Board | None, trace_length: int) -> None:
        self.env = env
        self.board = board
        self.trace: deque[int] = deque(maxlen=trace_length)
        self.total_steps = 0
        self.clear()
        self.single = not hasattr(env, "num_envs")
        self._listening = False
        if self.single:
            self._step, self._reset = env.step, env.reset
            env.reset = self._recorded_reset

    def clear(self) -> None:
        """Start again from nothing."""
        self.count = self.steps = 0
        self.total_reward = 0.0
        self.outcomes: deque[bool] = deque(maxlen=RECENT)
        self.visits = [] if self.board is None else [0] * (self.board.height * self.board.width)
        self.trace.clear()
        self.whole = self._open = False
        self._returns: list[float] = []

    @property
    def listening(self) -> bool:
        """Whether steps are recorded too; that costs about a microsecond each."""
        return self._listening

    @listening.setter
    def listening(self, record: bool) -> None:
        if record == self._listening or not self.single:
            return
        self._listening = record
        self.whole = False
        if record:
            self.env.step = self._recorded_step
            self.trace.clear()
        else:
            del self.env.step

    def _recorded_step(self, action: Any) -> Any:
        result = self._step(action)
        self.steps += 1
        self.total_reward += result[1]
        if self.board is not None:
            cell = self.board.position()
            self.visits[cell] += 1
            self.trace.append(cell)
        self._last = result
        self._open = True
        if result[2]:
            self._close()
        return result

    def _recorded_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        result = self._reset(seed=seed, options=options)
        self._close()
        self.count += 1
        self.total_steps += self.steps
        self.steps, self.total_reward = 0, 0.0
        self.whole = self._listening
        self.trace.clear()
        if self.board is not None:
            self.trace.append(self.board.position())
        return result

    def _close(self) -> None:
        """The episode is over: it terminated, or was cut off and another begins."""
        if self._open and self.whole:
            _, reward, terminated, _, info = self._last
            self._returns.append(float(self.total_reward))
            if "is_success" in info:
                self.outcomes.append(bool(info["is_success"]))
            elif self.board is not None:
                self.outcomes.append(self.board.success(float(reward), bool(terminated)))
        self._open = False

    def take_returns(self) -> list[float]:
        """The returns of the episodes, recorded as a whole, that ended since this was last called."""
        taken, self._returns = self._returns, []
        return taken

    def stop(self) -> None:
        """Stop recording, and unwrap the environment's methods."""
        self.listening = False
        if self.single and "reset" in vars(self.env):
            del self.env.reset


class StepRate:
    """Steps per second, over about the last second."""

    def __init__(self) -> None:
        self.value = 0.0
        self.last = 0
        self._since = time.perf_counter()
        self._from = 0

    def note(self, step: int) -> None:
        """Note the number of steps so far."""
        self.last = step
        now = time.perf_counter()
        if now - self._since >= 0.5:
            self.value = (step - self._from) / (now - self._since)
            self._since, self._from = now, step
