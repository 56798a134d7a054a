"""The adapters: the same verdicts as the environment's, whatever library asks; with the library where it is there."""

import asyncio
import importlib.util
import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gridzero  # noqa: F401  (registers the environments)
from gridzero.envs.tasks import TASKS, Problem, make_task
from gridzero.llm_rl.integrations import task_exports

NEEDS_MORE = {"jsonl", "reasoning-gym"}
SINGLE = [name for name in TASKS if name not in NEEDS_MORE and make_task(name).turns == 1]
FINISHED = "<think>so</think> <answer>{}</answer>"


def completions(reference: str) -> list[str]:
    return [FINISHED.format(reference), f"<answer>{reference}</answer>", FINISHED.format("none"), "", "<answer>" * 3]


def rewards_of_the_environment(name: str, seed: int, written: list[str]) -> list[float]:
    env = gym.make("gridzero/TextGeneration-v0", task=name)
    found = []
    for completion in written:
        env.reset(seed=seed)
        found.append(float(env.step(completion)[1]))
    return found


@pytest.mark.parametrize("name", SINGLE)
def test_rewards_are_those_of_the_environment(name: str) -> None:
    env: Any = gym.make("gridzero/TextGeneration-v0", task=name).unwrapped
    prompt, _ = env.reset(seed=3)
    problem = env.problem
    written = completions(problem.reference)
    expected = rewards_of_the_environment(name, 3, written)
    row = task_exports.row(env.task, problem)
    assert row["prompt"] == prompt
    rewards = task_exports.trl_reward(env.task)([prompt] * 5, written, problem=[row["problem"]] * 5)
    assert rewards == pytest.approx(expected)
    compute_score = task_exports.verl_reward(env.task)
    scores = [
        compute_score(data_source="gridzero", solution_str=text, ground_truth=row["problem"], extra_info={})
        for text in written
    ]
    assert [score["score"] for score in scores] == pytest.approx(expected)
    assert scores[0]["acc"] == 1.0
    assert expected[0] == pytest.approx(1.1)


@given(
    st.builds(
        Problem,
        st.text(),
        st.text(),
        st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers() | st.booleans())),
    )
)
def test_problems_survive_json(problem: Problem) -> None:
    assert task_exports.from_json(task_exports.to_json(problem)) == problem


def test_other_json_is_refused() -> None:
    with pytest.raises(ValueError, match="question, reference and metadata"):
        task_exports.from_json('{"question": "1+1="}')


def test_messages_are_rewarded_by_their_last_content() -> None:
    task = make_task("addition")
    row = task_exports.rows(task, 1, seed=4, conversational=True)[0]
    assert [message["role"] for message in row["prompt"]] == ["user"]
    right = FINISHED.format(task_exports.from_json(row["problem"]).reference)
    chats: list[list[dict[str, Any]]] = [
        [{"role": "assistant", "content": right}],
        [{"role": "assistant", "content": None}],
        [],
    ]
    assert task_exports.trl_reward(task, "correct,form=0.5")(
        [row["prompt"]] * 3, chats, problem=[row["problem"]] * 3
    ) == [
        1.5,
        0.0,
        0.0,
    ]


def test_accuracy_and_form_are_logged() -> None:
    task, logged = make_task("addition"), {}
    row = task_exports.rows(task, 1)[0]
    right = task_exports.from_json(row["problem"]).reference
    task_exports.trl_reward(task)(
        [row["prompt"]] * 4,
        [FINISHED.format(right), f"<answer>{right}</answer>", FINISHED.format(0), "?"],
        problem=[row["problem"]] * 4,
        log_metric=logged.__setitem__,
        trainer_state=None,
    )
    assert logged == {"accuracy": 0.5, "form": 0.5}


def test_a_last_line_that_was_cut_off_is_no_answer_where_trl_has_its_tokens() -> None:
    task, end = make_task("addition", template="plain"), [7, 8]
    row = task_exports.rows(task, 1)[0]
    right = task_exports.from_json(row["problem"]).reference
    given: dict[str, Any] = {"problem": [row["problem"]] * 4, "completion_ids": [[3, 7], [3, 8], [3], []]}
    texts = [right] * 4
    assert task_exports.trl_reward(task, end=end)([row["prompt"]] * 4, texts, **given) == [1.1, 1.1, 0.0, 0.0]
    assert task_exports.trl_reward(task)([row["prompt"]] * 4, texts, **given) == [1.1] * 4


