"""``gridzero list``: what there is."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from gridzero.commands.arguments import parse
from gridzero.envs import plugins

Kind = Literal["all", "environments", "agents", "layouts", "tasks", "templates", "policies"]


@dataclass(frozen=True)
class Options:
    """List environments, layouts, agents, tasks of text with their templates, and the options of language models.

    Example: gridzero list agents
    """

    what: tyro.conf.Positional[Kind] = "all"
    """Only one kind."""
    json: bool = False
    """Print JSON instead of tables."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "list")
    plugins.load_installed()
    tables = {name: make() for name, make in TABLES.items() if options.what in ("all", name)}
    if options.json:
        listing = {
            name: [dict(zip(columns, row, strict=True)) for row in rows] for name, (columns, rows) in tables.items()
        }
        json.dump(listing, sys.stdout, indent=1)
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
        source = _package(spec.entry_point or spec.vector_entry_point)
        if source != "gymnasium":
            limit = "" if spec.max_episode_steps is None else str(spec.max_episode_steps)
            rows.append([spec.id, "native" if spec.vector_entry_point else "sync", limit, source])
    rows.append(["any other of Gymnasium's, or module:id", "", "", ""])
    return ["id", "vector", "time limit", "from"], rows


def _package(entry_point: Any) -> str:
    """The package that an entry point is in."""
    module = entry_point.partition(":")[0] if isinstance(entry_point, str) else entry_point.__module__
    return str(module.partition(".")[0])


def _agents() -> tuple[list[str], list[list[str]]]:
    from gridzero.agents import REGISTRY

    rows = [[entry.name, entry.summary, _package(entry.entry_point)] for entry in REGISTRY.values()]
    return ["name", "what it is", "from"], rows


def _layouts() -> tuple[list[str], list[list[str]]]:
    from gridzero.envs.grid.layouts.layout import LAYOUTS, REGISTERED, Layout

    rows = []
    for name in (*LAYOUTS, *REGISTERED):
        layout = Layout.load(name)
        settings = ", ".join(f"{k} {v}" for k, v in layout.settings.items())
        rows.append([name, f"{layout.height}x{layout.width}", settings, REGISTERED.get(name, ("gridzero", ""))[0]])
    return ["name", "size", "settings", "from"], rows


def _tasks() -> tuple[list[str], list[list[str]]]:
    from gridzero.envs.tasks import SUMMARIES, TASKS, Task, task_class, task_options

    common = inspect.signature(Task.__init__, eval_str=True).parameters
    rows: list[list[str]] = []
    for name in TASKS:
        own = [option for option in task_options(name).values() if option.name not in common]
        summary = SUMMARIES.get(name) or str(getattr(task_class(name), "explanation", ""))
        rows.append([name, _defaults(own), summary, _package(TASKS[name])])
    shared = [option for option in common.values() if option.kind is option.KEYWORD_ONLY]
    rows.append(
        ["all of them", _defaults(shared), "--env.task NAME --env.OPTION VALUE, with gridzero/TextGeneration-v0", ""]
    )
    return ["name", "options", "what is asked", "from"], rows


def _defaults(options: Iterable[inspect.Parameter]) -> str:
    return ", ".join(
        f"{option.name} (needed)" if option.default is option.empty else f"{option.name} {option.default}"
        for option in options
    )


def _templates() -> tuple[list[str], list[list[str]]]:
    from gridzero.envs.tasks import TEMPLATES

    rows = [[name, t.prompt("QUESTION").rstrip(), t.completion("THOUGHT", "ANSWER")] for name, t in TEMPLATES.items()]
    return ["name", "prompt", "completion"], rows


def _policies() -> tuple[list[str], list[list[str]]]:
    """Options of the policies, read from the source: importing torch and transformers takes seconds."""
    module = importlib.util.find_spec("gridzero.llm_rl.policies.language_options")
    assert module is not None
    assert module.origin is not None
    tree = ast.parse(Path(module.origin).read_text(encoding="utf-8"))
    options = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "LanguageOptions")
    rows = []
    for field, text in itertools.pairwise(options.body):
        if isinstance(field, ast.AnnAssign) and field.value is not None and isinstance(text, ast.Expr):
            flag = ast.unparse(field.target).replace("_", "-")
            rows.append(
                [f"--policy.{flag}", ast.unparse(field.value), " ".join(str(ast.literal_eval(text.value)).split())]
            )
    return ["option of language models", "default", "what it is"], rows


TABLES = {
    "environments": _environments,
    "layouts": _layouts,
    "agents": _agents,
    "tasks": _tasks,
    "templates": _templates,
    "policies": _policies,
}
