"""Figures of books and papers, made anew: each module with a function ``make`` is one, named for its file."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from gridzero.envs.suggestions import closest

if TYPE_CHECKING:
    from gridzero.figures.figure import Figure


class Module(Protocol):
    """A figure's module."""

    def make(self, seed: int) -> Figure:
        """Compute the figure; the seed decides everything that is random."""
        ...


def names() -> list[str]:
    """The figures there are, as the command line names them.

    Example:
        >>> "zhao-3" in names()
        True
    """
    found = (path for path in Path(__path__[0]).glob("*.py") if "\ndef make(" in path.read_text(encoding="utf-8"))
    return sorted(path.stem.replace("_", "-") for path in found)


def title(name: str) -> str:
    """The first sentence of a figure's module, which is not imported for it."""
    path = Path(__path__[0]) / f"{name.replace('-', '_')}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]


def load(name: str) -> Module:
    """The module of a figure.

    Raises:
        ValueError: when there is no figure of that name.
    """
    if name not in names():
        raise ValueError(f"there is no figure {name!r}; {closest(name, names())}")
    return cast(Module, importlib.import_module(f"gridzero.figures.{name.replace('-', '_')}"))
