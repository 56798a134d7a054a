"""The tasks in other libraries' words: rewards and problems for TRL, verl and verifiers.

Each adapter takes a task and gives what that library asks for; nothing but the library itself is needed, and that only
where it is said. A completion is rewarded as in ``gridzero/TextGeneration-v0``: 1 for a right answer, 0.1 for a
well-formed one. Problems travel as JSON in a column of their own, so that any process can judge them.

A last line that was cut off is no answer. TRL and verifiers tell which completions were; verl hands over text alone, so
that there such a line is judged as if it had ended: give it a limit that completions seldom reach.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from gridzero.envs.tasks import Problem, Task, Verdict
from gridzero.envs.tasks.reward import DEFAULT, RewardSum, Weights
from gridzero.envs.tasks.templates import CutOff, Form
from gridzero.llm_rl.models.rendering import messages, with_system

FORM_WEIGHT = 0.1
FORM_INSTRUCTIONS: Mapping[Form, str] = {
    "tags": "Think first, then answer: <think> your reasoning </think> <answer> the answer alone </answer>",
    "last-line": "Write the answer, and nothing else, on the last line.",
}
"""Form of a template → what a model is told of it."""

RewardFunction = Callable[..., list[float]]
ScoreFunction = Callable[..., dict[str, Any]]


def to_json(problem: Problem) -> str:
    """A problem as JSON.

    >>> to_json(Problem("1+1=", "2", {"numbers": [1, 1]}))
    '{"question": "1+1=", "reference": "2", "metadata": {"numbers": [1, 1]}}'
    """
    return json.dumps({**asdict(problem), "metadata": dict(problem.metadata)}, ensure_ascii=False)


def from_json(text: str) -> Problem:
    """The inverse of :func:`to_json`.

    Raises:
        ValueError: for anything else.

    >>> from_json('{"question": "1+1=", "reference": "2", "metadata": {}}')
    Problem(question='1+1=', reference='2', metadata={})
    """
    fields = json.loads(text)
    if not isinstance(fields, dict) or set(fields) != {"question", "reference", "metadata"}:
        raise ValueError(f"a problem is JSON with question, reference and metadata, not {text[:60]!r}")
    return Problem(**fields)


def rows(task: Task, size: int, seed: int = 0, *, conversational: bool = False) -> list[dict[str, Any]]:
    r"""Problems of a task as a table: ``prompt``, and ``problem`` as JSON.

    Args:
        task: with one turn.
        size: how many; the same one may come more than once.
        seed: decides which.
        conversational: prompts as messages, for models with a chat template, instead of text; the task's system prompt
            is the first message, or before the text.

    Raises:
        ValueError: for a task that answers back, or a size below 1.

    >>> from gridzero.envs.tasks import make_task
    >>> rows(make_task("addition", digits=1), 1)
    [{'prompt': '8+6=\n', 'problem': '{"question": "8+6=", "reference": "14", "metadata": {"numbers": [8, 6]}}'}]
    """
    _single_turn(task)
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    rng = np.random.default_rng(seed)
    return [row(task, task.sample(rng), conversational=conversational) for _ in range(size)]


def row(task: Task, problem: Problem, *, conversational: bool = False) -> dict[str, Any]:
    """One problem; see :func:`rows`."""
    text = task.prompt(problem)
    return {
        "prompt": messages(task.system, text) if conversational else with_system(task.system, text),
        "problem": to_json(problem),
    }


# TRL


def trl_dataset(task: Task, size: int, seed: int = 0, *, conversational: bool = False) -> Any:
    """A ``datasets.Dataset`` of problems, with the columns that :func:`trl_reward` reads; see :func:`rows`."""
    from datasets import Dataset

    return Dataset.from_list(rows(task, size, seed, conversational=conversational))


def trl_reward(task: Task, rewards: Weights = DEFAULT, *, end: Collection[int] = ()) -> RewardFunction:
    r"""A reward function for TRL's trainers, to be used with :func:`trl_dataset`.

    It also logs the shares of right and well-formed completions, as ``accuracy`` and ``form``.

    Args:
        task: with one turn.
        rewards: weights of reward functions by name; see :mod:`gridzero.envs.tasks.reward`.
        end: tokens that end a completion, such as ``[tokenizer.eos_token_id]``, by which those are known that were cut
            off; without any, none is.

    Raises:
        ValueError: for a task that answers back, or rewards that there are not.

    >>> from gridzero.envs.tasks import make_task
    >>> task = make_task("addition", digits=1)
    >>> problem = rows(task, 1)[0]
    >>> reward = trl_reward(task)
    >>> reward(["8+6=\n"] * 2, ["<think>6 more</think> <answer>14</answer>", "14"], problem=[problem["problem"]] * 2)
    [1.1, 0.0]
    """
    _single_turn(task)
    paid = RewardSum(task, rewards)

    def task_reward(
        prompts: Sequence[Any], completions: Sequence[Any], problem: Sequence[str], **columns: Any
    ) -> list[float]:
        texts = replies(completions, columns.get("completion_ids"), end)
        judgements = [paid.judge(from_json(given), [[text]])[0] for given, text in zip(problem, texts, strict=True)]
        verdicts = [judgement.verdict for judgement in judgements]
        log = columns.get("log_metric")
        if log is not None:
            log("accuracy", float(np.mean([verdict.correct for verdict in verdicts])))
            log("form", float(np.mean([verdict.well_formed for verdict in verdicts])))
            for name in paid.others:
                log(f"reward/{name}", float(np.mean([judgement.parts[name] for judgement in judgements])))
        return [judgement.total for judgement in judgements]

    return task_reward


def reward_of(verdict: Verdict, form_weight: float = FORM_WEIGHT) -> float:
    """1 for a right answer, ``form_weight`` for the form."""
    return float(verdict.correct) + form_weight * verdict.well_formed


def replies(
    completions: Sequence[Any], tokens: Sequence[Sequence[int]] | None = None, end: Collection[int] = ()
) -> list[str]:
    """Texts of completions, :class:`~gridzero.envs.tasks.templates.CutOff` where their tokens do not end in ``end``.

    >>> [isinstance(text, CutOff) for text in replies(["1", "1"], [[5, 0], [5, 5]], end=[0])]
    [False, True]
    """
    texts = list(map(written, completions))
    if tokens is None or not end:
        return texts
    return [text if ids and ids[-1] in end else CutOff(text) for text, ids in zip(texts, tokens, strict=True)]


def written(completion: Any) -> str:
    """Text of a completion: itself, or the content of its last message."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    return content if isinstance(content, str) else ""


