"""Hints for wrong names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping


def closest(
    name: str,
    names: Iterable[str],
    otherwise: str | None = None,
    *,
    shown: Mapping[str, str] | None = None,
    cutoff: float = 0.5,
) -> str:
    """A hint for a wrong name: the closest right ones, or those it has the initials of, else all of them.

    Args:
        name: the wrong one.
        names: the right ones.
        otherwise: the hint where none is close; by default the list of all.
        shown: how names are written in the hint, where that is not as they are compared.
        cutoff: how alike names must be, from 0 to 1.

    >>> closest("q-lerning", ["q-learning", "sarsa"])
    'did you mean q-learning?'
    >>> closest("lr", ["gamma", "learning_rate"])
    'did you mean learning_rate?'
    >>> closest("bandit", ["q-learning", "sarsa"])
    'there are q-learning, sarsa'
    """
    names = list(names)
    shown = shown or {}
    near = difflib.get_close_matches(name, names, n=3, cutoff=cutoff) or [
        known for known in names if len(name) > 1 and "".join(word[:1] for word in re.split("[-_]", known)) == name
    ]
    if near:
        return f"did you mean {' or '.join(shown.get(known, known) for known in near)}?"
    return f"there are {', '.join(shown.get(known, known) for known in names)}" if otherwise is None else otherwise
