"""``gridzero list``: what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from gridzero.commands.arguments import parse

Kind = Literal["all", "environments", "agents", "layouts"]


@dataclass(frozen=True)
class Options:
    """List environments, agents and layouts.

    Example: gridzero list agents
    """

    what: tyro.conf.Positional[Kind] = "all"
    """Only one kind."""
    json: bool = False
    """Print JSON instead of tables."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "list")
    tables = {name: make() for name, make in TABLES.items() if options.what in ("all", name)}
    if options.json:
        found = {
            name: [dict(zip(columns, row, strict=True)) for row in rows] for name, (columns, rows) in tables.items()
        }
        json.dump(found, sys.stdout, indent=1)
        print()
        return 0
    from gridzero.commands import report

    for i, (name, (columns, rows)) in enumerate(tables.items()):
        if i:
            print()
        report.print_table(name, columns, rows)
    return 0


def _environments() -> tuple[list[str], list[list[str]]]:
    import gymnasium

    import gridzero  # noqa: F401  (importing it registers ours)

    rows = []
    for spec in gymnasium.registry.values():
        if spec.id.startswith("gridzero/"):
            limit = "" if spec.max_episode_steps is None else str(spec.max_episode_steps)
            rows.append([spec.id, "native" if spec.vector_entry_point else "sync", limit])
    rows.append(["any other of Gymnasium's", "", ""])
    return ["id", "vector", "time limit"], rows


def _agents() -> tuple[list[str], list[list[str]]]:
    from gridzero.agents import REGISTRY

    return ["name", "what it is"], [[entry.name, entry.summary] for entry in REGISTRY.values()]


def _layouts() -> tuple[list[str], list[list[str]]]:
    from gridzero.envs.layouts import LAYOUTS, Layout

    rows = []
    for name in LAYOUTS:
        layout = Layout.load(name)
        rows.append(
            [name, f"{layout.height}x{layout.width}", ", ".join(f"{k} {v}" for k, v in layout.settings.items())]
        )
    return ["name", "size", "settings"], rows


TABLES = {"environments": _environments, "layouts": _layouts, "agents": _agents}
