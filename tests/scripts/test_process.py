"""Settings of the whole process reach who they are for."""

from __future__ import annotations

import gc
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from gridzero.process import insistent_interrupts, loading, set_threads, until_interrupted

PAGES_FOUND_AGAIN = """
import resource
from gridzero.process import keep_memory
if {kept}:
    keep_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(1 << 20) for _ in range(64)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_threads_reach_libraries_that_were_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    config = SimpleNamespace(NUMBA_NUM_THREADS=2)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=set_to.append))
    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(set_num_threads=set_to.append, config=config))
    set_threads(3)
    assert set_to == [3, 2]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    set_threads(None)
    assert set_to == [3, 2, 1]
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_is_freed_stays() -> None:
    """64 MiB taken again are 16,384 pages of 4 KiB to be found again where they were given back."""
    found = []
    for kept in (True, False):
        code = PAGES_FOUND_AGAIN.format(kept=kept)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
        found.append(int(run.stdout))
    assert 10 * found[0] < found[1]


def test_garbage_is_searched_for_again_after_loading_failed_or_not() -> None:
    try:
        with loading():
            assert not gc.isenabled()
        assert gc.isenabled()
        with pytest.raises(ValueError, match="broken"), loading():
            raise ValueError("broken")
        assert gc.isenabled()
    finally:
        gc.unfreeze()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_that_a_library_loses_is_raised_again() -> None:
    lost = []

    def library() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            lost.append(True)

    before = signal.getsignal(signal.SIGINT)
    begun = time.monotonic()

    def command() -> None:
        with insistent_interrupts():
            library()
            while time.monotonic() < begun + 60:
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        command()
    assert lost
    assert time.monotonic() < begun + 60
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_on_its_way_is_not_disturbed_and_one_that_is_taken_is_over() -> None:
    cleaned = []
    with insistent_interrupts():
        with until_interrupted():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                time.sleep(1.2)
                cleaned.append(True)
        time.sleep(1.2)
    assert cleaned
