"""Metrics of conversations: shares of right and well-formed ones, lengths, and a few samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.llm_rl.rollouts.conversations import Conversation

CONVERSATION_METRICS = frozenset(
    {
        "completion_length", "truncations", "thought_length", "accuracy", "form", "reward/*", "pass_at_*",
        "majority_at_*", "prompts_too_long", "tokens_per_second",
    }
)  # fmt: skip
"""Names that metrics of conversations can have, * for any end."""
_SAMPLES = 3


def conversation_metrics(
    conversations: Sequence[Conversation],
    outcomes: Sequence[Mapping[str, Any]],
    size: int,
    count_tokens: Callable[[str], int],
) -> dict[str, float]:
    """Lengths and, where a task gave verdicts, the shares of conversations that were right and well-formed.

    Args:
        conversations: those of a group next to each other.
        outcomes: the environment's info at the end of each.
        size: conversations of a group, for pass@size and majority@size.
        count_tokens: of a text.

    Source: Chen et al. (2021), Evaluating large language models trained on code, section 2.1 (pass@k); Wang et al.
    (2022), Self-consistency improves chain of thought reasoning, section 2 (majority).
    """
    count = len(conversations)
    found = {
        "completion_length": sum(conversation.written for conversation in conversations) / count,
        "truncations": sum(not conversation.ended for conversation in conversations) / count,
    }
    thoughts = [thought_of(conversation.text) for conversation in conversations]
    if any(thought is not None for thought in thoughts):
        found["thought_length"] = sum(count_tokens(thought or "") for thought in thoughts) / count
    if "correct" not in outcomes[0]:
        return found
    correct = np.array([outcome["correct"] for outcome in outcomes], dtype=np.bool_).reshape(-1, size)
    formed = [bool(outcome["well_formed"]) for outcome in outcomes]
    found |= {"accuracy": float(correct.mean()), "form": sum(formed) / count}
    rewards = [name for name in outcomes[0] if name.startswith("reward/")]
    found |= {name: float(np.mean([outcome[name] for outcome in outcomes])) for name in rewards}
    if size > 1:
        answers = [outcome["answer"] for outcome in outcomes]
        majority = [majority_is_right(answers[g * size : (g + 1) * size], correct[g]) for g in range(len(correct))]
        found[f"pass_at_{size}"] = float(correct.any(axis=1).mean())
        found[f"majority_at_{size}"] = float(np.mean(majority))
    return found


def conversation_samples(
    conversations: Sequence[Conversation], outcomes: Sequence[Mapping[str, Any]], decode: Callable[[list[int]], str]
) -> list[dict[str, Any]]:
    """A few of the conversations with their verdicts; none where there are no verdicts.

    Args:
        conversations: conversations.
        outcomes: what the environment said at the end of each.
        decode: the text of tokens.
    """
    if "correct" not in outcomes[0]:
        return []
    return [
        {
            "prompt": decode(conversations[i].prompt),
            "completion": conversations[i].text,
            "correct": bool(outcomes[i]["correct"]),
            "reason": str(outcomes[i]["reason"]),
        }
        for i in range(0, len(conversations), max(1, len(conversations) // _SAMPLES))[:_SAMPLES]
    ]


def conversation_records(
    conversations: Sequence[Conversation], outcomes: Sequence[Mapping[str, Any]], decode: Callable[[list[int]], str]
) -> list[dict[str, Any]]:
    """All of the conversations, with their rewards, lengths and, where there are some, verdicts; see
    :func:`conversation_samples`.
    """
    verdicts = [name for name in ("correct", "well_formed", "answer", "reason") if name in outcomes[0]]
    return [
        {
            "prompt": decode(conversation.prompt),
            "completion": conversation.text,
            "reward": sum(conversation.rewards),
            "tokens": conversation.written,
            "ended": conversation.ended,
            **{name: outcome[name].item() if hasattr(outcome[name], "item") else outcome[name] for name in verdicts},
        }
        for conversation, outcome in zip(conversations, outcomes, strict=True)
    ]


def thought_of(text: str) -> str | None:
    """Text between the tags of a thought; None without one."""
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