# verl


def verl_rows(task: Task, size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Problems as verl's data sets have them; ``datasets.Dataset.from_list(...).to_parquet(...)`` writes the file.

    The models are pretrained, so where neither the task's template nor its system prompt says which form an answer has,
    a system prompt does.

    Args:
        task: with one turn.
        size: how many.
        seed: decides which.

    Raises:
        ValueError: for a task that answers back, or a size below 1.
    """
    said = bool(task.system) or task.template.explains
    instructed = [] if said else [{"role": "system", "content": FORM_INSTRUCTIONS[task.template.form]}]
    return [
        {
            "data_source": f"gridzero/{task.name}",
            "prompt": instructed + found["prompt"],
            "ability": task.name,
            "reward_model": {"style": "rule", "ground_truth": found["problem"]},
            "extra_info": {"index": index, "split": task.split},
        }
        for index, found in enumerate(rows(task, size, seed, conversational=True))
    ]


def verl_reward(task: Task, form_weight: float = FORM_WEIGHT) -> ScoreFunction:
    """A ``compute_score`` for verl, to be used with :func:`verl_rows`: its custom reward function.

    Args:
        task: with one turn.
        form_weight: what a well-formed completion pays, at least 0.

    Raises:
        ValueError: for a task that answers back.

    >>> from gridzero.envs.tasks import make_task
    >>> task = make_task("addition", digits=1)
    >>> compute_score = verl_reward(task)
    >>> problem = verl_rows(task, 1)[0]["reward_model"]["ground_truth"]
    >>> compute_score("gridzero/addition", "<answer>14</answer>", problem)
    {'score': 1.0, 'acc': 1.0, 'form': 0.0}
    """
    _single_turn(task)

    def compute_score(
        data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        verdict = task.verify(from_json(ground_truth), solution_str)
        return {
            "score": reward_of(verdict, form_weight),
            "acc": float(verdict.correct),
            "form": float(verdict.well_formed),
        }

    return compute_score


# verifiers


def verifiers_taskset(task: Task, size: int, seed: int = 0, *, form_weight: float = FORM_WEIGHT) -> Any:
    """A class of tasks for verifiers (0.4 or newer): a ``Taskset`` that loads problems and rewards the last reply.

    A module that exports it in ``__all__`` is an environment: ``--env.taskset.id MODULE``.

    Args:
        task: with one turn.
        size: how many problems.
        seed: decides which.
        form_weight: what a well-formed reply pays, at least 0.

    Raises:
        ValueError: for a task that answers back, or a size below 1.
    """
    import verifiers.v1 as vf

    _single_turn(task)
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")

    class GridzeroData(vf.TaskData):  # type: ignore[misc]  # untyped where it is not installed
        """A problem, as JSON beside its prompt."""

        problem: str

    class GridzeroTask(vf.Task[GridzeroData]):  # type: ignore[misc]  # as above
        """Judges the reply to one problem."""

        def _verdict(self, trace: Any) -> Verdict:
            reply = CutOff(trace.last_reply) if trace.is_truncated else trace.last_reply
            return task.verify(from_json(self.data.problem), reply)

        @vf.reward  # type: ignore[untyped-decorator]  # as above
        async def correct(self, trace: Any) -> float:
            """Whether the answer is right."""
            return float(self._verdict(trace).correct)

        @vf.reward(weight=form_weight)  # type: ignore[untyped-decorator]  # as above
        async def well_formed(self, trace: Any) -> float:
            """Whether the form is kept."""
            return float(self._verdict(trace).well_formed)

    class GridzeroTaskset(vf.Taskset[GridzeroTask, vf.TasksetConfig]):  # type: ignore[misc]  # as above
        """The problems."""

        def load(self) -> Iterator[GridzeroTask]:
            """Yield them."""
            for found in rows(task, size, seed):
                yield GridzeroTask(GridzeroData(prompt=found["prompt"], problem=found["problem"]), self.config.task)

    return GridzeroTaskset


def _single_turn(task: Task) -> None:
    if task.turns > 1:
        raise ValueError(f"{task.name} answers back, up to {task.turns} turns; adapters are for tasks of one turn")
