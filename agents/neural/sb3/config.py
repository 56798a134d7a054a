"""Settings of the algorithms of Stable-Baselines3, generated from their own arguments and documentation.

``gridzero.agents.neural.sb3.config.DQN`` is the config for ``stable_baselines3.DQN``, and so on. The source is read,
not imported, so that help need not wait for torch.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import inspect
import math
import re
from pathlib import Path
from typing import Any

from gridzero.agents.config_checks import check_at_least, check_between, check_hidden

_NOT_SETTINGS = frozenset(
    [
        "self",
        "policy",
        "env",
        "seed",
        "verbose",
        "tensorboard_log",
        "stats_window_size",
        "policy_kwargs",
        "replay_buffer_class",
        "replay_buffer_kwargs",
        "rollout_buffer_class",
        "rollout_buffer_kwargs",
        "optimize_memory_usage",
        "action_noise",
        "_init_setup_model",
    ]
)
OWN_SETTINGS: list[tuple[str, Any, Any, str]] = [
    ("policy", str, "auto", "The kind of network by SB3's name; auto: by the observations."),
    ("hidden", tuple[int, ...] | None, None, "Widths of the hidden layers; None: the algorithm's own."),
    ("linear_learning_rate", bool, False, "Let the learning rate fall to 0 at schedule_steps."),
    ("schedule_steps", int, 100_000, "Environment steps that SB3's schedules (exploration, say) span."),
]
"""Settings that gridzero adds: name, type, default and help."""
_NOISE = ("action_noise", float, 0.0, "Standard deviation of the normal noise on actions, which go from -1 to 1.")
_OPTIONAL = {"clip_range_vf": float | None, "target_kl": float | None, "max_grad_norm": float | None}
_EITHER = {"ent_coef": float | str, "target_entropy": float | str}


def __getattr__(name: str) -> type[Any]:
    if name.startswith("_"):
        raise AttributeError(name)
    return config_for(name)


@functools.cache
def config_for(name: str) -> type[Any]:
    """A frozen dataclass of the arguments of an algorithm that are numbers, words or flags, with SB3's help.

    Args:
        name: of its class in ``stable_baselines3`` or ``sb3_contrib``.

    Raises:
        AttributeError: when neither has it.

    >>> config_for("PPO")().n_steps
    2048
    """
    import docstring_parser

    definition = _definition("stable_baselines3", name) or _definition("sb3_contrib", name)
    if definition is None:
        raise AttributeError(f"Stable-Baselines3 has no algorithm {name}")
    documentation = inspect.cleandoc(ast.get_docstring(definition) or "")
    help_texts = {p.arg_name: p.description or "" for p in docstring_parser.parse(documentation).params}
    parameters = _defaults(definition)
    settings = list(OWN_SETTINGS)
    if "action_noise" in parameters:
        settings.append(_NOISE)
    for argument, node in parameters.items():
        if argument not in _NOT_SETTINGS:
            default = ast.literal_eval(node)
            kind = _OPTIONAL.get(argument) or _EITHER.get(argument) or type(default)
            kind = int | None if kind is type(None) else kind
            settings.append((argument, kind, default, _plain(help_texts.get(argument, ""))))
    config = dataclasses.make_dataclass(
        f"{name}Config",
        [(field, kind, dataclasses.field(default=default)) for field, kind, default, _ in settings],
        frozen=True,
        namespace={"__post_init__": _check},
    )
    config.__doc__ = f"Settings of {name}.\n\nArgs:\n" + "".join(f"    {s[0]}: {s[3]}\n" for s in settings)
    return config


def _definition(module: str, name: str) -> ast.ClassDef | None:
    """The class in the source of an installed module, or where that imports it from in its own package."""
    package, *path = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent.joinpath(*path)
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return _definition(node.module, name)
    return None


def _defaults(definition: ast.ClassDef) -> dict[str, ast.expr]:
    """The arguments of ``__init__`` that have a default, in their order."""
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            positional = [*node.args.posonlyargs, *node.args.args]
            given = zip(positional[len(positional) - len(node.args.defaults) :], node.args.defaults, strict=True)
            named = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return {argument.arg: default for argument, default in (*given, *named) if default is not None}
    return {}


def _plain(text: str) -> str:
    r"""Text without the markup of Sphinx, in one line.

    >>> _plain("Set ``-1`` for\n  :class:`~torch.optim.Adam`")
    'Set `-1` for `Adam`'
    """
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text.replace("``", "`"))
    return " ".join(text.split())


def _check(config: Any) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{field.name} must be finite, not {value}")
    check_at_least(config, 1, "schedule_steps")
    check_hidden(config)
    if hasattr(config, "action_noise"):
        check_at_least(config, 0, "action_noise")
    if hasattr(config, "gamma"):
        check_between(config, 0, 1, "gamma")
