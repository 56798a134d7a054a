"""The training loop: what is on disk, and that interrupting it changes no number."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.agents import Agent, Run, Update, checkpoint, periodic_evaluation, runs, train
from gridzero.agents.periodic_evaluation import EPISODES, OVERHEAD, PeriodicEvaluation
from gridzero.agents.runs import WALL_CLOCK
from gridzero.agents.training import Budget, training


@dataclass(frozen=True)
class Settings:
    """Of the walker."""

    stride: int = 10
    """Steps per update."""
    ends_at: int = 10**9
    """It has converged there."""
    fails_at: int = -1
    """It raises there, in the middle of an update."""
    diverges_at: int = -1
    """Its loss is not finite there; what it has learnt is not, either."""


class Walker(Agent):
    """A random walk: the least that can be trained, saved and resumed."""

    Config = Settings

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self.rng = np.random.default_rng(seed)
        self.steps, self.position = 0, 0.0

    def learn(self) -> Iterator[Update]:
        while self.steps < self.config.ends_at:
            self.position += self.rng.normal()
            self.steps += self.config.stride
            if self.steps == self.config.fails_at:
                raise RuntimeError("in the middle")
            metrics = {"position": self.position}
            if self.steps == self.config.diverges_at:
                self.position, metrics["policy_loss"] = math.nan, math.nan
            yield Update(self.steps, metrics)

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        return np.ones(len(observations), dtype=np.int64)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "position": self.position, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps, self.position = state["steps"], state["position"]
        self.rng.bit_generator.state = state["rng"]


@pytest.fixture(autouse=True)
def walker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        gridzero.agents.REGISTRY,
        "walker",
        gridzero.agents.registry.Registration("walker", f"{__name__}:Walker", "a random walk"),
    )
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())


def _this_module() -> Any:
    """Pytest's importlib mode leaves test modules out of sys.modules, where the registry looks."""
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


def make(**fields: Any) -> Agent:
    return gridzero.agents.make("walker", gym.make("FrozenLake-v1"), **fields)


def metrics(path: Path) -> list[dict[str, Any]]:
    """All lines, without what the clock decides."""
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in runs.read_metrics(path)]


def final_tensors(path: Path) -> tuple[Any, dict[str, bytes]]:
    last = checkpoint.latest(path / "checkpoints")
    assert last is not None
    manifest, tree, tensors = checkpoint.read(last)
    return (manifest["training"]["step"], tree), {name: array.tobytes() for name, array in tensors.items()}


def checkpoints(path: Path) -> list[int]:
    return sorted(int(entry.name) for entry in (path / "checkpoints").iterdir() if entry.name.isdigit())


def test_a_run_has_what_the_design_says(tmp_path: Path) -> None:
    result = train(make(), steps=100, run=tmp_path / "run", evaluation_episodes=4, evaluate_every=50)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["agent"] == "walker"
    assert config["config"] == {"stride": 10, "ends_at": 10**9, "fails_at": -1, "diverges_at": -1}
    assert config["environment"] == {
        "id": "FrozenLake-v1", "kwargs": {"map_name": "4x4"}, "num_envs": None, "wrappers": [],
    }  # fmt: skip
    assert config["seed"] == 0
    assert config["training"]["steps"] == 100
    assert checkpoints(tmp_path / "run") == list(range(10, 101, 10))
    rows = list(runs.read_metrics(tmp_path / "run"))
    assert [row["step"] for row in rows] == list(range(10, 101, 10))
    positions = np.cumsum(np.random.default_rng(0).normal(size=10))
    assert [row["position"] for row in rows] == pytest.approx(positions.tolist(), abs=0)
    assert [row["step"] for row in rows if "evaluation_return" in row] == [50, 100]
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation == result.to_json()
    assert evaluation["optimum"] == pytest.approx(0.7442, abs=5e-5)
    assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".tmp")]


def test_tensorboard_reads_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = tmp_path / "run"
    interrupt(path, after=12, steps=200)
    resume(path)
    events = EventAccumulator(str(path)).Reload()
    drawn = [(event.step, event.value) for event in events.Scalars("position")]
    assert [step for step, _ in drawn] == list(range(10, 201, 10))
    np.testing.assert_allclose([value for _, value in drawn], [row["position"] for row in metrics(path)], rtol=1e-6)


