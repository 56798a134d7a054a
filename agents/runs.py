"""The directory of a run: what it is, how it went, where it can go on from."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gridzero.agents import checkpoint
from gridzero.agents.agent import Agent
from gridzero.envs.suggestions import closest

FORMAT = "gridzero-run"
VERSION = 1
SWEEP = "sweep.json"
SAMPLES = "samples.jsonl"
WALL_CLOCK = ("seconds", "steps_per_second")


def find(name: str | Path) -> Path:
    """The directory of a run, by its name under ``runs/`` or by its path.

    Raises:
        ValueError: when there is none; the message has the closest names that there are.
    """
    if not str(name):
        raise ValueError("a run needs a name, not ''")
    for candidate in (Path("runs") / name, Path(name)):
        if (candidate / "config.json").is_file():
            return candidate
    folder = Path("runs")
    for candidate in (folder / name, Path(name)):
        if (candidate / SWEEP).is_file():
            entries = sorted(str(entry.parent.relative_to(candidate)) for entry in candidate.rglob("config.json"))
            example = f", such as {name}/{entries[0]}" if entries else ""
            raise ValueError(f"{name} is a sweep of {len(entries)} run{'s' * (len(entries) != 1)}{example}")
    if Path(name).is_dir():
        raise ValueError(f"{name} is not a run: config.json is missing")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    names = [entry for entry in names if not entry.startswith(".")]
    raise ValueError(f"there is no run {str(name)!r}; {closest(str(name), names) if names else 'runs/ has none'}")


class Run:
    """A run on disk, open for writing: ``runs/<name>/``.

    ``config.json`` says what it is, ``metrics.jsonl`` has one line for each update, ``samples.jsonl``, where
    there is something to read, some of what the agent wrote, ``checkpoints/<step>/`` the agent,
    TensorBoard's event files the same curves. One process at a time holds it.

    Attributes:
        path: the directory.
        config: what ``config.json`` holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_config(path)
        self._lock = _lock(path)
        for leftover in path.glob("checkpoints/.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._metrics = open(path / "metrics.jsonl", "ab")  # noqa: SIM115  (it stays open until close)
        self._lines = 0
        self._flushed = 0.0
        self._events: Any = None

    @classmethod
    def create(cls, path: str | Path, agent: Agent, training: Mapping[str, Any] | None = None) -> Run:
        """A new run.

        Args:
            path: its directory, which must not exist.
            agent: as it is before it has learnt anything.
            training: the settings of the training loop, to be found again by :meth:`resume`.

        Raises:
            ValueError: when ``path`` exists.
        """
        target = Path(path)
        record = {**checkpoint.identity(agent), "training": dict(training or {})}
        if target.exists():
            raise ValueError(f"{target} exists; resume it or choose another name")
        checkpoint.write_directory(target, "config.json", checkpoint.signed(record, FORMAT, VERSION))
        return cls(target)

    @classmethod
    def resume(cls, path: str | Path, env: Any = None) -> tuple[Run, Agent, dict[str, Any]]:
        """A run that goes on from its last checkpoint; what it logged after that is cut off.

        Args:
            path: its directory.
            env: the environment, if not the one on record.

        Returns:
            The run, the agent, and what the training loop left with the checkpoint (empty at the very beginning).
        """
        run = cls(Path(path))
        try:
            agent, training = last_state(run.path, env)
            run._cut(int(training.get("lines", 0)), int(training.get("step", 0)))
        except BaseException:
            run.close()
            raise
        return run, agent, training

    def log(
        self, step: int, metrics: Mapping[str, float], seconds: float, samples: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """One line of metrics, and a line for each sample.

        Args:
            step: of the update.
            metrics: finite or not; what is not finite is logged as null.
            seconds: of training so far.
            samples: to ``samples.jsonl``, each with its step.
        """
        if samples:
            with open(self.path / SAMPLES, "a", encoding="utf-8") as file:
                file.writelines(json.dumps({"step": step, **sample}, ensure_ascii=False) + "\n" for sample in samples)
        row: dict[str, float | None] = {"step": step, "seconds": round(seconds, 3)}
        row |= {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        self._metrics.write(json.dumps(row).encode() + b"\n")
        self._lines += 1
        if self._events is None:
            self._events = Events(self.path)
        self._events.add(step, metrics)
        now = time.monotonic()
        if now - self._flushed > 1.0:
            self._metrics.flush()
            self._flushed = now

    def checkpoint(self, agent: Agent, step: int, **training: Any) -> Path:
        """Save the agent under ``checkpoints/<step>``, the metrics that led there first."""
        self._metrics.flush()
        os.fsync(self._metrics.fileno())
        target = self.path / "checkpoints" / str(step)
        return checkpoint.save(agent, target, training={"step": step, "lines": self._lines, **training})

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Replace ``evaluation.json``."""
        temporary = self.path / f".evaluation.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(evaluation, indent=1) + "\n")
        temporary.replace(self.path / "evaluation.json")

    def close(self) -> None:
        """Flush everything and let go of the directory."""
        self._metrics.close()
        if self._events is not None:
            self._events.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _cut(self, lines: int, step: int) -> None:
        path = self.path / "metrics.jsonl"
        size = 0
        with open(path, "rb") as file:
            for number in range(lines):
                line = file.readline()
                if not line.endswith(b"\n"):
                    raise ValueError(
                        f"{path} is damaged: the checkpoint was taken after {lines} lines, it has {number}"
                    )
                size += len(line)
        os.truncate(path, size)
        self._lines = lines
        self._cut_samples(step)
        self._events = Events(self.path, purge_from=step + 1)

    def _cut_samples(self, step: int) -> None:
        """Leave out the samples of after ``step``, and a line that was cut off in writing."""
        path = self.path / SAMPLES
        if not path.is_file():
            return
        kept = b"".join(
            line
            for line in path.read_bytes().splitlines(keepends=True)
            if line.endswith(b"\n") and json.loads(line)["step"] <= step
        )
        temporary = self.path / f".{SAMPLES}.{os.getpid()}.tmp"
        temporary.write_bytes(kept)
        temporary.replace(path)


class Events:
    """TensorBoard's event file, written without TensorFlow or torch.

    Args:
        folder: where the file goes.
        purge_from: on resuming, the first step that earlier files may have beyond the checkpoint; TensorBoard drops it.
    """

    def __init__(self, folder: Path, purge_from: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder), max_queue_size=1000, flush_secs=10)
        if purge_from is not None:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=purge_from, session_log=start))

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """One event with a scalar for each metric."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        event = self._event(wall_time=time.time(), step=step, summary=self._summary(value=values))
        self._writer.add_event(event)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def last_state(path: Path, env: Any = None) -> tuple[Agent, dict[str, Any]]:
    """The agent at a run's last checkpoint, and what the training loop left there (at the very beginning, nothing)."""
    last = checkpoint.latest(path / "checkpoints")
    if last is None:
        return checkpoint.rebuild(read_config(path), env, path), {}
    training: dict[str, Any] = checkpoint.read_manifest(last)["training"]
    return checkpoint.load(last, env), training


def read_config(path: Path) -> dict[str, Any]:
    """``config.json`` of a run, checked against its digest."""
    return checkpoint.read_signed(path / "config.json", FORMAT, VERSION)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; a last one that was cut off in writing is left out."""
    try:
        data = (path / "metrics.jsonl").read_bytes()
    except FileNotFoundError:
        return
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            try:
                yield json.loads(line)
            except ValueError:
                raise ValueError(f"{path / 'metrics.jsonl'} is damaged in line {number}") from None


def _lock(path: Path) -> int | None:
    """Hold the run: the lock goes when the process goes. Systems without ``fcntl`` have no such guard."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ValueError(f"{path} is being written by another process") from None
    return handle
