"""Attention in tiles needs memory that grows with the length of the sequence, not its square.

Sources: Dao et al. (2022), FlashAttention, section 3 and theorem 1; Rabe and Staats (2021), Self-attention does not
need O(n²) memory.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gridzero.figures.figure import Figure, Row, add_legend, claim, compare, panels
from gridzero.llm_rl.scoring.tiled_attention import tiled_attention

LENGTHS = (128, 256, 512, 1024, 2048)
HEADS, WIDTH, BLOCK = 4, 32, 128


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """The largest number of bytes that tensors made in this mode hold at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.bytes = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the storages of what it returns."""
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._seen or size == 0:
            return
        self._seen.add(address)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.bytes -= size


def whole(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention as it is written, with all scores at once (Vaswani et al., 2017, eq. 1)."""
    length = queries.shape[-2]
    scores = queries @ keys.transpose(-1, -2) / WIDTH**0.5
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    attended: Tensor = scores.masked_fill(later, -torch.inf).softmax(-1) @ values
    return attended


def make(seed: int) -> Figure:
    """Peak memory and time of a forward and a backward pass over the length."""
    generator = torch.Generator().manual_seed(seed)
    ways: dict[str, Callable[..., Tensor]] = {
        "all scores at once": whole,
        f"tiles of {BLOCK}": partial(tiled_attention, block=BLOCK),
    }
    memory: dict[str, list[float]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    difference = 0.0
    for length in LENGTHS:
        inputs = [torch.randn(HEADS, length, WIDTH, generator=generator).requires_grad_() for _ in range(3)]
        gradients = []
        for name, attend in ways.items():
            began = time.process_time()
            gradients.append(torch.autograd.grad(attend(*inputs).square().sum(), inputs))
            seconds[name].append(time.process_time() - began)
            with Peak() as peak:
                torch.autograd.grad(attend(*inputs).square().sum(), inputs)
            memory[name].append(peak.peak / 2**20)
        difference = max(difference, *(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True)))
    picture, (left, right) = panels(2)
    for name in ways:
        left.loglog(LENGTHS, memory[name], "o-", label=name, base=2)
        right.loglog(LENGTHS, seconds[name], "o-", label=name, base=2)
    left.set(xlabel="tokens", ylabel="MiB", title="peak memory, forward and backward")
    right.set(xlabel="tokens", ylabel="CPU seconds", title="time, forward and backward")
    for axes in (left, right):
        axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
        add_legend(axes)
    tiles = _exponent(memory[f"tiles of {BLOCK}"])
    rows: list[Row] = [
        claim("gradients of both", "equal", f"differ by {difference:.1e} at most", difference < 1e-4),
        compare("all at once: exponent of memory", 2.0, _exponent(memory["all scores at once"]), 0.15),
        claim("tiles: exponent of memory", "at most 1", f"{tiles:.2f}", tiles <= 1.05),
    ]
    return Figure(picture, rows, "Dao et al. (2022), theorem 1: memory beyond the inputs is linear in the length")


def _exponent(numbers: list[float]) -> float:
    """The slope of the last three points in logarithms."""
    return float(np.polyfit(np.log(LENGTHS[-3:]), np.log(numbers[-3:]), 1)[0])
