"""Examples of the figures of adaptation: right, and apart from those held out."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest

from gridzero.envs.tasks.task import Task
from gridzero.figures.adaptation import EXAMPLES, HELD_OUT, Adaptation


@pytest.mark.parametrize("skill", ["form", "subtraction"])
def test_examples_of_a_skill_are_right_and_those_held_out_are_others(skill: str) -> None:
    task = Adaptation(skill, 0)  # type: ignore[arg-type]
    records = [json.loads(line) for line in task.data.read_text().splitlines()]
    held_out = [prompt for pairs in task.held_out.values() for prompt, _ in pairs]
    assert len(held_out) == 2 * HELD_OUT
    assert HELD_OUT < len(records) <= EXAMPLES
    assert not {record["prompt"] for record in records} & set(held_out)
    addition: Task = gym.make("gridzero/TextGeneration-v0", task="addition").unwrapped.task  # type: ignore[attr-defined]
    for record in records[:100]:
        if skill == "subtraction":
            a, b = map(int, record["prompt"].strip("=\n").split(","))
            assert int(record["completion"][::-1]) == a - b
        else:
            a, b = map(int, record["prompt"].strip("=\n").split("+"))
            assert addition.template.extract(record["completion"]).answer == str(a + b)
