"""Recipes: stages in their order, resumed wherever they stopped, and reported."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridzero import recipes
from gridzero.__main__ import main
from gridzero.agents import REGISTRY, runs
from gridzero.agents.runs import WALL_CLOCK
from gridzero.commands import recipe as command
from gridzero.commands import train
from gridzero.commands.environment_words import EnvironmentWords
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.reward import OF_THE_VERDICT, REWARDS, reward_function
from gridzero.llm_rl.learners.sft import SFT
from gridzero.recipes.curves import common_budget, equal_cost
from gridzero.recipes.recipe import Recipe, Stage

SMALL = """
from gridzero.recipes.recipe import Recipe, Stage

TINY = Recipe(
    about="two small stages",
    task="addition",
    options={"digits": "1"},
    stages=[
        Stage("base", "sft --width 8 --layers 1 --heads 2 --minibatch-size 8 --evaluation-episodes 4", 320),
        Stage("more", "sft --policy.model {base} --env.worked 1 --minibatch-size 8 --evaluation-episodes 4", 320),
    ],
    base="base",
    compared=["more"],
)
MISTAKEN = Recipe(
    about="a mistake in the second stage",
    task="addition",
    stages=[Stage("a", "sft", 1), Stage("b", "grpo --policy.model {a} --learning-rat 1", 1)],
)
"""
COMMAND = ["recipe", "small:TINY", "--run", "tiny", "--problems", "4", "--samples", "2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.py").write_text(SMALL)
    return tmp_path


def numbers(path: Path) -> dict[str, Any]:
    """Everything that was logged and measured, but for the clock's part."""
    results = json.loads((path / "results.json").read_text())
    for row in results:
        for spent in (row["training"], *row.get("curve", [])):
            spent.pop("seconds")
    logged = {
        stage.parent.name: [
            {name: value for name, value in row.items() if name not in WALL_CLOCK and "evaluation" not in name}
            for row in runs.read_metrics(stage.parent)
        ]
        for stage in sorted(path.glob("*/config.json"))
    }
    return {"results": results, "logged": logged}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_can_be_loaded(name: str) -> None:
    recipe = recipes.load(name)
    assert len(recipe.about) > 10
    words, _ = command.environment_words(recipe, EnvironmentWords())
    for stage in recipe.stages:
        line = stage.words(Path("runs/it"), command.environment(words, stage), 0, 1.0)
        train.check(command.without_runs(line, Path("runs/it")))
        learner, *flags = stage.line.split()
        assert learner in REGISTRY
        rewards = flags[flags.index("--env.rewards") + 1] if "--env.rewards" in flags else ""
        for reward in re.findall(r"[a-z][a-z-]*(?==|,|$)", re.sub(r"\{[^}]*\}", "", rewards)):
            assert reward in OF_THE_VERDICT or reward in REWARDS


def test_consistency_is_the_share_of_true_equations() -> None:
    judge = reward_function("consistency")
    rng = np.random.default_rng(0)
    for task in (make_task("addition", worked=1.0), make_task("countdown", worked=1.0)):
        problems = [task.sample(rng) for _ in range(20)]
        worked = [task.demonstrate(problem, rng) for problem in problems]
        assert list(judge(problems[0], worked)) == [1.0] * 20  # type: ignore[arg-type]
    assert list(judge(problems[0], ["1+1=3,2=2", "9**9**9=1", "=", "a=b,1/0=1", "0=00"])) == [0.5, 0.0, 0.0, 0.0, 1.0]  # type: ignore[arg-type]


