"""A process of its own for libraries that judge answers by evaluating them, or that may not end.

It is killed when it takes too long, has little memory and no files to write, and while it judges it can start no
process and open no connection. It is not a prison for code that wants out: it is for libraries that are trusted,
judging text that is not.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

SECONDS = 5.0
"""For a call."""
START_SECONDS = 120.0
"""For starting, which imports the library."""
MEMORY = 2 << 30
"""Bytes of address space."""

_REFUSED = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "pty.",
    "fcntl.",
    "signal.",
    "winreg.",
    "webbrowser.",
)
_HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.putenv")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class ChildError(ValueError):
    """A call without a result: too slow, killed, or an error of the library; says which."""


class StartError(ValueError):
    """A process that could not be started, so that nothing can be judged; says why."""


class Child:
    """A function that is called in a process of its own, which lives on between calls.

    Args:
        function: ``"package.module:function"``; arguments and result are what JSON holds.
        library: what to import at the start, so that no call waits for it.

    Raises:
        ChildError: by a call, for one that takes more than :data:`SECONDS`, after which the process is killed and
            begun anew when next needed; when the process dies; and for an exception of the function.
        StartError: by a call, when the process cannot be started, as for want of the library or of memory.
    """

    def __init__(self, function: str, library: str) -> None:
        self.function = function
        self.library = library
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __call__(self, *arguments: Any) -> Any:
        """The function's result."""
        with self._lock:
            process = self._started()
            try:
                _send(process.stdin, arguments)
            except OSError:
                self._kill()
                process = self._started()
                _send(process.stdin, arguments)
            answer = self._receive(SECONDS)
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._kill()
            threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
            try:
                self._process = subprocess.Popen(
                    # Without the current folder on its path, where anything may lie under a library's name.
                    [sys.executable, "-P", "-m", "gridzero.envs.tasks.child", self.function, self.library],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(_safe_path())},
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(f"the process that judges with {self.library} does not start: {error}") from None
            self._lines = queue.SimpleQueue()
            arguments = (self._process.stdout, self._lines)
            threading.Thread(target=_read, args=arguments, daemon=True).start()
            try:
                answer = self._receive(START_SECONDS)
            except ChildError as error:
                answer = {"error": str(error)}
            if "error" in answer:
                self._kill()
                raise StartError(f"the process that judges with {self.library} does not start: {answer['error']}")
        return self._process

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self._kill()
            raise ChildError(f"it took longer than {seconds:g} seconds") from None
        if not line:
            self._kill()
            raise ChildError("its process was killed, by its limits of memory and time or from outside")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


_CHILDREN: dict[tuple[int, str], Child] = {}


def call(function: str, library: str, *arguments: Any) -> Any:
    """Call a function in the process that this process keeps for it; see :class:`Child`."""
    key = os.getpid(), function  # a process that was forked off keeps its own
    if key not in _CHILDREN:
        child = _CHILDREN[key] = Child(function, library)
        atexit.register(child.close)
    return _CHILDREN[key](*arguments)


def _safe_path() -> list[str]:
    """Search path of this process without the current folder."""
    current = os.path.realpath(os.getcwd())
    return [entry for entry in sys.path if entry and os.path.realpath(entry) != current]


def _send(pipe: Any, message: Any) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


def _read(pipe: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    with suppress(OSError, ValueError):
        for line in pipe:
            lines.put(line)
    lines.put(b"")


def _serve(function: str, library: str) -> None:
    """Serve calls in the child process: one line of JSON in, one line out, until there is no more."""
    requests, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    module, _, name = function.partition(":")
    try:
        importlib.import_module(library)
        judge = _guarded(getattr(importlib.import_module(module), name))
    except Exception as error:
        _send(results, {"error": f"{type(error).__name__}: {error}"[:500]})
        return
    _limit_memory()
    _send(results, {"result": None})
    for line in requests:
        _limit_time()
        try:
            message = {"result": judge(*json.loads(line))}
            json.dumps(message)
        except KeyboardInterrupt:
            return
        except BaseException as error:  # math-verify raises what is no Exception
            message = {"error": f"{type(error).__name__}: {error}"[:500]}
        _send(results, message)


def _guarded(judge: Callable[..., Any]) -> Callable[..., Any]:
    """The function, kept from doing more than judging while it runs."""
    judging = False

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if not judging:
            return
        writes = event == "open" and isinstance(details[2], int) and details[2] & _WRITING
        if writes or (event.startswith(_REFUSED) and not event.startswith(_HARMLESS)):
            raise PermissionError(f"judging an answer needs no {event}")

    def guarded(*arguments: Any) -> Any:
        nonlocal judging
        judging = True
        try:
            return judge(*arguments)
        finally:
            judging = False

    sys.addaudithook(watch)
    return guarded


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time() -> None:
    """End this process by itself, should nobody be left to kill it."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime + SECONDS) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
