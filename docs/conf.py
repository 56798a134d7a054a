"""Sphinx settings of the guide."""

import re
from typing import Any

project = "gridzero"
author = "the gridzero developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "gridzero"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True
suppress_warnings = ["autosectionlabel.*"]
_COLON = "\N{MODIFIER LETTER COLON}"


def _formulas(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings write formulas between dollars, as the pages do; autodoc reads reStructuredText."""
    parts = re.split(r"\$([^$]+)\$", "\n".join(lines).replace(_COLON, ":"))
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    parts[1::2] = [f":math:`{' '.join(part.split())}`" for part in parts[1::2]]
    lines[:] = "".join(parts).splitlines()


def _plain_attribute(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Hide the colons in what is said of a field: napoleon takes the words before one for the field's type."""
    if what == "attribute":
        lines[:] = [line.replace(":", _COLON) for line in lines]


def _figures(app: object, page: str, source: list[str]) -> None:
    """The page of figures has a table of those there are."""
    if page == "guide/figures":
        from gridzero import figures

        rows = [f"| `{name}` | {figures.title(name)} |" for name in figures.names()]
        source[0] = source[0].replace("<!-- figures -->", "\n".join(["| name | what it shows |", "|---|---|", *rows]))


def _settings(app: object, page: str, source: list[str]) -> None:
    """The page of settings has each class of settings once, under the learners that share it."""
    if page == "api/settings":
        from gridzero.agents import REGISTRY

        sharing: dict[type[Any], list[str]] = {}
        for name, registration in REGISTRY.items():
            if not name.startswith("sb3-"):  # made from the signatures of Stable-Baselines3
                sharing.setdefault(registration.config_class(), []).append(name)
        sections = []
        for config, names in sharing.items():
            titles = ", ".join(f"`{name}`" for name in names)
            what = "".join(f"- `{name}`: {REGISTRY[name].summary}\n" for name in names)
            directive = f".. autoclass:: {config.__module__}.{config.__qualname__}\n   :inherited-members:\n"
            sections.append(f"## {titles}\n\n{what}\n```{{eval-rst}}\n{directive}```\n")
        source[0] = source[0].replace("<!-- settings -->", "\n".join(sections))


def setup(app: Any) -> None:
    """Connect the events."""
    app.connect("source-read", _figures)
    app.connect("source-read", _settings)
    app.connect("autodoc-process-docstring", _plain_attribute, priority=100)
    app.connect("autodoc-process-docstring", _formulas, priority=900)
