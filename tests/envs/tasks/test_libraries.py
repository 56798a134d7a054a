"""Problems from files, and the libraries that judge in a process of their own."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridzero.envs.tasks import Problem, Task, Vocabulary, make_task

GSM8K = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72"
)


def file_of(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "problems.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def entry(question: Any, answer: Any) -> str:
    return json.dumps({"question": question, "answer": answer, "level": 3})


def test_problems_as_gsm8k_has_them(tmp_path: Path) -> None:
    path = file_of(tmp_path, entry("How many clips?", GSM8K), "", entry("How much?", "#### 2,125"), entry("And?", 7))
    task = make_task("jsonl", path=path, split="all", worked=1.0)
    rng = np.random.default_rng(0)
    seen = {problem.question: problem for problem in (task.sample(rng) for _ in range(50))}
    assert {problem.reference for problem in seen.values()} == {"72", "2,125", "7"}
    clips = seen["How many clips?"]
    completion = task.demonstrate(clips, rng)
    assert completion.startswith("<think>Natalia sold 48/2 = 24 clips in May.\n")
    assert completion.endswith("72 clips altogether.</think> <answer>72</answer>")
    assert task.verify(clips, completion).correct
    assert task.check(seen["How much?"], "2125")[0]
    assert task.check(seen["How much?"], "#### 2,125.00")[0]
    assert not task.check(seen["And?"], "7 or 8")[0]
    vocabulary = Vocabulary.for_task(task)
    for problem in seen.values():
        text = task.prompt(problem) + task.demonstrate(problem, rng)
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_files_are_split_too(tmp_path: Path) -> None:
    path = file_of(tmp_path, *(entry(f"{n} + 1", n + 1) for n in range(200)))
    rng = np.random.default_rng(0)
    drawn = {}
    for split in ("train", "held-out"):
        task = make_task("jsonl", path=path, split=split)
        drawn[split] = {task.sample(rng).question for _ in range(2_000)}
    assert not drawn["train"] & drawn["held-out"]
    assert len(drawn["train"] | drawn["held-out"]) == 200


def test_text_is_compared_but_for_white_space(tmp_path: Path) -> None:
    task = make_task("jsonl", path=file_of(tmp_path, entry("Capital?", "Buenos Aires")), compare="text", split="all")
    problem = task.sample(np.random.default_rng(0))
    assert task.check(problem, " Buenos\nAires ")[0]
    assert not task.check(problem, "buenos aires")[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["", "  "], "is empty"),
        ([entry("q", 1), "{"], "line 2: it is not JSON: Expecting property name"),
        ([entry("q", 1), "", "[]"], "line 3: it is not a JSON object, but []"),
        (['{"question": "q"}'], 'line 1: "answer" is missing'),
        ([entry("", 1)], 'line 1: "question" is empty'),
        ([entry("q", True)], 'line 1: "answer" must be a text, not true'),
        ([entry("q", "24 or 25")], "line 1: 24 or 25 is not a number"),
        ([entry("q", "work ####")], "line 1: its answer is empty"),
        ([entry("q", "</think> #### 1")], "line 1: its answer has one of"),
        ([b"\xff\xfe"], "line 1: it is not UTF-8 text"),
        (['{"question": "\\ud800", "answer": 1}'], 'line 1: "question" has half a surrogate pair'),
        (["[" * 100_000], "line 1: it is not JSON"),
        (['{"question": "q", "answer": ' + "1" * 10_000 + "}"], "line 1: it is not JSON"),
        (["x" * 17_000_000], "line 1: it is longer than 16,777,216 bytes"),
    ],
    ids=str,
)
def test_bad_files_are_told_by_line(tmp_path: Path, lines: list[str | bytes], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make_task("jsonl", path=file_of(tmp_path, *lines))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ValueError, match="cannot read"):
            make_task("jsonl", path=path)


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ValueError, match="pip install math-verify"):
        make_task("jsonl", path=file_of(tmp_path, entry("q", "1")), compare="math")
    with pytest.raises(ValueError, match="pip install reasoning-gym"):
        make_task("reasoning-gym", dataset="countdown")


@pytest.fixture(scope="module")
def formulas(tmp_path_factory: pytest.TempPathFactory) -> Task:
    pytest.importorskip("math_verify")
    path = file_of(tmp_path_factory.mktemp("formulas"), *(entry(f"q{n}", a) for n, a in enumerate(FORMULAS)))
    return make_task("jsonl", path=path, compare="math", split="all")


FORMULAS = ("24", "\\frac{1}{2}", "x^2+2x+1", "\\{1,2\\}")


@pytest.mark.parametrize(
    ("which", "answer", "correct"),
    [
        (0, "24", True),
        (0, "$24$", True),
        (0, "25", False),
        (0, "24 or 25", False),
        (0, "25, 24", False),
        (0, "24}{25", False),
        (0, "24} or \\boxed{25", False),
        (0, "24} or \\boxed{24", False),
        (0, "9^{9^{9^{9}}}", False),
        (0, "100000000!", False),
        (0, "(" * 900 + "24" + ")" * 900, False),
        (0, "__import__('os').system('touch executed')", False),
        (0, "\ud800", False),
        (1, "0.5", True),
        (1, "1/2", True),
        (1, "1/3", False),
        (1, "0.49999999999999999999", False),
        (1, "½", True),
        (1, "1½", False),
        (2, "(x+1)^2", True),
        (2, "x^2+1", False),
        (3, "\\{2,1\\}", True),
        (3, "\\{2,3\\}", False),
    ],
)
def test_formulas(formulas: Task, which: int, answer: str, correct: bool) -> None:
    problem = Problem("", FORMULAS[which], {"work": ""})
    began = time.monotonic()
    assert formulas.check(problem, answer)[0] == correct
    assert time.monotonic() - began < 60
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "dataset", ["chain_sum", "number_sorting", "spiral_matrix", "simple_integration", "polynomial_multiplication"]
)
def test_reasoning_gym(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reasoning_gym")
    monkeypatch.chdir(tmp_path)
    task = make_task("reasoning-gym", dataset=dataset, template="plain", worked=0.0)
    rng = np.random.default_rng(0)
    problems = [task.sample(rng) for _ in range(5)]
    assert len({problem.question for problem in problems}) == 5
    assert problems == [
        make_task("reasoning-gym", dataset=dataset).sample(r) for r in [np.random.default_rng(0)] for _ in range(5)
    ]
    for problem in problems:
        assert task.verify(problem, task.demonstrate(problem, rng)).correct
    for answer in (
        "__import__('os').system('touch executed')",
        "[open('executed', 'w')]",
        "9**9**9**9",
        "((((",
        "\ud800",
    ):
        assert not task.verify(problems[0], answer).correct
    assert list(tmp_path.iterdir()) == []


def test_reasoning_gym_names_what_is_wrong() -> None:
    pytest.importorskip("reasoning_gym")
    for options, message in (
        ({"dataset": "contdown"}, "did you mean countdown"),
        ({"dataset": "countdown", "settings": '{"foo": 1}'}, "unexpected keyword argument 'foo'"),
        ({"dataset": "countdown", "settings": {"min_numbers": -1}}, "min_numbers must be greater than 1"),
        ({"dataset": "countdown", "settings": "foo"}, "settings must be a JSON object, not 'foo'"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            make_task("reasoning-gym", **options)
