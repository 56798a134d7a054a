"""Engines that train the runs of a sweep: processes on this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridzero.agents.environments import Description
from gridzero.agents.learner import Update
from gridzero.agents.runs import EVALUATION
from gridzero.commands.session import Session
from gridzero.commands.settings import TrainingOptions
from gridzero.envs import plugins
from gridzero.envs.suggestions import closest
from gridzero.plotting import groups
from gridzero.plotting.curves import last_value
from gridzero.process import configure

POLL = 0.2


class NoMetricError(ValueError):
    """A run does not have the metric that its sweep compares."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what ``gridzero train`` would be given.

    Attributes:
        path: of the run, absolute; on a cluster, a folder that all machines see.
        agent: its name.
        environment: as :func:`~gridzero.agents.environments.remake` takes it.
        num_envs: how many, for agents that do not say it themselves.
        config: of the agent.
        options: budget, threads, times of checkpoints and evaluations.
        seed: decides everything that is random.
        metric: that the sweep compares; None: returns.
        imports: the modules that registered what is named, imported first.
        folder: the folder of the command, from which they may be imported.
    """

    path: Path
    agent: str
    environment: Description
    num_envs: int | None
    config: Any
    options: TrainingOptions
    seed: int
    metric: str | None = None
    imports: tuple[str, ...] = ()
    folder: Path = Path()

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end and evaluated."""
        return (self.path / EVALUATION).is_file()

    def train(
        self, stopped: Callable[[], bool] = lambda: False, on_update: Callable[[Update], None] = lambda update: None
    ) -> None:
        """Begin the run, or go on with it from its last checkpoint; a finished one is kept as it is.

        Args:
            stopped: asked after each update; once it says so, the run is saved and left.
            on_update: takes in each update; if it raises, the run is saved and left.
        """
        if self.finished:
            return
        try:
            session = self._session()
            with contextlib.closing(session.run):
                with contextlib.closing(session.updates()) as updates:
                    for update in updates:
                        on_update(update)
                        self._check_evaluation(update)
                        if stopped():
                            return
                session.evaluate()
        except NoMetricError:
            raise
        except ValueError as error:
            raise ValueError(f"{'/'.join(self.path.parts[-2:])}: {error}") from None
        self.check_metric()

    def check_metric(self) -> None:
        """Raise NoMetricError when the run is finished and has not the metric that the sweep compares."""
        if self.metric is None or not self.finished:
            return
        try:
            (run,) = groups.read([self.path])
            last_value(run, self.metric)
        except ValueError as error:
            raise NoMetricError(str(error)) from None

    def _check_evaluation(self, update: Update) -> None:
        """Raise NoMetricError for a metric of evaluations that they turn out not to have: all have the same."""
        metric, found = self.metric or "", [name for name in update.metrics if name.startswith("evaluation_")]
        if found and metric.startswith("evaluation_") and metric not in found:
            raise NoMetricError(f"evaluations have no {metric!r} here; {closest(metric, found)}")

    def _session(self) -> Session:
        from gridzero.agents.registry import agent_class

        if (self.path / "config.json").is_file():
            return Session.resume(self.path, self.options.budget(agent_class(self.agent).default_steps))
        return Session.begin(
            self.path, self.agent, self.environment, self.num_envs, self.config, self.options, self.seed
        )

    def packed(self) -> PackedJob:
        """The job for another process."""
        return PackedJob(self.imports, self.folder, pickle.dumps(self))


@dataclass(frozen=True)
class PackedJob:
    """A job on its way to another process, where modules must be imported before it can be unpickled.

    Attributes:
        imports: those modules.
        folder: the folder of the command, from which they may be imported.
        job: pickled.
    """

    imports: tuple[str, ...]
    folder: Path
    job: bytes

    def unpack(self) -> Job:
        """Import the modules, then unpickle the job."""
        if self.imports and str(self.folder) not in sys.path:
            sys.path.append(str(self.folder))
        plugins.restore(self.imports)
        job: Job = pickle.loads(self.job)
        return job


def label(setting: Mapping[str, Any]) -> str:
    """A setting in words.

    >>> label({"learning_rate": 1e-4, "env.slip": 0.1})
    'learning_rate=0.0001, env.slip=0.1'
    """
    return ", ".join(f"{name}={value}" for name, value in setting.items())


Engine = Callable[[Sequence[Job], int | None, Callable[[], bool]], None]
"""Trains jobs: takes them, how many at a time (None: as many as can), and a function to call often, true to stop."""


def local(jobs: Sequence[Job], at_once: int | None, stopped: Callable[[], bool]) -> None:
    """Train in processes of this machine, by default as many as its cores carry."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = at_once or max(1, cores // (jobs[0].options.threads or 1))
    with _safe_path():
        _local(jobs, at_once, stopped)


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Have Python leave the current folder off the path of processes that are started."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _local(jobs: Sequence[Job], at_once: int, stopped: Callable[[], bool]) -> None:
    context = multiprocessing.get_context("spawn")  # forked ones would inherit threads and locks
    stop = context.Event()
    with concurrent.futures.ProcessPoolExecutor(
        min(at_once, len(jobs)), context, _prepare, (stop, jobs[0].options.threads or 1)
    ) as pool:
        waiting = {pool.submit(_train, job.packed()) for job in jobs}
        try:
            while waiting and not stopped():
                done, waiting = concurrent.futures.wait(waiting, POLL, return_when=concurrent.futures.FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except concurrent.futures.process.BrokenProcessPool:
            raise ValueError("a process was killed, perhaps for want of memory; --resume goes on") from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_stop: Any = None


def _prepare(stop: Any, threads: int) -> None:
    """Prepare a worker process: leave Ctrl-C to the parent, and end with it, however it ends."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    configure(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)  # at any moment: a run goes on from its last checkpoint


def _train(job: PackedJob) -> None:
    job.unpack().train(_stop.is_set)


def ray(jobs: Sequence[Job], at_once: int | None, stopped: Callable[[], bool]) -> None:
    """Train as tasks of a Ray cluster: the one that ``RAY_ADDRESS`` names or this machine is part of, else a new one.

    A task takes as many of the cluster's cores as it has threads; Ray starts one again elsewhere if its machine is
    lost, and it goes on from the last checkpoint.
    """
    cluster: Any = importlib.import_module("ray")
    began = not cluster.is_initialized()
    if began:
        cluster.init(log_to_driver=False, logging_level="ERROR")
    threads = jobs[0].options.threads or 1
    task = cluster.remote(num_cpus=threads)(_train_on_ray)
    todo = list(jobs)
    running: list[Any] = []
    try:
        while (todo or running) and not stopped():
            while todo and len(running) < (at_once or len(jobs)):
                running.append(task.remote(todo.pop(0).packed()))
            done, running = cluster.wait(running, timeout=POLL)
            for reference in done:
                cluster.get(reference)
    except cluster.exceptions.RayTaskError as error:
        raise error.cause from None
    finally:
        for reference in running:
            cluster.cancel(reference)  # as Ctrl-C does
        if running:
            cluster.wait(running, num_returns=len(running), timeout=10.0)
        if began:
            cluster.shutdown()


def _train_on_ray(packed: PackedJob) -> None:
    warnings.simplefilter("ignore")
    job = packed.unpack()
    configure(job.options.threads or 1)
    job.train()


ENGINES: Mapping[str, Engine] = {"local": local, "ray": ray}