def test_rows_are_decided_by_the_seed_and_the_split() -> None:
    train, held_out = make_task("countdown"), make_task("countdown", split="held-out")
    assert task_exports.rows(train, 20, seed=1) == task_exports.rows(train, 20, seed=1)
    assert task_exports.rows(train, 20, seed=1) != task_exports.rows(train, 20, seed=2)
    keys = [
        {task.key(task_exports.from_json(row["problem"])) for row in task_exports.rows(task, 200)}
        for task in (train, held_out)
    ]
    assert not keys[0] & keys[1]


def test_verl_rows_have_the_columns_that_verl_documents() -> None:
    rows = task_exports.verl_rows(make_task("sorting"), 3, seed=5)
    assert [set(row) for row in rows] == [{"data_source", "prompt", "ability", "reward_model", "extra_info"}] * 3
    assert [row["extra_info"]["index"] for row in rows] == [0, 1, 2]
    assert json.loads(json.dumps(rows)) == rows
    problem = task_exports.from_json(rows[0]["reward_model"]["ground_truth"])
    assert problem.question in rows[0]["prompt"][-1]["content"]


def test_verl_rows_say_which_form_is_asked_once() -> None:
    def system(**options: Any) -> list[str]:
        prompt = task_exports.verl_rows(make_task("addition", **options), 1)[0]["prompt"]
        return [message["content"] for message in prompt if message["role"] == "system"]

    assert "<answer>" in system()[0]
    assert "last line" in system(template="plain")[0]
    assert system(template="r1-zero") == []  # its prompt says it
    assert system(system="Use <answer></answer>.") == ["Use <answer></answer>."]


@pytest.mark.parametrize(
    "adapt", [task_exports.trl_reward, task_exports.verl_reward, lambda task: task_exports.rows(task, 1)]
)
def test_tasks_that_answer_back_are_refused(adapt: Any) -> None:
    with pytest.raises(ValueError, match="grid-walk answers back"):
        adapt(make_task("grid-walk"))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        task_exports.rows(make_task("addition"), 0)


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
def test_the_data_set_holds_the_rows() -> None:
    task = make_task("multiplication")
    assert task_exports.trl_dataset(task, 7, seed=2).to_list() == task_exports.rows(task, 7, seed=2)


@pytest.mark.skipif(importlib.util.find_spec("verifiers") is None, reason="verifiers is not installed")
def test_verifiers_scores_replies() -> None:
    import verifiers.v1 as vf

    task = make_task("addition")
    tasks = list(task_exports.verifiers_taskset(task, 3, form_weight=0.25)(vf.TasksetConfig()))
    assert [found.data.prompt for found in tasks] == [row["prompt"] for row in task_exports.rows(task, 3)]
    found = tasks[1]
    right = task_exports.from_json(found.data.problem).reference
    assert [_score(found, text) for text in completions(right)[:4]] == pytest.approx([1.25, 1.0, 0.25, 0.0])


@pytest.mark.skipif(importlib.util.find_spec("verifiers") is None, reason="verifiers is not installed")
def test_a_last_line_that_was_cut_off_is_no_answer_for_verifiers() -> None:
    import verifiers.v1 as vf

    [found] = task_exports.verifiers_taskset(make_task("addition", template="plain"), 1)(vf.TasksetConfig())
    right = task_exports.from_json(found.data.problem).reference
    assert [_score(found, right, reason) for reason in ("stop", "length")] == pytest.approx([1.1, 0.0])


def _score(task: Any, reply: str, finish_reason: Any = "stop") -> float:
    """The reward that verifiers gives a reply."""
    import verifiers.v1 as vf

    trace = vf.Trace.model_construct(  # without the model and harness that it is of
        task=vf.TraceTask(type=type(task).__name__, data=task.data),
        nodes=[vf.MessageNode(message=vf.AssistantMessage(content=reply), sampled=True)],
        calls=[vf.ModelCall(node=0, finish_reason=finish_reason)],
    )
    asyncio.run(task.score(trace))
    return float(np.sum([reward.value for reward in trace.rewards.values()]))
