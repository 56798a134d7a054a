"""Figures of books and papers: the command, and that the figures agree with what is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gridzero import figures
from gridzero.__main__ import main
from gridzero.figures.figure import compare, compare_all

QUICK = ("zhao-2", "zhao-3", "zhao-4")


def test_every_figure_is_listed_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", "--list"]) == 0
    listed = capsys.readouterr().out
    for name in figures.names():
        assert name in listed
        assert figures.title(name).endswith(".")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in figures.names()]
)
def test_every_number_is_the_published_one(name: str, tmp_path: Path) -> None:
    assert main(["figure", name, "--folder", str(tmp_path)]) == 0
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_numbers_agree_within_the_tolerance_alone() -> None:
    assert compare("q", 1.0, np.float64(1.09), 0.1).agrees is True
    assert compare("q", 1.0, np.float64(1.2), 0.1).agrees is False
    assert not compare("q", 1.0, 1.11, 0.1).agrees
    assert not compare("q", 1.0, float("nan"), 0.1).agrees
    assert compare_all("q", [1, 2], [1.05, 1.95], 0.06).agrees
    assert not compare_all("q", [1, 2], [1.05, 1.9], 0.06).agrees
    assert not compare_all("q", [1, 2], [1.0, np.nan], 0.06).agrees


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["zaho-3"], "there is no figure 'zaho-3'; did you mean zhao-"),
        ([], "which figure?"),
        (["zhao-3", "--all"], "not both"),
        (["zhao-3", "--seed", "-1"], "seed must be at least 0"),
    ],
)
def test_bad_input(words: list[str], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["figure", *words, *(["--folder", str(tmp_path / "none")])]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_number_that_differs_makes_the_status_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = figures.load("zhao-3")
    monkeypatch.setattr(module, "PUBLISHED", {"3.4a": " ".join(["5.0"] * 25)})
    assert main(["figure", "zhao-3", "--folder", str(tmp_path)]) == 1


def test_an_interrupted_command_goes_on_with_what_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = figures.load("zhao-3"), figures.load("zhao-4")
    words = ["figure", "zhao-3", "zhao-4", "--folder", str(tmp_path)]

    def interrupted(seed: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(second, "make", interrupted)
        assert main(words) == 130
    shown = capsys.readouterr()
    assert "1 of 2 figures are made; the same command with --resume goes on" in shown.err
    with monkeypatch.context() as patch:
        patch.setattr(first, "make", interrupted)  # is not asked for again
        assert main([*words, "--resume"]) == 0
        again = capsys.readouterr().out
        assert again.startswith(shown.out)
        assert "zhao-4.png" in again
        assert main([*words, "--resume", "--seed", "1"]) == 130
        (tmp_path / "zhao-3.json").write_text("{}")
        assert main([*words, "--resume"]) == 130
