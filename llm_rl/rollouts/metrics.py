"""What is logged of conversations: how many were right and well-formed, how long they were, and a few of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.llm_rl.rollouts.conversations import Talk

_SAMPLES = 3


def talk_metrics(
    talks: Sequence[Talk], outcomes: Sequence[Mapping[str, Any]], size: int, count_tokens: Callable[[str], int]
) -> dict[str, float]:
    """Lengths and, where a task gave verdicts, the shares of conversations that were right and well-formed.

    Args:
        talks: those of a group next to each other.
        outcomes: what the environment said at the end of each.
        size: conversations of a group, for pass@size and majority@size.
        count_tokens: of a text.

    Source: Chen et al. (2021), Evaluating large language models trained on code, section 2.1 (pass@k); Wang et al.
    (2022), Self-consistency improves chain of thought reasoning, section 2 (majority).
    """
    count = len(talks)
    found = {
        "completion_length": sum(talk.written for talk in talks) / count,
        "truncations": sum(not talk.ended for talk in talks) / count,
    }
    thoughts = [thought_of(talk.text) for talk in talks]
    if any(thought is not None for thought in thoughts):
        found["thought_length"] = sum(count_tokens(thought or "") for thought in thoughts) / count
    if "correct" not in outcomes[0]:
        return found
    correct = np.array([outcome["correct"] for outcome in outcomes], dtype=np.bool_).reshape(-1, size)
    formed = [bool(outcome["well_formed"]) for outcome in outcomes]
    found |= {"accuracy": float(correct.mean()), "form": sum(formed) / count}
    if size > 1:
        answers = [outcome["answer"] for outcome in outcomes]
        majority = [majority_is_right(answers[g * size : (g + 1) * size], correct[g]) for g in range(len(correct))]
        found[f"pass_at_{size}"] = float(correct.any(axis=1).mean())
        found[f"majority_at_{size}"] = float(np.mean(majority))
    return found


def talk_samples(
    talks: Sequence[Talk], outcomes: Sequence[Mapping[str, Any]], decode: Callable[[list[int]], str]
) -> list[dict[str, Any]]:
    """A few of the conversations with their verdicts; none where there are no verdicts.

    Args:
        talks: conversations.
        outcomes: what the environment said at the end of each.
        decode: the text of tokens.
    """
    if "correct" not in outcomes[0]:
        return []
    return [
        {
            "prompt": decode(talks[i].prompt),
            "completion": talks[i].text,
            "correct": bool(outcomes[i]["correct"]),
            "reason": str(outcomes[i]["reason"]),
        }
        for i in range(0, len(talks), max(1, len(talks) // _SAMPLES))[:_SAMPLES]
    ]


def thought_of(text: str) -> str | None:
    """What stands between the tags of a thought; None without one."""
    _, began, rest = text.partition("<think>")
    thought, ended, _ = (rest if began else text).partition("</think>")
    return thought if ended else None


def majority_is_right(answers: Sequence[Any], correct: NDArray[np.bool_]) -> bool:
    """Whether the answer that most of a group give, the first among equals, is right."""
    given = [(answer, bool(right)) for answer, right in zip(answers, correct, strict=True) if answer]
    if not given:
        return False
    most, _ = Counter(answer for answer, _ in given).most_common(1)[0]
    return any(right for answer, right in given if answer == most)
