"""GGUF files: their weights in single precision, kept on disk, since making them takes most of a minute."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gridzero.agents.files import new_directory
from gridzero.llm_rl.models.cache import cache


def is_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file's."""
    return path.suffix == ".gguf" and path.is_file()


def dequantised(path: Path, read: Callable[[Path], tuple[Any, Any]]) -> tuple[Any, Any] | Path:
    """The folder in Hugging Face's format that a GGUF file was turned into, or now is.

    Args:
        path: of the file; what is kept belongs to its contents, wherever it lies.
        read: makes model and tokenizer of the file.

    Returns:
        The folder; model and tokenizer themselves, where there is no room for it.
    """
    with path.open("rb") as file:
        folder = cache() / f"gguf-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    print(f"gridzero: dequantising {path.name}; the result is kept in {folder}", file=sys.stderr)
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that nothing else turns off
        model, tokenizer = read(path)
        model = _plain(model)
        try:
            with new_directory(folder) as temporary:
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
        except ValueError:
            if not folder.is_dir():  # else another process was faster
                raise
        except OSError:
            return model, tokenizer
    return folder


def _plain(model: Any) -> Any:
    """A model of the same weights that knows nothing of having been quantised, which could not be saved."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(model)(config).eval()
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain
