"""Scoring with any Hugging Face causal model, in which a prompt that several sequences share is read once."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from gridzero.llm_rl.models.causal import checkpointed, following_positions, unwrapped
from gridzero.llm_rl.models.virtual_tokens import virtual_count


def states_after_prompts(model: Any, tokens: Tensor, first: Tensor, lengths: Tensor) -> Tensor | None:
    """Hidden states of prompts' last tokens and of what follows, with gradients through the prompts' keys and values.

    Each prompt is read by the model's own forward pass, alone or with others of its length, and so without padding;
    its keys and values are repeated for the sequences that begin with it.

    Args:
        model: a causal model, adapted by peft or not.
        tokens: (B, T), padded on the right.
        first: (B,), lengths of prompts.
        lengths: (B,), of prompts and what follows.

    Returns:
        (B, R, D), for the prompt's last token and up to R - 1 more; None where no prompt comes twice, or the model
        cannot go on from keys and values that are repeated.
    """
    owners: dict[bytes, int] = {}
    rows, starts = tokens.cpu().numpy(), first.tolist()
    own = [owners.setdefault(row[:start].tobytes(), i) for i, (row, start) in enumerate(zip(rows, starts, strict=True))]
    inner = unwrapped(model)
    backbone = inner.base_model
    taken = inspect.signature(backbone.forward).parameters
    if len(owners) == len(tokens) or not {"past_key_values", "position_ids"} <= taken.keys() or virtual_count(model):
        return None
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in _cache(inner).layers):
        return None
    pictures = getattr(inner, "pictures", None)
    later = torch.arange(tokens.shape[1]) >= first.unsqueeze(1)
    if pictures is not None and bool(((tokens.cpu() >= pictures.first) & later).any()):
        return None  # positions and attention of later pictures are made from whole sequences
    if torch.is_grad_enabled() and checkpointed(backbone):
        return None  # such layers keep nothing
    longest = max(int((lengths - first).max()), 0)
    parts: list[Tensor] = []
    members: list[int] = []
    for start in sorted(set(starts)):
        group = [i for i, length in enumerate(starts) if length == start]
        prompts = list(dict.fromkeys(own[i] for i in group))
        repeat = torch.tensor([prompts.index(own[i]) for i in group], device=tokens.device)
        read, cache = tokens[prompts, :start], _cache(inner)
        states = backbone(input_ids=read, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:][repeat]
        more = min(longest, tokens.shape[1] - start)
        if more > 0:
            cache.batch_select_indices(repeat)
            places = following_positions(model, read, torch.full((len(read),), start, device=tokens.device))[repeat]
            after = backbone(
                input_ids=tokens[group, start : start + more],
                past_key_values=cache,
                use_cache=True,
                position_ids=places.unsqueeze(1) + torch.arange(more, device=tokens.device),
            ).last_hidden_state
            states = torch.cat([states, after], dim=1)
        parts.append(torch.nn.functional.pad(states, (0, 0, 0, longest + 1 - states.shape[1])))
        members += group
    return torch.cat(parts)[torch.tensor(members, device=tokens.device).argsort()]


def _cache(inner: Any) -> DynamicCache:
    return DynamicCache(config=inner.config)
