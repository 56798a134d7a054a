"""What every task must keep to, and what each of them teaches."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridzero.envs.tasks import TASKS, Problem, Task, Template, Vocabulary, make_task, task_class, task_options
from gridzero.envs.tasks.expressions import calculate
from gridzero.envs.tasks.task import HELD_OUT_SHARE, held_out

GENERATED = {
    "addition": [{}, {"digits": 1}, {"digits": 7}],
    "multiplication": [{}, {"digits": 1}, {"digits": 4}],
    "arithmetic": [{}, {"terms": 8, "largest": 99}, {"terms": 2, "operations": "/"}],
    "countdown": [{}, {"numbers": 2, "largest": 9}, {"numbers": 5}],
    "linear-equation": [{}, {"fractions": True}, {"largest": 1}],
    "sorting": [{}, {"length": 12, "largest": 9}],
    "grid-path": [{}, {"height": 7, "width": 5, "kind": "maze"}, {"kind": "empty", "height": 2, "width": 2}],
    "grid-walk": [{}, {"height": 7, "width": 5, "kind": "rooms"}, {"turns": 2}],
}
CASES = [(name, options) for name, several in GENERATED.items() for options in several]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def episode(task: Task, problem: Problem, rng: np.random.Generator) -> list[str]:
    """The demonstrations of a whole episode."""
    completions = [task.demonstrate(problem, rng)]
    while task.reply(problem, completions) is not None:
        completions.append(task.demonstrate(problem, rng, completions))
    return completions


@every_case
@pytest.mark.parametrize("template", ["tags", "r1-zero", "plain"])
def test_worked_demonstrations_are_right_and_all_can_be_written(
    name: str, options: dict[str, Any], template: str
) -> None:
    for shown in ({"worked": 0.0}, {"worked": 1.0}, {"worked": 0.0, "direct": True}):
        task = make_task(name, template=template, **shown, **options)
        vocabulary = Vocabulary.for_task(task)
        rng = np.random.default_rng(0)
        for _ in range(20):
            problem = task.sample(rng)
            completions = episode(task, problem, rng)
            assert len(completions) <= task.turns
            verdict = task.judge(problem, completions)
            assert verdict.correct or shown == {"worked": 0.0}, (problem, completions, verdict)
            assert verdict.well_formed
            texts = [task.prompt(problem), *completions]
            texts += [task.reply(problem, completions[:n]) or "" for n in range(1, len(completions))]
            for text in texts:
                assert vocabulary.decode(vocabulary.encode(text)) == text


@every_case
def test_the_reference_is_right_and_changed_it_is_wrong(name: str, options: dict[str, Any]) -> None:
    task = make_task(name, **options)
    rng = np.random.default_rng(1)
    for _ in range(30):
        problem = task.sample(rng)
        if task.turns == 1:
            assert task.check(problem, problem.reference) == (True, "right")
        for changed in (problem.reference + "1", problem.reference + " or 1", problem.question, "?"):
            if changed != problem.reference:
                assert not task.check(problem, changed)[0], (problem, changed)


@every_case
def test_problems_are_decided_by_the_generator_and_are_plain(name: str, options: dict[str, Any]) -> None:
    task, again = make_task(name, **options), make_task(name, **options)
    first = [task.sample(rng) for rng in [np.random.default_rng(3)] for _ in range(20)]
    second = [again.sample(rng) for rng in [np.random.default_rng(3)] for _ in range(20)]
    assert first == second
    for problem in first:
        metadata = json.loads(json.dumps(problem.metadata))
        assert metadata == problem.metadata
        restored = Problem(problem.question, problem.reference, metadata)
        assert task.key(restored) == task.key(problem)


@every_case
def test_training_and_held_out_problems_never_overlap(name: str, options: dict[str, Any]) -> None:
    drawn: dict[str, set[str]] = {}
    for split, count in (("train", 300), ("held-out", 30)):
        tasks = [
            make_task(name, split=split, **options),
            make_task(name, split=split, template="plain", worked=1.0, **options),
        ]
        drawn[split] = set()
        for task in tasks:
            rng = np.random.default_rng(5)
            try:
                drawn[split] |= {task.key(task.sample(rng)) for _ in range(count)}
            except ValueError:
                assert split == "held-out"  # too few problems for any to be held out
    assert not drawn["train"] & drawn["held-out"]


def test_a_problem_is_of_one_split_whatever_the_options() -> None:
    for name, several in GENERATED.items():
        sides: dict[str, set[str]] = {}
        for options, split in itertools.product(several, ("train", "held-out")):
            task = make_task(name, split=split, **options)
            rng = np.random.default_rng(0)
            try:
                for _ in range(20):
                    sides.setdefault(task.key(task.sample(rng)), set()).add(split)
            except ValueError:
                continue
        assert all(len(side) == 1 for side in sides.values()), name


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("addition", {"numbers": [12, 34]}, {"numbers": [34, 12]}),
        ("multiplication", {"numbers": [12, 34]}, {"numbers": [34, 12]}),
        ("countdown", {"numbers": [3, 5, 25], "target": 60}, {"numbers": [25, 3, 5], "target": 60}),
        ("linear-equation", {"coefficients": [3, 4, 5, -6]}, {"coefficients": [5, -6, 3, 4]}),
    ],
)
def test_problems_that_are_the_same_in_substance_are_of_one_split(name: str, one: Any, other: Any) -> None:
    task = make_task(name)
    assert task.key(Problem("a", "", one)) == task.key(Problem("b", "", other))


def test_about_a_tenth_is_held_out() -> None:
    share = sum(held_out("addition", str(key)) for key in range(20_000)) / 20_000
    assert abs(share - HELD_OUT_SHARE) < 4 * (0.1 * 0.9 / 20_000) ** 0.5  # four standard deviations
    assert held_out("addition", "[1, 2]") == held_out("addition", "[1, 2]")
    assert [key for key in range(40) if held_out("addition", str(key))] == HELD_OUT_AMONG_FORTY


HELD_OUT_AMONG_FORTY = [9, 20, 33, 34]  # printf "addition\nKEY" | sha256sum begins below 199a


def test_work_is_shown_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    for worked in (0.0, 0.3, 1.0):
        task = make_task("addition", worked=worked)
        problem = task.sample(rng)
        shown = sum("<think></think>" not in task.demonstrate(problem, rng) for _ in range(2_000)) / 2_000
        assert abs(shown - worked) <= 4 * (worked * (1 - worked) / 2_000) ** 0.5


STEP = re.compile(r"(\d)\+(\d)\+([01])=(\d\d)")


@given(st.integers(1, 18), st.data())
def test_the_columns_of_an_addition_lead_to_the_sum(digits: int, data: st.DataObject) -> None:
    low = 10 ** (digits - 1) if digits > 1 else 0
    a, b = (data.draw(st.integers(low, 10**digits - 1)) for _ in range(2))
    task = make_task("addition", digits=digits)
    work = task.work(Problem(f"{a}+{b}=", "", {"numbers": [a, b]}), np.random.default_rng(0))
    carry, written = 0, ""
    for column, text in enumerate(work.split(",")):
        x, y, c, total = map(int, STEP.fullmatch(text).groups())  # type: ignore[union-attr]  # None fails the test
        assert (x, y, c) == (a // 10**column % 10, b // 10**column % 10, carry)
        assert x + y + c == total
        carry, written = total // 10, str(total % 10) + written
    assert int(f"{carry}{written}") == a + b


@given(st.integers(1, 6), st.data())
def test_every_step_of_a_multiplication_holds_and_the_last_row_is_the_product(digits: int, data: st.DataObject) -> None:
    low = 10 ** (digits - 1) if digits > 1 else 0
    a, b = (data.draw(st.integers(low, 10**digits - 1)) for _ in range(2))
    task = make_task("multiplication", digits=digits)
    work = task.work(Problem(f"{a}*{b}=", "", {"numbers": [a, b]}), np.random.default_rng(0))
    rows = []
    for part in work.split(";"):
        steps, _, row = part.partition(":")
        rows.append(int(row))
        for step in steps.split(","):
            left, _, right = step.partition("=")
            x, sign, y, carry = re.fullmatch(r"(\d)([*+])(\d)\+(\d)", left).groups()  # type: ignore[union-attr]  # None fails the test
            assert (int(x) * int(y) if sign == "*" else int(x) + int(y)) + int(carry) == int(right)
    assert rows[-1] == a * b
    assert sum(rows[:1] + rows[1::2]) == a * b  # the rows of the digits, without the sums on the way


def solutions(numbers: list[tuple[str, Fraction]]) -> dict[str, Fraction]:
    """Every fully parenthesised expression of all the numbers."""
    if len(numbers) == 1:
        return dict(numbers)
    found: dict[str, Fraction] = {}
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        (first, x), (second, y) = numbers[i], numbers[j]
        values = {"+": x + y, "-": x - y, "*": x * y} | ({"/": x / y} if y else {})
        for sign, value in values.items():
            found |= solutions([*rest, (f"({first}{sign}{second})", value)])
    return found


def test_countdown_agrees_with_every_expression_there_is() -> None:
    task = make_task("countdown", numbers=3)
    rng = np.random.default_rng(2)
    for _ in range(15):
        problem = task.sample(rng)
        given, target = problem.metadata["numbers"], problem.metadata["target"]
        found = solutions([(str(number), Fraction(number)) for number in given])
        assert target in found.values()
        for text, value in found.items():
            assert task.check(problem, text)[0] == (value == target), text


@pytest.mark.parametrize("numbers", [2, 3, 4, 6])
def test_countdown_works_until_it_is_right(numbers: int) -> None:
    task = make_task("countdown", numbers=numbers)
    rng = np.random.default_rng(0)
    for _ in range(200):
        problem = task.sample(rng)
        target = problem.metadata["target"]
        assert task.check(problem, task.answer(problem)) == (True, "right")
        groups = task.work(problem, rng).split(";")
        if numbers > 3:
            opening = groups.pop(0).split(",")
            assert len(opening) == numbers - 3
            assert all(true_equation(step) for step in opening)
        if numbers == 2:
            steps = groups.pop().split(",")
            assert all(true_equation(step) for step in steps)
            assert [int(step.split("=")[1]) == target for step in steps] == [False] * (len(steps) - 1) + [True]
        found = [value for group in groups for value in tried(group, target)]
        assert [value == target for value in found] == [False] * (len(found) - 1) + [True] * (numbers > 2)


def true_equation(text: str) -> bool:
    operation, result = text.split("=")
    return calculate(operation).value == int(result)


def tried(group: str, target: int) -> Iterator[int]:
    """Values that a group of countdown's work tries, each held to what is written of it."""
    last, entries = group.split(":")
    made = 0
    for entry in entries.split(","):
        if entry[0].isdigit():
            assert true_equation(entry)
            made = int(entry.split("=")[1])
            continue
        for operation, pairs in re.findall(r"([-+*/])(\d+)", entry):
            greater, less = max(made, int(last)), min(made, int(last))
            value = calculate(f"{greater}{operation}{less}").value
            assert value > 0
            one, other = (int(pairs[place::2][::-1]) for place in (0, 1))
            modulus = 10 ** (len(pairs) // 2)
            assert (one, other) == (value % modulus, target % modulus)
            assert (one == other) == (value == target)
            assert one % (modulus // 10) == other % (modulus // 10)
            assert one != other or modulus // 10 > value
            yield int(value)


def test_countdown_leaves_out_nothing_that_can_be_made() -> None:
    task = make_task("countdown")
    rng = np.random.default_rng(0)
    for numbers in itertools.combinations_with_replacement(range(1, 10, 2), 3):
        for target in reachable(numbers):
            problem = Problem("", "", {"numbers": list(numbers), "target": target, "steps": []})
            assert task.check(problem, task.answer(problem)) == (True, "right")
            assert task.work(problem, rng).endswith("00")


def reachable(numbers: Sequence[int]) -> set[int]:
    """Positive whole numbers that these make, by way of such."""
    if len(numbers) == 1:
        return set(numbers)
    made = set()
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        x, y = numbers[i], numbers[j]
        for value in {x + y, x - y, x * y} | ({x // y} if x % y == 0 else set()):
            if value > 0:
                made |= reachable([*rest, value])
    return made


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "1", "x", "<", "\n", "<pad>", "<end>"]))
)
def test_the_vocabulary_reads_back_what_it_wrote(pieces: list[str]) -> None:
    vocabulary = Vocabulary.of("1x<\npadend>")
    text = "".join(pieces)
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert vocabulary.decode([0, *ids, 0, 1, 7, 7]) == text
    assert not {vocabulary.pad, vocabulary.end} & set(ids)
    if re.fullmatch("(?:</?(?:think|answer)>)*", text):
        assert len(ids) == text.count("<")


