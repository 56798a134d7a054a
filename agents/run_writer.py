"""A run on disk that is being written: settings, metrics, samples and checkpoints, by one process."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gridzero.agents import checkpoint
from gridzero.agents.agent import Agent
from gridzero.agents.event_file import EventFile
from gridzero.agents.files import lock, read_lines, replace_file, signed, write_directory
from gridzero.agents.retention import set_aside
from gridzero.agents.run_card import CARD, card
from gridzero.agents.runs import (
    COMPLETIONS,
    EVALUATION,
    FORMAT,
    METRICS,
    SAMPLES,
    VERSION,
    Config,
    Step,
    Which,
    chosen_step,
    last_state,
    read_config,
    too_short,
)


class Run:
    """A run on disk, open for writing: ``runs/<name>/``.

    ``config.json`` says what it is, ``metrics.jsonl`` has one line for each update, ``samples.jsonl``, where
    there is something to read, some of what the agent wrote, ``checkpoints/<step>/`` the agent,
    TensorBoard's event files the same curves. One process at a time holds it.

    Attributes:
        path: the directory.
        config: what ``config.json`` holds.
        version_changes: on resuming, the libraries that are of other versions than at the checkpoint, in words; the
            numbers may then not be those of a run that was not interrupted.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = read_config(self.path)
        self.version_changes: list[str] = []
        self._lock = lock(self.path)
        self._folder = os.stat(self.path)
        self._empty, self._evaluated = False, (self.path / EVALUATION).is_file()
        for leftover in self.path.glob("checkpoints/.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._metrics = open(self.path / METRICS, "ab")  # noqa: SIM115  (it stays open until close)
        self._lines, self._flushed = 0, 0.0
        self._events: EventFile | None = None

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
        write_directory(target, "config.json", signed(record, FORMAT, VERSION))
        run = cls(target)
        run._empty = True
        return run

    @classmethod
    def resume(cls, path: str | Path, env: Any = None, step: Which = None) -> tuple[Run, Agent, dict[str, Any]]:
        """A run that goes on from a checkpoint; what it logged after that is cut off.

        Args:
            path: its directory.
            env: the environment, if not the one on record.
            step: of the checkpoint, or "best", by default the last one. Later ones are kept as
                ``checkpoints/<step>.set-aside``.

        Returns:
            The run, the agent, and what the training loop left with the checkpoint (empty at the very beginning).
        """
        run = cls(path)
        try:
            step = chosen_step(run.path, step)
            agent, manifest = last_state(run.path, env, step)
            progress = manifest["training"]
            run.version_changes = checkpoint.version_changes(manifest)
            if step is not None:
                set_aside(run.path / "checkpoints", step)
            run._cut(progress.get("lines", 0), progress.get("step", 0))
        except BaseException:
            run.close()
            raise
        return run, agent, dict(progress)

    def extend(self, training: Mapping[str, Any]) -> None:
        """Replace the settings of the training loop on record, so that a later :meth:`resume` has the new budget."""
        record: Config = {**self.config, "training": {**self.config["training"], **training}}
        if record == self.config:
            return
        replace_file(self.path / "config.json", signed(record, FORMAT, VERSION))
        self.config = record

    def log(
        self,
        step: int,
        metrics: Mapping[str, float],
        seconds: float,
        samples: Sequence[Mapping[str, Any]] = (),
        completions: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """One line of metrics, and a line for each sample and completion.

        Args:
            step: of the update.
            metrics: finite or not; what is not finite is logged as null.
            seconds: of training so far.
            samples: to ``samples.jsonl``, each with its step.
            completions: to ``completions.jsonl``, each with its step.
        """
        row: dict[str, float | None] = {"step": step, "seconds": round(seconds, 3)}
        row |= {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        now = time.monotonic()
        with self._writing():
            for name, texts in ((SAMPLES, samples), (COMPLETIONS, completions)):
                if texts:
                    with open(self.path / name, "a", encoding="utf-8") as file:
                        file.writelines(json.dumps({"step": step, **text}, ensure_ascii=False) + "\n" for text in texts)
            self._metrics.write(json.dumps(row).encode() + b"\n")
            self._lines += 1
            if self._events is None:
                self._events = EventFile(self.path)
            if self._evaluated:  # what it says was of an earlier state
                (self.path / EVALUATION).unlink(missing_ok=True)
                self._evaluated = False
            self._events.add(step, metrics)
            if now - self._flushed > 1.0:
                self._flush()
                self._flushed = now

    def checkpoint(self, agent: Agent, step: int, **training: Any) -> Path:
        """Save the agent under ``checkpoints/<step>``, the metrics that led there first."""
        target = self.path / "checkpoints" / str(step)
        with self._writing():
            self._flush()
            os.fsync(self._metrics.fileno())
            try:
                return checkpoint.save(agent, target, training={"step": step, "lines": self._lines, **training})
            except checkpoint.NotFiniteError as error:
                raise ValueError(f"{error}; {self.last_checkpoint()}") from error

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Replace ``evaluation.json``, and the run's card."""
        with self._writing():
            self._flush()
            replace_file(self.path / CARD, card(self.path, self.config, evaluation).encode())
            self._evaluated = True
            replace_file(self.path / EVALUATION, json.dumps(evaluation, indent=1).encode() + b"\n")

    def last_checkpoint(self) -> str:
        """Name the last checkpoint, for a message about a training that cannot go on."""
        last = checkpoint.latest(self.path / "checkpoints")
        return "there is no checkpoint yet" if last is None else f"the last good checkpoint is {last}"

    def _flush(self) -> None:
        self._metrics.flush()
        if self._events is not None:
            self._events.flush()

    @contextlib.contextmanager
    def _writing(self) -> Generator[None, None, None]:
        """Raise ValueError when the directory cannot be written, or is not where it was."""
        try:
            # Never make it anew, nor write into another one that has its name now.
            if not os.path.samestat(os.stat(self.path), self._folder):
                raise FileNotFoundError
            yield
            self._empty = False
        except FileNotFoundError:
            raise ValueError(f"{self.path} was renamed or deleted while it was written") from None
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Flush everything and let go of the directory; a new run in which nothing happened is removed."""
        try:
            with contextlib.ExitStack() as files:
                files.callback(self._metrics.close)
                if self._events is not None:
                    files.callback(self._events.close)
            if self._empty:
                shutil.rmtree(self.path, ignore_errors=True)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written: {error.strerror or error}") from None
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _cut(self, lines: int, step: int) -> None:
        """Cut off metrics and samples that were logged after the checkpoint, of ``step`` and ``lines`` metrics."""
        path, size, number = self.path / METRICS, 0, 0
        for line, _ in read_lines(path):
            if number == lines:
                break
            size, number = size + len(line), number + 1
        if number < lines:
            raise too_short(path, lines, number)
        os.truncate(path, size)
        self._lines = lines
        for texts in (self.path / SAMPLES, self.path / COMPLETIONS):
            if texts.is_file():
                replace_file(texts, b"".join(line for line, row in read_lines(texts, Step) if row["step"] <= step))
        self._events = EventFile(self.path, purge_from=step + 1)
