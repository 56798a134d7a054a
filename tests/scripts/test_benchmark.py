"""The benchmark compares like with like, and says truly whether a bar is reached."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from gridzero.__main__ import main
from gridzero.agents import solve
from gridzero.benchmarks import learning, measure, solving, tabular
from gridzero.benchmarks.measure import Row, median_ratio, rounds

ROWS: list[tuple[dict[str, Any], bool | None]] = [
    ({"unit": "steps/s", "ours": 2.0, "bar": 1.5}, True),
    ({"unit": "steps/s", "ours": 1.0, "bar": 1.5}, False),
    ({"unit": "s", "ours": 1.0, "bar": 1.5}, True),
    ({"unit": "s", "ours": 2.0, "bar": 1.5}, False),
    ({"unit": "times", "ours": 2.9, "bar": 3.0}, True),
    ({"unit": "s", "ours": 1.0, "ratio": 2.0, "bar": 1.5, "on": "ratio"}, True),
    ({"unit": "s", "ours": 1.0, "ratio": 1.0, "bar": 1.5, "on": "ratio"}, False),
    ({"unit": "s", "ours": 1.0, "bar": 1.5, "on": "ratio"}, None),
    ({"unit": "s", "ours": 1.0}, None),
]


@pytest.mark.parametrize(("fields", "reached"), ROWS)
def test_seconds_are_better_when_fewer_and_rates_when_more(fields: dict[str, Any], reached: bool | None) -> None:
    assert Row("work", **fields).reached is reached


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str) -> Any:
        return lambda: order.append(name) or float(len(order))

    figures = rounds({"a": contender("a"), "b": contender("b")}, repeats=3)
    assert order == ["a", "b"] * 3
    assert figures == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert median_ratio(figures["b"], figures["a"]) == 4 / 3


def test_the_processors_clock_stands_still_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_clock", measure.CLOCKS["wall"])
    began = measure.clock()
    time.sleep(0.05)
    assert measure.clock() - began >= 0.05
    measure.use_clock("cpu")
    began = measure.clock()
    time.sleep(0.05)
    assert measure.clock() - began < 0.05


@pytest.fixture
def small_grid() -> Any:
    return solving.grid(12)


def test_quantecon_is_given_the_same_problem(small_grid: Any) -> None:
    """Its values are ours, so the two times are for the same work."""
    markov = pytest.importorskip("quantecon.markov")
    problem = solving.quantecon_problem(small_grid)
    assert isinstance(problem, markov.DiscreteDP)
    result = problem.solve(method="policy_iteration")
    np.testing.assert_allclose(result.v, solve(small_grid, solving.GAMMA, 1e-9).values, atol=1e-6)


def test_mdpsolver_is_given_the_same_problem(small_grid: Any) -> None:
    pytest.importorskip("mdpsolver")
    problem = solving.mdpsolver_problem(small_grid)
    problem.solve(algorithm="mpi", tolerance=1e-6)
    values = np.array(problem.getValueVector())
    np.testing.assert_allclose(values, solve(small_grid, solving.GAMMA, 1e-9).values, atol=1e-5)


def test_peers_stop_at_the_residual_that_we_stop_at(small_grid: Any) -> None:
    pytest.importorskip("quantecon")
    problem = solving.quantecon_problem(small_grid)
    result = problem.solve(method="modified_policy_iteration", epsilon=solving.EPSILON, max_iter=100_000)
    residual = small_grid.bellman_residual(result.v, solving.GAMMA)
    assert residual <= solving.RESIDUAL
    assert residual > solving.RESIDUAL / 1000


@pytest.mark.slow
def test_the_whole_of_it_quickly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--quick", "--clock", "cpu", "--json", str(tmp_path / "speed.json")]) == 0
    output = capsys.readouterr().out
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["clock"] == "cpu"
    works = {row["work"] for row in found["rows"]}
    assert all(
        any(word in work for work in works) for word in ("step one", "step 4,096", "solve", "draw", "PPO learns")
    )
    assert "FrozenLake" in output
    for row in found["rows"]:
        assert row["ours"] > 0
        assert (row["ratio"] is None) == (row["theirs"] is None)


def test_seconds_to_solve_do_not_count_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four updates of one second each, the last good enough; each try takes a minute."""
    now = 0.0
    quality = {2_000: 100.0, 4_000: 474.9, 6_000: 475.0}
    monkeypatch.setattr(learning, "clock", lambda: now)

    def tried(step: Any) -> float:
        nonlocal now
        now += 60.0
        return quality[step]

    monkeypatch.setattr(learning, "mean_return", tried)

    def learner(seed: int, check: Any) -> None:
        nonlocal now
        for step in (0, 2_000, 3_000, 4_000, 6_000, 8_000):
            if check(step, step):
                return
            now += 1.0

    assert learning.seconds_to_solve(learner, 0) == (4.0, 6_000)
    monkeypatch.setattr(learning, "SOLVED", 500.0)
    monkeypatch.setattr(learning, "SPAN", 6_000)
    assert learning.seconds_to_solve(learner, 0) == (float("inf"), 6_000)


@pytest.mark.slow
def test_every_contender_learns_and_stops_when_told() -> None:
    for learner in (learning.ours, learning.stable_baselines, learning.one_loop):
        seen: list[int] = []

        def check(step: int, act: Any, seen: list[int] = seen) -> bool:
            seen.append(step)
            actions = np.asarray(act(np.zeros((3, 4), dtype=np.float32)))
            assert actions.shape == (3,)
            return step >= 300

        learner(0, check)
        assert seen[0] == 0
        assert seen[-1] >= 300
        assert all(step < 300 for step in seen[:-1])


def test_tabular_learners_measure_steps_that_were_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks once a look, the rate is the number of steps; a step that only resets is none."""
    ticks = itertools.count()
    monkeypatch.setattr(tabular, "clock", lambda: float(next(ticks)))
    monkeypatch.setattr(tabular, "NUM_ENVS", 64)
    assert 0.8 * 3200 < tabular.numpy_loop(3200)() < 3200
    assert tabular.learned_per_second(gym.make(tabular.ID, layout=tabular.MAP), 500)() == 500
