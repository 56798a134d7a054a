"""Tables in HTML, for notebooks."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gridzero.envs.mdp import FiniteMDP


def table(title: str, rows: Mapping[str, object], picture: bytes | None = None) -> str:
    """A title, names and values, and a PNG beside them if there is one.

    >>> table("a < b", {"gamma": 0.9})
    '<div><b>a &lt; b</b><table><tr><td>gamma</td><td>0.9</td></tr></table></div>'
    """
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(_text(v))}</td></tr>" for name, v in rows.items()
    )
    found = f"<div><b>{html.escape(title)}</b><table>{lines}</table></div>"
    if picture is None:
        return found
    image = f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
    return f'<div style="display:flex;gap:1em">{image}{found}</div>'


def model(mdp: FiniteMDP) -> str:
    """Sizes and ranges of a model."""
    rows = {
        "states": mdp.num_states,
        "actions": mdp.num_actions,
        "successors at most": mdp.most_successors,
        "terminal states": int(mdp.terminal.sum()),
        "possible starts": int((mdp.start > 0).sum()),
        "expected rewards": f"{mdp.rewards.min():.4g} to {mdp.rewards.max():.4g}",
        "transitions": "certain" if bool((mdp.probabilities.max(axis=2) == 1).all()) else "by chance",
    }
    return table("FiniteMDP", rows)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
