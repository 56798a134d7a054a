"""Options of the commands, from dataclasses, and one line for whatever is wrong with them."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from gridzero.envs.suggestions import closest

Options = TypeVar("Options")

_REPEATABLE = {"over"}
_WORDS = {"true": True, "false": False, "none": None}


def parse(options: type[Options], arguments: Sequence[str], command: str) -> Options:
    """Fill a dataclass from the command line; ``--help`` prints and exits with status 0.

    The flags are its fields, or, where a field is a dataclass, that one's fields; the docstrings under them are the
    help, the docstring of the class the description.

    Args:
        options: the dataclass; a field of type ``tyro.conf.Positional[...]`` needs no flag.
        arguments: without the command.
        command: its name, for messages.

    Raises:
        ValueError: in one line, for an unknown option (with the closest right ones) or a value that is not allowed.
    """
    import tyro

    if {"-h", "--help"} & set(arguments):
        from gridzero.commands.help_display import displayed

        options = displayed(options)
    else:
        _refuse_unknown(options, arguments)
        _refuse_foreign_digits(arguments)
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(
                options,
                args=list(arguments),
                prog=f"gridzero {command}",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(condense(messages.getvalue())) from None


def _refuse_foreign_digits(arguments: Sequence[str]) -> None:
    for argument in arguments:
        value = argument.partition("=")[2] if argument.startswith("--") else argument
        if not value.isascii() and re.fullmatch(r"[+-]?[\d.,_]+(?:[eE][+-]?\d+)?", value):
            raise ValueError(f"numbers are written in the digits 0 to 9, not {value!r}")


def _refuse_unknown(options: type[Any], arguments: Sequence[str]) -> None:
    """Raise ValueError for an unknown option, or one given twice that is not repeatable."""
    known = set(_flags(options))
    seen: set[str] = set()
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name = argument[2:].partition("=")[0].replace("_", "-")
            if name in seen and name not in _REPEATABLE:
                raise ValueError(f"--{name} is given twice")
            seen.add(name)
            if name not in known:
                shown = {flag: f"--{flag}" for flag in sorted(known) if not flag.startswith("no-")}
                raise ValueError(f"there is no option --{name}; {closest(name, shown, shown=shown)}")


def _flags(options: type[Any]) -> list[str]:
    names: list[str] = []
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        if dataclasses.is_dataclass(hints[field.name]):
            names += _flags(typing.cast(type, hints[field.name]))
        else:
            name = field.name.rstrip("_").replace("_", "-")
            names += [name, f"no-{name}"]
    return names


def condense(box: str) -> str:
    r"""Message in a box of tyro's, in one line.

    >>> condense("╭─ Value error ─╮\n│ Error parsing --gamma: could not convert string to float: 'x' │\n│ ──── │")
    "--gamma takes a number, not 'x'"
    """
    framed = "╭" in box  # else plain text: title, rule, message
    words: list[str] = []
    for line in box.splitlines():
        text = line.strip("│ ")
        if text.startswith(("╭", "╰")) or not text:
            continue
        if set(text) <= {"─", "-"} or text.startswith(("Got errors", "Perhaps you meant")):
            if framed:
                break
            framed, words = True, []
            continue
        words.append(text)
    message = " ".join(" ".join(words).split()) or "the command line is not understood"
    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"Error parsing (--\S+): could not convert string to float: (.*)", r"\1 takes a number, not \2"),
        (r"Error parsing (--\S+): invalid literal for int\(\) with base 10: (.*)", r"\1 takes a whole number, not \2"),
        (
            r"Error parsing (--\S+): no type matching (.*) could be instantiated from \[(.*)\]\.?",
            lambda m: f"{m[1]} takes {_described(m[2])}, not {m[3]}",
        ),
        (
            r"invalid choice '(.*)' for argument '[^-]\S*'\. Expected one of \((.*?),?\)\.",
            lambda m: f"there is no {m[1]!r}; {closest(m[1], _quoted(m[2]), cutoff=0.6)}",
        ),
        (
            r"invalid choice (.*) for argument '(\S+)'\. Expected one of \((.*?),?\)\.",
            lambda m: f"{m[2]} takes one of {m[3]}, not {m[1]}",
        ),
        (
            r"Argument \[\S.*\]: invalid choice: '(.*?)' \(choose from (.*)\)",  # tyro before 1.0
            lambda m: f"there is no {m[1]!r}; {closest(m[1], _quoted(m[2]), cutoff=0.6)}",
        ),
        (r"Missing value for argument '(?:\(')?(--[\w.-]+)(?:',\))?'\. Expected .*", r"\1 needs a value"),
        (r"Argument (--[\w.-]+): expected \d+ arguments?", r"\1 needs a value"),  # tyro before 1.0
        (r"Unrecognized options: (.*)", r"not understood: \1"),
        (r"Error parsing [^-\s]\S*: (.*)", r"\1"),
    ]
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, message)
        if match:
            return replacement(match) if callable(replacement) else match.expand(replacement)
    return message


def _quoted(words: str) -> list[str]:
    return re.findall(r"'(.*?)'", words)


def _described(types_: str) -> str:
    names = {"INT": "a whole number", "FLOAT": "a number", "STR": "a word"}
    return " or ".join(names.get(part, part.strip("{}").replace(",", " or ")) for part in reversed(types_.split("|")))


def split_dotted(prefix: str, arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Take ``--PREFIX.KEY VALUE`` and ``--PREFIX.KEY=VALUE`` out of the arguments.

    >>> split_dotted("env", ["--env", "FrozenLake-v1", "--env.is_slippery", "False", "--seed", "1"])
    ({'is_slippery': 'False'}, ['--env', 'FrozenLake-v1', '--seed', '1'])
    """
    values: dict[str, str] = {}
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith(f"--{prefix}."):
            rest.append(argument)
            continue
        name, given, value = argument.removeprefix(f"--{prefix}.").partition("=")
        name = name.replace("-", "_")
        if not given:
            following = next(remaining, None)
            if following is None:
                raise ValueError(f"--{prefix}.{name} needs a value")
            value = following
        if name in values:
            raise ValueError(f"--{prefix}.{name} is given twice")
        values[name] = value
    return values, rest


