"""Checkpoints that stay, the best one by evaluations on the way, and the end at a return."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gridzero
from gridzero.__main__ import main
from gridzero.agents import checkpoint, runs, training
from gridzero.agents.run_writer import Run
from gridzero.agents.runs import best_of
from gridzero.agents.training import Budget, train

Returns = list[float]


class Scripted:
    """The evaluations on the way as a list says, one every ten steps."""

    def __init__(self, returns: Returns) -> None:
        self.returns = returns
        self.agent: Any = None

    def __call__(self, agent: Any, **_: Any) -> Scripted:
        self.agent = agent
        return self

    def metrics(self) -> dict[str, float]:
        return {"evaluation_return": self.returns[self.agent.interaction.steps // 10 - 1]}


def learner() -> Any:
    return gridzero.agents.make("q-learning", gym.make("FrozenLake-v1"), steps_per_update=10)


def kept(path: Path) -> list[int]:
    return checkpoint.steps(path / "checkpoints")


def expected(steps: int, every: int, keep: int | None, returns: Returns) -> list[int]:
    """The regular checkpoints, the last state, and the first of the best evaluations."""
    best = 10 * (int(np.argmax(returns)) + 1)
    saved = sorted({*range(every, steps, every), steps, best})
    return sorted({*(saved if keep is None else saved[-keep:]), best})


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    returns=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=8, max_size=8),
    keep=st.sampled_from([None, 1, 2]),
    every=st.sampled_from([20, 30]),
    stop=st.integers(1, 7),
)
def test_the_last_ones_and_the_best_stay_interrupted_or_not(
    tmp_path_factory: pytest.TempPathFactory, returns: Returns, keep: int | None, every: int, stop: int
) -> None:
    folder, budget = tmp_path_factory.mktemp("runs"), Budget(80, None, every, 10, keep=keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "evaluate", Scripted(returns))
        with Run.create(folder / "whole", learner()) as run:
            for _ in training.training(run_agent := learner(), budget, run):
                pass
        assert run_agent.interaction.steps == 80
        agent = learner()
        with (
            Run.create(folder / "parts", agent) as run,
            contextlib.closing(training.training(agent, budget, run)) as updates,
        ):
            for _ in range(stop):
                next(updates)
        run, agent, before = Run.resume(folder / "parts")
        with run:
            for _ in training.training(agent, budget, run, before):
                pass
    assert kept(folder / "whole") == expected(80, every, keep, returns)
    if keep is None:
        assert set(kept(folder / "parts")) - {10 * stop} == set(kept(folder / "whole")) - {10 * stop}
    best = 10 * (int(np.argmax(returns)) + 1)
    for name in ("whole", "parts"):
        agent, manifest = runs.load_checkpoint(folder / name, step="best")
        assert manifest["training"]["step"] == best == agent.interaction.steps  # type: ignore[attr-defined]


def test_training_ends_at_a_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "evaluate", Scripted([0.0, 0.5, 0.4, 0.9, 0.1]))
    agent = learner()
    budget = Budget(50, evaluate_every=10, stop_at=0.9)
    with Run.create(tmp_path / "run", agent) as run:
        steps = [update.step for update in training.training(agent, budget, run)]
    assert steps == [10, 20, 30, 40]
    run, agent, before = Run.resume(tmp_path / "run")
    with run:
        assert not list(training.training(agent, budget, run, before)), "it has ended"


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set evaluate_every"):
        train(learner(), steps=20, stop_at=1.0)
    with pytest.raises(ValueError, match="set evaluate_every"):
        train(learner(), steps=20, stop_at=1.0, evaluate_every=0, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="finite"):
        Budget(20, stop_at=math.nan)
    with pytest.raises(ValueError, match="keep must be at least 1"):
        Budget(20, keep=0)


def test_the_evaluation_at_the_end_counts_until_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "evaluate", Scripted([0.3, 0.5, 0.4, 0.2]))
    agent = learner()
    with Run.create(tmp_path / "run", agent) as run:
        list(training.training(agent, Budget(30, None, None, 10), run))
        assert best_of(tmp_path / "run") == (20, 0.5)
        run.write_evaluation({"mean": 0.7, "episodes": 100})
    assert best_of(tmp_path / "run") == (30, 0.7)
    run, agent, before = Run.resume(tmp_path / "run")
    with run:
        list(training.training(agent, Budget(40, None, None, 10), run, before))
    assert best_of(tmp_path / "run") == (20, 0.5)


def test_the_best_one_by_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = ["--env", "FrozenLake-v1", "--env.is_slippery", "False", "--evaluation-episodes", "2"]
    train_ = ["train", "q-learning", *lake, "--steps-per-update", "50", "--steps", "400", "--keep", "1"]
    assert main([*train_, "--evaluate-every", "50", "--stop-at", "0.5", "--run", "r"]) == 0
    best = best_of(Path("runs/r"))
    assert best is not None
    capsys.readouterr()
    assert main(["evaluate", "r", "--from", "best", "--json"]) == 0
    assert f'"step": {best[0]}' in capsys.readouterr().out
    assert main([*train_, "--evaluate-every", "0", "--run", "none"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "none", "--from", "best"]) == 2
    assert "not evaluated on the way" in capsys.readouterr().err
    assert main(["evaluate", "none", "--from", "bst"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
