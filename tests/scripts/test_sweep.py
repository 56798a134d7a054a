"""Sweeps: each run is the one of ``gridzero train``, whoever trains it, and killing a sweep changes no number."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridzero.__main__ import main
from gridzero.agents import checkpoint, runs
from gridzero.agents.neural.configs.grpo import VARIANTS
from gridzero.agents.presets import preset
from gridzero.agents.registry import agent_class, make
from gridzero.agents.tabular.temporal_difference import QLearning
from gridzero.commands import engines, sweep
from gridzero.commands.environment_words import EnvironmentWords
from gridzero.commands.settings import TrainingOptions, parse_settings
from gridzero.commands.summary import summarise

from .folders import contents

LAKE = ["--env", "FrozenLake-v1"]
SHORT = ["--steps", "1000", "--steps-per-update", "500", "--evaluation-episodes", "5"]
FROZEN = {"id": "FrozenLake-v1", "kwargs": {}}


def numbers(path: Path) -> dict[str, Any]:
    """All that a run has on disk, but for the clock."""
    last = checkpoint.latest(path / "checkpoints")
    assert last is not None
    manifest, tree, tensors = checkpoint.read(last)
    return {
        "config": (path / "config.json").read_text(),
        "metrics": [{k: v for k, v in row.items() if k not in runs.WALL_CLOCK} for row in runs.read_metrics(path)],
        "evaluation": (path / "evaluation.json").read_text(),
        "checkpoint": (manifest["training"]["step"], tree, {name: array.tobytes() for name, array in tensors.items()}),
    }


def test_each_run_is_the_one_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ["--evaluation-episodes", "3", "--steps", "512", "--rollout-steps", "32", "--hidden", "8"]
    varied = ["--over", "learning_rate=0.01", "--over", "env.is_slippery=False", "--seeds", "2"]
    assert main(["sweep", "ppo", *LAKE, *fixed, *varied, "--run", "many", "--jobs", "1"]) == 0
    table = capsys.readouterr().out
    assert "0.01" in table
    for seed in ("0", "1"):
        one = ["--learning-rate", "0.01", "--env.is_slippery", "False", "--seed", seed, "--run", f"alone-{seed}"]
        assert main(["train", "ppo", *LAKE, *fixed, *one]) == 0
        of_sweep = Path(f"runs/many/0-learning_rate=0.01,env.is_slippery=False/seed-{seed}")
        assert numbers(of_sweep) == numbers(Path(f"runs/alone-{seed}"))


def test_every_combination_has_its_seeds() -> None:
    over = ["--over", "gamma=0.9,0.99", "--over", "env.map_name=4x4,8x8", "--over", "num-envs=2", "--jobs", "1"]
    assert main(["sweep", "q-learning", *LAKE, *SHORT, *over, "--seeds", "2", "--run", "all"]) == 0
    found = set()
    for path in Path("runs/all").rglob("config.json"):
        config = runs.read_config(path.parent)
        assert config["environment"]["num_envs"] == 2
        found.add((config["config"]["gamma"], config["environment"]["kwargs"]["map_name"], config["seed"]))
    assert found == {(gamma, name, seed) for gamma in (0.9, 0.99) for name in ("4x4", "8x8") for seed in (0, 1)}


def test_values_are_of_the_types_of_their_settings() -> None:
    over = ("hidden=(64, 64),(8,)", "normalise_rewards=True,False", "env.start=3,(1, 2),random", "target_kl=None,1")
    config = agent_class("ppo").Config()
    made = sweep.Sweep(
        Path("x"), "ppo", {"id": "gridzero/GridWorld-v0", "kwargs": {}}, None, config, sweep.Options(over=over)
    )
    assert [made.settings[0], made.settings[-1]] == [
        {"hidden": (64, 64), "normalise_rewards": True, "env.start": 3, "target_kl": None},
        {"hidden": (8,), "normalise_rewards": False, "env.start": "random", "target_kl": 1.0},
    ]
    assert len(made.settings) == 24
    assert len({job.path for group in made.jobs for job in group}) == 24 * 5


def test_result_as_table_json_and_picture(capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.image import imread

    command = [
        "sweep",
        "value-iteration",
        *LAKE,
        "--over",
        "gamma=0,0.99",
        "--seeds",
        "2",
        "--run",
        "vi",
        "--jobs",
        "1",
    ]
    assert main([*command, "--evaluation-episodes", "2"]) == 0
    table = capsys.readouterr().out
    row = next(line.split() for line in table.splitlines() if line.startswith("0.99"))
    # FrozenLake's best policy for gamma 0.99 is the best within 100 steps too, 0.7442, up to 1e-2.
    assert row[-2] == "0.7442"
    assert float(row[-1]) < 0.01
    assert main(["sweep", "--run", "vi", "--resume", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(Path("runs/vi/results.json").read_text())
    assert [entry["setting"] for entry in result["settings"]] == [{"gamma": 0.0}, {"gamma": 0.99}]
    for entry in result["settings"]:
        exact = [json.loads(Path(f"runs/vi/{run}/evaluation.json").read_text()) for run in entry["runs"]]
        assert entry["returns"] == [one["expected_return"] for one in exact]
        assert entry["gap"] == pytest.approx(exact[0]["optimum"] - np.mean(entry["returns"]))
    image = imread("runs/vi/sweep.png")
    assert image.shape[1] > image.shape[0] > 100
    assert image.std() > 0.01


def test_intervals_are_over_the_seeds(tmp_path: Path) -> None:
    means, jobs = [0.5, 0.75, 1.0], []
    for seed, mean in enumerate(means):
        job = engines.Job(
            tmp_path / f"seed-{seed}", "q-learning", FROZEN, None, QLearning.Config(), TrainingOptions(), seed
        )
        job.path.mkdir()
        evaluation = {"mean": mean, "expected_return": None, "optimum": 2.0 + (seed == 2), "success": mean}
        evaluation["gap"] = evaluation["optimum"] - mean
        (job.path / "evaluation.json").write_text(json.dumps(evaluation))
        jobs.append(job)
    row = summarise({"gamma": 1}, jobs)
    # Resampled means of three values: 1/27 of them is the least and 1/27 the greatest value, beyond the outer 2.5 %.
    assert (row.mean, row.low, row.high) == pytest.approx((0.75, 0.5, 1.0))
    assert (row.success, row.optimum) == (0.75, None)  # two optima are none
    assert row.to_json()["gap"] == row.gap == pytest.approx((1.5 + 1.25 + 2.0) / 3)
    assert summarise({}, jobs[:1]).to_json()["low"] is None


TO_INTERRUPT = [
    "sweep", "q-learning", *LAKE, "--over", "gamma=0.9,0.99", "--seeds", "2", "--steps-per-update", "1000",
    "--steps", "40000", "--evaluation-episodes", "5",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*TO_INTERRUPT, "--run", "it", "--jobs", "1"]) == 0
    return folder / "runs" / "it"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_and_resumed_is_as_if_it_had_not_been(how: signal.Signals, whole: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gridzero", *TO_INTERRUPT, "--run", "it"], stderr=subprocess.PIPE, text=True
    )
    until(lambda: any(Path("runs/it").rglob("checkpoints/*/manifest.json")))
    process.send_signal(how)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert errors.startswith("gridzero: interrupted, ")
        assert "`gridzero sweep --run it --resume`" in errors
    assert not Path("runs/it/results.json").exists()
    until(nobody_writes)
    before = contents(Path("runs/it"))
    finished = [path.parent for path in Path("runs/it").rglob("evaluation.json")]
    assert main(["sweep", "--run", "it", "--resume", "--jobs", "1"]) == 0
    after = contents(Path("runs/it"))
    for path in finished:  # they were left alone
        assert {k: v for k, v in after.items() if k.startswith(f"{path}/")} == {
            k: v for k, v in before.items() if k.startswith(f"{path}/")
        }
    assert Path("runs/it/results.json").read_bytes() == (whole / "results.json").read_bytes()
    for run in whole.glob("*/seed-*"):
        assert numbers(Path("runs/it") / run.relative_to(whole)) == numbers(run)


def nobody_writes() -> bool:
    """Whether the processes of a killed sweep are gone too."""
    import fcntl

    for lock in Path("runs/it").rglob(".lock"):
        handle = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(handle)
    return True


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def test_a_range_without_optuna_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "q-learning", *LAKE, "--over", "step_size=0.01..1"]) == 2
    assert "a range such as 0.01..1 is for --sampler optuna" in capsys.readouterr().err


def test_each_variant_of_a_sweep_has_its_own_defaults() -> None:
    """Flags count before a variant, a variant before the preset."""
    command = [*LAKE, "--over", "variant=dr_grpo,dapo", "--clip", "0.3", "--seeds", "1"]
    settings = parse_settings("sweep", "", sweep.Options, "grpo", command, EnvironmentWords())
    jobs = sweep.Sweep(Path("runs/all"), "grpo", FROZEN, None, settings.config, settings.options).jobs
    configs = {job.config.variant: job.config for group in jobs for job in group}
    assert list(configs) == ["dr_grpo", "dapo"]
    for variant, config in configs.items():
        fields = {**preset("grpo", "FrozenLake-v1").besides(VARIANTS[variant]), "variant": variant, "clip": 0.3}
        assert config == make("grpo", "FrozenLake-v1", **fields).config
    assert configs["dr_grpo"].normalisation != configs["dapo"].normalisation


def test_a_process_that_is_killed_ends_the_sweep_in_one_line(tmp_path: Path) -> None:
    options = TrainingOptions(steps=10**9)
    job = engines.Job(tmp_path / "run", "q-learning", FROZEN, None, QLearning.Config(), options, 0)

    def kill() -> bool:
        for child in multiprocessing.active_children():
            child.kill()
        return False

    with pytest.raises(ValueError, match="was killed"):
        engines.local([job], 1, kill)


MISTAKES: list[tuple[list[str], str]] = [
    (["q-lerning", *LAKE], "did you mean q-learning"),
    (["--over", "gamma=1"], "which agent?"),
    (["q-learning"], "--env ID"),
    (["q-learning", "--env", "FrozenLak-v1"], "did you mean FrozenLake-v1"),
    (["q-learning", *LAKE, "--over", "gama=0.9"], "did you mean gamma"),
    (["q-learning", *LAKE, "--over", "env.is_sliper=True"], "did you mean env.is_slippery"),
    (["q-learning", *LAKE, "--over", "gamma"], "KEY=V1,V2"),
    (["q-learning", *LAKE, "--over", "gamma="], "KEY=V1,V2"),
    (["q-learning", *LAKE, "--over", "gamma=0.9,"], "KEY=V1,V2"),
    (["q-learning", *LAKE, "--over", "gamma=high"], "takes a number, not 'high'"),
    (["q-learning", *LAKE, "--over", "gamma=0.9,0.90"], "has 0.9 twice"),
    (["q-learning", *LAKE, "--over", "gamma=0.9", "--over", "gamma=0.8"], "each setting once"),
    (["q-learning", *LAKE, "--over", "gamma=0.9,2"], "gamma"),
    (["q-learning", *LAKE, "--over", "env.is_slippery=3"], "takes True or False"),
    (["q-learning", *LAKE, "--over", "env.map_name=9x9"], "9x9"),
    (["q-learning", *LAKE, "--over", "num_envs=0"], "num_envs must be at least 1"),
    (["q-learning", *LAKE, "--over"], "--over needs a value"),
    (["q-learning", *LAKE, "--ovr", "gamma=1"], "did you mean --over"),
    (["q-learning", *LAKE, "--seeds", "0"], "seeds must be at least 1"),
    (["q-learning", *LAKE, "--jobs", "0"], "jobs must be at least 1"),
    (["q-learning", *LAKE, "--engine", "dask"], "local"),
    (["q-learning", *LAKE, "--steps", "-1"], "at least 1"),
    (["q-learning", "--env", "CartPole-v1", "--over", "gamma=0.9"], "discrete"),
    (["q-learning", *LAKE, "--run", "there"], "exists"),
    (["--resume"], "--run NAME"),
    (["--resume", "--run", "thre"], "did you mean there"),
    (["--resume", "--run", "there", "--seeds", "3"], "seeds"),
    (["--resume", "--run", "there", "--over", "gamma=0.5"], "over"),
    (["--resume", "--run", "there", "--gamma", "0.5"], "gamma"),
    (["--resume", "--run", "there", "--env.is_slippery", "True"], "cannot be changed"),
    (["sarsa", "--resume", "--run", "there"], "cannot go on with sarsa"),
    (["--resume", "--run", "damaged"], "damaged"),
]


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[" ".join(words)[-50:] for words, _ in MISTAKES])
def test_a_mistake_gets_one_line_and_status_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = agent_class("q-learning").Config()
    options = sweep.Options(env="FrozenLake-v1", over=("gamma=0.9",), seeds=1)
    for name in ("there", "damaged"):
        sweep.Sweep(Path("runs") / name, "q-learning", FROZEN, None, config, options).begin()
    broken = Path("runs/damaged/sweep.json")
    broken.write_text(broken.read_text().replace('"seeds": 1', '"seeds": 2'))
    before = contents(Path())
    assert main(["sweep", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("gridzero: ")
    assert errors.count("\n") == 1
    assert expected in errors
    assert contents(Path()) == before


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is there")
def test_without_ray_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "q-learning", *LAKE, "--engine", "ray"]) == 2
    assert "pip install ray" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_run_that_fails_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "q-learning", *LAKE, *SHORT, "--over", "gamma=0.9", "--seeds", "1", "--run", "it"]
    assert main(command) == 0
    (Path("runs/it/0-gamma=0.9/seed-0/evaluation.json")).unlink()
    for tensors in Path("runs/it").rglob(checkpoint.TENSORS):
        tensors.write_bytes(b"")
    capsys.readouterr()
    assert main(["sweep", "--run", "it", "--resume"]) == 2
    assert capsys.readouterr().err.startswith("gridzero: 0-gamma=0.9/seed-0: ")


def test_commands_that_take_runs_say_what_a_sweep_is(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "q-learning", *LAKE, *SHORT, "--over", "gamma=0.9", "--seeds", "1", "--run", "it"]
    assert main(command) == 0
    assert main(["evaluate", "it"]) == 2
    assert "it is a sweep of 1 run, such as it/0-gamma=0.9/seed-0" in capsys.readouterr().err
    assert main(["evaluate", "it/0-gamma=0.9/seed-0", "--episodes", "2"]) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["q-learning", "--metric", "episode_retrun"], "did you mean episode_return"),
        (["q-learning", "--metric", "residual"], "runs of q-learning log no metric 'residual'"),
        (["q-learning", "--metric", "evaluation_gap"], "did you mean evaluation_return"),
        (["q-learning", "--metric", "evaluation_return", "--evaluate-every", "0"], "did you mean episode_return"),
        (["value-iteration", "--metric", "evaluation_return"], "no metric 'evaluation_return'"),
        (["policy-iteration", "--over", "gamma=1,0.9", "--metric", "error_bound"], "no metric 'error_bound'"),
        (["grpo", "--metric", "kl_to_reference"], "no metric 'kl_to_reference'"),
        (["q-learning", "--sampler", "optuna", "--trials", "1", "--over", "gamma=.5..1", "--metric", "x"], "'x'"),
    ],
)
def test_a_metric_that_no_run_has_is_refused_before_anything_begins(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *words, *LAKE, "--run", "none"]) == 2
    message = capsys.readouterr().err
    assert line in message
    assert message.count("\n") == 1
    assert not Path("runs").exists()


QUIET = """
from gridzero.agents import register
from gridzero.agents.tabular.temporal_difference import QLearning

