"""The card of a run, whose command makes the same run again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import gridzero
from gridzero.__main__ import main
from gridzero.agents import runs
from gridzero.agents.run_writer import Run

LAKE = "--env FrozenLake-v1 --env.is_slippery False"
GRID = "--env gridzero/GridWorld-v0"


def test_it_has_the_runs_name_and_each_reward(tmp_path: Path) -> None:
    agent = gridzero.agents.make("q-learning", "FrozenLake-v1")
    with Run.create(tmp_path / "lake", agent) as run:
        run.write_evaluation({"episodes": 3, "mean": 0.5, "rewards": {"brevity": (0.25, 0.1, 0.4)}})
    text = (tmp_path / "lake/README.md").read_text()
    assert text.startswith(f"# {tmp_path / 'lake'}\n")
    assert "| brevity | 0.2500 [0.1000, 0.4000] |" in text


@pytest.mark.parametrize(
    "words",
    [
        f"q-learning {LAKE} --gamma 0.9 --steps 2000 --seed 4",
        f"value-iteration {GRID} --env.layout zhao-5x5 --gamma 0.5",
        f"q-learning {LAKE} --wrapper gymnasium.wrappers:TimeLimit --wrapper.max_episode_steps 7 --steps 1000",
        f"ppo {GRID} --env.layout zhao-2x2 --hidden 8 8 --no-normalise-rewards --steps 100"
        " --num-envs 2 --rollout-steps 8",
        "ppo --env CartPole-v1 --hidden 8 --epochs 1 --gae-lambda 0.95 --steps 512",
        "ppo --env CartPole-v1 --preset none --hidden 8 --epochs 1 --steps 512 --num-envs 8",
    ],
)
def test_its_command_makes_the_same_run(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *shlex.split(words), "--evaluation-episodes", "5", "--run", "first"]) == 0
    text = (tmp_path / "runs/first/README.md").read_text()
    block = re.search(r"```sh\n(.*)\n```", text)
    assert block is not None
    command, *again = shlex.split(block[1])
    assert command == "gridzero"
    assert main([*again, "--evaluation-episodes", "5", "--run", "second"]) == 0
    first, second = (runs.read_config(tmp_path / "runs" / name) for name in ("first", "second"))
    assert {**first, "sha256": ""} == {**second, "sha256": ""}
    rows = [list(runs.read_metrics(tmp_path / "runs" / name)) for name in ("first", "second")]
    for row in (row for each in rows for row in each):
        for name in runs.WALL_CLOCK:
            row.pop(name, None)
    assert rows[0] == rows[1]
    result = json.loads((tmp_path / "runs/first/evaluation.json").read_text())
    assert f"| return | {result['mean']:.4f} [" in text
