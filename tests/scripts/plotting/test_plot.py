"""Learning curves: groups are whole settings, seeds are counted once, intervals stay among what was seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gridzero.__main__ import main
from gridzero.agents import files, runs
from gridzero.envs import GridWorld
from gridzero.plotting import curves, figure, groups
from gridzero.plotting.curves import average, bin_means, intervals, middle, running_mean


def record(
    name: str,
    seed: int = 0,
    *,
    agent: str = "q-learning",
    env: str = "FrozenLake-v1",
    values: Any = (1.0, 2.0),
    metric: str = "evaluation_return",
    optimum: float | None = None,
    kwargs: dict[str, Any] | None = None,
    **config: Any,
) -> str:
    """Write a run by hand."""
    path = Path("runs") / name
    described = {"id": env, "kwargs": kwargs or {}, "num_envs": None, "wrappers": []}
    content: dict[str, Any] = {
        "agent": agent, "config": config, "environment": described, "seed": seed, "imports": [], "versions": {},
        "training": {"steps": 1000, "seconds": None, "checkpoint_every": None, "evaluate_every": None,
                     "evaluation_episodes": 10, "threads": 1},
    }  # fmt: skip
    files.write_directory(path, "config.json", files.signed(content, runs.FORMAT, runs.VERSION))
    lines = [{"step": 1000 * (k + 1), "seconds": 0.5 * k, metric: value} for k, value in enumerate(values)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if optimum is not None:
        (path / "evaluation.json").write_text(json.dumps({"optimum": optimum}))
    return name


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that the command drew."""
    Path("runs").mkdir()
    found: list[Any] = []
    original = figure.canvas
    monkeypatch.setattr(figure, "canvas", lambda *size: found.append(original(*size)) or found[-1])
    return found


