"""Each test begins as a process does: nothing was imported by name yet, which the records of runs would remember."""

from __future__ import annotations

import pytest

from gridzero.envs import plugins


@pytest.fixture(autouse=True)
def nothing_imported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_imported", [])
