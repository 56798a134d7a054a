"""Presets: tuned settings of agents for known environments, from ``neural/presets.toml``."""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gridzero.envs.suggestions import closest


@dataclass(frozen=True)
class Preset:
    """Tuned settings of an agent for an environment.

    Attributes:
        agent: registered name of the agent.
        name: id of the environment, or a pattern of such ids, as ``MiniGrid-*``.
        steps: budget with which they were tuned.
        fields: of the agent's ``Config``; all others are at their defaults.
    """

    agent: str
    name: str
    steps: int
    fields: Mapping[str, Any]

    def besides(self, names: Container[str]) -> Mapping[str, Any]:
        """The fields but for those of these names, which count before them."""
        return {name: value for name, value in self.fields.items() if name not in names}


@functools.cache
def presets(agent: str) -> Mapping[str, Preset]:
    """The presets of an agent by name; none for most agents.

    Example:
        >>> presets("ppo")["CartPole-v1"].steps
        40000
    """
    text = resources.files("gridzero.agents.neural").joinpath("presets.toml").read_text(encoding="utf-8")
    found = {}
    for name, table in tomllib.loads(text).get(agent, {}).items():
        steps = table.pop("steps")
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        found[name] = Preset(agent, name, steps, fields)
    return found


def preset_for(agent: str, env_id: str) -> Preset | None:
    """The settings of an agent that are tuned for an environment id, or else for ids like it; None where none are.

    Example:
        >>> preset_for("ppo", "MiniGrid-Unlock-v0").name
        'MiniGrid-*'
    """
    known = presets(agent)
    fitting = (known[name] for name in known if fnmatch.fnmatchcase(env_id, name))
    return known.get(env_id) or next(fitting, None)


def preset(agent: str, name: str) -> Preset:
    """The settings of an agent by their name, an environment id or a pattern of ids.

    Raises:
        ValueError: when there are none; the message has the closest names.

    Example:
        >>> import gridzero
        >>> agent = gridzero.agents.make("ppo", "CartPole-v1", **preset("ppo", "CartPole-v1").fields)
        >>> agent.vector.num_envs
        16
    """
    known = presets(agent)
    if not known:
        raise ValueError(f"{agent} has no presets, so none is called {name!r}")
    if name not in known:
        raise ValueError(f"{agent} has no preset {name!r}; {closest(name, known)}")
    return known[name]
