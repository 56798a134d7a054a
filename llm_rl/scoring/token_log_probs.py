"""Log-probabilities of tokens from hidden states, without ever holding the logits.

A language model ends in a matrix with one row for each of V tokens. The plain way, ``log_softmax(hidden @ weight.T)``,
keeps several arrays of (tokens, V) numbers: gigabytes for V = 151,936, to get one number a token. Here the logits are
made block by block, a slice of the vocabulary for some of the tokens at a time. The forward pass folds each block into
a running softmax and keeps two numbers a token; the backward pass makes each block again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# (tokens, entries of the vocabulary) in a block: what a processor's caches hold, or what keeps an accelerator at work.
_BLOCKS = {"cpu": (256, 2048)}
_ACCELERATOR_BLOCK = (4096, 16384)
# All logits being this few (8 MiB of singles), they are one block, and saved, as are their exponentials.
_FEW = 1 << 21

_Settings = tuple[float, float, float | None, int | None]  # temperature, scale, soft_cap, slice_size


def token_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    scale: float = 1.0,
    soft_cap: float | None = None,
    slice_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Log-probabilities of given tokens, and the entropies of the distributions they are from.

    With x_j = scale · (h · w_j + b_j), z_j = x_j / temperature or, capped, cap · tanh(x_j / cap) / temperature:

    log p_t = z_t - log Σ_j exp z_j,   H = -Σ_j p_j log p_j.

    Both can be differentiated, once, with respect to ``hidden``, ``weight`` and ``bias``:
    ∂log p_t/∂z_j = 1[j = t] - p_j and ∂H/∂z_j = -p_j (log p_j + H). Gradients that nobody asked for cost nothing.

    Args:
        hidden: h, (..., D); the states that the tokens follow.
        weight: w, (V, D).
        targets: (...), whole numbers below V.
        bias: b, (V,).
        temperature: divides the logits, the capped ones.
        scale: multiplies the logits.
        soft_cap: the cap, if any.
        slice_size: how much of the vocabulary at a time; None: what suits the device.

    Returns:
        log-probabilities and entropies in nats, (...), in single precision where ``hidden`` is in half.

    Raises:
        ValueError: for shapes that do not fit, a target outside the vocabulary or a number that is not positive.

    Source: Milakov and Gimelshein (2018), Online normalizer calculation for softmax, algorithm 3;
    Wijmans et al. (2024), Cut your losses in large-vocabulary language models, sections 4.2 and 4.3.

    >>> weight = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    >>> log_probs, entropies = token_log_probs(torch.zeros(4, 2), weight, torch.tensor([0, 1, 2, 0]))
    >>> log_probs.exp()
    tensor([0.3333, 0.3333, 0.3333, 0.3333])
    >>> entropies.exp()
    tensor([3., 3., 3., 3.])
    """
    if weight.ndim != 2 or hidden.shape[-1:] != weight.shape[1:] or hidden.shape[:-1] != targets.shape:
        raise ValueError(
            "hidden (..., D), weight (V, D) and targets (...) do not fit: "
            f"{tuple(hidden.shape)}, {tuple(weight.shape)}, {tuple(targets.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be {tuple(weight.shape[:1])}, not {tuple(bias.shape)}")
    if not (0 < temperature < math.inf):
        raise ValueError(f"temperature must be above 0 and finite, not {temperature}")
    if soft_cap is not None and soft_cap <= 0:
        raise ValueError(f"soft_cap must be above 0, not {soft_cap}")
    if slice_size is not None and slice_size < 1:
        raise ValueError(f"slice_size must be at least 1, not {slice_size}")
    if targets.numel():
        least, greatest = (int(number) for number in torch.aminmax(targets))
        if least < 0 or greatest >= len(weight):
            wrong = least if least < 0 else greatest
            raise ValueError(f"target {wrong} is outside the vocabulary of {len(weight)} tokens")
    flat = hidden.reshape(-1, hidden.shape[-1])
    settings = (temperature, scale, soft_cap, slice_size)
    results = _TokenLogProbs.apply(flat, weight, bias, targets.reshape(-1), settings)  # type: ignore[no-untyped-call]  # torch's
    log_probs, entropies = results
    return log_probs.view(targets.shape), entropies.view(targets.shape)


