"""Settings of the whole process reach who they are for."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gridzero.process import loading, set_threads

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
