"""``gridzero runs``: list, compare, delete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridzero.__main__ import main
from gridzero.agents.files import lock, signed


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with two short runs, which differ in gamma and seed."""
    for name, gamma, seed in (("a", "0.9", "0"), ("b", "0.8", "3")):
        words = [
            "q-learning",
            "--env",
            "FrozenLake-v1",
            "--steps",
            "100",
            "--steps-per-update",
            "100",
            "--evaluation-episodes",
            "5",
        ]
        assert main(["train", *words, "--gamma", gamma, "--seed", seed, "--run", name]) == 0
    capsys.readouterr()
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main(["runs", *words, "--json"]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.usefixtures("folder")
def test_runs_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["run"]: row for row in printed(capsys)}
    assert {name: (row["agent"], row["environment"], row["seed"], row["step"]) for name, row in rows.items()} == {
        "a": ("q-learning", "FrozenLake-v1, map name 4x4", 0, 100),
        "b": ("q-learning", "FrozenLake-v1, map name 4x4", 3, 100),
    }
    result = json.loads(Path("runs/a/evaluation.json").read_text())
    assert (rows["a"]["return"], rows["a"]["gap"]) == (result["mean"], result["gap"])
    assert main(["runs"]) == 0
    assert "FrozenLake-v1" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_settings_that_differ_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    rows = printed(capsys, "compare", "a", "b")
    assert rows == [
        {"setting": "gamma", "runs/a": 0.9, "runs/b": 0.8},
        {"setting": "seed", "runs/a": 0, "runs/b": 3},
    ]


@pytest.mark.usefixtures("folder")
def test_brackets_and_colons_in_a_name_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/a").rename("runs/[first] :x:")
    assert main(["runs"]) == 0
    assert "[first] :x:" in capsys.readouterr().out


def test_many_runs_are_compared_in_a_row_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((folder / "runs/a/config.json").read_text())
    form, version, _ = (record.pop(name) for name in ("format", "version", "sha256"))
    names = [f"gamma-{k}" for k in range(8)]
    for k, name in enumerate(names):
        record["config"]["gamma"] = k / 10
        (folder / "runs" / name).mkdir()
        (folder / "runs" / name / "config.json").write_bytes(signed(record, form, version))
    assert main(["runs", "compare", *names]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["run", "gamma"] in lines
    assert all([f"runs/{name}", str(k / 10)] in lines for k, name in enumerate(names))


def test_small_numbers_and_numbers_of_environments_differ_in_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((folder / "runs/a/config.json").read_text())
    form, version, _ = (record.pop(name) for name in ("format", "version", "sha256"))
    for name, num_envs, rate in (("few", 8, 1e-5), ("many", 16, 2e-5)):
        record["config"] |= {"num_envs": num_envs, "learning_rate": rate}
        (folder / "runs" / name).mkdir()
        (folder / "runs" / name / "config.json").write_bytes(signed(record, form, version))
    assert main(["runs", "compare", "few", "many"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["num_envs", "8", "16"] in table
    assert ["learning_rate", "1e-05", "2e-05"] in table


def test_deleting_needs_a_yes_and_spares_what_is_being_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "delete", "a"]) == 2
    assert "say --yes" in capsys.readouterr().err
    held = lock(folder / "runs/a")
    assert held is not None
    with open(held, "rb"):
        assert main(["runs", "delete", "a", "b", "--yes"]) == 2
        assert "is being written by another process" in capsys.readouterr().err
    assert (folder / "runs/b").is_dir()
    assert main(["runs", "delete", "a", "--yes"]) == 0
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["b"]
    (folder / "notes").mkdir()
    assert main(["runs", "delete", "notes", "--yes"]) == 2
    assert (folder / "notes").is_dir()


def test_a_damaged_run_is_named_and_the_others_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs/a/evaluation.json").write_text("[")
    assert main(["runs"]) == 0
    captured = capsys.readouterr()
    assert "evaluation.json is damaged" in captured.err
    assert "q-learning" in captured.out


def test_nothing_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert "there are no runs" in capsys.readouterr().out
    assert main(["runs", "compare", "x", "y"]) == 2
