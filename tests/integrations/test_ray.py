"""A sweep on a Ray cluster: its runs are those of ``gridzero train``, with what a module of the user's registers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gridzero.agents import runs

MODULE = """
import dataclasses
import gymnasium as gym
import gridzero.agents
from gridzero.agents.tabular.temporal_difference import QLearning
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

@dataclasses.dataclass(frozen=True)
class AgentConfig(QLearning.Config):
    pass

class Agent(QLearning):
    Config = AgentConfig

gym.register("Ours/Lake-v0", entry_point=FrozenLakeEnv, max_episode_steps=50)
gridzero.agents.register("our-agent", "ours_module:Agent", "Q-learning of ours")
"""
SETTINGS = ["our-agent", "--import", "ours_module", "--env", "Ours/Lake-v0", "--steps", "400", "--steps-per-update"]
SETTINGS += ["200", "--evaluation-episodes", "2"]


def gridzero(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gridzero", *words], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


def results(run: Path) -> tuple[list[dict[str, Any]], Any]:
    metrics = [{k: v for k, v in row.items() if k not in runs.WALL_CLOCK} for row in runs.read_metrics(run)]
    return metrics, json.loads((run / "evaluation.json").read_text())


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_workers_import_the_module_and_train_the_runs_of_train(tmp_path: Path) -> None:
    (tmp_path / "ours_module.py").write_text(MODULE)
    sweep = ["--over", "gamma=0.9", "--seeds", "2", "--engine", "ray", "--jobs", "2", "--run", "many"]
    gridzero(tmp_path, "sweep", *SETTINGS, *sweep)
    gridzero(tmp_path, "train", *SETTINGS, "--gamma", "0.9", "--seed", "1", "--run", "alone")
    folder = tmp_path / "runs/many/0-gamma=0.9/seed-1"
    assert results(folder) == results(tmp_path / "runs/alone")
    assert runs.read_config(folder)["imports"] == ["ours_module"]
