"""Metrics of conversations, by hand."""

import numpy as np
import pytest
import torch

from gridzero.llm_rl.rollouts.conversations import Conversation
from gridzero.llm_rl.rollouts.metrics import conversation_metrics, conversation_samples, majority_is_right, thought_of


def test_majority_and_thoughts_by_hand():
    assert majority_is_right(["7", "8", "8", ""], np.array([True, False, False, False])) is False
    assert majority_is_right(["7", "7", "8", ""], np.array([True, True, False, False])) is True
    assert majority_is_right(["", ""], np.array([False, False])) is False
    assert thought_of("<think>ab</think> <answer>") == "ab"
    assert thought_of("ab</think> x") == "ab"
    assert thought_of("ab") is None


def written(text: str, tokens: int, ended: bool) -> Conversation:
    conversation = Conversation([1, 2], room=10)
    conversation.add_completion(torch.arange(tokens), torch.zeros(tokens), tokens, ended)
    conversation.text = text
    return conversation


def verdict(answer: str, correct: bool, well_formed: bool = True) -> dict[str, object]:
    return {"answer": answer, "correct": correct, "well_formed": well_formed, "reason": f"said {answer}"}


def test_two_groups_of_three() -> None:
    """In the first group the majority is right, in the second one of three, against the majority."""
    conversations = [written("<think>ab</think>", 4, True) for _ in range(5)] + [written("no thought", 10, False)]
    outcomes = [verdict("7", True), verdict("7", True), verdict("8", False)]
    outcomes += [verdict("1", False), verdict("2", True), verdict("1", False, well_formed=False)]
    found = conversation_metrics(conversations, outcomes, 3, len)
    assert found == {
        "completion_length": 5.0,
        "truncations": pytest.approx(1 / 6),
        "thought_length": pytest.approx(10 / 6),
        "accuracy": 0.5,
        "form": pytest.approx(5 / 6),
        "pass_at_3": 1.0,
        "majority_at_3": 0.5,
    }
    samples = conversation_samples(conversations, outcomes, str)
    assert [sample["reason"] for sample in samples] == ["said 7", "said 8", "said 2"]
    assert samples[0] == {"prompt": "[1, 2]", "completion": conversations[0].text, "correct": True, "reason": "said 7"}


def test_without_verdicts_there_are_lengths_alone() -> None:
    conversations = [written("text", 3, True)]
    assert conversation_metrics(conversations, [{}], 1, len) == {"completion_length": 3.0, "truncations": 0.0}
    assert conversation_samples(conversations, [{}], str) == []
