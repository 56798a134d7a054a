"""Processes that learn together: shards, and the backends of torch's process group."""

import numpy as np
import pytest
import torch

from gridzero.agents.neural.distributed import ProcessGroup, initialized, own_part, process_group


def test_parts_are_everything_once():
    rng = np.random.default_rng(0)
    counts = [3, 0, 5]
    order = rng.permutation(8)
    parts = [own_part(order[i * 8 // 3 : (i + 1) * 8 // 3], counts, rank) for rank in range(3) for i in range(3)]
    for rank, count in enumerate(counts):
        assert sorted(np.concatenate(parts[rank * 3 : rank * 3 + 3]).tolist()) == list(range(count))


def test_what_cannot_be_shared_is_refused():
    assert ProcessGroup(1, 2).shard(6, "groups") == slice(3, 6)
    assert ProcessGroup(1, 2).local_count(6, "groups") == 3
    with pytest.raises(ValueError, match="2 processes cannot share 5 groups equally"):
        ProcessGroup(0, 2).shard(5, "groups")


def test_one_process_alone_initializes_nothing(monkeypatch):
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: pytest.fail("initialized"))
    with initialized({}) as group:
        assert group == process_group() == ProcessGroup(0, 1)
        assert group.all_gather("x") == ["x"]
        assert group.mean({"loss": 2.0}) == {"loss": 2.0}


@pytest.mark.parametrize(("cuda", "backend"), [(False, "gloo"), (True, "cpu:gloo,cuda:nccl")])
def test_tensors_of_the_cpu_go_over_gloo_also_where_there_are_gpus(cuda, backend, monkeypatch):
    """NCCL alone cannot add up the gradients of a policy that stays on the CPU."""
    calls: list[object] = []
    fake = torch.distributed
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(f"cuda:{device}"))
    monkeypatch.setattr(fake, "init_process_group", lambda backend: calls.append(backend))
    monkeypatch.setattr(fake, "is_initialized", lambda: len(calls) > 0)
    monkeypatch.setattr(fake, "get_rank", lambda: 1)
    monkeypatch.setattr(fake, "get_world_size", lambda: 2)
    monkeypatch.setattr(fake, "all_reduce", lambda tensor: calls.append(tensor.device.type))
    monkeypatch.setattr(fake, "destroy_process_group", lambda: calls.append("destroyed"))
    monkeypatch.setattr(ProcessGroup, "all_gather", lambda self, value: [value] * self.world_size)
    with initialized({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}) as group:
        assert group == process_group() == ProcessGroup(1, 2)
        group.all_reduce(torch.ones(2))
    assert calls == ["cuda:1"] * cuda + [backend, "cpu", "destroyed"]
