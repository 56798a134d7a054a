"""``gridzero list``: what there is."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from gridzero.commands.arguments import parse
from gridzero.envs import plugins

Kind = Literal[
    "all", "environments", "wrappers", "layouts", "generators", "agents", "presets", "tasks", "templates", "policies",
    "figures", "recipes",
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """List environments, wrappers, layouts and their generators, agents and their presets, tasks of text with their templates, the options of language models, figures and recipes.

    Example: gridzero list agents
    """  # noqa: E501  (the terminal wraps it)

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


def _generators() -> tuple[list[str], list[list[str]]]:
    from gridzero.envs.grid.layouts.generators import DENSITY, EXPLANATIONS, MAX_SIDE

    size = f"HEIGHTxWIDTH up to {MAX_SIDE}x{MAX_SIDE}, SEED 0"
    rows = [
        [
            f"{kind}:HEIGHTxWIDTH[:SEED{'[:DENSITY]' if kind == 'obstacles' else ''}]",
            f"{size}, DENSITY {DENSITY}" if kind == "obstacles" else size,
            text,
        ]
        for kind, text in EXPLANATIONS.items()
    ]
    return ["--env.layout", "arguments", "what it is"], rows


def _wrappers() -> tuple[list[str], list[list[str]]]:
    import gymnasium

    rows = []
    for name in gymnasium.wrappers.__all__:
        kind = vars(gymnasium.wrappers).get(name)  # others are for libraries that would be imported now
        if inspect.isclass(kind) and issubclass(kind, gymnasium.Wrapper):
            options = list(inspect.signature(kind.__init__).parameters.values())[2:]
            paragraph = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
            summary = re.sub(r":\w+:|`", "", paragraph)  # without the marks of reStructuredText
            rows.append([f"gymnasium.wrappers:{name}", _defaults(options), summary])
    rows.append(["any other, as module:Class", "", ""])
    return ["--wrapper", "--wrapper.OPTION VALUE", "what it does"], rows


def _presets() -> tuple[list[str], list[list[str]]]:
    from gridzero.agents import REGISTRY
    from gridzero.agents.presets import presets

    rows = []
    for agent in REGISTRY:
        for known in presets(agent).values():
            fields = ", ".join(f"{name} {value}" for name, value in known.fields.items())
            rows.append([agent, known.name, f"{known.steps:,}", fields])
    return ["agent", "environment", "steps", "settings"], rows


def _figures() -> tuple[list[str], list[list[str]]]:
    from gridzero import figures

    return ["name", "what it shows"], [[name, figures.title(name)] for name in figures.names()]


def _recipes() -> tuple[list[str], list[list[str]]]:
    from gridzero import recipes

    return ["name", "what it makes"], [[name, recipes.load(name).about] for name in recipes.names()]


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
    return ", ".join(f"{option.name} {_default(option)}" for option in options)


def _default(option: inspect.Parameter) -> str:
    """A default in words, which a function has none of."""
    if option.default is option.empty:
        return "(needed)"
    return "(a function)" if inspect.isroutine(option.default) else str(option.default)


def _templates() -> tuple[list[str], list[list[str]]]:
    from gridzero.envs.tasks import TEMPLATES

    rows = [[name, t.prompt("QUESTION").rstrip(), t.completion("THOUGHT", "ANSWER")] for name, t in TEMPLATES.items()]
    return ["name", "prompt", "completion"], rows


def _policies() -> tuple[list[str], list[list[str]]]:
    """Options of the policies, read from the source: importing torch and transformers takes seconds."""
    from gridzero.llm_rl import policies

    source = Path(policies.__path__[0]) / "language_options.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
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
    "wrappers": _wrappers,
    "layouts": _layouts,
    "generators": _generators,
    "agents": _agents,
    "presets": _presets,
    "tasks": _tasks,
    "templates": _templates,
    "policies": _policies,
    "figures": _figures,
    "recipes": _recipes,
}
