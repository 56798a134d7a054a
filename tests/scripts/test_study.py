"""Studies: settings that Optuna chooses, pruned by the evaluations on the way, resumed as if never interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from gridzero.__main__ import main
from gridzero.agents import runs
from gridzero.commands import engines

STUDY = [
    "sweep", "q-learning", "--env", "FrozenLake-v1", "--env.is_slippery", "False", "--sampler", "optuna",
    "--over", "step_size=0.01..1", "--over", "epsilon=0.1,1.0", "--over", "steps_per_update=40..60",
    "--seeds", "2", "--steps", "300", "--evaluate-every", "100", "--evaluation-episodes", "2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train in this process; an interruption is asked for by the number of questions it comes after."""
    after: list[int] = []

    def train(jobs: Sequence[Any], at_once: int | None, stopped: Callable[[], bool]) -> None:
        asked = 0

        def stop() -> bool:
            nonlocal asked
            asked += 1
            return bool(after) and asked > after[0]

        for job in jobs:
            job.train(stop)

    monkeypatch.setitem(engines.ENGINES, "local", train)  # type: ignore[arg-type]
    return after


def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path("runs") / name / "results.json").read_text())
    return found


def test_trials_are_within_their_ranges_and_the_best_is_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STUDY, "--trials", "4", "--run", "study"]) == 0
    output = capsys.readouterr().out
    assert "the best of 4 trials" in output
    found = results("study")
    best = runs.read_config(runs.find(output.split()[-1]))["config"]
    assert best["step_size"] == found["best"]["setting"]["step_size"]
    for trial in found["trials"]:
        setting = trial["setting"]
        assert 0.01 <= float(setting["step_size"]) <= 1
        assert setting["epsilon"] in ("0.1", "1.0")
        assert 40 <= setting["steps_per_update"] <= 60
        path = Path(f"runs/study/trial-{trial['trial']}/seed-0")
        assert runs.read_config(path)["config"]["step_size"] == setting["step_size"]
    values = [trial["value"] for trial in found["trials"] if trial["value"] is not None]
    assert found["best"]["mean"] == max(values)
    assert Path("runs/study/sweep.png").is_file()
    assert all(json.loads(line) for line in Path("runs/study/study.jsonl").read_text().splitlines())


def test_an_interrupted_study_goes_on_as_if_it_had_not_been(in_process: list[int]) -> None:
    assert main([*STUDY, "--trials", "3", "--run", "whole"]) == 0
    in_process.append(21)  # in the middle of a trial
    assert main([*STUDY, "--trials", "3", "--run", "parts"]) == 130
    in_process.clear()
    assert main(["sweep", "--run", "parts", "--resume"]) == 0
    assert results("parts")["trials"] == results("whole")["trials"]
    assert results("parts")["best"] == results("whole")["best"]
    assert main(["sweep", "--run", "parts", "--resume", "--trials", "4"]) == 0
    assert results("parts")["trials"][:3] == results("whole")["trials"]
    assert len(results("parts")["trials"]) == 4
    assert main(["sweep", "--run", "parts", "--resume", "--metric", "td_error"]) == 2


def test_what_is_worse_at_the_same_point_is_pruned() -> None:
    from gridzero.commands import study
    from gridzero.commands.study import _Pruning

    made = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(2, 0))
    from gridzero.agents import Update

    for value in (1.0, 1.0):
        trial = made.ask()
        _Pruning(trial, 0, None, 100).on_update(Update(50, {"evaluation_return": value}))
        made.tell(trial, value)
    bad = _Pruning(made.ask(), 0, None, 100)
    bad.on_update(Update(40, {"episode_return": -5.0}))  # no evaluation on the way
    with pytest.raises(optuna.TrialPruned):
        bad.on_update(Update(50, {"evaluation_return": 0.0}))
    assert study.WARMUP_POINTS > 0


def test_a_setting_that_does_not_fit_is_a_failed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    original = engines.Job.train

    def train(self: Any, *arguments: Any) -> None:
        if "trial-0" in str(self.path):
            raise ValueError("does not fit")
        original(self, *arguments)

    monkeypatch.setattr(engines.Job, "train", train)
    assert main([*STUDY, "--trials", "2", "--run", "study"]) == 0
    first = results("study")["trials"][0]
    assert (first["state"], first["error"], first["value"]) == ("fail", "does not fit", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "2"], "--over"),
        (["--over", "step_size=1..0.1", "--trials", "2"], "LOW < HIGH"),
        (["--over", "gamma=0..1", "--trials", "2"], "LOW < HIGH"),
        (["--over", "gama=0.1..1", "--trials", "2"], "did you mean gamma"),
        (["--over", "gamma=0.5,0.9"], "belong together"),
        (["--over", "gamma=0.5,2.0", "--trials", "2"], "gamma"),
        (["--over", "gamma=0.5,0.9", "--trials", "0"], "at least 1"),
    ],
)
def test_mistakes_are_told_before_anything_begins(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "q-learning", "--env", "FrozenLake-v1", "--sampler", "optuna", "--run", "none"]
    assert main([*command, *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs/none").exists()


def test_a_sweep_by_another_metric(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "value-iteration", "--env", "FrozenLake-v1", "--over", "gamma=0.5,0.9", "--seeds", "1"]
    assert main([*command, "--evaluation-episodes", "2", "--metric", "residual", "--run", "vi"]) == 0
    output = capsys.readouterr().out
    assert "residual," in output
    assert "95 % bootstrap interval" in output
    for entry in results("vi")["settings"]:
        last = list(runs.read_metrics(Path("runs/vi") / entry["runs"][0]))[-1]
        assert entry["mean"] == last["residual"]
    assert main(["sweep", "--run", "vi", "--resume", "--metric", "residul"]) == 2
    assert "did you mean residual" in capsys.readouterr().err
