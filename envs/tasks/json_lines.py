"""Reading files with a JSON object a line; errors name the line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gridzero.envs.tasks.numbers import shown

MAX_LINE = 1 << 24
"""Bytes; a longer line is refused."""
Item = TypeVar("Item")
Record = Mapping[str, Any]


def read_json_lines(path: Path, make: Callable[[Record], Item]) -> list[Item]:
    """Read a file with a JSON object a line, of each of which ``make`` makes an item; blank lines are skipped.

    Raises:
        ValueError: for a file that cannot be read or is empty, or a line that is no object or that ``make`` refuses: in
            one line, with its number.
    """
    found: list[Item] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
                if not line.strip():
                    continue
                try:
                    found.append(make(_object(line)))
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if not found:
        raise ValueError(f"{path} is empty")
    return found


def _object(line: bytes) -> Record:
    if len(line) > MAX_LINE:
        raise ValueError(f"it is longer than {MAX_LINE:,} bytes")
    try:
        entry = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg.removesuffix(' at')} in column {error.colno}") from None
    except (RecursionError, ValueError):
        raise ValueError("it is not JSON that can be read: too deep, or with too long a number") from None
    if not isinstance(entry, dict):
        raise ValueError(f"it is not a JSON object, but {shown(json.dumps(entry))}")
    return entry


def value_of(record: Record, key: str) -> Any:
    """Return the value of a key.

    Raises:
        ValueError: when it is missing.
    """
    if key not in record:
        raise ValueError(f'"{key}" is missing')
    return record[key]


def check_text(key: str, value: Any) -> str:
    """Return the value of a key, which must be a text.

    Raises:
        ValueError: when it is something else, or has half a surrogate pair.
    """
    if not isinstance(value, str):
        raise ValueError(f'"{key}" must be a text, not {shown(json.dumps(value))}')
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f'"{key}" has half a surrogate pair, which is no character')
    return value
