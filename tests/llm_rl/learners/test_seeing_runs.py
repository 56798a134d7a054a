"""Runs of models that see, from the command line."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gridzero.agents import checkpoint, runs

MAZES = ["--env", "gridzero/TextGeneration-v0", "--env.task", "grid-path", "--env.pixels", "8", "--env.direct", "true"]
SHORT = ["--evaluation-episodes", "4", "--evaluate-every", "0"]
LEARNING = {
    "sft": ["--steps", "480", "--gradient-steps", "1", "--checkpoint-every", "48", "--demonstrations", "40"],
    "grpo": [
        "--steps",
        "128",
        "--groups",
        "2",
        "--group-size",
        "4",
        "--checkpoint-every",
        "16",
        "--episode-limit",
        "16",
    ],
}


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "gridzero", *arguments]
    return subprocess.Popen(words, cwd=folder, env=os.environ, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


def saved(path: Path) -> Any:
    return checkpoint.latest(path / "checkpoints") if (path / "checkpoints").is_dir() else None


@pytest.mark.slow
@pytest.mark.parametrize("learner", [*LEARNING])
def test_killed_in_the_middle_it_comes_to_the_very_numbers(learner: str, tmp_path: Path) -> None:
    words = ["train", learner, *MAZES, *SHORT, *LEARNING[learner]]
    if learner == "grpo":
        shown = ["--steps", "160", "--run", "shown"]
        finished(command(tmp_path, "train", "sft", *MAZES, *SHORT, *shown))
        words += ["--policy.model", "shown", "--learning-rate", "1e-3"]
    finished(command(tmp_path, *words, "--run", "whole"))
    rng, kills, path = random.Random(0), 0, tmp_path / "runs" / "killed"
    process = command(tmp_path, *words, "--run", "killed")
    for _ in range(2):
        before = saved(path)
        while process.poll() is None and saved(path) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process = command(tmp_path, "train", "--run", "killed", "--resume")
    finished(process)
    assert kills, "it was never caught at work"
    whole = tmp_path / "runs" / "whole"
    logged, expected = (
        [{name: value for name, value in row.items() if name not in runs.WALL_CLOCK} for row in runs.read_metrics(one)]
        for one in (path, whole)
    )
    assert logged == expected
    ours, theirs = (
        {str(file.relative_to(saved(one))): load_file(file) for file in saved(one).rglob("*.safetensors")}
        for one in (path, whole)
    )
    assert ours.keys() == theirs.keys()
    for name, tensors in theirs.items():
        assert tensors.keys() == ours[name].keys()
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(ours[name][key], tensor)
