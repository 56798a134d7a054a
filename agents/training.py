"""The one training loop: budget, logging, checkpoints, evaluation, for every agent."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gridzero.agents.agent import Agent
from gridzero.agents.config_checks import check_above_zero, check_at_least
from gridzero.agents.episodes import check_second_environment
from gridzero.agents.evaluation import Evaluation, evaluate
from gridzero.agents.learner import Update
from gridzero.agents.periodic_evaluation import METRICS, PeriodicEvaluation
from gridzero.agents.retention import Retention
from gridzero.agents.run_writer import Run
from gridzero.envs.suggestions import closest

FIRST_CHECKPOINT = 10_000
ALWAYS_LOGGED = frozenset({"step", "seconds", "steps_per_second", "cpu_seconds"})


@dataclass(frozen=True)
class Budget:
    """Length of a training, and intervals of checkpoints and evaluations.

    Attributes:
        steps: end at the first update with at least so many steps, counted from the agent's beginning.
        seconds: end at the first update after so many seconds of training, earlier sessions included.
        checkpoint_every: steps between checkpoints, so that the same run always has the same ones. If not given: a
            tenth of ``steps``, or, without that, each time the steps have doubled. The last state is always saved.
        evaluate_every: steps between evaluations on the way; 0 for none. If not given, and there is a run to write
            them to: a few episodes now and then, for less than 5 % of the time
            (:class:`~gridzero.agents.periodic_evaluation.PeriodicEvaluation`).
        evaluation_episodes: episodes of the evaluation at the end, and of each one every ``evaluate_every`` steps.
        keep: checkpoints to keep, the last ones, and besides them the best by the evaluations on the way; all if not
            given.
        stop_at: end at the first evaluation on the way with such a mean return; without ``evaluate_every`` there is
            one of a few episodes each twentieth of ``steps``, whatever it costs.

    Raises:
        ValueError: for a number that is not positive.
    """

    steps: int | None = None
    seconds: float | None = None
    checkpoint_every: int | None = None
    evaluate_every: int | None = None
    evaluation_episodes: int = 100
    keep: int | None = None
    stop_at: float | None = None

    def __post_init__(self) -> None:
        check_at_least(self, 0, "evaluate_every")
        check_at_least(self, 1, "steps", "checkpoint_every", "evaluation_episodes", "keep")
        check_above_zero(self, "seconds")
        if self.stop_at is not None and not math.isfinite(self.stop_at):
            raise ValueError(f"stop_at must be finite, not {self.stop_at}")

    def reached(self, mean_return: float) -> bool:
        """Whether an evaluation on the way is as good as it need be."""
        return self.stop_at is not None and mean_return >= self.stop_at

    def spent(self, step: int, seconds: float) -> bool:
        """Whether it is over."""
        return (self.steps is not None and step >= self.steps) or (self.seconds is not None and seconds >= self.seconds)

    def checkpoint_due(self, step: int, saved: int) -> bool:
        """Whether the agent is to be saved at ``step``, when it was last saved at ``saved``."""
        every = self.checkpoint_every
        if every is None and self.steps is not None:
            every = max(1, self.steps // 10)
        return step >= max(FIRST_CHECKPOINT, 2 * saved) if every is None else step // every > saved // every


def train(
    agent: Agent,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    run: str | Path | None = None,
    checkpoint_every: int | None = None,
    evaluate_every: int | None = None,
    evaluation_episodes: int = 100,
    keep: int | None = None,
    stop_at: float | None = None,
) -> Evaluation:
    """Train an agent and evaluate it.

    Args:
        agent: goes on from where it is.
        steps: see :class:`Budget`; without a budget, an agent that ends by itself runs to its end.
        seconds: see :class:`Budget`.
        run: a directory to make, for metrics, checkpoints and the evaluation; nothing is written without it.
        checkpoint_every: see :class:`Budget`.
        evaluate_every: see :class:`Budget`.
        evaluation_episodes: see :class:`Budget`.
        keep: see :class:`Budget`.
        stop_at: see :class:`Budget`; without ``run`` it needs ``evaluate_every``.

    Raises:
        ValueError: for a budget that is not one, none where the agent never ends, or a run that exists, or an
            environment of which evaluation cannot have a second one.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("value-iteration", "FrozenLake-v1", gamma=0.99)
        >>> result = gridzero.agents.train(agent)
        >>> round(result.optimum, 4)
        0.7442
    """
    budget = Budget(steps, seconds, checkpoint_every, evaluate_every, evaluation_episodes, keep, stop_at)
    if steps is None and seconds is None and agent.default_steps is not None:
        raise ValueError(f"{agent.name} never ends by itself; give it steps or seconds")
    agent.setup()
    check_second_environment(agent)
    with Run.create(run, agent, asdict(budget)) if run is not None else contextlib.nullcontext() as directory:
        for _ in training(agent, budget, directory):
            pass
        result = evaluate(agent, episodes=evaluation_episodes, seed=agent.seed)
        if directory is not None:
            directory.write_evaluation(result.to_json())
        return result


def training(
    agent: Agent, budget: Budget, run: Run | None = None, before: Mapping[str, Any] | None = None
) -> Generator[Update, None, None]:
    """Train within a budget; each update is handed on after it was logged.

    The caller may draw, print, or stop by closing the generator; it then saves the agent before it ends.

    Args:
        agent: goes on from where it is.
        budget: how long.
        run: where metrics and checkpoints go.
        before: what :meth:`Run.resume` returned, on resuming.

    Yields:
        Each update, with ``steps_per_second``, ``cpu_seconds`` (of this process, on all cores, in training so far) and
        the evaluation, where there was one, among its metrics.

    Raises:
        ValueError: when a loss or a gradient is not finite, or what was learned; nothing of it is saved.
    """
    before = before or {}
    clock = _Clock(before)
    best = before.get("best")
    if budget.spent(int(before.get("step", 0)), clock.seconds):
        return
    agent.planned_steps = math.inf if budget.steps is None else budget.steps
    evaluations = _Evaluations(agent, budget, run is not None, before)
    if budget.stop_at is not None and not agent.decide_together(evaluations.enabled):
        raise ValueError("stop_at needs evaluations on the way: set evaluate_every")
    if best is not None and budget.reached(best["mean_return"]):
        return
    writer = None if run is None else _Writer(run, agent, budget, before)
    between_updates = True  # inside one the agent may be in the middle of something
    learning = agent.learn()
    try:
        while True:
            between_updates = False
            update = next(learning, None)
            if update is not None:
                _check_finite(agent, update, run)
            between_updates = True
            if update is None:
                break
            metrics = {**update.metrics, **clock.metrics(update.step)}
            metrics |= evaluations.after(update.step, metrics)
            if writer is not None:
                writer.write(replace(update, metrics=metrics), clock, evaluations.state())
            yield Update(update.step, metrics, update.samples)
            done = budget.spent(update.step, clock.seconds) or budget.reached(
                metrics.get("evaluation_return", -math.inf)
            )
            if agent.decide_together(done):
                break
    finally:
        evaluations.close()
        if writer is not None and between_updates:
            writer.save_last(clock, evaluations.state())


def check_metric(agent: Agent, budget: Budget, metric: str) -> None:
    """Raise ValueError for a metric that no run of an agent within a budget can log.

    >>> import gridzero
    >>> agent = gridzero.agents.make("value-iteration", "FrozenLake-v1")
    >>> check_metric(agent, Budget(steps=10), "residul")
    Traceback (most recent call last):
    ValueError: runs of value-iteration log no metric 'residul' with these settings; did you mean residual?
    """
    own = agent.metric_names()
    if own is None:
        return
    names = own | _Evaluations(agent, budget, logged=True, before={}).metric_names() | ALWAYS_LOGGED
    if any(fnmatchcase(metric, name) for name in names):
        return
    hint = closest(metric, sorted(name for name in names if "*" not in name))
    raise ValueError(f"runs of {agent.name} log no metric {metric!r} with these settings; {hint}")


class _Clock:
    """Time of training, of all sessions together.

    Attributes:
        seconds: passed until the last update.
        cpu_seconds: of this process, on all cores, until the last update.
    """

    def __init__(self, before: Mapping[str, Any]) -> None:
        self._first_step = int(before.get("step", 0))
        self._earlier = self.seconds = float(before.get("seconds", 0.0))
        self._earlier_cpu = self.cpu_seconds = float(before.get("cpu_seconds", 0.0))
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def metrics(self, step: int) -> dict[str, float]:
        """Read the clock after the update at a step: steps a second in this session, CPU seconds in all."""
        session = time.perf_counter() - self._began
        self.seconds = self._earlier + session
        self.cpu_seconds = self._earlier_cpu + time.process_time() - self._began_cpu
        return {
            "steps_per_second": (step - self._first_step) / max(session, 1e-9),
            "cpu_seconds": self.cpu_seconds,
        }


class _Evaluations:
    """Evaluations on the way: every so many steps where the budget says so, else now and then where there is a run."""

    def __init__(self, agent: Agent, budget: Budget, logged: bool, before: Mapping[str, Any]) -> None:
        self._agent, self._budget = agent, budget
        self._step = int(before.get("step", 0))
        self._periodic: PeriodicEvaluation | None = None
        if budget.evaluate_every is None and logged:
            bounded = budget.stop_at is None
            self._periodic = PeriodicEvaluation(agent, budget.steps, before.get("evaluation"), bounded=bounded)

    @property
    def enabled(self) -> bool:
        """Whether there will be any."""
        return bool(self._budget.evaluate_every) or (self._periodic is not None and self._periodic.enabled)

    def metric_names(self) -> frozenset[str]:
        """Names that their metrics can have, * for any end."""
        if self._budget.evaluate_every:
            return Evaluation.METRICS
        return METRICS if self.enabled else frozenset()

    def after(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics of the evaluation after the update at a step; empty where none is due."""
        previous, self._step = self._step, step
        if self._periodic is not None:
            self._periodic.note(metrics)
            return self._periodic.evaluate(step) if self._periodic.due(step) else {}
        every = self._budget.evaluate_every
        if not every or step // every == previous // every:
            return {}
        return evaluate(self._agent, episodes=self._budget.evaluation_episodes, seed=self._agent.seed).metrics()

    def state(self) -> dict[str, Any]:
        """Part of a checkpoint from which they go on."""
        return {} if self._periodic is None else {"evaluation": self._periodic.state()}

    def close(self) -> None:
        """Close their environment."""
        if self._periodic is not None:
            self._periodic.close()


