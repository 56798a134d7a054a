"""The folder of models that were made once: base models warmed up on tasks, and dequantised files."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """``$GRIDZERO_CACHE``, by default ``~/.cache/gridzero``."""
    return Path(os.environ.get("GRIDZERO_CACHE", "~/.cache/gridzero")).expanduser()