def test_numbers_that_are_not_finite_are_logged_as_null(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", make()) as run:
        run.log(1, {"residual": float("nan"), "bound": float("inf")}, 0.0)
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert (row["residual"], row["bound"]) == (None, None)


def test_checkpoints_are_where_the_cadence_says(tmp_path: Path) -> None:
    train(make(stride=7), steps=100, checkpoint_every=25, evaluate_every=0, run=tmp_path / "run", evaluation_episodes=1)
    assert checkpoints(tmp_path / "run") == [28, 56, 77, 105]


def test_without_a_number_of_steps_they_are_where_steps_have_doubled(tmp_path: Path) -> None:
    train(make(stride=3000, ends_at=70_000), seconds=100, evaluate_every=0, run=tmp_path / "run", evaluation_episodes=1)
    assert checkpoints(tmp_path / "run") == [12_000, 24_000, 48_000, 72_000]


def test_an_existing_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    train(make(), steps=30, run=tmp_path / "run", evaluation_episodes=1)
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="exists"):
        train(make(), steps=30, run=tmp_path / "run", evaluation_episodes=1)
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", make()) as run:
        run.log(1, {}, 0.0)
        with pytest.raises(ValueError, match="another process"):
            Run.resume(tmp_path / "run")
    run, _, _ = Run.resume(tmp_path / "run")
    run.close()


def test_seconds_end_it() -> None:
    began = time.perf_counter()
    agent = make(stride=1)
    steps = [update.step for update in training(agent, Budget(seconds=0.2))]
    assert 0.2 <= time.perf_counter() - began < 10
    assert steps == list(range(1, len(steps) + 1))


def test_an_agent_that_ends_by_itself_needs_no_budget(tmp_path: Path) -> None:
    agent = gridzero.agents.make("value-iteration", "FrozenLake-v1", gamma=0.9)
    result = train(agent, run=tmp_path / "run", evaluation_episodes=1)
    assert result.optimal_value == pytest.approx(0.0688909, abs=1e-6)
    run, _, before = Run.resume(tmp_path / "run")
    with run:
        assert list(training(gridzero.agents.load(tmp_path / "run"), Budget(), run, before)) == []


@pytest.mark.parametrize(
    "fields",
    [{"steps": 0}, {"steps": -5}, {"seconds": 0.0}, {"seconds": float("nan")}, {"evaluation_episodes": 0, "steps": 1},
     {"checkpoint_every": 0, "steps": 1}, {"evaluate_every": -1, "steps": 1}, {}],
)  # fmt: skip
def test_what_is_no_budget_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be|never ends"):
        train(make(), run=tmp_path / "run", **fields)
    assert not (tmp_path / "run").exists()


