"""Settings of the whole process: threads and memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# mallopt's names for the two (malloc.h), and the greatest block that glibc takes from its own memory.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GREATEST = 32 << 20
_AGAIN = 0.5
"""Seconds until an interrupt that was lost is raised again."""


def configure(threads: int | None) -> None:
    """Set the number of threads, see :func:`set_threads`, and keep freed memory, as commands do."""
    set_threads(threads)
    keep_memory()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Put off the search for garbage while libraries and models are loaded, of which all will be kept.

    It would take a fifth of the time that importing torch and transformers takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C until it arrives: libraries lose some while they are imported."""
    ours = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGALRM)}
    hook = sys.unraisablehook

    def report(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    if not isinstance(sys.exc_info()[1], KeyboardInterrupt):  # one that is on its way is left to arrive
        raise KeyboardInterrupt


@contextlib.contextmanager
def until_interrupted(*others: type[BaseException]) -> Iterator[None]:
    """End what is within on Ctrl-C, or other exceptions, without an error."""
    ends: tuple[type[BaseException], ...] = (KeyboardInterrupt, *others)
    try:
        yield
    except ends:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def set_threads(count: int | None) -> None:
    """Set the number of threads of numerical libraries, imported already or later.

    None is 1, which small networks are fastest with, except for numba, which takes all cores for sweeps over many
    states.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count or 1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count or 1)
    if count is None:
        return
    if "numba" in sys.modules:
        numba = sys.modules["numba"]
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    else:
        os.environ["NUMBA_NUM_THREADS"] = str(count)


def keep_memory() -> None:
    """Keep freed memory in the process, where the C library is glibc.

    An update frees what it needed, and the next one needs the same: given back to the system in between, each page of
    it is found and cleared anew, which takes about a twentieth of the time of a small language model's step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _GREATEST)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
