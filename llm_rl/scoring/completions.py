"""Scores of completions in examples: log-probabilities of their tokens, states at marked tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gridzero.agents.neural.preference_objectives import sft
from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.models.causal import OutputHead, hidden_states, output_head
from gridzero.llm_rl.scoring.packed_forward import packed_forward
from gridzero.llm_rl.scoring.packing import Packing
from gridzero.llm_rl.scoring.token_log_probs import token_log_probs

_ROWS_OF_LOGITS = 1024


class CompletionScores(NamedTuple):
    """Scores of the N tokens of the completions of B examples, one example after the other.

    Attributes:
        log_probs: (N,) in nats, with gradients.
        rows: (N,) the example of each.
        states: (N, D) the hidden states before them.
        targets: (N,) the tokens.
    """

    log_probs: Tensor
    rows: Tensor
    states: Tensor
    targets: Tensor


def states_at(model: Any, rows: Sequence[list[int]], marked: Tensor, prompts: Sequence[int], pad: int) -> Tensor:
    """Hidden states at marked tokens of B sequences, in one pass without attention from one to another.

    Args:
        model: a causal model.
        rows: tokens of each sequence.
        marked: (B, L) bool, the tokens; L is the longest sequence's length.
        prompts: length of each one's prompt, at least 1; prompts that are equal are read once.
        pad: the token that fills up.

    Returns:
        (N, D), row by row.
    """
    device = next(model.parameters()).device
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    packing = Packing.of(tokens, torch.tensor(prompts), lengths)
    states = packed_forward(model, packing.to(device))
    if states is None:
        return hidden_states(model, tokens.to(device))[marked.to(device)]
    return states[packing.places[marked].to(device)]


def completion_scores(
    model: Any, examples: Sequence[Example], pad: int, *, temperature: float = 1.0
) -> CompletionScores:
    """Score every token of the completions of B examples of at least two tokens; see :class:`CompletionScores`."""
    device = next(model.parameters()).device
    width = max(len(one.tokens) for one in examples)
    own = torch.tensor([one.completion + [False] * (width - len(one.tokens)) for one in examples])[:, 1:]
    tokens = torch.tensor([one.tokens + [pad] * (width - len(one.tokens)) for one in examples])[:, 1:]
    # Nothing follows the last token, and the first has no state before it.
    prompts = [max(1, min(one.prompt_length, len(one.tokens) - 1)) for one in examples]
    states = states_at(model, [one.tokens[:-1] for one in examples], own, prompts, pad)
    head, targets = output_head(model), tokens[own].to(device)
    log_probs, _ = token_log_probs(
        states,
        head.weight,
        targets,
        bias=head.bias,
        temperature=temperature,
        scale=head.scale,
        soft_cap=head.soft_cap,
    )
    return CompletionScores(log_probs, own.nonzero()[:, 0].to(device), states, targets)


def sequence_log_probs(model: Any, examples: Sequence[Example], pad: int, *, temperature: float = 1.0) -> Tensor:
    """(B,) log-probabilities of whole completions: sums over their tokens. Examples that are equal are read once."""
    keys = [(*one.tokens, *one.completion) for one in examples]
    distinct = dict(zip(keys, examples, strict=True))
    scores = completion_scores(model, list(distinct.values()), pad, temperature=temperature)
    sums = scores.log_probs.new_zeros(len(distinct)).index_add(0, scores.rows, scores.log_probs)
    numbers = {key: number for number, key in enumerate(distinct)}
    return sums[torch.tensor([numbers[key] for key in keys], device=sums.device)]


def completion_loss(model: Any, examples: Sequence[Example], pad: int) -> tuple[Tensor, Tensor]:
    """Mean of -log p over the completions' tokens, in nats, and the share of them that the model finds most likely.

    Args:
        model: a causal model.
        examples: prompts that are equal are read once.
        pad: the token that fills up.
    """
    scores = completion_scores(model, examples, pad)
    return sft(scores.log_probs).mean(), _accuracy(scores.states.detach(), output_head(model), scores.targets)


@torch.no_grad()
def _accuracy(states: Tensor, head: OutputHead, targets: Tensor) -> Tensor:
    """Share of the targets (N,) that have the highest logit, for states (N, D); few rows of logits exist at once."""
    parts = zip(torch.split(states, _ROWS_OF_LOGITS), torch.split(targets, _ROWS_OF_LOGITS), strict=True)
    right = [(nn.functional.linear(part, head.weight, head.bias).argmax(dim=-1) == own).sum() for part, own in parts]
    return torch.stack(right).sum() / max(1, len(targets))


def logits(head: OutputHead, states: Tensor) -> Tensor:
    """Logits (N, V) of states (N, D), in single precision."""
    raw = nn.functional.linear(states, head.weight, head.bias).float() * head.scale
    return raw if head.soft_cap is None else head.soft_cap * torch.tanh(raw / head.soft_cap)
