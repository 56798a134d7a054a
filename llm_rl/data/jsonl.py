"""Files of examples in TRL's dataset formats: a JSON object a line.

- prompt and completion: ``{"prompt": …, "completion": …}``;
- preferences: ``{"prompt": …, "chosen": …, "rejected": …}``, perhaps with ``"probability"``, that of the preference;
- stepwise supervision: ``{"prompt": …, "completions": […], "labels": […]}``, a step and whether it is right.

A prompt and a completion are texts, or conversational: lists of messages ``{"role": …, "content": …}``.

Nothing precedes the first token of all, which is not learned: where a prompt is empty and the model has no mark of the
beginning, that is the completion's. Such texts can be imitated, but not be preferred.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from gridzero.envs.tasks.json_lines import Record, check_text, read_json_lines, value_of
from gridzero.envs.tasks.numbers import shown
from gridzero.llm_rl.data.examples import Example, Pair, StepExample
from gridzero.llm_rl.models.rendering import ChatRenderer, Message, renderer_of
from gridzero.llm_rl.policies.language_policy import LanguagePolicy

Content: TypeAlias = "str | list[Message]"
_ROLES = ("system", "user", "assistant")


def read_completions(path: Path, policy: LanguagePolicy, length: int) -> list[Example]:
    """Examples of a file of prompts and completions.

    Args:
        path: of the file.
        policy: makes tokens of texts.
        length: tokens of an example that will be read; what comes later is for nothing.

    Raises:
        ValueError: for a file that cannot be read, or a line that is wrong or whose completion begins after ``length``.
    """

    def make(record: Record) -> Example:
        example = rendered(policy, _content(record, "prompt"), _content(record, "completion"))
        _check_length(example, length)
        return example

    return read_json_lines(path, make)


def read_preferences(path: Path, policy: LanguagePolicy, length: int) -> list[Pair]:
    """Pairs of a file of preferences; see :func:`read_completions`."""

    def make(record: Record) -> Pair:
        prompt = _content(record, "prompt")
        chosen, rejected = _content(record, "chosen"), _content(record, "rejected")
        if chosen == rejected:
            raise ValueError('"chosen" and "rejected" are equal')
        probability = record.get("probability", 1.0)
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise ValueError(f'"probability" must be a number from 0 to 1, not {shown(json.dumps(probability))}')
        pair = Pair(rendered(policy, prompt, chosen), rendered(policy, prompt, rejected), float(probability))
        if not pair.chosen.prompt_length:
            raise ValueError('"prompt" is empty, and nothing precedes the first token that is preferred')
        _check_length(pair.chosen, length)
        _check_length(pair.rejected, length)
        return pair

    return read_json_lines(path, make)


def read_steps(path: Path, policy: LanguagePolicy, separator: str, length: int) -> list[StepExample]:
    """Completions of a file of stepwise supervision, their steps with ``separator`` between; see
    :func:`read_completions`.
    """

    def make(record: Record) -> StepExample:
        prompt = _text(record, "prompt")
        steps, labels = _list(record, "completions"), _list(record, "labels")
        if not steps:
            raise ValueError('"completions" has no step')
        if len(labels) != len(steps):
            raise ValueError(f'"labels" must be a list of {len(steps)}, not {shown(json.dumps(labels))}')
        if not all(isinstance(label, bool | int | float) and 0 <= label <= 1 for label in labels):
            raise ValueError(f'"labels" must be true, false or numbers from 0 to 1, not {shown(json.dumps(labels))}')
        texts = [check_text("completions", step) for step in steps]
        found = step_example(policy, prompt, texts, [float(label) for label in labels], separator)
        _check_length(found.example, length, found.ends[0] + 1)
        return found

    return read_json_lines(path, make)


def _check_length(example: Example, length: int, needed: int | None = None) -> None:
    """Raise ValueError for an example whose first ``length`` tokens leave nothing to learn.

    Args:
        example: the tokens of a line.
        length: how many of them are read.
        needed: how many must be; by default up to the completion's first token that follows another one.
    """
    if example.learned == 0:
        raise ValueError("there is nothing to learn: prompt and completion are empty")
    first = needed or example.completion.index(True, 1) + 1
    if first > length:
        raise ValueError(
            f"what there is to learn begins with token {first}, and {length} tokens of an example are read at most"
        )


def step_example(
    policy: LanguagePolicy, prompt: str, steps: list[str], labels: list[float], separator: str
) -> StepExample:
    """A completion of labelled steps as tokens; each step, with what ends it, is encoded for itself."""
    tokens = policy.renderer.prompt(prompt)
    first, ends = len(tokens), []
    for i, step in enumerate(steps):
        last = i == len(steps) - 1
        after = [policy.renderer.end] if last else policy.renderer.text(separator)
        tokens = tokens + policy.renderer.text(step) + after
        ends.append(len(tokens) - 1)
    return StepExample(Example(tokens, [i >= first for i in range(len(tokens))]), ends, labels)


def rendered(policy: LanguagePolicy, prompt: Content, completion: Content) -> Example:
    """Prompt and completion as tokens, with the end token.

    Raises:
        ValueError: for messages in another order than a system prompt, if any, then user and assistant in turn, of whom
            the assistant is the last; or a prompt of messages with a completion of text.
    """
    if isinstance(prompt, str) and isinstance(completion, str):
        before, after = policy.renderer.prompt(prompt), policy.renderer.completion(completion)
        return Example(before + after, [False] * len(before) + [True] * len(after))
    if isinstance(prompt, str) or isinstance(completion, str):
        raise ValueError("prompt and completion must both be texts, or both lists of messages")
    turns, renderer, first = [*prompt, *completion], policy.renderer, len(prompt)
    if turns[0]["role"] == "system":
        chat = isinstance(renderer, ChatRenderer)
        renderer = renderer_of(policy.tokenizer, policy.end, chat=chat, system=turns[0]["content"])
        turns, first = turns[1:], first - 1
    roles = ["user", "assistant"] * (len(turns) // 2)
    if not roles or [turn["role"] for turn in turns] != roles:
        raise ValueError("messages must be of user and assistant in turn, and the last of the assistant")
    tokens: list[int] = []
    own: list[bool] = []
    for i in range(0, len(turns), 2):
        asked, said = turns[i]["content"], turns[i + 1]["content"]
        heard = renderer.reply(asked) if i else renderer.prompt(asked)
        written = renderer.completion(said)
        tokens += heard + written
        own += [False] * len(heard) + [i + 1 >= first] * len(written)
    return Example(tokens, own)


def _content(record: Record, key: str) -> Content:
    """A text, or a list of messages."""
    value = record.get(key)
    if not isinstance(value, list):
        return _text(record, key)
    turns: list[Message] = []
    for turn in value:
        if not isinstance(turn, dict) or turn.get("role") not in _ROLES:
            raise ValueError(f'"{key}" must have messages of {", ".join(_ROLES)}, not {shown(json.dumps(turn))}')
        turns.append({"role": turn["role"], "content": check_text(f"{key}: content", turn.get("content"))})
    if not turns:
        raise ValueError(f'"{key}" has no message')
    return turns


def _text(record: Record, key: str) -> str:
    return check_text(key, value_of(record, key))


def _list(record: Record, key: str) -> list[Any]:
    value = value_of(record, key)
    if not isinstance(value, list):
        raise ValueError(f'"{key}" must be a list, not {shown(json.dumps(value))}')
    return value
