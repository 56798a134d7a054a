"""Conversations as a language model has them, and as trajectories of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gridzero.agents.neural.policy import Trajectories


class Talk:
    """One conversation: the prompt, and what was said since.

    Attributes:
        prompt: its tokens.
        said: the tokens since, of the model and of the task.
        log_probs: of each of them where the model wrote it, else 0.
        own: whether the model wrote it.
        rewards: of each; a completion's reward is its last token's.
        text: what was said since the prompt.
        written: how many tokens the model wrote.
        turns: how many completions.
        ended: whether the last completion came to its end.
    """

    def __init__(self, prompt: list[int]) -> None:
        self.prompt = prompt
        self.said: list[int] = []
        self.log_probs: list[float] = []
        self.own: list[bool] = []
        self.rewards: list[float] = []
        self.text = ""
        self.written = 0
        self.turns = 0
        self.ended = False

    @property
    def tokens(self) -> list[int]:
        """All of it."""
        return self.prompt + self.said

    def wrote(self, tokens: Tensor, log_probs: Tensor, length: int, ended: bool) -> None:
        """The model wrote the first ``length`` of ``tokens`` (T,), with these log-probabilities (T,)."""
        self.said += tokens[:length].tolist()
        self.log_probs += log_probs[:length].tolist()
        self.own += [True] * length
        self.rewards += [0.0] * length
        self.written += length
        self.turns += 1
        self.ended = ended

    def heard(self, tokens: list[int]) -> None:
        """The task answered."""
        self.said += tokens
        self.log_probs += [0.0] * len(tokens)
        self.own += [False] * len(tokens)
        self.rewards += [0.0] * len(tokens)

    def rewarded(self, reward: float) -> None:
        """The last completion was paid for."""
        self.rewards[-1] += reward


def as_trajectories(talks: Sequence[Talk], pad: int) -> Trajectories:
    """B conversations: prompts (B, P), and actions, log_probs, mask, rewards and done (B, T), padded on the right."""

    def table(rows: list[list[Any]], fill: Any, dtype: torch.dtype) -> Tensor:
        width = max(map(len, rows))
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=dtype)

    mask = table([talk.own for talk in talks], False, torch.bool)
    last = torch.tensor([len(talk.said) - 1 for talk in talks])
    done = torch.zeros_like(mask)
    done[torch.arange(len(talks)), last] = torch.tensor([talk.ended for talk in talks])
    return Trajectories(
        {
            "prompts": table([talk.prompt for talk in talks], pad, torch.long),
            "prompt_lengths": torch.tensor([len(talk.prompt) for talk in talks]),
        },
        table([talk.said for talk in talks], pad, torch.long),
        table([talk.log_probs for talk in talks], 0.0, torch.float32),
        mask,
        rewards=table([talk.rewards for talk in talks], 0.0, torch.float32),
        done=done,
        env_steps=torch.tensor([talk.turns for talk in talks]),
    )


def joined(t: Trajectories, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, L) prompts followed by what was said, without a gap, and (B,) where that begins, and how much it is.

    Padding comes last, where a causal model does not look, so that no attention mask is needed.
    """
    assert t.mask is not None
    prompts, first = t.observations["prompts"], t.observations["prompt_lengths"]
    steps = torch.arange(t.mask.shape[1])
    lengths = torch.where(t.mask, steps + 1, 0).amax(dim=1)
    longest = int(lengths.max())
    tokens = torch.full((len(prompts), int((first + lengths).max())), pad)
    width = min(prompts.shape[1], tokens.shape[1])
    tokens[:, :width] = prompts[:, :width]
    rows, said = (steps[:longest] < lengths.unsqueeze(1)).nonzero(as_tuple=True)
    tokens[rows, first[rows] + said] = t.actions[rows, said]
    return tokens, first, lengths
