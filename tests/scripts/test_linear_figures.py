"""The figures of linear methods make their claims with few repetitions already."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

QUICK: dict[str, dict[str, Any]] = {
    "sutton_9_1": {"episodes": 5000},
    "sutton_9_2": {"runs": 10, "episodes": 2000, "lengths": (1, 4, 512)},
    "sutton_12_3": {"runs": 20},
    "sutton_12_6": {"runs": 20},
}


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_figure_agrees(name: str) -> None:
    figure = importlib.import_module(f"gridzero.figures.{name}").make(1, **QUICK[name])
    assert [row.quantity for row in figure.rows if row.agrees is False] == []
