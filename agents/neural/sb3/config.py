"""Settings of the algorithms of Stable-Baselines3, generated from their own arguments and documentation."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

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


def config_for(algorithm: type[BaseAlgorithm]) -> type[Any]:
    """A frozen dataclass of the arguments of an algorithm that are numbers, words or flags, with SB3's help."""
    import docstring_parser

    help_texts = {
        p.arg_name: p.description or "" for p in docstring_parser.parse(inspect.getdoc(algorithm) or "").params
    }
    parameters = inspect.signature(algorithm.__init__).parameters
    settings = list(OWN_SETTINGS)
    if "action_noise" in parameters:
        settings.append(_NOISE)
    for name, parameter in parameters.items():
        if name not in _NOT_SETTINGS:
            kind = _OPTIONAL.get(name) or _EITHER.get(name) or type(parameter.default)
            kind = int | None if kind is type(None) else kind
            settings.append((name, kind, parameter.default, _plain(help_texts.get(name, ""))))
    config = dataclasses.make_dataclass(
        f"{algorithm.__name__}Config",
        [(name, kind, dataclasses.field(default=default)) for name, kind, default, _ in settings],
        frozen=True,
        namespace={"__post_init__": _check},
    )
    config.__doc__ = f"Settings of {algorithm.__name__}.\n\nArgs:\n" + "".join(
        f"    {s[0]}: {s[3]}\n" for s in settings
    )
    return config


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
