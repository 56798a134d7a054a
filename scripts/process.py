"""Settings of the whole process: threads and memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

# mallopt's names for the two (malloc.h), and the greatest block that glibc takes from its own memory.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GREATEST = 32 << 20


def prepare(threads: int) -> None:
    """Set the number of threads and keep freed memory, as commands do."""
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


def set_threads(count: int) -> None:
    """Set the number of threads of numerical libraries, imported already or later."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
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
