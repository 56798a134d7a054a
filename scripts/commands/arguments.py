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

    if not {"-h", "--help"} & set(arguments):
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
            r"invalid choice (.*) for argument '(\S+)'\. Expected one of \((.*?),?\)\.",
            lambda m: f"{m[2]} takes one of {m[3]}, not {m[1]}",
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


def _described(types_: str) -> str:
    names = {"INT": "a whole number", "FLOAT": "a number", "STR": "a word", "{None}": "None"}
    return " or ".join(names.get(part, part) for part in reversed(types_.split("|")))


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


@dataclasses.dataclass(frozen=True)
class EnvironmentWords:
    """Words of the command line about the environment, its id aside.

    Attributes:
        options: of ``--env.KEY VALUE``, by key.
        wrappers: of ``--wrapper module:Class``, the innermost first.
        wrapper_options: of ``--wrapper.KEY VALUE``; each is for the one wrapper that takes such a keyword.
    """

    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    wrappers: Sequence[str] = ()
    wrapper_options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def split(cls, arguments: Sequence[str]) -> tuple[EnvironmentWords, list[str]]:
        """Take them out of the arguments; ``--reward NAME`` says the same as ``--env.rewards``."""
        options, rest = split_dotted("env", arguments)
        rewards, rest = take_repeated("--reward", rest)
        if rewards and "rewards" in options:
            raise ValueError("--reward says what --env.rewards says: give one of them")
        if rewards:
            options["rewards"] = ",".join(rewards)
        wrapper_options, rest = split_dotted("wrapper", rest)
        wrappers, rest = take_repeated("--wrapper", rest)
        return cls(options, wrappers, wrapper_options), rest

    def __bool__(self) -> bool:
        return bool(self.options or self.wrappers or self.wrapper_options)

    def described(self, env_id: str) -> dict[str, Any]:
        """The environment as data: ``id``, ``kwargs`` and ``wrappers``, as :func:`remake` takes them.

        Raises:
            ValueError: for an unknown environment, keyword or wrapper, or a word that is not of the type.
        """
        from gridzero.agents.environments import find_spec

        kwargs = environment_options(env_id, self.options)
        return {"id": find_spec(env_id).id, "kwargs": kwargs, "wrappers": self._wrappers()}

    def _wrappers(self) -> list[dict[str, Any]]:
        from gridzero.agents.environments import wrapper_parameters

        known = [wrapper_parameters(entry_point) for entry_point in self.wrappers]
        words: list[dict[str, str]] = [{} for _ in known]
        for name, text in self.wrapper_options.items():
            takers = [i for i, parameters in enumerate(known) if name in parameters]
            if len(takers) > 1:
                owners = " and ".join(self.wrappers[i] for i in takers)
                raise ValueError(f"--wrapper.{name} is ambiguous: {owners} take it; give one of them in Python")
            if not takers:
                names = [name for parameters in known for name in parameters]
                hint = closest(name, names) if names else "they take none" if known else "there is no --wrapper"
                raise ValueError(f"no wrapper takes {name!r}; {hint}")
            words[takers[0]][name] = text
        return [
            {"entry_point": entry_point, "kwargs": dotted_options("wrapper", entry_point, parameters, own)}
            for entry_point, parameters, own in zip(self.wrappers, known, words, strict=True)
        ]


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


def environment_options(env_id: str, given: Mapping[str, str]) -> dict[str, Any]:
    """The keywords of an environment from the words of the command line, each of the type its constructor asks for.

    Raises:
        ValueError: for an unknown environment or keyword, or a word that is not of the type.
    """
    from gridzero.agents.environments import parameters

    return dotted_options("env", env_id, parameters(env_id, given), given)


def environment_help(env_id: str, given: Mapping[str, str] | None = None) -> str:
    """The options of an environment with their defaults, for the help of a command.

    Args:
        env_id: a registered id.
        given: options that are decided; a task says which others there are.

    >>> environment_help("FrozenLake-v1").splitlines()[1]
    "--env.desc None, --env.map_name '4x4', --env.is_slippery True, --env.success_rate 0.33..., ..."
    """
    from gridzero.agents.environments import find_spec, parameters

    defaults = find_spec(env_id).kwargs
    words = []
    for name, parameter in parameters(env_id, given).items():
        default = defaults.get(name, parameter.default)
        words.append(f"--env.{name}" + ("" if default is parameter.empty else f" {default!r}"))
    return f"Options of {env_id}, with their defaults (None: the map's own, or none):\n" + ", ".join(words)


def policy_options(env: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """The options of the policy of such environments from the words of the command line.

    Raises:
        ValueError: for an unknown option, a word that is not of the type, or a policy without options.
    """
    known = _policy_parameters(env)
    if not known:
        raise ValueError(
            f"the policy for {env.spec.id} has no options of its own, such as --policy.{next(iter(given))}"
        )
    return dotted_options("policy", f"the policy for {env.spec.id}", known, given)


def policy_help(env: Any) -> str:
    """The options of the policy with their defaults, for the help of a command; empty where there are none."""
    known = _policy_parameters(env)
    words = ", ".join(f"--policy.{name} {parameter.default!r}" for name, parameter in known.items())
    return f"\n\nOptions of the policy, with their defaults:\n{words}" if known else ""


def _policy_parameters(env: Any) -> Mapping[str, inspect.Parameter]:
    from gridzero.agents.registry import find_policy
    from gridzero.agents.spaces import spaces_of

    options = find_policy(*spaces_of(env)).policy_class().Options
    return {} if options is None else inspect.signature(options, eval_str=True).parameters


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
    names = {bool: "True or False", int: "a whole number", float: "a number", type(None): "None", tuple: "a tuple"}
    order = [kind for kind in (bool, int, float, tuple, type(None)) if kind in kinds]
    raise ValueError(f"{flag} takes {' or '.join(names[kind] for kind in order)}, not {text!r}")


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