class _Logits:
    """The logits, a block of tokens and a slice of the vocabulary at a time.

    Everything is in single precision or better: half-precision factors are multiplied with single-precision sums.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> None:
        temperature, scale, self.soft_cap, slice_size = settings
        self.weight, self.bias = weight, bias
        self.dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
        # GPUs multiply halves as they are, where torch can then sum in singles (2.8); others are no slower on singles.
        self.halves = hidden.is_cuda and hidden.element_size() == 2 and hasattr(torch.ops.aten.mm, "dtype")
        self.hidden = hidden if self.halves else hidden.to(self.dtype)
        self.inner = scale if self.soft_cap is None else scale / self.soft_cap
        self.outer = (1.0 if self.soft_cap is None else self.soft_cap) / temperature
        rows, columns = _BLOCKS.get(hidden.device.type, _ACCELERATOR_BLOCK)
        self.columns = max(1, min(len(weight), slice_size or columns))
        few = self.columns == len(weight) and len(hidden) * len(weight) <= _FEW
        self.one = few and slice_size is None and self.soft_cap is None
        self.rows = max(1, len(hidden) if self.one else rows * columns // self.columns)

    def slices(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the vocabulary, with their rows of the weight as they are multiplied."""
        for start in range(0, len(self.weight), self.columns):
            columns = slice(start, min(start + self.columns, len(self.weight)))
            yield columns, self.weight[columns].to(self.hidden.dtype)

    def blocks(self) -> Iterator[slice]:
        """Blocks of tokens."""
        for start in range(0, len(self.hidden), self.rows):
            yield slice(start, min(start + self.rows, len(self.hidden)))

    def block(self, rows: slice, columns: slice, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits of a block, and, where they are capped, 1 - tanh² of them."""
        hidden = self.hidden[rows]
        if self.halves:
            z = torch.mm(hidden, weight.T, out_dtype=self.dtype)
            if self.bias is not None:
                z += self.bias[columns]
        elif self.bias is not None:
            z = torch.addmm(self.bias[columns].to(self.dtype), hidden, weight.T)
        else:
            z = hidden @ weight.T
        if self.soft_cap is None:
            factor = self.inner * self.outer
            return (z if factor == 1.0 else z.mul_(factor)), None
        z = z.mul_(self.inner).tanh_()
        slope = 1 - z * z
        return z.mul_(self.outer), slope


def _within(targets: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Where in a slice of the vocabulary the targets are, (R, 1), and whether they are in it at all, (R, 1)."""
    places = (targets - columns.start).unsqueeze(-1)
    size = columns.stop - columns.start
    return places.clamp(0, size - 1), (places >= 0) & (places < size)


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, settings: _Settings
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            logits = _Logits(hidden, weight, bias, settings)
            # Of the logits seen so far: the greatest, then Σ exp(z - greatest), Σ exp(z - greatest) (z - greatest) and
            # the target's z - greatest.
            saved_z = saved_p = None
            greatest, total, moment, chosen = torch.empty(4, len(hidden), 1, dtype=logits.dtype, device=hidden.device)
            for columns, weight_slice in logits.slices():
                for rows in logits.blocks():
                    z, _ = logits.block(rows, columns, weight_slice)
                    places, inside = _within(targets[rows], columns)
                    top = z.amax(-1, keepdim=True)
                    if columns.start:
                        top = torch.maximum(top, greatest[rows])
                    z -= top
                    chosen_z = z.gather(-1, places)
                    p = z.exp()
                    new_total = p.sum(-1, keepdim=True)
                    if logits.one:
                        saved_z, saved_p = z, p
                        new_moment = (p * z).sum(-1, keepdim=True)
                    else:
                        new_moment = p.mul_(z).sum(-1, keepdim=True)
                    if columns.start:
                        shift = greatest[rows] - top
                        decay = shift.exp()
                        new_moment += decay * (moment[rows] + shift * total[rows])
                        new_total += decay * total[rows]
                        chosen_z = torch.where(inside, chosen_z, chosen[rows] + shift)
                    greatest[rows], total[rows], moment[rows], chosen[rows] = top, new_total, new_moment, chosen_z
            log_total = total.log()
            log_probs = chosen - log_total
            entropies = log_total - moment / total
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        subtracted = log_total if saved_z is not None else log_total + greatest
        ctx.save_for_backward(hidden, weight, bias, targets, subtracted, entropies, saved_z, saved_p)
        return log_probs.squeeze(-1), entropies.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log_probs: Tensor | None, of_entropies: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, subtracted, entropies, saved_z, saved_p = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        with torch.autocast(hidden.device.type, enabled=False):
            logits = _Logits(hidden, weight, bias, ctx.settings)
            factor = logits.inner * logits.outer
            # ∂/∂z_j = g_t 1[j = t] - p_j (g_t + g_H H + g_H log p_j)
            of_target = torch.zeros_like(entropies) if of_log_probs is None else of_log_probs.unsqueeze(-1) * factor
            of_p = -of_target
            if of_entropies is not None:
                of_plogp = of_entropies.unsqueeze(-1) * -factor
                of_p += of_plogp * entropies
            if saved_z is not None:  # saved are z + s and p exp s
                share = subtracted.neg().exp_()
                if of_entropies is not None:
                    of_p -= of_plogp * subtracted
                    of_plogp *= share
                of_p *= share
            hidden_gradient = torch.zeros_like(logits.hidden, dtype=logits.dtype) if for_hidden else None
            weight_gradient = torch.empty_like(weight) if for_weight else None
            bias_gradient = torch.empty_like(bias) if for_bias else None
            for columns, weight_slice in logits.slices():
                size = columns.stop - columns.start
                of_weight = weight_slice.new_zeros(weight_slice.shape, dtype=logits.dtype) if for_weight else None
                of_bias = weight_slice.new_zeros(size, dtype=logits.dtype) if for_bias else None
                for rows in logits.blocks():
                    if saved_z is None:
                        z, slope = logits.block(rows, columns, weight_slice)
                        z -= subtracted[rows]
                        p = z.exp()
                    else:
                        z, slope, p = saved_z, None, saved_p
                    each = of_p[rows]
                    if of_entropies is not None:
                        each = torch.addcmul(each, z, of_plogp[rows])
                    gradient = p.mul_(each) if saved_z is None else p * each
                    places, inside = _within(targets[rows], columns)
                    gradient.scatter_add_(-1, places, of_target[rows] * inside)
                    if slope is not None:
                        gradient *= slope
                    if of_bias is not None:
                        of_bias += gradient.sum(0)
                    if hidden_gradient is not None:
                        _add_product(hidden_gradient[rows], gradient, weight_slice)
                    if of_weight is not None:
                        _add_product(of_weight, gradient.T, logits.hidden[rows])
                if weight_gradient is not None and of_weight is not None:
                    weight_gradient[columns] = of_weight
                if bias_gradient is not None and of_bias is not None:
                    bias_gradient[columns] = of_bias
        if hidden_gradient is not None:
            hidden_gradient = hidden_gradient.to(hidden.dtype)
        return hidden_gradient, weight_gradient, bias_gradient, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` in place; halves multiply as halves."""
    if right.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += torch.mm(left.to(right.dtype), right, out_dtype=total.dtype)
