"""Packing of many sequences into one row without padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Sequences attend in so many parts of like length, if they then have at most this share of the steps with padding.
_PARTS = 4
_WORTH = 3 / 4


@dataclass(frozen=True)
class Packing:
    """The places of the tokens of B sequences in a row of N without padding.

    Attributes:
        tokens: (N,), what the model reads.
        positions: (N,), each token's place in its sequence.
        places: (B, L), where in the row each sequence has its tokens; what is after its end means nothing.
        parts: of ``places``, rows of like length without the columns that none of them needs; all rows are in one.
        part_indices: (N,), the index of each of the row's tokens in the parts, flat and one after the other.
    """

    tokens: Tensor
    positions: Tensor
    places: Tensor
    parts: tuple[Tensor, ...]
    part_indices: Tensor

    @classmethod
    def of(cls, tokens: Tensor, prompt_lengths: Tensor, lengths: Tensor) -> Packing:
        """Lay out sequences, each prompt once.

        Args:
            tokens: (B, L), padded on the right.
            prompt_lengths: (B,), at least 1.
            lengths: (B,), of prompts and what follows.
        """
        steps = torch.arange(tokens.shape[1])
        rows = np.ascontiguousarray(tokens.numpy())
        seen: dict[bytes, int] = {}
        owners = torch.tensor(
            [
                seen.setdefault(row[:length].tobytes(), i)
                for i, (row, length) in enumerate(zip(rows, prompt_lengths.tolist(), strict=True))
            ]
        )
        in_prompt = steps < prompt_lengths.unsqueeze(1)
        own = (steps < lengths.unsqueeze(1)) & (~in_prompt | (owners == torch.arange(len(tokens))).unsqueeze(1))
        numbers = (own.reshape(-1).cumsum(0) - 1).reshape(own.shape)
        places = torch.where(in_prompt, numbers[owners], numbers).clamp(min=0)
        shares = _of_like_length(lengths)
        parts = tuple(places[rows, : int(lengths[rows].max())] for rows in shares)
        part_indices = torch.empty(int(own.sum()), dtype=torch.long)
        before = 0
        for share, part in zip(shares, parts, strict=True):
            indices = own[share, : part.shape[1]].reshape(-1).nonzero().squeeze(-1)
            part_indices[part.reshape(-1)[indices]] = indices + before
            before += part.numel()
        return cls(tokens[own], steps.expand_as(own)[own], places, parts, part_indices)

    def to(self, device: torch.device) -> Packing:
        """A copy on a device."""
        tokens, positions, places, part_indices, *parts = (
            tensor.to(device) for tensor in (self.tokens, self.positions, self.places, self.part_indices, *self.parts)
        )
        return Packing(tokens, positions, places, tuple(parts), part_indices)

    def after(self, count: int) -> Packing:
        """Put ``count`` tokens of number 0, which all sequences share, before them; they are the first in the row."""
        first = torch.arange(count, device=self.tokens.device)

        def shifted(places: Tensor) -> Tensor:
            return torch.cat([first.expand(len(places), -1), places + count], dim=1)

        indices, before, more = self.part_indices.clone(), 0, 0
        for part in self.parts:
            rows, length = part.shape
            own = (self.part_indices >= before) & (self.part_indices < before + rows * length)
            row = (self.part_indices[own] - before) // length
            indices[own] += more + (row + 1) * count
            before, more = before + rows * length, more + rows * count
        return Packing(
            tokens=torch.cat([torch.zeros_like(first), self.tokens]),
            positions=torch.cat([first, self.positions + count]),
            places=shifted(self.places),
            parts=tuple(shifted(part) for part in self.parts),
            part_indices=torch.cat([first, indices]),
        )


def _of_like_length(lengths: Tensor) -> list[Tensor]:
    """The numbers of the rows, those of like length together, where that saves much of what is after their ends."""
    order = torch.argsort(lengths, stable=True)
    shares = list(torch.tensor_split(order, min(_PARTS, len(order))))
    steps = sum(len(rows) * int(lengths[rows].max()) for rows in shares)
    return shares if steps <= _WORTH * len(lengths) * int(lengths.max()) else [torch.arange(len(lengths))]
