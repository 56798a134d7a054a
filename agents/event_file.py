"""TensorBoard's event file, written without TensorFlow or torch."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EventFile:
    """A new event file in a run's folder.

    It is written by the caller's own thread, so that a full disk is the caller's error; TensorBoard's own writer has a
    thread that dies of it with a traceback.

    Args:
        folder: where the file goes.
        purge_from: on resuming, the first step that earlier files may have beyond the checkpoint; TensorBoard drops it.
    """

    def __init__(self, folder: Path, purge_from: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        # TensorBoard reads a folder's files in the order of their names; the second number tells those of one process.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        number = len(list(folder.glob("events.out.tfevents.*")))
        self._writer = RecordWriter(open(folder / f"{name}.{number}", "xb"))  # noqa: SIM115  (open until close)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_from is not None:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=purge_from, session_log=start))

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add an event with a scalar for each metric."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def flush(self) -> None:
        """Hand what was added to the system."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