def lines(axes: Any) -> dict[str, list[float]]:
    """Curves by label, without optima."""
    return {
        line.get_label(): np.asarray(line.get_ydata()).tolist()
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def test_two_runs_of_one_seed_are_not_two_seeds(drawn: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    names = [record("a", 0, values=(1, 2)), record("b", 0, values=(1, 2, 3)), record("c", 1, values=(3, 6, 9))]
    assert main(["plot", *names]) == 0
    output = capsys.readouterr().out
    assert "runs/a is left out: runs/b has the same settings and the same seed 0" in output
    assert "of 2 runs" in output
    assert "mean over 2 seeds" in drawn[0].get_supxlabel()
    assert lines(drawn[0].axes[0]) == {"q-learning": [2.0, 4.0, 6.0]}


def test_labels_say_what_differs_and_nothing_else(drawn: list[Any]) -> None:
    for agent, gamma in (("q-learning", 0.9), ("q-learning", 0.99), ("sarsa", 0.9)):
        for seed in range(2):
            record(f"{agent}-{gamma}-{seed}", seed, agent=agent, gamma=gamma, step_size=0.1, values=(seed, gamma))
    assert main(["plot", *(entry.name for entry in Path("runs").iterdir())]) == 0
    (axes,) = drawn[0].axes
    assert lines(axes) == {
        "q-learning, gamma 0.9": [0.5, 0.9], "q-learning, gamma 0.99": [0.5, 0.99], "sarsa": [0.5, 0.9],
    }  # fmt: skip
    assert groups.labels([[{"agent": "a", "x": 1}, {"agent": "a", "x": 20_000}]]) == [["x 1", "x 20k"]]
    assert groups.labels([[{"agent": "a", "x": 1}], [{"agent": "a", "x": 2}]]) == [["a"], ["a"]]  # each alone


def test_each_environment_has_its_panel_and_its_own_metric(drawn: list[Any]) -> None:
    record("lake", optimum=0.74)
    record("slippery", kwargs={"is_slippery": False})
    record("plan", agent="value-iteration", env="CliffWalking-v1", metric="residual", values=(1.0, 1e-3, 1e-5))
    assert main(["plot", "lake", "slippery", "plan", "--output", "all.svg"]) == 0
    first, second, third = drawn[0].axes
    assert first.get_title() == "FrozenLake-v1, is slippery by default"
    assert second.get_title() == "FrozenLake-v1, is slippery False"
    assert (third.get_title(), third.get_yscale(), third.get_xlabel()) == ("CliffWalking-v1", "log", "sweeps")
    assert [text.get_text() for text in first.texts] == ["optimum 0.74"]
    assert first.get_xlabel() == "environment steps"
    assert Path("all.svg").read_text().startswith("<?xml")


def test_a_map_from_a_file_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("S...................G\n")
    text = GridWorld(layout=str(tmp_path / "long.txt")).layout.text()
    assert groups.titles([{"id": "gridzero/GridWorld-v0", "layout": text}]) == ["GridWorld-v0, long"]
    unnamed = GridWorld(layout="S..\n..G\n").layout.text()
    assert groups.titles([{"id": "gridzero/GridWorld-v0", "layout": unnamed}]) == ["GridWorld-v0, map 2×3"]


def test_a_residual_of_zero_is_seen(drawn: list[Any]) -> None:
    """Policy iteration ends with a residual of exactly 0, below every tick of a logarithmic axis."""
    record("exact", agent="policy-iteration", metric="residual", values=(2.6, 1.0, 9.0, 0.0))
    assert main(["plot", "exact"]) == 0
    (axes,) = drawn[0].axes
    heights = axes.transData.transform([(0, value) for value in (0.0, 1.0, 2.6, 9.0)])[:, 1]
    assert axes.bbox.y0 < heights[0] < heights[1]
    assert (heights[3] - heights[2]) / (heights[2] - heights[1]) == pytest.approx(np.log(9 / 2.6) / np.log(2.6))
    assert 0.0 in axes.get_yticks()


def test_runs_without_the_metric_that_most_have_are_left_out(
    drawn: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [record("a"), record("b", agent="sarsa"), record("c", agent="td", metric="accuracy")]
    assert main(["plot", *names]) == 0
    assert "runs/c is left out: it has no evaluation_return" in capsys.readouterr().out
    assert sorted(lines(drawn[0].axes[0])) == ["q-learning", "sarsa"]


def test_the_evaluation_at_the_end_is_the_last_point(drawn: list[Any]) -> None:
    record("a", values=(1, 2, None, None))
    Path("runs/a/evaluation.json").write_text(json.dumps({"mean": 5.0, "optimum": None}))
    assert main(["plot", "a"]) == 0
    assert lines(drawn[0].axes[0]) == {"q-learning": [1.0, 2.0, 5.0]}


def test_what_was_logged_while_exploring_says_so(drawn: list[Any]) -> None:
    record("old", metric="episode_return")
    assert main(["plot", "old", "--output", "old.pdf"]) == 0
    assert drawn[0].axes[0].get_ylabel() == "return while exploring"
    assert Path("old.pdf").read_bytes().startswith(b"%PDF")


def test_smoothing_and_bins_are_named(drawn: list[Any]) -> None:
    record("long", values=np.arange(400.0).tolist())
    assert main(["plot", "long", "--points", "50", "--smooth", "3"]) == 0
    text = drawn[0].get_supxlabel()
    assert "each point the mean over 8k steps" in text
    assert "running mean over 3 points" in drawn[0].axes[0].get_ylabel()
    np.testing.assert_allclose(lines(drawn[0].axes[0])["q-learning"][10], np.mean([3.5 + 8 * k for k in (8, 9, 10)]))


def test_a_sweep_is_drawn_whole(drawn: list[Any]) -> None:
    for gamma in (0.5, 0.9):
        for seed in range(2):
            record(f"many/gamma={gamma}/seed-{seed}", seed, gamma=gamma)
    Path("runs/many/sweep.json").write_text("{}")
    assert main(["plot", "many"]) == 0
    assert set(lines(drawn[0].axes[0])) == {"gamma 0.5", "gamma 0.9"}


def test_axes_in_seconds_and_episodes(drawn: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    record("a", 0, values=(1, 2, 3, 4))
    record("b", 1, values=(1, 2))
    assert main(["plot", "a", "b", "--x", "seconds"]) == 0
    assert lines(drawn[0].axes[0])["q-learning"][-1] == 3.0  # the one that has ended stays at 2
    assert main(["plot", "a", "--x", "episodes"]) == 2
    assert "no episodes" in capsys.readouterr().err


def test_a_curve_ends_with_its_shortest_run() -> None:
    curve = average("x", [(np.array([1.0, 2, 3, 4]), np.ones(4)), (np.array([1.0, 2]), np.full(2, 3.0))])
    assert curve.x[-1] == 2
    assert set(curve.middle) == {2.0}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=2, max_size=8))
def test_intervals_stay_among_the_values_seen(values: list[list[float]]) -> None:
    table = np.array(values)
    for statistic in ("mean", "iqm"):
        low, high = intervals(table, statistic)  # type: ignore[arg-type]
        slack = 1e-9 * (1 + np.abs(table).max())
        assert (table.min(axis=0) - slack <= low).all()
        assert (low <= high + slack).all()
        assert (high <= table.max(axis=0) + slack).all()


def test_bootstrap_is_scipys_and_covers_as_it_should() -> None:
    rng = np.random.default_rng(1)
    table = rng.normal(size=(40, 200))  # 200 points, each with 40 seeds of mean 0
    low, high = intervals(table)
    inside = int(((low <= 0) & (high >= 0)).sum())
    assert 180 <= inside <= 198  # 95 % of 200, less the little that a percentile interval is too short
    student = stats.ttest_1samp(table[:, 0], 0).confidence_interval(0.95)
    assert (low[0], high[0]) == pytest.approx((student.low, student.high), abs=0.06)


def test_interquartile_mean_is_that_of_the_middle_half() -> None:
    values = np.random.default_rng(0).normal(size=(8, 5))
    np.testing.assert_allclose(middle(values, "iqm"), np.sort(values, axis=0)[2:6].mean(axis=0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.integers(1, 10))
def test_running_mean_against_a_loop(values: list[float], width: int) -> None:
    expected = [np.mean(values[max(0, k - width + 1) : k + 1]) for k in range(len(values))]
    np.testing.assert_allclose(running_mean(np.array([values]), width)[0], expected, atol=1e-9)


def test_bins_hold_what_lies_in_them() -> None:
    means = bin_means(np.array([1.0, 2, 3, 9]), np.array([1.0, 3, 5, 100]), np.array([0.0, 2, 4, 8]))
    np.testing.assert_array_equal(means, [2.0, 5.0, np.nan])
    assert curves.RESAMPLES >= 1000
