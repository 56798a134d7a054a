"""The benchmark compares like with like, and says truly whether a bar is reached."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridzero.__main__ import main
from gridzero.agents import solve
from gridzero.benchmarks import measure, solving
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
    assert all(any(word in work for work in works) for word in ("step one", "step 4,096", "solve", "draw"))
    assert "FrozenLake" in output
    for row in found["rows"]:
        assert row["ours"] > 0
        assert (row["ratio"] is None) == (row["theirs"] is None)
