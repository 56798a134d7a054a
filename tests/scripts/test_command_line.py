"""The commands as their user meets them: what they print, what they leave, and one line for every mistake."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console

from gridzero.__main__ import COMMANDS, main
from gridzero.agents import REGISTRY, checkpoint, runs
from gridzero.commands import report
from gridzero.commands.arguments import coerce, condense
from gridzero.commands.environment_words import environment_options

from .folders import contents

LAKE = ["--env", "FrozenLake-v1"]
WORDS = ["--env", "gridzero/TextGeneration-v0", "--env.task", "addition"]
QUICK = ["--steps", "2000", "--evaluation-episodes", "5"]


@pytest.fixture(scope="module")
def some_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs: two seeds of one learner, and a planner."""
    folder = tmp_path_factory.mktemp("some")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in ("0", "1"):
            assert main(["train", "q-learning", *LAKE, *QUICK, "--seed", seed, "--run", f"q{seed}"]) == 0
        assert main(["train", "value-iteration", *LAKE, "--evaluation-episodes", "5", "--run", "vi"]) == 0
    return folder


MISTAKES: list[tuple[list[str], str]] = [
    (["tran"], "did you mean train"),
    (["--foo"], "there are train"),
    (["train", "q-lerning", *LAKE], "did you mean q-learning"),
    (["train", "q-learning"], "--env ID"),
    (["train", "--env", "FrozenLake-v1"], "which agent?"),
    (["train", "q-learning", "--env", "FrozenLak-v1"], "did you mean FrozenLake-v1"),
    (["train", "q-learning", "--env", "gridworld"], "did you mean gridzero/GridWorld-v0"),
    (["train", "q-learning", "--env", ""], "no environment"),
    (["train", "q-learning", "--env", "os:system"], "no environment"),
    (
        ["train", "q-learning", "--env", "four-rooms"],
        "it is a map: gridzero/GridWorld-v0 --env.layout four-rooms",
    ),
    (["train", "grpo", "--env", "countdown"], "it is a task: gridzero/TextGeneration-v0 --env.task countdown"),
    (["train", "q-learning", *LAKE, "--env.slippery", "1"], "did you mean is_slippery?"),
    (["train", "q-learning", *LAKE, "--env.is_slippery", "3"], "takes True or False, not '3'"),
    (["train", "q-learning", *LAKE, "--env.is_slippery"], "needs a value"),
    (["train", "q-learning", *LAKE, "--env.map_name", "9x9"], "9x9"),
    (["train", "q-learning", *LAKE, "--env.max_episode_steps", "0"], "at least 1"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.layout", "zhao"], "did you mean zhao"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.layout", "no/such/file"], "no/such/file"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.layout", "unreadable.txt"], "unreadable"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.layout", "bad.txt"], "line 2"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.layout", "binary.txt"], "binary.txt"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.slip", "2"], "slip"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.actions", "6"], "actions"),
    (["train", "q-learning", "--env", "gridzero/GridWorld-v0", "--env.slip", "much"], "takes a"),
    (["train", "q-learning", *LAKE, "--steps", "-5"], "at least 1, not -5"),
    (["train", "q-learning", *LAKE, "--steps", "abc"], "--steps takes a whole number"),
    (["train", "q-learning", *LAKE, "--steps"], "--steps needs a value"),
    (["train", "q-learning", *LAKE, "--steps", "1e5"], "--steps takes a whole number"),
    (["train", "q-learning", *LAKE, "--seconds", "0"], "above 0"),
    (["train", "q-learning", *LAKE, "--seed", "-1"], "seed must be at least 0"),
    (["train", "q-learning", *LAKE, "--num-envs", "0"], "num_envs must be at least 1"),
    (["train", "q-learning", *LAKE, "--threads", "0"], "threads must be at least 1"),
    (["train", "q-learning", *LAKE, "--evaluation-episodes", "0"], "evaluation_episodes must be at least 1"),
    (["train", "q-learning", *LAKE, "--gama", "0.9"], "did you mean --gamma?"),
    (["train", "q-learning", *LAKE, "--gamma", "2"], "gamma"),
    (["train", "q-learning", *LAKE, "--gamma", "x"], "--gamma takes a number, not 'x'"),
    (["train", "q-learning", *LAKE, "--step-size", "foo"], "1/k"),
    (["train", "value-iteration", *LAKE, "--sweep", "fast"], "synchronous"),
    (["train", "q-learning", *LAKE, "stray"], "stray"),
    (["train", "q-learning", "--env", "CartPole-v1"], "discrete"),
    (["train", "value-iteration", "--env", "Blackjack-v1"], "model"),
    (["train", "q-learning", *LAKE, "--run", "q0"], "exists"),
    (["train", "q-learning", *LAKE, "--run", ""], "needs a name"),
    (["train", "q-learning", *LAKE, "--run", "unwritable/run"], "unwritable is a file where"),
    (["train", "q-learning", *LAKE, "--run", "bad.txt/run"], "bad.txt is a file where a folder is needed"),
    (["train", "--resume"], "--run NAME"),
    (["train", "--run", "q5", "--resume"], "did you mean q"),
    (["train", "sarsa", "--run", "q0", "--resume"], "cannot go on with sarsa"),
    (["train", "--run", "q0", "--resume", "--gamma", "0.5"], "gamma"),
    (["train", "--run", "q0", "--resume", "--seed", "5"], "seed"),
    (["train", "--run", "q0", "--resume", "--steps", "1"], "is at step"),
    (["train", "--run", "q0", "--resume", "--env", "Taxi-v4"], "env"),
    (["train", "--run", "q0", "--resume", "--env.is_slippery", "False"], "is_slippery"),
    (["train", "--run", "damaged", "--resume"], "damaged"),
    (["train", "--run", "foreign", "--resume"], "not a gridzero run"),
    (["train", "q-learning", *LAKE, "--steps", "１２"], "digits 0 to 9"),
    (["train", "q-learning", *LAKE, "--seed", "1", "--seed", "2"], "--seed is given twice"),
    (["train", "q-learning", *LAKE, "--step-size", "0"], "above 0"),
    (["train", "mc-epsilon-greedy", *LAKE, "--step-size", "0"], "above 0"),
    (["train", "q-learning", *LAKE, "--run", "  "], "needs a name"),
    (["train", "q-learning", *LAKE, "--run", "a\nb"], "needs a name"),
    (["train", "q-learning", *LAKE, "--num-envs", "1000000000"], "--num-envs needs at least"),
    (["train", "ppo", *LAKE, "--preset", "FrozenLak-v1"], "did you mean FrozenLake-v1"),
    (["train", "q-learning", *LAKE, "--preset", "FrozenLake-v1"], "q-learning has no presets"),
    (["sweep", "ppo", *LAKE, "--preset", "lake"], "ppo has no preset 'lake'"),
    (["train", "ppo", *LAKE, "--num-envs", "1000000000"], "--num-envs needs at least"),
    (["train", "ppo", *LAKE, "--rollout-steps", "1000000000000"], "--rollout-steps needs at least"),
    (["train", "ppo", *LAKE, "--hidden", "10000000", "10000000"], "--hidden needs at least"),
    (["train", "grpo", *LAKE, "--group-size", "1000000000"], "--group-size needs at least"),
    (
        ["train", "grpo", *WORDS, "--policy.peft", "lora", "--policy.peft-rank", "1000000000"],
        "--policy.peft-rank needs at least",
    ),
    (["sweep", "ppo", *LAKE, "--over", "num_envs=1000000000"], "--num-envs needs at least"),
    (["evaluate"], "which run?"),
    (["evaluate", "q9"], "did you mean q"),
    (["evaluate", ""], "needs a name"),
    (["evaluate", "."], "not a run"),
    (["evaluate", "q0", "--episodes", "-1"], "at least 1"),
    (["evaluate", "q0", "--episodes", "many"], "whole number"),
    (["evaluate", "q0", "--jsn"], "did you mean --json"),
    (["evaluate", "damaged"], "damaged"),
    (["plot"], "which run?"),
    (["plot", "nothing"], "there is no run"),
    (["plot", "q0", "--metric", "episode_retrn"], "did you mean episode_return"),
    (["plot", "q0", "vi", "--metric", "residual"], "no metric"),
    (["plot", "q0", "--output", "picture.xyz"], ".png"),
    (["plot", "q0", "--output", "unwritable/picture.png"], "unwritable is a file where"),
    (["plot", "q0", "--points", "1"], "at least 2"),
    (["list", "agent"], "agents"),
    (["list", "--jason"], "did you mean --json"),
    (["train", "imitation", *LAKE, "--scale", "8"], "scale does nothing with head softmax; leave it out"),
    (["train", "imitation", *LAKE, "--head", "sphereface", "--scale", "8"], "scale does nothing with head sphereface"),
    (
        ["train", "imitation", *LAKE, "--head", "arcface", "--annealing", "8"],
        "annealing does nothing with head arcface",
    ),
    (["train", "imitation", *LAKE, "--expert", "q0", "--gamma", "0.5"], "gamma does nothing with expert q0"),
    (
        ["train", "grpo", *LAKE, "--preset", "none", "--kl-estimator", "k1"],
        "kl_estimator does nothing with kl_coefficient 0",
    ),
    (
        ["train", "grpo", *LAKE, "--kl-in-reward", "--kl-coefficient", "0.1", "--kl-estimator", "k1"],
        "kl_estimator does nothing with kl_in",
    ),
    (["train", "grpo", *LAKE, "--variant", "cispo", "--clip", "0.1"], "clip does nothing with surrogate truncated"),
    (
        ["train", "reinforce", *LAKE, "--baseline", "mean", "--value-coefficient", "1"],
        "value_coefficient does nothing with baseline mean",
    ),
    (
        ["train", "reinforce", *LAKE, "--entropy-schedule", "constant"],
        "entropy_schedule does nothing with entropy_coefficient 0",
    ),
    (
        ["train", "sarsa-linear", *LAKE, "--features", "fourier", "--tiles", "4"],
        "tiles does nothing with features fourier",
    ),
    (["train", "sarsa-linear", *LAKE, "--trace", "replacing"], "trace does nothing with trace_decay 0"),
    (
        ["train", "sarsa-lambda", *LAKE, "--trace-decay", "0", "--trace", "replacing"],
        "trace does nothing with trace_decay 0",
    ),
    (
        ["train", "robbins-monro", *LAKE, "--sampling", "generative", "--epsilon", "0.2"],
        "epsilon does nothing with sampling generative",
    ),
    (
        ["train", "sft", *WORDS, "--policy.model", "model", "--width", "32"],
        "width does nothing with a model that is given",
    ),
    (["train", "distillation", *WORDS, "--on-policy", "--threshold", "0.5"], "threshold does nothing with on_policy"),
    (["train", "dpo", *WORDS, "--data", "pairs.jsonl", "--labels", "soft"], "labels does nothing with data"),
    (["train", "process-reward-model", *WORDS, "--rollouts", "8"], "rollouts does nothing with labels work"),
    (["sweep", "imitation", *LAKE, "--over", "scale=8,16"], "scale does nothing with head softmax"),
    (
        ["sweep", "imitation", *LAKE, "--over", "head=softmax,sphereface", "--scale", "8"],
        "scale does nothing with head",
    ),
    (["train", "ppo", *LAKE, "--initial-log-std", "-1"], "initial_log_std does nothing with actions that are choices"),
    (["train", "ppo", *LAKE, "--no-convolutions"], "convolutions does nothing with observations without images"),
    (["train", "ppo", *LAKE, "--normalise-observations"], "normalise_observations does nothing with observations wit"),
    (["train", "ppo", "--env", "CartPole-v1", "--asynchronous"], "asynchronous does nothing with a native vector"),
    (["train", "ppo", *WORDS, "--no-convolutions"], "convolutions is of networks"),
    (
        ["train", "sft", *WORDS, "--width", "8", "--heads", "2", "--expert-bias-rate", "0.1"],
        "expert_bias_rate does nothing with a model without experts",
    ),
    (["train", "sarsa-linear", *LAKE, "--tilings", "4"], "tilings does nothing with features tabular"),
    (
        ["train", "sarsa-linear", "--env", "MountainCar-v0", "--clip", "3"],
        "clip does nothing with observations that have bounds",
    ),
    (["train", "robbins-monro", *LAKE, "--epsilon", "0.2"], "epsilon does nothing with generative sampling"),
    (["train", "q-learning", *LAKE, "--learning-rate", "0.1"], "did you mean --step-size?"),
    (
        ["sweep", "q-learning", "--env", "gridzero/GridWorld-v0", "--over", "learning_rate=1,2"],
        "did you mean step_size?",
    ),
    (["sweep", "q-learning", *LAKE, "--over", "steps=1,2"], "varies agent and environment; steps is of the whole"),
    (["sweep", "ppo", "--env", "CartPole-v1", "--over", "hidden=32,64"], "a tuple such as (8,8), not '32'"),
    (["sweep", "q-learning", *LAKE, "--over", "slippery=True"], "did you mean env.is_slippery?"),
    (["sweep", "sarsa-linear", *LAKE, "--over", "tilings=4,8"], "tilings does nothing with features tabular"),
    (["watch", "q0", "--temperature", "1"], "temperature does nothing but for a language model"),
    (["watch", "q0", "--frames", "9"], "frames does nothing without --learn and --record"),
    (["watch", "q0", "--learn", "--episodes", "9"], "episodes does nothing with --learn"),
    (["figure", "--list", "zhao-2"], "leave out names"),
    (["recipe", "--list", "r1"], "leave out the name"),
    (["runs", "list", "--yes"], "--yes is for delete"),
    (["runs", "delete", "q0", "--json"], "--json is for list and compare"),
    (["benchmark", "everything"], "stepping"),
    (["benchmark", "--json", "no/such/folder/file.json"], "no folder no/such/folder to write into"),
    (["figure", "zhao-2", "--folder", "unwritable"], "unwritable is a file where a folder is needed"),
    (["figure", "zhao-2", "--folder", "unwritable/figures"], "unwritable is a file where a folder is needed"),
    (["demo", "--out", "unwritable"], "unwritable is a file where a folder is needed"),
    (["benchmark", "--json", "unwritable/figures.json"], "unwritable is a file where a folder is needed"),
    (["watch", "q0", "--record", "unwritable/picture.png"], "unwritable is a file where a folder is needed"),
    (
        ["sweep", "q-learning", *LAKE, "--over", "gamma=0.9", "--run", "unwritable/sweep"],
        "unwritable is a file where a folder is needed",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "expected"), MISTAKES, ids=lambda value: " ".join(value)[-50:] if isinstance(value, list) else ""
)
def test_a_mistake_gets_one_line_and_status_2(
    arguments: list[str], expected: str, some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(some_runs)
    prepare(some_runs)
    before = contents(some_runs)
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("gridzero: ")
    assert errors.count("\n") == 1
    assert expected in errors
    assert "Traceback" not in errors
    assert contents(some_runs) == before


@pytest.mark.parametrize("width", [50, 80, 100, 160])
def test_numbers_of_an_evaluation_stay_whole_on_any_terminal(
    width: int, some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(some_runs)
    names = ["evaluate", "q0", "q1", "vi", "--episodes", "20"]
    assert main([*names, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(report, "console", lambda: Console(width=width))
    assert main(names) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for row in rows:
        for words in (row["run"], row["agent"], report.with_interval(row["mean"], row["low"], row["high"])):
            assert any(words in line for line in lines)


def test_what_some_runs_of_a_sweep_use_is_taken() -> None:
    words = ["imitation", *LAKE, "--steps", "1", "--evaluation-episodes", "1", "--seeds", "1", "--jobs", "1"]
    assert main(["sweep", *words, "--over", "head=softmax,cosface", "--scale", "8", "--run", "heads"]) == 0


def prepare(folder: Path) -> None:
    """Files and folders that are not as they should be."""
    if (folder / "bad.txt").exists():
        return
    (folder / "bad.txt").write_text("S..\n.?.\n..G\n")
    (folder / "binary.txt").write_bytes(bytes(range(256)))
    (folder / "unreadable.txt").mkdir()
    (folder / "unwritable").write_text("a file, where a folder is needed")
    for name in ("damaged", "foreign"):
        run = folder / "runs" / name
        run.mkdir(parents=True)
        (run / "config.json").write_text('{"format": "gridzero-run", "vers' if name == "damaged" else "{}")


def test_a_damaged_checkpoint_is_refused_and_the_run_left_alone(
    some_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(some_runs / "runs" / "q0", tmp_path / "runs" / "q0")
    tensors = tmp_path / "runs" / "q0" / "checkpoints" / "2000" / checkpoint.TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-1])
    before = contents(tmp_path)
    for arguments in (["evaluate", "q0"], ["train", "--run", "q0", "--resume", "--steps", "4000"]):
        assert main(arguments) == 2
        assert "damaged" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_as_a_process_too() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gridzero", "train", "q-lerning"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"gridzero: no agent is called 'q-lerning'; did you mean .*q-learning.*\?\n", result.stderr)


def test_what_should_not_happen_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(argv: list[str]) -> int:
        raise RuntimeError("a bug\nin two lines")

    monkeypatch.setattr("gridzero.commands.list.main", broken)
    assert main(["list"]) == 1
    assert capsys.readouterr().err.startswith("gridzero: RuntimeError: a bug in two lines; ")


MARKUP = re.compile(r":\w+:`|``|\.\. \w+::")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    output = capsys.readouterr().out
    assert f"gridzero {command} " in output.split("xample")[1]
    assert not MARKUP.search(output)
    assert "None" not in output


@pytest.mark.parametrize("agent", REGISTRY)
def test_help_of_every_agent_has_each_of_its_fields_explained(agent: str, capsys: pytest.CaptureFixture[str]) -> None:
    import dataclasses

    assert main(["train", agent, "--help"]) == 0
    output = capsys.readouterr().out
    assert not MARKUP.search(output)
    assert not re.search(r"\{None|default: None|default: \)", output)
    for field in dataclasses.fields(REGISTRY[agent].load().Config):
        name = field.name.replace("_", "-")
        assert f"--{name}" in output or f"--no-{name}" in output


def test_help_joins_the_lines_of_docstrings_and_says_whose_defaults_it_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    assert main(["train", "ppo", "--env", "CartPole-v1", "--help"]) == 0
    tuned = capsys.readouterr().out
    assert "by default those of this environment, if there are any." in tuned
    assert "those of the preset CartPole-v1, with 40,000 steps" in tuned
    assert re.search(r"--epochs INT +Passes .* \(default: 10\)", tuned)
    assert re.search(r"--no-convolutions .* \(on by default\)", tuned)
    assert main(["train", "ppo", "--env", "CartPole-v1", "--preset", "none", "--help"]) == 0
    bare = capsys.readouterr().out
    assert "of the preset CartPole" not in bare
    assert re.search(r"--epochs INT +Passes .* \(default: 6\)", bare)


def test_the_first_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from gridzero.__main__ import main; main(['--help']); "
        "print(*sorted({'numba', 'torch', 'pygame', 'matplotlib', 'tyro', 'rich', 'tensorboard'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(name in output for name in COMMANDS)
    assert output.splitlines()[-1] == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import gridzero

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gridzero {gridzero.__version__}\n"


def test_train_prints_the_gap_and_where_the_run_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "value-iteration", *LAKE, "--gamma", "0.9", "--run", "lake"]) == 0
    output = capsys.readouterr().out
    assert "0.7442" in output
    assert "0.0689" in output
    assert "gridzero watch lake" in output
    assert runs.read_config(Path("runs/lake"))["config"]["gamma"] == 0.9


def test_names_with_spaces_are_quoted_in_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--steps", "100", "--evaluation-episodes", "1", "--run", "my lake"]
    assert main(["train", "q-learning", *LAKE, *words]) == 0
    assert "gridzero watch 'my lake'" in capsys.readouterr().out


def test_settings_of_the_command_line_beat_those_of_the_map() -> None:
    grid = ["--env", "gridzero/GridWorld-v0", "--env.layout", "zhao-5x5", "--evaluation-episodes", "1"]
    assert main(["train", "value-iteration", *grid, "--gamma", "0.9", "--run", "a"]) == 0
    assert (
        main(["train", "value-iteration", *grid, "--gamma", "0.9", "--run", "b", "--env.reward_forbidden", "-10"]) == 0
    )
    values = [
        np.round(runs.load(run).state_values(), 1)[0]  # type: ignore[attr-defined]
        for run in ("a", "b")
    ]
    assert values == [5.8, 3.5]  # Zhao, figures 3.4a and 3.4d


def test_an_algorithm_of_another_library_is_trained_by_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--n-steps", "32", "--batch-size", "32", "--n-epochs", "1", "--hidden", "8", "--evaluation-episodes", "2"]
    assert main(["train", "sb3-ppo", *LAKE, *small, "--steps", "64", "--run", "sb3"]) == 0, capsys.readouterr().err
    assert runs.read_config(Path("runs/sb3"))["config"]["policy"] == "auto"


@pytest.mark.parametrize(
    ("agent", "setting"),
    [
        ("ppo", "learning-rate"),
        ("ppo", "entropy-coefficient"),
        ("ppo", "clip"),
        ("grpo", "learning-rate"),
        ("grpo", "kl-coefficient"),
        ("sb3-ppo", "learning-rate"),
        ("sb3-ppo", "ent-coef"),
    ],
)
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_rates_and_coefficients_are_finite(
    agent: str, setting: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", agent, *LAKE, f"--{setting}", value, "--run", "rate"]) == 2
    error = capsys.readouterr().err
    assert setting.replace("-", "_") in error
    assert error.count("\n") == 1
    assert not Path("runs/rate").exists()


def test_a_run_that_nobody_named_gets_a_name_of_its_own() -> None:
    for _ in range(2):
        assert main(["train", "q-learning", *LAKE, *QUICK, "--seed", "4"]) == 0
    assert sorted(os.listdir("runs")) == ["q-learning-FrozenLake-v1-4", "q-learning-FrozenLake-v1-4-2"]


def test_a_longer_budget_stays_on_record() -> None:
    assert main(["train", "q-learning", *LAKE, *QUICK, "--run", "more"]) == 0
    assert main(["train", "--run", "more", "--resume", "--steps", "4000"]) == 0
    assert runs.read_config(Path("runs/more"))["training"]["steps"] == 4000
    assert main(["train", "--run", "more", "--resume"]) == 0
    assert checkpoint.latest(Path("runs/more/checkpoints")) == Path("runs/more/checkpoints/4000")


def test_evaluate_skips_what_is_no_run(
    some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(some_runs)
    Path("runs/empty").mkdir(exist_ok=True)
    assert main(["evaluate", "q0", "empty", "nowhere", "--episodes", "2", "--json"]) == 0
    output, errors = capsys.readouterr()
    assert [row["run"] for row in json.loads(output)] == ["q0"]
    empty, nowhere = errors.splitlines()
    assert empty == "gridzero: skipped: runs/empty is not a run: config.json is missing"
    assert nowhere.startswith("gridzero: skipped: there is no run 'nowhere'")
    Path("runs/empty").rmdir()


@pytest.mark.parametrize("delay", [0.1, 1.0])
def test_control_c_while_it_starts_is_one_line(delay: float, tmp_path: Path) -> None:
    """A process is interrupted once the command begins, and some time after that."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's & ignores it
        "from gridzero.__main__ import main; print(flush=True); "
        "sys.exit(main(['train', 'ppo', '--env', 'CartPole-v1', '--steps', '10000000', '--run', 'r']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=600)
        finally:
            process.kill()
    lines = [line for line in errors.splitlines() if "interrupted" in line or "Traceback" in line]
    assert (process.returncode, len(lines)) == (130, 1), errors
    assert "Traceback" not in errors


def test_a_path_for_a_name() -> None:
    assert main(["train", "q-learning", *LAKE, *QUICK, "--run", "./elsewhere/lake"]) == 0
    assert main(["evaluate", "elsewhere/lake", "elsewhere/lake/checkpoints/2000", "--episodes", "2"]) == 0


def test_resuming_needs_nothing_but_the_name() -> None:
    """The interval of evaluations is given, as by default it is a part of the budget, which is another here."""
    whole = ["train", "q-learning", *LAKE, "--env.is_slippery", "False", "--steps-per-update", "100"]
    whole += ["--evaluation-episodes", "2", "--evaluate-every", "500"]
    assert main([*whole, "--run", "whole", "--steps", "3000"]) == 0
    assert main([*whole, "--run", "parts", "--steps", "1000"]) == 0
    assert main(["train", "--run", "parts", "--resume", "--steps", "3000"]) == 0
    rows = [
        [{k: v for k, v in row.items() if k not in runs.WALL_CLOCK} for row in runs.read_metrics(Path("runs") / name)]
        for name in ("whole", "parts")
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 30


def test_watching_without_a_screen_leaves_no_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["train", "q-learning", *LAKE, *QUICK, "--watch", "--run", "seen"]) == 2
    assert "--record" in capsys.readouterr().err
    assert not Path("runs/seen").exists()


def test_environments_in_other_processes_cannot_be_watched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    processes = ["--asynchronous", "--num-envs", "2", "--steps", "64"]
    assert main(["train", "ppo", "--env", "Acrobot-v1", *processes, "--watch", "--run", "seen"]) == 2
    error = capsys.readouterr().err
    assert "drawn in other processes" in error
    assert error.count("\n") == 1
    assert not Path("runs/seen").exists()


def test_watching_shows_the_updates_and_ends_when_the_window_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Window:
        closed = False

        def __init__(self, env: Any, agent: Any) -> None:
            assert agent.env is env

        def update(self, update: Any) -> None:
            seen.append(update.step)
            self.closed = update.step >= 1500

        def hold(self) -> None:
            seen.append(-1)

        def close(self) -> None:
            seen.append(-2)

    monkeypatch.setattr("gridzero.envs.rendering.Viewer", Window)
    arguments = ["train", "q-learning", *LAKE, *QUICK, "--steps-per-update", "500", "--watch", "--run", "seen"]
    assert main(arguments) == 0
    assert seen == [500, 1000, 1500, -1, -2]
    assert checkpoint.read_manifest(Path("runs/seen/checkpoints/1500"))["training"]["step"] == 1500


def test_many_environments_at_once() -> None:
    grid = ["--env", "gridzero/GridWorld-v0", "--env.layout", "cliff"]
    assert main(["train", "q-learning", *grid, *QUICK, "--num-envs", "8", "--run", "native"]) == 0
    assert main(["train", "q-learning", *LAKE, *QUICK, "--num-envs", "3", "--run", "sync"]) == 0
    assert [runs.read_config(Path("runs") / name)["environment"]["num_envs"] for name in ("native", "sync")] == [8, 3]


def test_evaluate_as_table_and_as_json(
    some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(some_runs)
    assert main(["evaluate", "q0", "vi", "--episodes", "20"]) == 0
    table = capsys.readouterr().out
    assert table.count("0.7442") == 2
    assert "value gap" in table
    assert "success" not in table, "no episode says whether it was one"
    assert main(["evaluate", "q0", "vi", "--episodes", "20", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in rows] == ["q0", "vi"]
    assert (rows[0]["agent"], rows[0]["step"]) == ("q-learning", 2000)
    assert rows[1]["optimal_value"] == pytest.approx(0.54202593, abs=1e-7)
    assert rows[1]["gap"] == pytest.approx(rows[1]["optimum"] - rows[1]["expected_return"])


class Rare(gym.Env[Any, Any]):
    """Two steps of -1; one episode in a thousand also costs 100."""

    observation_space = action_space = gym.spaces.Discrete(1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.elapsed = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.elapsed += 1
        rare = self.elapsed == 2 and self.np_random.random() < 0.001
        return 0, -101.0 if rare else -1.0, self.elapsed == 2, False, {}


def test_evaluate_warns_of_rare_events_that_the_sample_may_lack(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 1 - 0.05^(1/20) = 13.9 % of episodes may be unlike 20 that are all alike."""
    monkeypatch.setitem(gym.registry, "Rare-v0", gym.envs.registration.EnvSpec("Rare-v0", Rare))
    assert main(["train", "q-learning", "--env", "Rare-v0", *QUICK, "--run", "rare"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "rare", "--episodes", "20"]) == 0
    output, errors = capsys.readouterr()
    assert "-2.0000" in output
    assert "up to 13.9% of episodes may be missing from the sample" in errors
    assert main(["evaluate", "rare", "--episodes", "20", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["mean"], row["low"], row["high"]) == (-2.0, -2.0, -2.0)
    assert len(row["warnings"]) == 1


def test_evaluate_with_other_options_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    """A step costs 1, the last one pays 1. Trained from 2 steps away, held from 3."""
    world = ["--env", "gridzero/GridWorld-v0", "--env.layout", "....\nS..G", "--env.reward_step", "-1"]
    assert main(["train", "value-iteration", *world, "--env.start", "5", "--gamma", "1", "--run", "line"]) == 0
    capsys.readouterr()
    found = {}
    for name, options in {"same": [], "own": ["--env.start", "None"], "turned": ["--env.layout", "S..G\n...."]}.items():
        assert main(["evaluate", "line", "--episodes", "3", "--json", *options]) == 0
        found[name] = json.loads(capsys.readouterr().out)[0]
    assert [row["optimum"] for row in found.values()] == [0.0, -1.0, -1.0]
    assert [row["expected_return"] for row in found.values()] == [0.0, -1.0, None]  # its states are not those cells
    for mistake, expected in (("--env.layout zhao-5x5", "space is"), ("--env.strat 1", "did you mean start")):
        assert main(["evaluate", "line", *mistake.split()]) == 2
        assert expected in capsys.readouterr().err


def test_plot_makes_a_picture(some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from matplotlib.image import imread

    monkeypatch.chdir(some_runs)
    Path("pictures").mkdir(exist_ok=True)
    try:
        assert main(["plot", "q0", "q1", "--metric", "episode_return"]) == 0
        assert main(["plot", "vi", "--output", "pictures/vi.png"]) == 0
        assert "residual of 1 run drawn" in capsys.readouterr().out
        for picture in ("curves.png", "pictures/vi.png"):
            pixels = imread(picture)
            assert pixels.shape == (540, 864, 4)
            assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 10
    finally:
        Path("curves.png").unlink(missing_ok=True)


def test_list_has_every_agent_environment_and_layout(capsys: pytest.CaptureFixture[str]) -> None:
    from gridzero.envs import LAYOUTS

    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for name in (*REGISTRY, *LAYOUTS, "gridzero/GridWorld-v0"):
        assert name in output
    assert main(["list", "agents", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["agents"]] == list(REGISTRY)


def test_list_has_generators_wrappers_presets_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    from gridzero import figures
    from gridzero.agents.presets import presets
    from gridzero.envs.grid.layouts.generators import KINDS

    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["--env.layout"].partition(":")[0] for row in found["generators"]] == list(KINDS)
    limits = {row["--wrapper"]: row["--wrapper.OPTION VALUE"] for row in found["wrappers"]}
    assert limits["gymnasium.wrappers:TimeLimit"] == "max_episode_steps (needed)"
    assert {row["environment"] for row in found["presets"] if row["agent"] == "ppo"} == set(presets("ppo"))
    assert [row["name"] for row in found["figures"]] == figures.names()
    assert "recipes" in found


def parameter(annotation: Any = inspect.Parameter.empty, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter("x", inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


@pytest.mark.parametrize(
    ("text", "given", "value"),
    [
        ("true", parameter(bool), True),
        ("False", parameter(default=True), False),
        ("3", parameter(float), 3.0),
        ("3", parameter(default=1.5), 3.0),
        ("3", parameter(int), 3),
        ("3", parameter(str), "3"),
        ("3", parameter(str | int), 3),
        ("4x4", parameter(str | None), "4x4"),
        ("None", parameter(str | None), None),
        ("none", parameter(float | None), None),
        ("(1, 2)", parameter(str | int | tuple[int, int] | None), (1, 2)),
        ("random", parameter(str | int | tuple[int, int] | None), "random"),
        ("0.5", parameter(), 0.5),
        ("1e-3", parameter(default=0.1), 0.001),
        ("__import__('os')", parameter(), "__import__('os')"),
    ],
)
def test_a_word_becomes_what_the_constructor_takes(text: str, given: inspect.Parameter, value: Any) -> None:
    result = coerce("--env.x", text, given)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("x", parameter(float)),
        ("1.5", parameter(int)),
        ("1", parameter(bool)),
        ("True", parameter(int)),
        ("x", parameter(default=1)),
    ],
)
def test_a_word_of_the_wrong_kind_is_refused(text: str, given: inspect.Parameter) -> None:
    with pytest.raises(ValueError, match=r"^--env\.x takes .*, not "):
        coerce("--env.x", text, given)


def test_options_of_the_grid_world() -> None:
    given = {"layout": "cliff", "slip": "0", "start": "(1, 2)", "actions": "8", "target_terminal": "no"}
    with pytest.raises(ValueError, match="target_terminal takes True or False"):
        environment_options("gridzero/GridWorld-v0", given)
    del given["target_terminal"]
    expected = {"layout": "cliff", "slip": 0.0, "start": (1, 2), "actions": 8}
    assert environment_options("gridzero/GridWorld-v0", given) == expected


def test_a_wrong_word_gets_the_closest_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "preset"]) == 2
    assert capsys.readouterr().err == "gridzero: there is no 'preset'; did you mean presets?\n"
    assert main(["list", "--json", "xyz"]) == 2
    assert "there is no 'xyz'; there are all, environments," in capsys.readouterr().err


def test_an_unknown_environment_may_be_one_of_another_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppo", "--env", "MiniGrid-DoorKey-5x5-v0"]) == 2
    assert "as package:MiniGrid-DoorKey-5x5-v0" in capsys.readouterr().err
    assert main(["train", "ppo", "--env", "CartPole"]) == 2
    assert "did you mean CartPole-v1" in capsys.readouterr().err


def test_boxes_become_lines() -> None:
    box = """╭─ Value error ───────────────╮
│ Error parsing --steps: no   │
│ type matching {None}|INT could be instantiated from ['a'].  │
│                             │
│ Got errors:                 │
│ - something                 │
╰─────────────────────────────╯"""
    assert condense(box) == "--steps takes a whole number or None, not 'a'"
    box = box.replace("--steps", "--from").replace("{None}|INT", "{None}|INT|{best}")
    assert condense(box) == "--from takes best or a whole number or None, not 'a'"
