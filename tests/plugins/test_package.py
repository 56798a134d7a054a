"""A package outside the repository, installed and removed: all that it brings works in every command meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "sample_plugin"
RUN_ALL = """
import sys, json
from gridzero.__main__ import main
for command in json.loads(sys.argv[1]):
    print("STATUS", main(command), flush=True)
"""
MAKE_MODEL = """
from gridzero.envs.tasks import Vocabulary, make_task
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
vocabulary = Vocabulary.for_task(make_task("reversal"))
model = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=400)
save_model(model, character_tokenizer(vocabulary), "model")
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed from a copy of its sources, without the network."""
    folder = tmp_path_factory.mktemp("packages")
    sources = tmp_path_factory.mktemp("sources") / "plugin"
    shutil.copytree(SOURCES, sources)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(sources)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def python(folder: Path, packages: Path | None, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"SDL_VIDEODRIVER": "dummy"} | ({} if packages is None else {"PYTHONPATH": str(packages)})
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=folder, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip


def gridzero(folder: Path, packages: Path | None, *commands: str) -> tuple[list[int], str, str]:
    """The statuses of some commands, one after the other in a new process, and what they print."""
    result = python(folder, packages, RUN_ALL, json.dumps([command.split() for command in commands]))
    statuses = [int(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("STATUS")]
    return statuses, result.stdout, result.stderr


def test_all_that_a_package_brings(packages: Path, tmp_path: Path) -> None:
    model = python(tmp_path, packages, MAKE_MODEL)
    assert model.returncode == 0, model.stderr
    quick = "--evaluation-episodes 2"
    text = "--env gridzero/TextGeneration-v0 --env.task reversal --env.rewards correct,calm=0.5 --policy.model model"
    small = "--groups 2 --group-size 2 --episode-limit 8"
    pond = "--env gridzero/GridWorld-v0 --env.layout plugin-pond"
    statuses, output, errors = gridzero(
        tmp_path,
        packages,
        f"train hill-climbing --env plugin/Corridor-v0 --steps 6000 --run own {quick}",
        f"train q-learning --env plugin/Corridor-v0 --env.length 4 --steps 2000 --run corridor {quick}",
        f"train value-iteration {pond} --run pond {quick}",
        f"train grpo {text} {small} --steps 8 --run texts {quick}",
        "list",
    )
    assert statuses == [0] * 5, errors
    listing = output.split("STATUS 0")[-2]
    for name in ("plugin/Corridor-v0", "hill-climbing", "reversal", "plugin-pond"):
        line = next(line for line in listing.splitlines() if name in line)
        assert "gridworld_plugin" in line, line

    commands = [
        "evaluate own corridor pond texts --episodes 2 --json",
        "train --run own --resume --steps 7000",
        "train --run corridor --resume --steps 2500",
        "train --run texts --resume --steps 16",
        "watch pond --record pond.gif --episodes 1",
        "watch corridor --record corridor.gif --episodes 1",
        "watch texts --episodes 1",
        f"sweep hill-climbing --env plugin/Corridor-v0 --over change=0.1,0.5 --seeds 1 --steps 300 --jobs 1 {quick}",
    ]
    statuses, output, errors = gridzero(tmp_path, packages, *commands)
    assert statuses == [0] * len(commands), errors
    rows = {row["run"]: row for row in json.loads(output.split("STATUS")[0])}
    metrics = [json.loads(line) for line in (tmp_path / "runs/texts/metrics.jsonl").read_text().splitlines()]
    assert all(0 < row["episode_return"] < 0.5 for row in metrics)  # never right, but calm
    assert (tmp_path / "corridor.gif").stat().st_size > 0
    assert [rows[name]["mean"] for name in ("own", "corridor", "pond")] == [-4.0, -3.0, 1.0]

    statuses, _, errors = gridzero(
        tmp_path,
        None,
        "train hill-climbing --env FrozenLake-v1",
        "train q-learning --env plugin/Corridor-v0",
        f"train q-learning {pond}",
        f"train grpo {text}",
        "evaluate own",
    )
    assert statuses == [2] * 5
    lines = errors.splitlines()
    assert len(lines) == 5
    for line, what in zip(lines, ("agent", "environment", "layout", "task", "environment"), strict=True):
        assert line.startswith(f"gridzero: no {what} is called ")


def test_a_plugin_that_cannot_be_loaded_is_one_line(packages: Path, tmp_path: Path) -> None:
    broken = tmp_path / "packages"
    shutil.copytree(packages, broken)
    (broken / "gridworld_plugin" / "__init__.py").write_text("raise RuntimeError('of another\\nage')\n")
    statuses, output, errors = gridzero(tmp_path, broken, "list agents", "train q-lerning --env FrozenLake-v1")
    assert statuses == [0, 2]
    assert "q-learning" in output
    said, hint = errors.splitlines()
    assert said == "gridzero: the plug-in gridworld cannot be loaded: RuntimeError: of another age"
    assert hint.startswith("gridzero: no agent is called 'q-lerning'; did you mean ")
    assert "q-learning" in hint
