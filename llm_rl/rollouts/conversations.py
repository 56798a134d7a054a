"""Conversations of a language model, as tokens and as batches of steps."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gridzero.agents.neural.batches import Rollout, Steps
from gridzero.envs.tasks.reward import StepReward


class Conversation:
    """One conversation: the prompt, and the tokens since.

    Attributes:
        prompt: its tokens.
        reply: the tokens since, of the model and of the task.
        log_probs: of each of them where the model wrote it, else 0.
        own: whether the model wrote it.
        rewards: of each; a completion's reward is its last token's.
        answers: what the task answered, as text.
        text: the text since the prompt.
        written: number of tokens the model wrote.
        turns: number of completions.
        room: number of tokens the model may still write.
        ended: whether the last completion came to its end.
    """

    def __init__(self, prompt: list[int], room: int) -> None:
        self.prompt = prompt
        self.room = room
        self.reply: list[int] = []
        self.log_probs: list[float] = []
        self.own: list[bool] = []
        self.rewards: list[float] = []
        self.answers: list[str] = []
        self.text = ""
        self.written = 0
        self.turns = 0
        self.ended = False

    @property
    def tokens(self) -> list[int]:
        """Prompt and the tokens since."""
        return self.prompt + self.reply

    def add_completion(self, tokens: Tensor, log_probs: Tensor, length: int, ended: bool) -> None:
        """Append the first ``length`` of the model's ``tokens`` (T,), with their log-probabilities (T,)."""
        self.reply += tokens[:length].tolist()
        self.log_probs += log_probs[:length].tolist()
        self.own += [True] * length
        self.rewards += [0.0] * length
        self.written += length
        self.room -= length
        self.turns += 1
        self.ended = ended

    def add_answer(self, tokens: list[int], text: str, room: int) -> None:
        """Append the task's answer, the tokens that it is rendered as, after which the model may write so many."""
        self.room = room
        self.answers.append(text)
        self.text += text
        self.reply += tokens
        self.log_probs += [0.0] * len(tokens)
        self.own += [False] * len(tokens)
        self.rewards += [0.0] * len(tokens)

    def add_reward(self, reward: float) -> None:
        """Pay for the last completion."""
        self.rewards[-1] += reward

    def place_rewards(self, steps: Sequence[StepReward], ends: Sequence[int]) -> None:
        """Move the rewards of steps from the last token to the last token that the model wrote of each step.

        Args:
            steps: rewards that the last token has been paid.
            ends: where each token ends in :attr:`text`, in characters.
        """
        for step in steps:
            last = bisect.bisect_left(ends, step.end)
            while last > 0 and not self.own[last]:
                last -= 1
            self.rewards[-1] -= step.value
            self.rewards[last] += step.value


def as_rollout(conversations: Sequence[Conversation], pad: int) -> Rollout:
    """Batch B conversations: prompts (B, P) and T tokens since, padded on the right."""

    def table(rows: list[list[Any]], fill: Any, dtype: torch.dtype) -> Tensor:
        width = max(map(len, rows), default=0)
        filled = [row + [fill] * (width - len(row)) for row in rows]
        return torch.tensor(filled, dtype=dtype).reshape(len(rows), width)

    rows = torch.arange(len(conversations))
    mask = table([conversation.own for conversation in conversations], False, torch.bool)
    last = torch.tensor([len(conversation.reply) - 1 for conversation in conversations], dtype=torch.long)
    done, starts = torch.zeros_like(mask), torch.zeros_like(mask)
    done[rows, last] = torch.tensor([conversation.ended for conversation in conversations], dtype=torch.bool)
    starts[:, :1] = True
    steps = Steps(
        {
            "prompts": table([conversation.prompt for conversation in conversations], pad, torch.long),
            "prompt_lengths": torch.tensor(
                [len(conversation.prompt) for conversation in conversations], dtype=torch.long
            ),
        },
        table([conversation.reply for conversation in conversations], pad, torch.long),
        mask,
        starts,
        torch.zeros(len(conversations), 0),
    )
    return Rollout(
        steps,
        table([conversation.log_probs for conversation in conversations], 0.0, torch.float32),
        table([conversation.rewards for conversation in conversations], 0.0, torch.float32),
        done,
        done,
        torch.tensor([conversation.turns for conversation in conversations], dtype=torch.long),
    )


def joined(steps: Steps, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, L) prompts followed by the tokens since, without a gap; (B,) where those begin; (B,) how many they are.

    Padding comes last, where a causal model does not look, so that no attention mask is needed.
    """
    prompts, first = steps.observations["prompts"], steps.observations["prompt_lengths"]
    positions = torch.arange(steps.mask.shape[1])
    lengths = torch.where(steps.mask, positions + 1, 0).amax(dim=1)
    longest = int(lengths.max())
    tokens = torch.full((len(prompts), int((first + lengths).max())), pad)
    width = min(prompts.shape[1], tokens.shape[1])
    tokens[:, :width] = prompts[:, :width]
    rows, columns = (positions[:longest] < lengths.unsqueeze(1)).nonzero(as_tuple=True)
    tokens[rows, first[rows] + columns] = steps.actions[rows, columns]
    return tokens, first, lengths
