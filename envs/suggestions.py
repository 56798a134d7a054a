"""Hints for wrong names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

SYNONYMS = (
    {"step_size", "learning_rate", "alpha", "lr"},
    {"gamma", "discount", "discount_factor"},
    {"trace_decay", "lambda", "gae_lambda"},
    {"epsilon", "exploration_rate", "exploration_fraction"},
    {"steps", "total_timesteps", "timesteps"},
    {"num_envs", "n_envs"},
    {"rollout_steps", "n_steps", "num_steps"},
    {"minibatch_size", "batch_size"},
    {"epochs", "n_epochs", "update_epochs"},
    {"clip", "clip_range", "clip_coef"},
    {"entropy_coefficient", "ent_coef"},
    {"value_coefficient", "vf_coef"},
    {"max_gradient_norm", "max_grad_norm"},
    {"kl_coefficient", "beta", "kl_coef"},
    {"group_size", "num_generations"},
    {"hidden", "net_arch"},
)
"""Names of the same setting, here, in books, and in other libraries."""


def closest(
    name: str,
    names: Iterable[str],
    otherwise: str | None = None,
    *,
    shown: Mapping[str, str] | None = None,
    cutoff: float = 0.5,
) -> str:
    """A hint for a wrong name: other words for it, the closest right ones, or those it has the initials of, else all.

    Args:
        name: the wrong one.
        names: the right ones.
        otherwise: the hint where none is close; by default the list of all.
        shown: how names are written in the hint, where that is not as they are compared.
        cutoff: how alike names must be, from 0 to 1.

    >>> closest("q-lerning", ["q-learning", "sarsa"])
    'did you mean q-learning?'
    >>> closest("value_iteration", ["policy-iteration", "value-iteration"])
    'did you mean value-iteration?'
    >>> closest("lr", ["gamma", "learning_rate"])
    'did you mean learning_rate?'
    >>> closest("learning-rate", ["gamma", "step-size"])
    'did you mean step-size?'
    >>> closest("bandit", ["q-learning", "sarsa"])
    'there are q-learning, sarsa'
    """
    names = list(names)
    shown = shown or {}
    near = (
        [known for known in names if _same(name, known)]
        or difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
        or [known for known in names if len(name) > 1 and "".join(word[:1] for word in _words(known)) == name]
    )
    if near:
        return f"did you mean {' or '.join(shown.get(known, known) for known in near)}?"
    return f"there are {', '.join(shown.get(known, known) for known in names)}" if otherwise is None else otherwise


def _words(name: str) -> list[str]:
    return re.split("[-_]", name)


def _same(name: str, known: str) -> bool:
    """Whether two names are the same but for their hyphens, or words for the same setting."""
    plain = {"_".join(_words(one)) for one in (name, known)}
    return len(plain) == 1 or any(plain <= words for words in SYNONYMS)
