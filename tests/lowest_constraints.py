"""Print pip constraints that take the lowest version of each dependency that ``pyproject.toml`` allows."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirement: str) -> str:
    """The constraint for one requirement.

    Raises:
        ValueError: when it does not say which version is the lowest.

    Example:
        >>> lowest("numpy>=1.26,<3")
        'numpy==1.26'
    """
    parsed = Requirement(requirement)
    versions = [specifier.version for specifier in parsed.specifier if specifier.operator == ">="]
    if len(versions) != 1:
        raise ValueError(f"{requirement!r} does not say which version is the lowest")
    return f"{parsed.name}=={versions[0]}"


if __name__ == "__main__":
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    print("\n".join(map(lowest, dependencies)))
