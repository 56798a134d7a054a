"""Metrics for experiment trackers, which are stood in for by a module of their interface."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from gridzero.__main__ import main
from gridzero.agents import runs

LAKE = ["--env", "FrozenLake-v1", "--steps", "300", "--steps-per-update", "100", "--evaluation-episodes", "2"]


class Tracker(types.ModuleType):
    """Keeps what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.told: dict[str, Any] = {}
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **told: Any) -> Tracker:
        self.told = told
        return self

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_what_the_run_logs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(name)
    monkeypatch.setitem(sys.modules, name, tracker)
    assert main(["train", "q-learning", *LAKE, "--log", name, "--run", "lake"]) == 0
    assert (tracker.told["project"], tracker.told["name"], tracker.finished) == ("gridzero", "lake", 1)
    assert tracker.told["config"]["config"]["gamma"] == 0.99
    logged = [
        {key: value for key, value in row.items() if key not in ("seconds", *runs.WALL_CLOCK)}
        for row in runs.read_metrics(Path("runs/lake"))
    ]
    told = [
        {"step": step} | {key: value for key, value in metrics.items() if key not in runs.WALL_CLOCK}
        for step, metrics in tracker.rows
    ]
    assert told == logged
    assert main(["train", "--run", "lake", "--resume", "--steps", "400", "--log", name]) == 0
    assert tracker.rows[-1][0] == 400
    assert tracker.told["resume"] == "allow"


def test_a_tracker_that_is_missing_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["train", "q-learning", *LAKE, "--log", "wandb"]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    assert main(["train", "q-learning", *LAKE, "--log", "mlflow"]) == 2
    assert not Path("runs").exists()
