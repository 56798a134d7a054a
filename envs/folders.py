"""Folders to write into, checked before anything long begins."""

from __future__ import annotations

import os
from pathlib import Path


def check_folder(folder: Path, *, new: bool = False) -> None:
    """Raise ValueError unless files can be written into a folder.

    Args:
        folder: the folder.
        new: whether it may be missing, to be made, with those above it, when it is needed.

    >>> check_folder(Path(__file__) / "runs", new=True)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ...folders.py is a file where a folder is needed; choose another name
    """
    there = next(part for part in (folder, *folder.parents, Path("/")) if os.path.lexists(part))
    if not there.is_dir():
        raise ValueError(f"{there} is a file where a folder is needed; choose another name")
    if there != folder and not new:
        raise ValueError(f"there is no folder {folder} to write into")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"the folder {there.absolute()} cannot be written to; choose another one")