@given(
    st.sampled_from(["tags", "r1-zero", "plain", Template("open", after="\n<think>")]),
    st.text("abc+= \n", max_size=20),
    st.text("0123456789/", min_size=1, max_size=8),
)
def test_a_template_finds_the_answer_that_it_wrote(template: str | Template, thought: str, answer: str) -> None:
    form = make_task("addition", template=template).template
    assert form.extract(form.completion(thought, answer)) == (answer, True, "")
    assert form.opened == form.completion("", answer).startswith("</think>")


def test_prompts() -> None:
    problem = Problem("1+1=", "2", {"numbers": [1, 1]})
    assert make_task("addition").prompt(problem) == "1+1=\n"
    conversation = make_task("addition", template="r1-zero").prompt(problem)
    assert conversation.startswith("A conversation between User and Assistant.")
    assert conversation.endswith("</answer>.\nUser: What number is 1+1=\nAssistant:")
    walk = make_task("grid-walk", template="r1-zero")
    assert walk.reply(Problem("S.\n.G", "R"), ["<answer>R</answer>"]) == "\nUser: .S\n.G\nAssistant:"


WRONG_OPTIONS: list[tuple[Callable[[], object], str]] = [
    (lambda: make_task("adition"), "no task is called 'adition'; did you mean addition?"),
    (lambda: make_task("addition", digit=3), "addition has no option 'digit'; did you mean digits or direct?"),
    (lambda: make_task("jsonl"), "jsonl needs the option 'path'"),
    (lambda: make_task("addition", digits=0), "digits must be an integer from 1 to 18, not 0"),
    (lambda: make_task("addition", digits=True), "digits must be an integer from 1 to 18, not True"),
    (lambda: make_task("addition", split="test"), "split must be one of train, held-out, all, not 'test'"),
    (lambda: make_task("addition", worked=2), "worked must be a share between 0 and 1, not 2"),
    (lambda: make_task("addition", direct=1), "direct must be true or false, not 1"),
    (lambda: make_task("addition", template="r1zero"), "no template is called 'r1zero'; did you mean r1-zero?"),
    (lambda: make_task("arithmetic", operations="^"), "operations must be some of +-*/, not '^'"),
    (lambda: make_task("grid-path", kind="mase"), "no generator is called 'mase'; did you mean maze?"),
    (lambda: Template("mine", form="boxed"), "a template's form must be one of tags, last-line, not 'boxed'"),  # type: ignore[arg-type]  # on purpose
    (lambda: Vocabulary(("a",)), "a vocabulary begins with <pad> and <end>, not 'a'"),
    (lambda: Vocabulary(("<pad>", "<end>", "ab")), "a token is one character or one of"),
    (lambda: Vocabulary(("<pad>", "<end>", "a", "a")), "a vocabulary has each token once"),
    (lambda: Vocabulary.of("a").encode("ab"), "the character 'b' is not in the vocabulary"),
    (lambda: Vocabulary.of("a").decode([7]), "ids go from 0 to 6, not 7"),
    (
        lambda: make_task("addition", digits=1, split="held-out").sample(_Constant()),  # type: ignore[arg-type]  # on purpose
        "addition has no held-out problems with these options",
    ),
]


class _Constant:
    """A generator that always draws 7."""

    def integers(self, low: int, high: int, size: int) -> list[int]:
        return [7] * size


@pytest.mark.parametrize(("make", "message"), WRONG_OPTIONS)
def test_errors_say_what_is_allowed(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@every_case
def test_every_option_can_be_read_back(name: str, options: dict[str, Any]) -> None:
    task = make_task(name, **options)
    for option, value in options.items():
        assert getattr(task, option) == value
    assert set(task_options(name)) <= set(vars(task))


def test_every_task_is_registered_under_its_name_and_documents_its_options() -> None:
    assert set(GENERATED) | {"jsonl", "reasoning-gym"} == set(TASKS)
    for name in TASKS:
        task = task_class(name)
        assert task.name == name
        documented = (task.__doc__ or "") + (Task.__doc__ or "")
        for option in task_options(name):
            assert f"        {option}: " in documented, (name, option)
