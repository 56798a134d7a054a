"""State of a Stable-Baselines3 model as arrays and numbers, instead of its own pickled archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.save_util import recursive_getattr

_COUNTERS = (
    "num_timesteps",
    "exploration_rate",
    "_n_updates",
    "_n_calls",
    "_episode_num",
    "_current_progress_remaining",
)


def get_state(model: Any) -> dict[str, Any]:
    """Copy everything that a model needs to continue: nested dicts and lists of arrays and numbers.

    Args:
        model: an algorithm of ``stable_baselines3`` or ``sb3_contrib``, between two calls of ``learn``.
    """
    state: dict[str, Any] = {
        "parameters": _plain(model.get_parameters()),
        "variables": {name: _plain(recursive_getattr(model, name)) for name in _variables(model)},
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "observations": _plain(model._last_obs),
        "episode_starts": _plain(model._last_episode_starts),
        "actions": model.action_space.np_random.bit_generator.state,
    }
    if getattr(model, "_last_lstm_states", None) is not None:
        state["memory"] = _plain(list(model._last_lstm_states))
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        size = buffer.size()
        arrays = {name: _plain(_cut(value, size)) for name, value in _arrays(buffer).items()}
        state["replay"] = {"position": buffer.pos, "full": buffer.full, "arrays": arrays}
    return state


def set_state(model: Any, state: Mapping[str, Any]) -> None:
    """Continue a model from ``state``.

    Raises:
        ValueError: when it is of another model.
    """
    try:
        model.set_parameters({name: _tensors(part) for name, part in state["parameters"].items()}, device=model.device)
        for name, value in state["variables"].items():
            recursive_getattr(model, name).data.copy_(_tensors(value))
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(f"the state is of another model than this: {' '.join(str(error).split())[:200]}") from error
    for name, value in state["counters"].items():
        setattr(model, name, value)
    model._last_obs = _arrays_of(state["observations"])
    model._last_episode_starts = _arrays_of(state["episode_starts"])
    model.action_space.np_random.bit_generator.state = state["actions"]
    if "memory" in state:
        parts = [tuple(torch.as_tensor(np.array(a), device=model.device) for a in pair) for pair in state["memory"]]
        model._last_lstm_states = type(model._last_lstm_states)(*parts)
    if "replay" in state:
        _fill(model.replay_buffer, state["replay"])


def _variables(model: Any) -> list[str]:
    names: list[str] = list(model._get_torch_save_params()[1])
    return [*names, "weights"] if isinstance(getattr(model, "weights", None), torch.Tensor) else names


def _arrays(buffer: Any) -> dict[str, Any]:
    """Arrays (size, N, …) of a replay buffer, or dicts of them."""
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    return {name: getattr(buffer, name) for name in names}


def _cut(value: Any, size: int) -> Any:
    return {key: part[:size] for key, part in value.items()} if isinstance(value, Mapping) else value[:size]


def _fill(buffer: Any, saved: Mapping[str, Any]) -> None:
    for name, into in _arrays(buffer).items():
        arrays = saved["arrays"][name]
        for whole, part in (
            zip(into.values(), arrays.values(), strict=True) if isinstance(into, Mapping) else [(into, arrays)]
        ):
            if part.shape[1:] != whole.shape[1:] or len(part) > len(whole):
                raise ValueError(f"the state has {name} {part.shape} to replay; this agent has room for {whole.shape}")
            whole[: len(part)] = part
    buffer.pos, buffer.full = int(saved["position"]), bool(saved["full"])


def _plain(node: Any) -> Any:
    """Tensors as arrays, all copied; keys as strings."""
    if isinstance(node, torch.Tensor):
        return node.detach().cpu().numpy().copy()
    if isinstance(node, np.ndarray):
        return node.copy()
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list | tuple) else node


def _arrays_of(node: Any) -> Any:
    """The inverse of :func:`_plain` for observations."""
    if isinstance(node, Mapping):
        return {key: np.array(value) for key, value in node.items()}
    return None if node is None else np.array(node)


def _tensors(node: Any) -> Any:
    """The inverse of :func:`_plain` for parameters; optimisers number theirs."""
    if isinstance(node, np.ndarray):
        return torch.from_numpy(node.copy())
    if isinstance(node, Mapping):
        return {int(key) if key.isdigit() else key: _tensors(value) for key, value in node.items()}
    return [_tensors(value) for value in node] if isinstance(node, list) else node
