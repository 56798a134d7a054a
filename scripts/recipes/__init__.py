"""Recipes of several stages: one module each, found by its file's name, with a ``RECIPE`` in it."""

from __future__ import annotations

import importlib
import pkgutil

from gridzero.envs import plugins
from gridzero.envs.suggestions import closest
from gridzero.recipes.recipe import Recipe

SHARED = ("curves", "recipe", "report")
"""Modules that are no recipes."""


def names() -> list[str]:
    """The recipes there are, as the command line names them.

    Example:
        >>> "r1-zero" in names()
        True
    """
    return sorted(
        module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.name not in SHARED
    )


def load(name: str) -> Recipe:
    """The recipe of a name, or of ``module:name``, a :class:`Recipe` in anybody's module.

    Raises:
        ValueError: when there is none.
    """
    if ":" in name:
        recipe = plugins.load(name)
    elif name in names():
        recipe = importlib.import_module(f"gridzero.recipes.{name.replace('-', '_')}").RECIPE
    else:
        raise ValueError(f"there is no recipe {name!r}; {closest(name, names())}")
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{name} is a {type(recipe).__name__}, not a gridzero.recipes.recipe.Recipe")
    return recipe
