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


def _formulas(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings write formulas between dollars, as the pages do; autodoc reads reStructuredText."""
    parts = re.split(r"\$([^$]+)\$", "\n".join(lines))
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    parts[1::2] = [f":math:`{' '.join(part.split())}`" for part in parts[1::2]]
    lines[:] = "".join(parts).splitlines()


def _figures(app: object, page: str, source: list[str]) -> None:
    """The page of figures has a table of those there are."""
    if page == "guide/figures":
        from gridzero import figures

        rows = [f"| `{name}` | {figures.title(name)} |" for name in figures.names()]
        source[0] = source[0].replace("<!-- figures -->", "\n".join(["| name | what it shows |", "|---|---|", *rows]))


def setup(app: Any) -> None:
    """Connect the events."""
    app.connect("source-read", _figures)
    app.connect("autodoc-process-docstring", _formulas, priority=900)
