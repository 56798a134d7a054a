"""Several processes that learn one policy, each from its share of the episodes (data parallel).

``torchrun --nproc-per-node N -m gridzero train …`` starts them. All draw the same random numbers and take the same
gradient steps, so that N processes do what one does with the same batch, to rounding.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class World:
    """The processes that learn together.

    Attributes:
        rank: this one's number, from 0.
        size: how many.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int, what: str) -> slice[int, int, None]:
        """This process's part of so many things.

        Raises:
            ValueError: when they cannot be shared equally.

        >>> World(rank=1, size=2).share(6, "groups")
        slice(3, 6, None)
        """
        if count % self.size:
            raise ValueError(f"{self.size} processes cannot share {count} {what} equally")
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def own(self, count: int, what: str) -> int:
        """How many of so many things are this process's; see :meth:`share`."""
        share: slice[int, int, None] = self.share(count, what)
        return share.stop - share.start

    def add(self, tensor: Tensor) -> Tensor:
        """Add up over the processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order; anything that JSON holds."""
        if self.size == 1:
            return [value]
        data = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
        lengths = torch.zeros(self.size, dtype=torch.long, device=_device())
        lengths[self.rank] = len(data)
        self.add(lengths)
        rows = torch.zeros(self.size, int(lengths.max()), dtype=torch.long, device=_device())
        rows[self.rank, : len(data)] = torch.from_numpy(data.astype(np.int64)).to(rows.device)
        self.add(rows)
        return [
            json.loads(row[:length].astype(np.uint8).tobytes())
            for row, length in zip(rows.cpu().numpy(), lengths.tolist(), strict=True)
        ]

    def total(self, number: int) -> int:
        """The sum over the processes."""
        return sum(self.gather(number))

    def share_of(self, number: int) -> float:
        """This process's part of the sum over the processes."""
        return 1.0 if self.size == 1 else number / max(1, self.total(number))

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The mean of each metric over the processes that have it."""
        if self.size == 1:
            return dict(metrics)
        found = self.gather(dict(metrics))
        names = dict.fromkeys(name for one in found for name in one)
        return {name: float(np.mean([one[name] for one in found if name in one])) for name in names}

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process goes first, the others together after it: for what is made once and then found."""
        if self.size > 1 and self.rank > 0:
            self.gather(None)
        yield
        if self.size > 1 and self.rank == 0:
            self.gather(None)


def world() -> World:
    """The processes that this one learns with; alone unless :func:`join` was called."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return World(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return World()


@contextlib.contextmanager
def join(environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """Meet the other processes that torchrun started, if it did: over NCCL where there are GPUs, else over Gloo."""
    if int(environment.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(environment.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield world()
        world().gather(None)  # who leaves first would take the connection from the others
    finally:
        torch.distributed.destroy_process_group()


def _device() -> torch.device:
    on_gpus = torch.distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpus else torch.device("cpu")


def own_part(permutation: Sequence[int] | np.ndarray[Any, Any], counts: Sequence[int], rank: int) -> Tensor:
    """Which of a process's rows are among some of all processes' rows, in that order.

    >>> own_part([4, 0, 3], [2, 3], 1)
    tensor([2, 1])
    """
    first = sum(counts[:rank])
    rows = np.asarray(permutation) - first
    return torch.from_numpy(rows[(rows >= 0) & (rows < counts[rank])])