def take_repeated(flag: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take every ``FLAG VALUE`` and ``FLAG=VALUE`` out of the arguments.

    >>> take_repeated("--import", ["--import", "a", "lake", "--import=b"])
    (['a', 'b'], ['lake'])
    """
    values: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        name, given, value = argument.partition("=")
        if name != flag:
            rest.append(argument)
            continue
        following = value if given else next(remaining, None)
        if not following:
            raise ValueError(f"{flag} needs a value")
        values.append(following)
    return values, rest


def dotted_options(
    prefix: str, owner: str, known: Mapping[str, inspect.Parameter], given: Mapping[str, str]
) -> dict[str, Any]:
    """Keywords from the words of the command line, each of the type that is asked for.

    Args:
        prefix: what stands before the dot.
        owner: who takes them, for messages.
        known: the keywords that there are.
        given: the words.

    Raises:
        ValueError: for an unknown keyword, or a word that is not of the type.
    """
    result = {}
    for name, text in given.items():
        if name not in known:
            raise ValueError(f"{owner} has no option {name!r}; {closest(name, known)}")
        result[name] = coerce(f"--{prefix}.{name}", text, known[name])
    return result


def coerce(flag: str, text: str, parameter: inspect.Parameter) -> Any:
    """Convert a word to the type of a parameter's annotation, or else of its default.

    >>> slip = inspect.Parameter("slip", inspect.Parameter.KEYWORD_ONLY, default=0.0)
    >>> coerce("--env.slip", "0.2", slip), coerce("--env.slip", "1/3", slip)
    Traceback (most recent call last):
    ValueError: --env.slip takes a number, not '1/3'
    """
    kinds = _kinds(parameter)
    value: Any = _WORDS.get(text.lower(), ...)
    if value is ...:
        try:
            value = ast.literal_eval(text) if len(text) < 1000 else text
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = text
    if float in kinds and int not in kinds and type(value) is int:
        value = float(value)
    if not kinds or (value is None and type(None) in kinds):
        return value
    if str in kinds and not any(isinstance(value, kind) for kind in kinds - {str, type(None)}):
        return text
    if isinstance(value, bool) and bool not in kinds:
        value = text
    if any(isinstance(value, kind) for kind in kinds):
        return value
    words = ("True or False", "a whole number", "a number", "a tuple such as (8,8)", "None")
    taken = [word for kind, word in zip((bool, int, float, tuple, type(None)), words, strict=True) if kind in kinds]
    raise ValueError(f"{flag} takes {' or '.join(taken)}, not {text!r}")


def _kinds(parameter: inspect.Parameter) -> set[type]:
    """The plain types that a parameter takes; empty where that cannot be told."""
    annotation = parameter.annotation
    if annotation is parameter.empty or isinstance(annotation, str):
        default = parameter.default
        if default is parameter.empty or default is None:
            return set()
        return {type(default)}
    parts = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    kinds: set[type] = set()
    for part in parts:
        origin = typing.get_origin(part) or part
        if origin is typing.Literal:
            kinds |= {type(value) for value in typing.get_args(part)}
        elif origin in (bool, int, float, str, tuple, type(None)):
            kinds.add(origin)
        elif origin is None:
            kinds.add(type(None))
    return kinds if kinds <= {bool, int, float, str, tuple, type(None)} else set()


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