class _Writer:
    """Logs updates to a run, and saves the checkpoints that are due."""

    def __init__(self, run: Run, agent: Agent, budget: Budget, before: Mapping[str, Any]) -> None:
        self._run, self._agent, self._budget = run, agent, budget
        self._step = self._latest = int(before.get("step", 0))
        self._due = int(before.get("saved", self._step))
        self._retention = Retention(run.path / "checkpoints", budget.keep, before.get("best"))

    def write(self, update: Update, clock: _Clock, evaluation: Mapping[str, Any]) -> None:
        """Log an update; save the agent where that is due, or where it is better than ever before."""
        self._step = update.step
        self._run.log(update.step, update.metrics, clock.seconds, update.samples, update.completions)
        due = self._budget.checkpoint_due(update.step, self._due)
        if due:
            self._due = update.step
        if self._retention.is_best(update.step, update.metrics, extra=not due) or due:
            self._save(clock, evaluation)

    def save_last(self, clock: _Clock, evaluation: Mapping[str, Any]) -> None:
        """Save the agent as it is after the last update."""
        if self._step > self._latest:
            self._save(clock, evaluation)

    def _save(self, clock: _Clock, evaluation: Mapping[str, Any]) -> None:
        further = dict(evaluation)
        if self._retention.best is not None:
            further["best"] = self._retention.best
        self._run.checkpoint(
            self._agent,
            self._step,
            seconds=clock.seconds,
            cpu_seconds=clock.cpu_seconds,
            saved=self._due,
            **further,
        )
        self._retention.prune()
        self._latest = self._step


def _check_finite(agent: Agent, update: Update, run: Run | None) -> None:
    """Raise ValueError when a loss or a gradient norm is not finite; the message names the last good checkpoint."""
    for name, value in update.metrics.items():
        if (name.endswith("loss") or name == "gradient_norm") and not math.isfinite(value):
            kept = "" if run is None else f"; {run.last_checkpoint()}"
            raise ValueError(f"{agent.name} diverged at step {update.step:,}: its {name} is {value}{kept}")


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Put Ctrl-C and requests to terminate off until an update ends; gives a function that says whether one came.

    The second time it interrupts at once, in the middle of an update.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: pressed
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
