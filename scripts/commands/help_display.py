"""Options as ``--help`` shows them: docstrings as running text, without the word None."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from pathlib import Path
from typing import Annotated, Any

import tyro

_METAVARS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH", bool: "{True,False}"}


def displayed(options: type[Any]) -> type[Any]:
    """A dataclass with the same flags for help alone: its values are never checked nor used.

    What may be left out is shown without ``{None}|``, and what is off or empty unless given without its default.

    Args:
        options: a dataclass, with dataclasses in it as groups of flags.
    """
    hints = typing.get_type_hints(options, include_extras=True)
    texts = docstrings(options)
    members: list[Any] = []
    for field in dataclasses.fields(options):
        hint: Any = hints[field.name]
        if dataclasses.is_dataclass(hint):
            members.append(_group(field, displayed(typing.cast(type, hint))))
            continue
        settings = tyro.conf.arg(help=texts.get(field.name), metavar=_metavar(hint), help_behavior_hint=_default_hint)
        members.append((field.name, Annotated[hint, settings], _defaulted(field)))
    shown = dataclasses.make_dataclass(options.__name__, members, kw_only=True, frozen=True)
    shown.__doc__ = options.__doc__
    return shown


def docstrings(options: type[Any]) -> dict[str, str]:
    """The docstrings under the fields of a dataclass and of its bases, each in one line.

    Example:
        >>> from gridzero.commands.runs import Options
        >>> docstrings(Options)["yes"]
        'Delete without asking.'
    """
    found: dict[str, str] = {}
    for owner in reversed(options.__mro__[:-1]):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):  # made while running
            continue
        body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
        for statement, following in itertools.pairwise(body):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _group(field: dataclasses.Field[Any], shown: type[Any]) -> Any:
    """A group of flags, with its defaults if it has any."""
    if field.default is dataclasses.MISSING:
        return field.name, shown
    given = {known.name: getattr(field.default, known.name) for known in dataclasses.fields(shown)}
    return field.name, shown, dataclasses.field(default=shown(**given))


def _defaulted(field: dataclasses.Field[Any]) -> Any:
    """A new field with the same default, if it has one."""
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=field.default) if field.default is not dataclasses.MISSING else dataclasses.field()


def _metavar(hint: Any) -> str | None:
    """Placeholder of the value of an option that may be None; None for other options, which keep tyro's."""
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    if type(None) not in parts:
        return None
    words = []
    for part in parts:
        if typing.get_origin(part) is typing.Literal:
            words.append("{" + ",".join(map(str, typing.get_args(part))) + "}")
        elif typing.get_origin(part) is tuple:
            words.append(f"[{_METAVARS[typing.get_args(part)[0]]} ...]")
        elif part in _METAVARS:
            words.append(_METAVARS[part])
        elif part is not type(None):
            return None
    return "|".join(words)


def _default_hint(default: str) -> str:
    """The remark on a default, as tyro writes the default."""
    if default in ("None", "False", "", "''"):
        return ""
    return "(on by default)" if default == "True" else f"(default: {default})"
