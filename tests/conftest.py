"""Each test begins as a process does: nothing was imported by name yet, which the records of runs would remember."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from gridzero.envs import plugins

# With two threads small networks run many times slower on a busy machine; it is read when torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("gridzero", deadline=None)  # nothing here is a test of speed
settings.load_profile("gridzero")


@pytest.fixture(autouse=True)
def nothing_imported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_imported", [])
