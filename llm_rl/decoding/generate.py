"""The rollout engine: completions of prompts by a language model, with the log-probabilities of what was drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.decoding.decoder import Decoder, ModelDecoder
from gridzero.llm_rl.decoding.llama_cpu import FastDecoder
from gridzero.llm_rl.decoding.llama_cuda_graph import GraphDecoder
from gridzero.llm_rl.decoding.llama_weights import LlamaWeights, plain_llama
from gridzero.llm_rl.decoding.sampling import Draws, Sampling, choose
from gridzero.llm_rl.models.causal import NEVER, max_positions, vocabulary_size
from gridzero.llm_rl.models.image_text import Pictures, SeeingEmbedding
from gridzero.llm_rl.models.virtual_tokens import virtual_count

__all__ = ["Completions", "Draws", "Sampling", "generate"]

# Beyond so many parameters a step takes long on a processor, not the calls around it, and a second copy much memory.
_SMALL = 250_000_000

OnToken = Callable[[int, Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class Completions:
    """Completions of B rows, the longest of T tokens.

    Attributes:
        tokens: (B, T) long, padded on the right; the end token, where there is one, is the last.
        log_probs: (B, T), of the tokens under softmax(logits / temperature), before any truncation; 0 where padded.
        lengths: (B,) long, with the end token.
        ended: (B,) bool, by an end token; the others were cut off.
    """

    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor
    ended: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, false for padding."""
        return torch.arange(self.tokens.shape[1], device=self.lengths.device) < self.lengths.unsqueeze(-1)


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    copies: int,
    sampling: Sampling,
    *,
    end: Collection[int],
    pad: int,
    rng: np.random.Generator | Draws,
    limits: Sequence[int] | None = None,
    on_token: OnToken | None = None,
) -> Completions:
    """Complete each prompt ``copies`` times.

    Each prompt is read once, whatever ``copies`` is. Rows that are finished leave the batch, which changes nothing for
    the others: each row has random numbers of its own, and ``rng`` gives ``sampling.max_tokens`` of them for each.

    Args:
        model: a causal model, adapted by peft or not. It acts as in evaluation, without dropout.
        prompts: N of them, in tokens; their lengths may differ.
        copies: completions of each prompt.
        sampling: how tokens are drawn.
        end: tokens that end a completion.
        pad: fills up what is shorter.
        rng: decides the draws.
        limits: (B,) tokens that each completion may have; by default ``sampling.max_tokens``, which none exceeds.
        on_token: is called after each step with the step, from 0, and, for the rows that were going on, their numbers
            (n,) among the B, their new tokens (n,), and log-probabilities (n,), all on the CPU.

    Returns:
        B = N · copies completions, those of a prompt next to each other, on the model's device.

    Raises:
        ValueError: for no prompts, an empty one, a token that the model does not know, or more tokens than it takes.
    """
    virtual = virtual_count(model)
    device = next(model.parameters()).device
    pictures = getattr(model, "pictures", None)
    size = len(prompts) * copies
    bounds = np.full(size, sampling.max_tokens)
    if limits is not None:
        bounds = np.minimum(bounds, np.asarray(limits).reshape(size))
    _check(model, prompts, copies, bounds, end, virtual, pictures)
    steps = int(bounds.max())
    # All outside the inference mode: such tensors may enter a graph later.
    tokens = torch.full((steps, size), pad, dtype=torch.long, device=device)
    log_probs = torch.zeros(steps, size, device=device)
    uniforms = None
    if not sampling.greedy:
        uniforms = torch.from_numpy(rng.random((steps, size), dtype=np.float32)).to(device)
    ends = np.zeros(vocabulary_size(model), np.bool_)
    ends[list(end)] = True
    lengths = bounds.copy()
    with _evaluating(model), torch.inference_mode():
        prompt, prompt_lengths = _pad_left(prompts, pad, device)
        length = virtual + prompt.shape[1] + steps
        decoder: Decoder = fast_decoder(model, length, steps) or ModelDecoder(model, steps)
        logits = decoder.start(prompt, prompt_lengths)
        if copies > 1:
            decoder.select(torch.arange(len(prompts), device=device).repeat_interleave(copies))
            logits = logits.repeat_interleave(copies, 0)
        _decode(
            decoder,
            logits,
            sampling,
            uniforms,
            ends,
            None if bool((bounds == steps).all()) else bounds,
            tokens,
            log_probs,
            lengths,
            on_token,
            () if pictures is None else pictures.own,
        )
    longest = int(lengths.max())
    rows = torch.from_numpy(lengths).to(device)
    mask = torch.arange(longest, device=device) < rows.unsqueeze(-1)
    tokens, log_probs = tokens[:longest].T, log_probs[:longest].T
    last = tokens.gather(1, rows.unsqueeze(-1) - 1).squeeze(-1)
    ended = torch.from_numpy(ends).to(device)[last]
    return Completions(
        tokens=torch.where(mask, tokens, pad),
        log_probs=torch.where(mask, log_probs, 0.0),
        lengths=rows,
        ended=ended,
    )


