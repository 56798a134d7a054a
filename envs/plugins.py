"""Plug-ins: modules imported by name, and installed packages that register what they bring."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from gridzero.envs.suggestions import closest

GROUP = "gridzero.plugins"
"""The entry-point group: each entry names a module that registers when it is imported, or a function that registers."""

_MODULE = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_imported: list[str] = []
_typed: set[str] = set()
_loading: list[str] = []
_installed_loaded = False


def split(name: str) -> tuple[str | None, str]:
    """The module and the name of ``module:name``; no module where there is no colon after a dotted name.

    >>> split("mymod:My/Env-v0"), split("FrozenLake-v1")
    (('mymod', 'My/Env-v0'), (None, 'FrozenLake-v1'))
    """
    match = re.fullmatch(f"({_MODULE}):(.+)", name, re.DOTALL)
    return (match[1], match[2]) if match else (None, name)


def resolve(name: str) -> str:
    """Import the module of ``module:name``, so that it registers, and return the name alone.

    Raises:
        ValueError: when the module cannot be imported.
    """
    module, rest = split(name)
    if module is not None:
        import_module(module)
    return rest


def import_module(module: str) -> None:
    """Import a module by its dotted name and remember it for the records of runs.

    A module that the user typed on the command line may also be in the current folder, which comes last on the path.

    Raises:
        ValueError: for what is not a dotted name, or a module that cannot be imported.
    """
    _import(module)
    if module not in _imported and module.partition(".")[0] != "gridzero":
        _imported.append(module)


def load(entry_point: str) -> Any:
    """Import the object that ``"package.module:name"`` names.

    Raises:
        ValueError: for an entry point of another form, a module that cannot be imported, or a name it does not have.
    """
    module, name = split(entry_point)
    if module is None:
        raise ValueError(f"{entry_point!r} must be module:name")
    loaded = _import(module)
    if not hasattr(loaded, name):
        raise ValueError(f"{module} has no {name}; {closest(name, vars(loaded), f'{name} must be defined there')}")
    return getattr(loaded, name)


def _import(module: str) -> ModuleType:
    if not re.fullmatch(_MODULE, module):
        raise ValueError(f"{module!r} is not the dotted name of a module")
    folder = os.getcwd()
    if module in _typed and folder not in sys.path and module.partition(".")[0] not in sys.modules:
        sys.path.append(folder)
    _loading.append(module)
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(_failure(module, error)) from error
    finally:
        _loading.pop()


def _failure(module: str, error: BaseException) -> str:
    if (
        not isinstance(error, ModuleNotFoundError)
        or error.name is None
        or not f"{module}.".startswith(f"{error.name}.")
    ):
        return f"{module} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
    candidate = os.path.join(os.getcwd(), error.name.partition(".")[0])
    if module not in _typed and (os.path.isdir(candidate) or os.path.isfile(f"{candidate}.py")):
        return f"{module} is not installed; if the one in the current folder is meant, add --import {module}"
    return f"there is no module {error.name}, neither installed nor in the current folder"


def imported() -> list[str]:
    """The modules that :func:`import_module` imported in this process, in order, without gridzero's own."""
    return list(_imported)


def import_flags() -> str:
    """The ``--import`` options that later commands on a run need: of modules found in the current folder only."""
    names = [*_imported, *sorted(_typed.difference(_imported))]
    return "".join(f" --import {name}" for name in names if name in _typed and _in_folder(name))


def _in_folder(module: str) -> bool:
    top = sys.modules.get(module.partition(".")[0])
    file = Path(getattr(top, "__file__", None) or "/")
    return (file.parent.parent if hasattr(top, "__path__") else file.parent) == Path.cwd()


def restore(modules: Iterable[object]) -> None:
    """Import the modules that a record names, each as Python would find it.

    A record holds dotted names only, of modules that the user's own command imported. The current folder counts only
    where the user types the name again (``--import``), the record's folder never.

    Raises:
        ValueError: for what is not a dotted name, or a module that cannot be imported.
    """
    for module in modules:
        import_module(str(module))


def typed(words: Iterable[str]) -> None:
    """Note the modules of all ``module:name`` in the words of a command line: they may be in the current folder."""
    for word in words:
        for part in re.split("[=,]", word):
            match = re.match(f"({_MODULE}):", part)
            if match:
                _typed.add(match[1])


def origin() -> str:
    """The plug-in that is being imported now; empty where none is."""
    return _loading[0] if _loading else ""


def load_installed() -> None:
    """Load every installed plug-in of the entry-point group, once; one that fails is a warning in one line."""
    global _installed_loaded
    if _installed_loaded:
        return
    _installed_loaded = True
    for entry in metadata.entry_points(group=GROUP):
        _loading.append(entry.module.partition(".")[0])
        try:
            plugin = entry.load()
            if callable(plugin):
                plugin()
        except (Exception, SystemExit) as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            logging.getLogger("gridzero").warning("gridzero: the plug-in %s cannot be loaded: %s", entry.name, text)
        finally:
            _loading.pop()