class Quiet(QLearning):
    def metric_names(self):
        return None

register("quiet", f"{__name__}:Quiet", "an agent that does not say what it logs")
"""


@pytest.mark.parametrize(
    ("metric", "finished", "line"),
    [
        ("evaluation_gap", 0, "evaluations have no 'evaluation_gap' here; did you mean evaluation_return"),
        ("td_eror", 1, "seed-0 has no metric 'td_eror'; did you mean td_error?"),
    ],
)
def test_a_metric_that_a_run_turns_out_not_to_have_ends_the_sweep(
    metric: str, finished: int, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("quiet.py").write_text(QUIET)
    monkeypatch.setitem(engines.ENGINES, "local", lambda jobs, at_once, stopped: [job.train(stopped) for job in jobs])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "quiet", raising=False)
    short = ["--steps", "2000", "--evaluation-episodes", "5", "--seeds", "3"]
    assert main(["sweep", "quiet:quiet", *LAKE, *short, "--metric", metric, "--run", "some"]) == 2
    message = capsys.readouterr().err
    assert line in message
    assert "`gridzero sweep --run some --resume --import quiet --metric NAME` goes on" in message
    assert len(list(Path("runs/some").rglob("evaluation.json"))) == finished
    assert main(["sweep", "--run", "some", "--resume", "--import", "quiet", "--metric", "td_error"]) == 0
