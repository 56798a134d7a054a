"""The one training loop: budget, logging, checkpoints, evaluation, for every agent."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gridzero.agents.agent import Agent
from gridzero.agents.config_checks import check_above_zero, check_at_least
from gridzero.agents.episodes import check_second_environment
from gridzero.agents.evaluation import Evaluation, evaluate
from gridzero.agents.learner import Update
from gridzero.agents.periodic_evaluation import PeriodicEvaluation
from gridzero.agents.retention import Retention
from gridzero.agents.run_writer import Run

FIRST_CHECKPOINT = 10_000


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
        stop_at: end at the first evaluation on the way with such a mean return.

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
    first = step = latest = int(before.get("step", 0))
    saved = int(before.get("saved", first))
    earlier = elapsed = float(before.get("seconds", 0.0))
    if budget.spent(step, elapsed):
        return
    agent.planned_steps = math.inf if budget.steps is None else budget.steps
    earlier_work = work = float(before.get("cpu_seconds", 0.0))
    began, work_began = time.perf_counter(), time.process_time()
    on_the_way = None
    if budget.evaluate_every is None and run is not None:
        on_the_way = PeriodicEvaluation(agent, budget.steps, before.get("evaluation"))
    evaluated = bool(budget.evaluate_every) or (on_the_way is not None and on_the_way.enabled)
    if budget.stop_at is not None and not agent.decide_together(evaluated):
        raise ValueError("stop_at needs evaluations on the way: set evaluate_every")
    best = before.get("best")
    if best is not None and budget.reached(best["mean_return"]):
        return
    retention = None if run is None else Retention(run.path / "checkpoints", budget.keep, best)
    between_updates = True  # inside one the agent may be in the middle of something
    learning = agent.learn()

    def save() -> None:
        if run is None or retention is None:
            return
        further: dict[str, Any] = {} if on_the_way is None else {"evaluation": on_the_way.state()}
        if retention.best is not None:
            further["best"] = retention.best
        run.checkpoint(agent, step, seconds=elapsed, cpu_seconds=work, saved=saved, **further)
        retention.prune()

    try:
        while True:
            between_updates = False
            update = next(learning, None)
            if update is None:
                between_updates = True
                break
            previous, step = step, update.step
            elapsed = earlier + time.perf_counter() - began
            work = earlier_work + time.process_time() - work_began
            metrics = dict(update.metrics)
            _check_finite(agent, step, metrics, run)
            between_updates = True
            metrics["steps_per_second"] = (step - first) / max(elapsed - earlier, 1e-9)
            metrics["cpu_seconds"] = work
            every = budget.evaluate_every
            if every and step // every > previous // every:
                metrics |= evaluate(agent, episodes=budget.evaluation_episodes, seed=agent.seed).metrics()
            if on_the_way is not None:
                on_the_way.note(metrics)
                if on_the_way.due(step):
                    metrics |= on_the_way.evaluate(step)
            if run is not None and retention is not None:
                run.log(step, metrics, elapsed, update.samples, update.completions)
                due = budget.checkpoint_due(step, saved)
                saved = step if due else saved
                if retention.is_best(step, metrics, extra=not due) or due:
                    save()
                    latest = step
            yield Update(step, metrics, update.samples)
            done = budget.spent(step, elapsed) or budget.reached(metrics.get("evaluation_return", -math.inf))
            if agent.decide_together(done):
                break
    finally:
        if on_the_way is not None:
            on_the_way.close()
        if run is not None and between_updates and step > latest:
            save()


def _check_finite(agent: Agent, step: int, metrics: Mapping[str, float], run: Run | None) -> None:
    """Raise ValueError when a loss or a gradient norm is not finite; the message names the last good checkpoint."""
    for name, value in metrics.items():
        if (name.endswith("loss") or name == "gradient_norm") and not math.isfinite(value):
            kept = "" if run is None else f"; {run.last_checkpoint()}"
            raise ValueError(f"{agent.name} diverged at step {step:,}: its {name} is {value}{kept}")


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
