"""Lower bounds of the memory that settings need, compared with the free memory before anything is allocated."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridzero.agents.environments import Description, find_spec, remake

GIB = 1 << 30
_NATIVE, _OBJECT = 64, 1024
"""Bytes of an environment in a native vector, and as a Python object, besides its observations: lower bounds."""
_STEP = 32
_COPIES = 4
"""Copies of each weight: itself, its gradient, and Adam's two moments; all float32."""
_PER_RANK = 1024
"""Bytes for each rank or learned token of an adapter in the smallest models."""
_COLUMN = 1 << 16


def check(described: Description, num_envs: int | None, config: Any) -> None:
    """Check that an environment's vector, an agent's rollouts and its networks can be held in memory.

    Args:
        described: the environment, as :func:`~gridzero.agents.environments.remake` takes it.
        num_envs: how many, for agents that do not say it themselves.
        config: the agent's; what it does not have is not counted.

    Raises:
        ValueError: where all need more than is free; it names the first setting that does by itself, or the one that
            needs the most.
    """
    settings: dict[str, Any] = {"num_envs": num_envs} if num_envs else {}
    names = ("num_envs", "rollout_steps", "hidden", "groups", "group_size", "policy")
    settings |= {name: getattr(config, name) for name in names if getattr(config, name, None)}
    env: Any = remake(described)
    size = _bytes(env.observation_space)
    env.close()
    native = find_spec(described["id"]).vector_entry_point is not None and not described.get("wrappers")
    count = settings.get("num_envs", 1)
    policy = settings.get("policy")  # options of ours, a network's name of Stable-Baselines3
    options = policy if isinstance(policy, Mapping) else {}
    adapters = {name: options.get(name) for name in ("peft_rank", "peft_tokens")}
    needed = {
        "num_envs": count * (size + (_NATIVE if native else _OBJECT)),
        "rollout_steps": count * settings.get("rollout_steps", 1) * (size + _STEP),
        "hidden": 4 * _COPIES * sum(a * b for a, b in itertools.pairwise((1, *settings.get("hidden", ())))),
        "group_size": settings.get("groups", 1) * settings.get("group_size", 0) * (size + _OBJECT),
    }
    needed |= {f"policy.{name}": _PER_RANK * number for name, number in adapters.items() if isinstance(number, int)}
    free, most = available(), max(needed, key=needed.__getitem__)
    require(sum(needed.values()), next((name for name, size in needed.items() if size > free), most))


def check_columns(columns: int) -> None:
    """Check that so many conversations can be held in memory."""
    require(_COLUMN * columns, "columns")


def require(needed: int, setting: str) -> None:
    """Raise ValueError where more bytes are needed than are free."""
    free = available()
    if needed > free:
        flag = setting.replace("_", "-")
        raise ValueError(f"--{flag} needs at least {needed / GIB:,.1f} GiB of memory; {free / GIB:,.1f} GiB are free")


def available() -> int:
    """Bytes that this process may still take: of the machine, and of its container where that has a limit."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # another system, or "max"
        pass
    if not limits and hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=1 << 62)


def _bytes(space: Any) -> int:
    """Bytes of one observation; 0 where that is not fixed."""
    import numpy as np
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return sum(map(_bytes, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return sum(map(_bytes, space.spaces))
    return int(np.prod(space.shape)) * space.dtype.itemsize if space.shape is not None and space.dtype else 0
