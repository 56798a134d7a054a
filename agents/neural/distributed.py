"""Data parallelism: several processes learn one policy, each from its share of the episodes.

``torchrun --nproc-per-node N -m gridzero train …`` starts them. All draw the same random numbers and take the same
gradient steps, so that N processes do what one does with the same batch, to rounding.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that learn together; by default one alone.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def shard(self, count: int, name: str) -> slice[int, int, None]:
        """Slice of this process in ``count`` things that are divided equally.

        Raises:
            ValueError: when they cannot be divided equally.

        >>> ProcessGroup(rank=1, world_size=2).shard(6, "groups")
        slice(3, 6, None)
        """
        if count % self.world_size:
            raise ValueError(f"{self.world_size} processes cannot share {count} {name} equally")
        each = count // self.world_size
        return slice(self.rank * each, (self.rank + 1) * each)

    def local_count(self, count: int, name: str) -> int:
        """Number of things in this process's shard; see :meth:`shard`."""
        shard: slice[int, int, None] = self.shard(count, name)
        return shard.stop - shard.start

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over the processes, in place."""
        if self.world_size > 1:
            import torch.distributed

            torch.distributed.all_reduce(tensor)
        return tensor

    def all_gather(self, value: Any) -> list[Any]:
        """Values of all processes, by rank; anything that JSON holds."""
        if self.world_size == 1:
            return [value]
        import torch

        data = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
        lengths = torch.zeros(self.world_size, dtype=torch.long)
        lengths[self.rank] = len(data)
        self.all_reduce(lengths)
        rows = torch.zeros(self.world_size, int(lengths.max()), dtype=torch.long)
        rows[self.rank, : len(data)] = torch.from_numpy(data.astype(np.int64))
        self.all_reduce(rows)
        return [
            json.loads(row[:length].astype(np.uint8).tobytes())
            for row, length in zip(rows.numpy(), lengths.tolist(), strict=True)
        ]

    def sum(self, number: int) -> int:
        """Sum of a number over the processes."""
        return sum(self.all_gather(number))

    def fraction(self, number: int) -> float:
        """Part that this process's number has in the sum over the processes."""
        return 1.0 if self.world_size == 1 else number / max(1, self.sum(number))

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Mean of each metric over the processes that have it."""
        if self.world_size == 1:
            return dict(metrics)
        gathered = self.all_gather(dict(metrics))
        names = dict.fromkeys(name for one in gathered for name in one)
        return {name: float(np.mean([one[name] for one in gathered if name in one])) for name in names}

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block in the process of rank 0, then in the others together: for a file that is written once."""
        if self.world_size > 1 and self.rank > 0:
            self.all_gather(None)
        yield
        if self.world_size > 1 and self.rank == 0:
            self.all_gather(None)


ALONE = ProcessGroup()


def process_group() -> ProcessGroup:
    """The processes that this one learns with; one alone unless torch's default process group is initialized."""
    torch = sys.modules.get("torch")  # where it was never imported, nobody can have initialized it
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return ALONE


@contextlib.contextmanager
def initialized(environment: Mapping[str, str] = os.environ) -> Iterator[ProcessGroup]:
    """Initialize torch's process group where torchrun started several processes, and destroy it at the end.

    Tensors on GPUs go over NCCL and those on the CPU, such as the gradients of a policy that stays there, over Gloo.

    Args:
        environment: with torchrun's ``WORLD_SIZE`` and ``LOCAL_RANK``, if it started this process.
    """
    if int(environment.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(environment.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        torch.distributed.init_process_group("gloo")
    try:
        group = process_group()
        yield group
        group.all_gather(None)  # who leaves first would take the connection from the others
    finally:
        torch.distributed.destroy_process_group()


def own_part(permutation: Sequence[int] | np.ndarray[Any, Any], counts: Sequence[int], rank: int) -> Tensor:
    """Rows of a process that are among some of all processes' rows, in that order.

    >>> own_part([4, 0, 3], [2, 3], 1)
    tensor([2, 1])
    """
    import torch

    first = sum(counts[:rank])
    rows = np.asarray(permutation) - first
    return torch.from_numpy(rows[(rows >= 0) & (rows < counts[rank])])