def interrupt(path: Path, after: int, steps: int, **fields: Any) -> None:
    """As Ctrl-C does it: the generator is closed between two updates."""
    agent = gridzero.agents.make(fields.pop("agent", "walker"), gym.make("FrozenLake-v1"), **fields)
    budget = Budget(steps, evaluate_every=steps // 2, evaluation_episodes=2)
    with Run.create(path, agent, {"steps": steps}) as run:
        updates = training(agent, budget, run)
        for _ in range(after):
            next(updates)
        updates.close()


def resume(path: Path, steps: int | None = None) -> None:
    run, agent, before = Run.resume(path)
    steps = steps or run.config["training"]["steps"]
    with run:
        for _ in training(agent, Budget(steps, evaluate_every=steps // 2, evaluation_episodes=2), run, before):
            pass


@pytest.mark.parametrize("agent", ["walker", "q-learning", "sarsa-lambda"])
@pytest.mark.parametrize("after", [1, 7, 10, 19])
def test_interrupted_and_resumed_is_as_if_it_had_not_been(tmp_path: Path, agent: str, after: int) -> None:
    fields: dict[str, Any] = {"stride": 100} if agent == "walker" else {"steps_per_update": 100}
    for name, stop in (("whole", 20), ("parts", after)):
        interrupt(tmp_path / name, stop, 2000, agent=agent, **fields)
    resume(tmp_path / "parts")
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert final_tensors(tmp_path / "parts") == final_tensors(tmp_path / "whole")


QUICK: list[tuple[str, str, dict[str, Any]]] = [
    ("q-learning", "FrozenLake-v1", {"steps_per_update": 50}),
    ("sarsa-lambda", "gridzero/GridWorld-v0", {"steps_per_update": 50}),
    ("ppo", "gridzero/GridWorld-v0", {"hidden": (4,), "num_envs": 4, "rollout_steps": 16}),
]


@pytest.mark.parametrize(("agent", "env", "fields"), QUICK)
def test_periodic_evaluation_changes_no_number_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str, env: str, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(periodic_evaluation, "ALLOWANCE", 10**6)
    for name, every in (("whole", None), ("off", 0), ("parts", None)):
        made = gridzero.agents.make(agent, gym.make(env), **fields)
        budget = Budget(600, checkpoint_every=600, evaluate_every=every)
        with Run.create(tmp_path / name, made) as run, contextlib.closing(training(made, budget, run)) as updates:
            for update in updates:
                if name == "parts" and update.step >= 350:
                    break
    run, made, before = Run.resume(tmp_path / "parts")
    with run:
        for _ in training(made, Budget(600, checkpoint_every=600), run, before):
            pass
    whole, off = metrics(tmp_path / "whole"), metrics(tmp_path / "off")
    assert sum("evaluation_return" in row for row in whole) >= 8
    assert [{k: v for k, v in row.items() if not k.startswith("evaluation_")} for row in whole] == off
    assert final_tensors(tmp_path / "whole") == final_tensors(tmp_path / "off")
    assert metrics(tmp_path / "parts") == whole
    assert final_tensors(tmp_path / "parts") == final_tensors(tmp_path / "whole")


def test_periodic_evaluation_is_paid_by_steps_of_training() -> None:
    made = gridzero.agents.make("q-learning", gym.make("CliffWalking-v1"))
    on_the_way, points, spent = PeriodicEvaluation(made, 200_000), [], 0.0
    for step in range(1000, 200_001, 1000):
        on_the_way.note({"episode_length": 10.0})
        if on_the_way.due(step):
            points.append(step)
            on_the_way.evaluate(step)  # it knows nothing, and walks until the limit of 1,000 steps
            spent += 1000 * (OVERHEAD + EPISODES)
    assert points == [10_000]
    assert on_the_way.state()["spent"] == spent
    on_the_way.close()


def test_training_that_ends_at_a_return_is_evaluated_at_every_twentieth_however_long_the_episodes(
    tmp_path: Path,
) -> None:
    """Walking into the limit of 1,000 steps costs more than training, and pays a return that is enough once."""
    for name, enough in (("never", 0.0), ("once", -1e6)):
        made = gridzero.agents.make("q-learning", gym.make("CliffWalking-v1"), steps_per_update=10)
        with Run.create(tmp_path / name, made) as run:
            list(training(made, Budget(200, stop_at=enough), run))
    evaluated = [row["step"] for row in metrics(tmp_path / "never") if "evaluation_return" in row]
    assert evaluated == list(range(10, 201, 10))
    assert metrics(tmp_path / "once")[-1]["step"] == 10


def test_what_was_logged_after_the_last_checkpoint_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "run"
    interrupt(path, after=5, steps=100)
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"step": 60, "position": 1e9}\n{"step": 70, "posi')
    resume(path)
    train(make(), steps=100, run=tmp_path / "whole", evaluation_episodes=2, evaluate_every=50)
    assert metrics(path) == metrics(tmp_path / "whole")


def test_metrics_that_lack_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    interrupt(path, after=5, steps=100)
    (path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="damaged"):
        Run.resume(path)


def test_going_on_beyond_the_first_budget(tmp_path: Path) -> None:
    interrupt(tmp_path / "parts", after=10, steps=100)
    run, agent, before = Run.resume(tmp_path / "parts")
    with run:
        assert len(list(training(agent, Budget(250), run, before))) == 15
    assert checkpoints(tmp_path / "parts")[-1] == 250


def test_a_failure_inside_an_update_saves_nothing_half_done(tmp_path: Path) -> None:
    agent = make(fails_at=60)
    with pytest.raises(RuntimeError, match="in the middle"):
        train(agent, steps=100, checkpoint_every=40, evaluate_every=0, run=tmp_path / "run")
    assert checkpoints(tmp_path / "run") == [40]


def test_a_failure_of_the_caller_saves(tmp_path: Path) -> None:
    agent = make()
    with Run.create(tmp_path / "run", agent) as run:
        updates = training(agent, Budget(1000), run)
        next(updates)
        next(updates)
        with pytest.raises(KeyError):
            updates.throw(KeyError("drawing failed"))
    assert checkpoints(tmp_path / "run") == [20]


def test_a_loss_that_is_not_finite_ends_training_and_nothing_of_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"diverged at step 60: its policy_loss is nan; .*checkpoints/40$"):
        train(make(diverges_at=60), steps=100, checkpoint_every=20, evaluate_every=0, run=tmp_path / "run")
    assert checkpoints(tmp_path / "run") == [20, 40]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_neither_saved_nor_loaded(tmp_path: Path, value: float) -> None:
    agent = gridzero.agents.make("q-learning", gym.make("FrozenLake-v1"))
    state = agent.state_dict()
    state["action_values"][3, 1] = value
    agent.load_state_dict(state)
    with pytest.raises(ValueError, match="not finite in action_values"):
        checkpoint.save(agent, tmp_path / "1")
    assert not list(tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "not_finite", lambda tensors: None)
        checkpoint.save(agent, tmp_path / "1")
    with pytest.raises(ValueError, match="not finite in action_values"):
        checkpoint.load(tmp_path / "1")


def test_a_run_in_which_nothing_happened_leaves_its_name_free(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in the middle"):
        train(make(fails_at=10), steps=100, run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["renamed", "deleted", "replaced"])
def test_a_run_whose_folder_goes_ends_in_a_line_and_is_not_made_anew(tmp_path: Path, change: str) -> None:
    path = tmp_path / "run"
    with Run.create(path, make()) as run:
        updates = training(run_agent := make(), Budget(100), run)
        next(updates)
        if change == "deleted":
            shutil.rmtree(path)
        else:
            path.rename(tmp_path / "elsewhere")
        if change == "replaced":
            path.mkdir()
        with pytest.raises(ValueError, match="was renamed or deleted while it was written"):
            for _ in updates:
                pass
    assert run_agent.name == "walker"
    assert not path.exists() or not list(path.iterdir())


def test_a_full_disk_ends_in_a_line(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's: writing fails in the same places."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = Run.create(tmp_path / "run", make())
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(ValueError, match="cannot be written: File too large"):
            for _ in training(make(stride=1), Budget(10_000), run):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        run.close()
    assert not list((tmp_path / "run").rglob("*.tmp"))


def trained_run(path: Path) -> Path:
    train(make(), steps=40, checkpoint_every=10, run=path, evaluation_episodes=1)
    return path


def sign_again(folder: Path, **changes: Any) -> None:
    manifest = {**checkpoint.read_manifest(folder), **changes}
    (folder / checkpoint.MANIFEST).write_bytes(checkpoint.signed(manifest, checkpoint.FORMAT, 1))


def test_a_damaged_checkpoint_names_the_last_whole_one_which_can_be_gone_on_from(tmp_path: Path) -> None:
    path, whole = trained_run(tmp_path / "run"), trained_run(tmp_path / "whole")
    for step in (30, 40):
        (path / "checkpoints" / str(step) / checkpoint.STATE).write_text("{}")
    with pytest.raises(ValueError, match=r"40 is damaged: .*; the one of step 20 is whole: --from 20"):
        gridzero.agents.load(path)
    assert gridzero.agents.load(path, step=20).steps == 20  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no checkpoint of step 25; there are 10, 20, 30, 40"):
        gridzero.agents.load(path, step=25)
    run, agent, before = Run.resume(path, step=20)
    with run:
        for _ in training(agent, Budget(40, checkpoint_every=10), run, before):
            pass
    assert checkpoints(path) == [10, 20, 30, 40]
    assert sorted(entry.name for entry in path.glob("checkpoints/*.set-aside")) == ["30.set-aside", "40.set-aside"]
    assert metrics(path) == metrics(whole)
    assert final_tensors(path) == final_tensors(whole)


@pytest.mark.parametrize(
    "changes",
    [{"agent": "q-learning"}, {"seed": 1}, {"config": {"stride": 5}}, {"environment": None}, {"training": {"step": 39}},
     {"training": {"step": -7}}, {"seed": -1}, {"seed": 1.5}, {"agent": 7}, {"config": []}, {"versions": {"numpy": 2}},
     {"environment": {"id": 4, "kwargs": {}, "num_envs": None}}, {"training": {"lines": 1e300}}, {"files": []},
     {"environment": {"id": "FrozenLake-v1", "kwargs": {}, "num_envs": 0}}],
)  # fmt: skip
def test_a_checkpoint_of_something_else_is_refused_in_a_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = trained_run(tmp_path / "run")
    sign_again(path / "checkpoints" / "40", **changes)
    for where in (path, path / "checkpoints" / "40"):
        with pytest.raises(ValueError, match="40") as caught:
            gridzero.agents.load(where)
        assert "\n" not in str(caught.value)


def test_other_versions_are_mentioned_on_resuming(tmp_path: Path) -> None:
    path = trained_run(tmp_path / "run")
    folder = path / "checkpoints" / "40"
    sign_again(folder, versions={**checkpoint.read_manifest(folder)["versions"], "numpy": "1.0"})
    run, _, _ = Run.resume(path)
    run.close()
    assert run.version_changes == [f"numpy 1.0, now {np.__version__}"]


@pytest.mark.parametrize("line", ["[1]", "{}", "nonsense", '{"step": "1"}', '{"step": 1, "position": "x"}', "[" * 9999])
def test_a_line_that_is_none_of_metrics_is_named(tmp_path: Path, line: str) -> None:
    path = trained_run(tmp_path / "run")
    content = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join([content[0], line + "\n", *content[2:]]))
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 2"):
        list(runs.read_metrics(path))
    (path / "metrics.jsonl").write_text("".join(content)[: len("".join(content)) // 2])
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged: .* after 4 lines, it has"):
        list(runs.read_metrics(path))
    (path / "samples.jsonl").write_text('{"step": 1}\n' + line + "x\n")
    with pytest.raises(ValueError, match=r"samples\.jsonl is damaged in line 2"):
        runs.read_samples(path)


def test_folders_with_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("²", "-7", "007", "x", "40.set-aside"):
        (tmp_path / name).mkdir()
    assert checkpoint.latest(tmp_path) is None
    (tmp_path / "7").mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "7"


def command(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gridzero", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


TRAINING = (
    "train", "q-learning", "--env", "FrozenLake-v1", "--steps", "30000", "--checkpoint-every", "1500",
    "--steps-per-update", "500", "--evaluate-every", "10000", "--evaluation-episodes", "3",
)  # fmt: skip


def test_killed_at_random_moments_it_comes_to_the_very_numbers(tmp_path: Path) -> None:
    whole = command(*TRAINING, "--run", "whole", cwd=tmp_path)
    assert whole.wait(timeout=600) == 0, whole.stderr
    rng = random.Random(0)
    path = tmp_path / "runs" / "killed"
    process = command(*TRAINING, "--run", "killed", cwd=tmp_path)
    kills = 0
    for moment in (rng.uniform(0.0, 0.1), rng.uniform(0.05, 0.3)):
        seen = saved(path)
        while process.poll() is None and saved(path) == seen:
            time.sleep(0.005)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process = command("train", "--run", "killed", "--resume", cwd=tmp_path)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert kills, "it was never caught at work"
    assert metrics(path) == metrics(tmp_path / "runs" / "whole")
    assert final_tensors(path) == final_tensors(tmp_path / "runs" / "whole")
    assert not list(path.glob("checkpoints/.*"))


def saved(path: Path) -> list[int]:
    return checkpoints(path) if (path / "checkpoints").exists() else []


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = command("train", "q-learning", "--env", "FrozenLake-v1", "--seconds", "100", "--run", "run", cwd=tmp_path)
    path = tmp_path / "runs" / "run"
    while not ((path / "metrics.jsonl").exists() and (path / "metrics.jsonl").stat().st_size):
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert "--run run --resume" in errors
    rows = list(runs.read_metrics(path))
    assert checkpoints(path)[-1] == rows[-1]["step"]
