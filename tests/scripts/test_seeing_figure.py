"""The figure of a policy that sees: its judges, on what is known without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.grid_path import MOVES
from gridzero.figures import seeing


class Scripted:
    """An agent that answers every question, and makes every move, as it was told."""

    def __init__(self, said: list[Any], **options: Any) -> None:
        self.said, self.task = iter(said), make_task("grid-path", **options)

    def act(self, observations: Any) -> Any:
        """The next of what it was told, for each observation."""
        return [next(self.said) for _ in observations]


def test_exact_values_are_optimal_on_mazes_that_all_methods_get() -> None:
    problems = seeing.mazes(0, 20)
    assert all(map(seeing.planned, problems))
    assert seeing.mazes(0, 20) == problems != seeing.mazes(1, 20)


@pytest.mark.parametrize("pixels", [0, 8])
def test_answers_and_walks_are_judged_alike(pixels: int) -> None:
    problems = seeing.mazes(0, 20)
    answers = [problem.reference for problem in problems]
    answers[1::2] = [answer[::-1] + "U" for answer in answers[1::2]]
    agent = Scripted([f"<think></think> <answer>{answer}</answer>" for answer in answers], pixels=pixels)
    written = seeing.written(agent, problems)
    walked = [
        seeing.walked(Scripted([MOVES.index(move) for move in answer]), problem)
        for answer, problem in zip(answers, problems, strict=True)
    ]
    assert written == [index % 2 == 0 for index in range(20)]
    assert walked[::2] == written[::2]
    assert np.mean(walked) < 1