def fast_decoder(model: Any, length: int, max_tokens: int) -> Decoder | None:
    """The decoder that is faster than the model itself, for sequences of this length; None where there is none."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        inner = plain_llama(model, length)
        if inner is None or isinstance(model.get_input_embeddings(), SeeingEmbedding):  # which asks what it is given
            return None
        return GraphDecoder(model, inner, max_tokens)
    if device.type != "cpu" or not cpu_kernels.enabled("decoding"):
        return None
    if not is_small(model):
        return None
    weights = LlamaWeights.of(model, length)
    if weights is None or weights.embedding.element_size() < 4:
        return None
    return FastDecoder(model, weights, max_tokens)


def is_small(model: nn.Module) -> bool:
    """Whether the compiled loops decode a model faster than it does itself."""
    return sum(parameter.numel() for parameter in model.parameters()) <= _SMALL


def _decode(
    decoder: Decoder,
    logits: Tensor,
    sampling: Sampling,
    uniforms: Tensor | None,
    ends: NDArray[np.bool_],
    bounds: NDArray[np.int64] | None,
    tokens: Tensor,
    log_probs: Tensor,
    lengths: NDArray[np.int64],
    on_token: OnToken | None,
    never: Sequence[int],
) -> None:
    """Draw tokens until all rows are finished; write into tokens and log_probs (T, B), and lengths (B,).

    Rows finish by one of the ``ends`` (V,), at their ``bounds`` (B,), where they differ, or after T tokens. What they
    get after their end means nothing. Some tokens are never drawn.
    """
    rows = torch.arange(tokens.shape[1], device=tokens.device)  # slot → row
    going_on = np.ones(len(rows), np.bool_)  # by slot
    whole = True  # slots are rows
    for step in range(len(tokens)):
        u = None if uniforms is None else uniforms[step]
        if never:
            logits[:, never] = NEVER
        drawn, their_log_probs = choose(logits, u if whole or u is None else u[rows], sampling)
        if whole:
            tokens[step], log_probs[step] = drawn, their_log_probs
        else:
            tokens[step, rows], log_probs[step, rows] = drawn, their_log_probs
        if on_token is not None:
            slots = torch.from_numpy(going_on)
            on_token(step, rows.cpu()[slots], drawn.cpu()[slots], their_log_probs.cpu()[slots])
        finished = ends[drawn.cpu().numpy()]
        if bounds is not None:
            finished |= bounds[rows.cpu().numpy()] <= step + 1
        finished &= going_on
        if finished.any():
            lengths[rows.cpu().numpy()[finished]] = step + 1
            going_on &= ~finished
        left = int(np.count_nonzero(going_on))
        if left == 0 or step == len(tokens) - 1:
            break
        if left <= len(going_on) * (1 - decoder.drop):
            # The rows at the end move to where others have finished.
            order = np.arange(left)
            order[~going_on[:left]] = np.flatnonzero(going_on[left:]) + left
            selected = torch.from_numpy(order).to(rows.device)
            decoder.select(selected)
            rows, drawn = rows[selected], drawn[selected]
            going_on = np.ones(left, np.bool_)
            whole = False
        logits = decoder.step(drawn)


def _check(
    model: Any,
    prompts: Sequence[Sequence[int]],
    copies: int,
    bounds: NDArray[np.int64],
    end: Collection[int],
    virtual: int,
    pictures: Pictures | None,
) -> None:
    if not prompts:
        raise ValueError("there must be at least one prompt")
    if copies < 1:
        raise ValueError(f"copies must be at least 1, not {copies}")
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {i} is empty")
    known = vocabulary_size(model)
    for token in (*end, *(f(p) for p in prompts for f in (min, max))):
        if not 0 <= token < known and not (pictures is not None and pictures.knows(token)):
            raise ValueError(f"the model's tokens are 0 to {known - 1}, not {token}")
    marks = () if pictures is None else pictures.own
    if any(mark in prompt for prompt in prompts for mark in marks):
        raise ValueError(f"the model marks pictures with token {marks[0]}, which a text cannot have")
    lengths = np.repeat([len(prompt) for prompt in prompts], copies)
    if bounds.min() < 1:
        raise ValueError(f"a completion has at least 1 token, not {bounds.min()}")
    longest = int((lengths + bounds).argmax())
    check_positions(model, virtual + int(lengths[longest]), int(bounds[longest]))


def check_positions(model: Any, prompt: int, more: int) -> None:
    """Raise ValueError where a prompt of so many tokens and so many more do not fit a model's positions."""
    positions = max_positions(model)
    if positions is not None and prompt + more > positions:
        raise ValueError(
            f"a prompt of {prompt} tokens and {more} more exceed the model's {positions} positions; "
            f"allow fewer tokens: episode_limit of GRPO, rollout_steps of PPO"
        )


def _pad_left(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(N, P) tokens, and lengths (N,)."""
    lengths = np.array([len(prompt) for prompt in prompts])
    tokens = np.full((len(prompts), lengths.max()), pad)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[len(row) - len(prompt) :] = prompt
    return torch.from_numpy(tokens).to(device), torch.from_numpy(lengths).to(device)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, and back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