def test_a_recipe_that_was_stopped_inside_a_stage_goes_on_to_the_same_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND) == 0
    out = capsys.readouterr()
    assert "more" in out.out
    whole = numbers(Path("runs/tiny"))
    assert [row["stage"] for row in whole["results"]] == ["base", "more"]
    Path("runs/tiny").rename("runs/whole")

    calls, batches = 0, SFT.batches

    def failing(self: SFT) -> Any:
        nonlocal calls
        calls += 1
        if calls in (3, 7):
            raise RuntimeError("stopped in the middle of an update")
        return batches(self)

    monkeypatch.setattr(SFT, "batches", failing)
    for _ in range(2):
        assert main(COMMAND) == 1
    assert not Path("runs/tiny/report.md").exists()
    assert main(COMMAND) == 0
    assert numbers(Path("runs/tiny")) == whole
    calls = 100
    assert main(COMMAND) == 0  # nothing is trained again
    assert calls == 100
    report = Path("runs/tiny/report.md").read_text()
    assert "sft --env" in report
    points = whole["results"][1]["curve"]
    assert [point["step"] for point in points] == [0, 80, 160, 240, 320]
    assert points[0]["greedy"] == whole["results"][0]["greedy"]
    assert points[-1]["greedy"] == whole["results"][1]["greedy"]
    assert points[-1]["tokens"] == whole["results"][1]["training"]["tokens"] > points[-2]["tokens"] > 0
    assert f"At {points[-1]['tokens']:,} tokens:" in report
    assert Path("runs/tiny/curves.png").is_file()

    capsys.readouterr()
    assert main(["evaluate", "tiny", "--episodes", "2", "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == ["runs/tiny/base", "runs/tiny/more"]
    assert main(["plot", "tiny", "--metric", "loss"]) == 0

    assert main([*COMMAND, "--seed", "1"]) == 2
    assert "was begun as small:TINY with other settings" in capsys.readouterr().err


def test_errors_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (["recipe", "r1-zer"], "there is no recipe 'r1-zer'; did you mean r1-zero"),
        (["recipe"], "which recipe?"),
        (["recipe", "r1-zero", "--scale", "0"], "scale must be above 0"),
        (["recipe", "json:dumps"], "is a function, not a gridzero.recipes.recipe.Recipe"),
        (["recipe", "r1-zero", "--wrapper", "a:B"], "a recipe wraps nothing"),
        (["recipe", "small:MISTAKEN"], "there is no option --learning-rat; did you mean --learning-rate"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert main([*COMMAND, "--env.digit", "1"]) == 2
    assert "has no option 'digit'; did you mean digits" in capsys.readouterr().err
    assert main([*COMMAND, "--env.digits", "99"]) == 2  # the name is not taken by the mistake before
    assert "digits must be" in capsys.readouterr().err
    assert main(["recipe", "--list"]) == 0
    assert "r1-zero" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([Stage("a", "sft", 1), Stage("a", "sft", 1)], "two stages are called 'a'"),
        (
            [Stage("a", "sft --policy.model {b}", 1), Stage("b", "sft", 1)],
            "stage a needs 'b', which is no stage before",
        ),
        ([Stage("A b", "sft", 1)], "lower case"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(stages: list[Stage], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe("about", "addition", stages)
    for role, names in (("base", "sfd"), ("compared", ["sfd"])):
        with pytest.raises(ValueError, match=f"{role} names 'sfd', which is no stage; did you mean sft"):
            Recipe("about", "addition", [Stage("sft", "sft", 1)], **{role: names})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="compared names 'judge', whose model answers nothing"):
        Recipe("about", "addition", [Stage("judge", "reward-model", 1)], compared=["judge"])


def test_stages_are_held_against_each_other_at_what_all_have_spent() -> None:
    def row(name: str, points: list[tuple[int, float]]) -> dict[str, Any]:
        share = {"low": 0.0, "high": 1.0}
        return {
            "stage": name,
            "parameters": 1,
            "curve": [
                {"tokens": tokens, "seconds": tokens / 10, "form": 1.0, "kl": None}
                | {key: {"value": right, **share} for key in ("greedy", "sampled")}
                for tokens, right in points
            ],
        }

    rows = [row("slow", [(0, 0.1), (50, 0.2), (100, 0.3)]), row("long", [(0, 0.1), (26, 0.4), (90, 0.8), (130, 0.9)])]
    assert common_budget(rows, "tokens") == 100
    columns, table = equal_cost(rows, "tokens")
    greedy = columns.index("greedy")
    assert [line[greedy] for line in table] == ["0.300 [0.000, 1.000]", "0.800 [0.000, 1.000]"]
    assert [line[columns.index("greedy at 50%")] for line in table] == ["0.200", "0.400"]
    assert [line[columns.index("CPU seconds")] for line in table] == ["10", "9"]


@pytest.mark.slow
def test_a_recipe_killed_five_times_ends_with_the_numbers_of_one_that_was_not(folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "gridzero", *COMMAND, "--scale", "20"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def updates() -> int:
        return sum(file.read_bytes().count(b"\n") for file in Path("runs/tiny").glob("*/metrics.jsonl"))

    assert start().wait() == 0
    whole, last = numbers(Path("runs/tiny")), updates()
    Path("runs/tiny").rename("runs/whole")
    for end in sorted(random.Random(0).sample(range(1, last), 5)):
        process = start()
        while updates() < end:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start().wait() == 0
    assert numbers(Path("runs/tiny")) == whole
