"""Tasks with verifiable answers, and the total verifier they share. Light: NumPy and the standard library."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from gridzero.envs import plugins
from gridzero.envs.suggestions import closest
from gridzero.envs.tasks.task import Problem, Task, Verdict
from gridzero.envs.tasks.templates import TEMPLATES, Template, find_template
from gridzero.envs.tasks.vocabulary import Vocabulary

__all__ = [
    "TASKS",
    "TEMPLATES",
    "Problem",
    "Task",
    "Template",
    "Verdict",
    "Vocabulary",
    "find_template",
    "make_task",
    "register",
    "task_class",
    "task_options",
]

TASKS: dict[str, str] = {
    "addition": "gridzero.envs.tasks.addition:Addition",
    "multiplication": "gridzero.envs.tasks.multiplication:Multiplication",
    "arithmetic": "gridzero.envs.tasks.arithmetic:Arithmetic",
    "countdown": "gridzero.envs.tasks.countdown:Countdown",
    "linear-equation": "gridzero.envs.tasks.linear_equation:LinearEquation",
    "sorting": "gridzero.envs.tasks.sorting:Sorting",
    "grid-path": "gridzero.envs.tasks.grid_path:GridPath",
    "grid-walk": "gridzero.envs.tasks.grid_walk:GridWalk",
    "jsonl": "gridzero.envs.tasks.jsonl:Jsonl",
    "reasoning-gym": "gridzero.envs.tasks.reasoning_gym:ReasoningGym",
}
"""Entry points of the tasks' classes, imported when they are asked for."""
SUMMARIES: dict[str, str] = {}
"""Summaries of registered tasks, where they are not their explanations."""


def register(name: str, entry_point: str, summary: str = "") -> None:
    """Make a task known by name.

    Args:
        name: lower case, words joined by hyphens.
        entry_point: ``"package.module:Class"``, imported only when the task is made.
        summary: a few words for ``gridzero list``; by default the task's explanation.
    """
    TASKS[name] = entry_point
    if summary:
        SUMMARIES[name] = summary


def task_class(name: str) -> type[Task]:
    """The class of a task, by ``name`` or ``module:name``; installed plug-ins are loaded for an unknown name.

    Raises:
        ValueError: for an unknown name, with the closest right ones, or a module that cannot be imported.
    """
    name = plugins.resolve(str(name))
    if name not in TASKS:
        plugins.load_installed()
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; {closest(str(name), TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    task: type[Task] = getattr(import_module(module), attribute)
    return task


def task_options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a task: its own, then those that all have.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> list(task_options("addition"))
        ['digits', 'split', 'template', 'worked', 'direct', 'system']
    """
    task = task_class(name)
    options: dict[str, inspect.Parameter] = {}
    for owner in (task, Task):
        for option in inspect.signature(owner.__init__, eval_str=True).parameters.values():
            if option.kind is option.KEYWORD_ONLY:
                options.setdefault(option.name, option)
    return options


def make_task(name: str, **options: Any) -> Task:
    """A task, by name.

    Args:
        name: one of :data:`TASKS`, or ``module:name``.
        options: of its class.

    Raises:
        ValueError: for an unknown task or option (with the closest right names), one that is missing, or a value that
            is not allowed.

    Example:
        >>> make_task("adition")
        Traceback (most recent call last):
        ...
        ValueError: no task is called 'adition'; did you mean addition?
    """
    known = task_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; {closest(option, known)}")
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise ValueError(f"{name} needs the option {option!r}")
    return task_class(name)(**options)
