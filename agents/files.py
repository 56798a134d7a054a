"""Files that are whole: new directories, signed JSON records and their schemas, lines of JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

from gridzero.envs.folders import check_folder


class DamagedError(ValueError):
    """A file or folder is not as it was written."""


@dataclass(frozen=True)
class AtLeast:
    """The lowest number that an annotated field of a schema allows."""

    low: float


Natural = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``target``, whole or not at all: its files are flushed, then it is renamed.

    Raises:
        ValueError: when ``target`` exists, or cannot be made where it is to be.
    """
    check_folder(target.parent, new=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _flush(path)
        try:
            # Renaming would replace an empty directory; that is caught by the check, anything fuller by the system.
            if target.exists():
                raise FileExistsError
            temporary.rename(target)
        except OSError as error:
            if target.exists():
                raise ValueError(f"{target} exists; it is never overwritten") from None
            raise error
        _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_directory(target: Path, name: str, content: bytes) -> None:
    """Make a directory with one file, whole or not at all.

    Raises:
        ValueError: when ``target`` exists.
    """
    with new_directory(target) as folder:
        (folder / name).write_bytes(content)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush and rename it: a reader sees the old content or the new, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk; directories where the system can."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def signed(record: Mapping[str, Any], form: str, version: int) -> bytes:
    """A record as JSON, with its format, version and digest."""
    full = {"format": form, "version": version, **record}
    return json_bytes({**full, "sha256": hashlib.sha256(json_bytes(full)).hexdigest()})


def read_signed(path: Path, form: str, version: int, schema: type | None = None) -> dict[str, Any]:
    """Read a record that :func:`signed` made.

    Args:
        path: the file.
        form: the format it must have.
        version: the newest that can be read.
        schema: a ``TypedDict`` that it must fit.

    Raises:
        DamagedError: when it is missing, damaged, of another format or version, or does not fit the schema.
    """
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != form:
        raise DamagedError(f"{path.parent} is not a {form.replace('-', ' ')}")
    number = record.get("version")
    if not isinstance(number, int) or not fits(number, Positive) or number > version:
        raise DamagedError(f"{path.parent} has format version {number}; this gridzero reads from 1 to {version}")
    rest = {name: value for name, value in record.items() if name not in ("format", "version", "sha256")}
    if path.read_bytes() != signed(rest, form, number):
        raise DamagedError(f"{path.parent} is damaged: {path.name} does not have its checksum")
    if schema is not None:
        check_record(rest, schema, path)
    return rest


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DamagedError: when it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DamagedError(f"{path.parent} is not complete: {path.name} is missing") from None
    except NotADirectoryError:
        raise DamagedError(f"{path.parent} is not a directory") from None
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def read_lines(path: Path, *schemas: Any) -> Iterator[tuple[bytes, Any]]:
    """Read a file with a JSON value in each line; a last line that was cut off in writing is left out.

    Args:
        path: the file; where there is none, there are no lines.
        schemas: types that each value must fit, all of them.

    Yields:
        Each line as it is in the file, and its value.

    Raises:
        DamagedError: with the number of the line, for one that is not JSON or does not fit.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115  (closed below)
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                raise DamagedError(f"{path} is damaged in line {number}: it is not JSON") from None
            if not all(fits(value, schema) for schema in schemas):
                raise DamagedError(f"{path} is damaged in line {number}: {_short(value)} is not what is written there")
            yield line, value


def check_record(record: Mapping[str, Any], schema: type, path: Path) -> None:
    """Hold a record against a ``TypedDict``; fields beyond it are allowed.

    Raises:
        DamagedError: in one line, for a field that is missing or of another type.
    """
    hints = get_type_hints(schema, include_extras=True)
    required = _required(schema, hints)
    for name, hint in hints.items():
        if name in record:
            if not fits(record[name], hint):
                raise DamagedError(f"{path} is damaged: {name} cannot be {_short(record[name])}")
        elif name in required:
            raise DamagedError(f"{path} is damaged: it has no {name}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value that comes from JSON is of a type; lists stand for tuples.

    Example:
        >>> fits([64, 64], tuple[int, ...]), fits(True, int), fits({"a": 1}, dict[str, float]), fits(-7, Natural)
        (True, False, True, False)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint is None:
        return value is None
    if origin is NotRequired:
        return fits(value, inner[0])
    if origin is Annotated:
        bounds = (bound.low for bound in inner[1:] if isinstance(bound, AtLeast))
        return fits(value, inner[0]) and all(value >= low for low in bounds)
    if origin in (Union, types.UnionType):
        return any(fits(value, kind) for kind in inner)
    if origin is Literal:
        return value in inner
    if typing.is_typeddict(hint):
        return isinstance(value, dict) and _fits_fields(value, hint)
    kind = origin or hint
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (list, tuple, Sequence):
        if not isinstance(value, list | tuple):
            return False
        if kind is tuple and inner and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(fits, value, inner))
        return not inner or all(fits(item, inner[0]) for item in value)
    if kind in (dict, Mapping):
        return isinstance(value, dict) and (not inner or all(fits(item, inner[1]) for item in value.values()))
    if kind in (bool, str, types.NoneType):
        return isinstance(value, kind)
    return True  # a class that JSON knows nothing of


def _fits_fields(value: Mapping[str, Any], schema: Any) -> bool:
    hints = get_type_hints(schema, include_extras=True)
    return _required(schema, hints) <= value.keys() and all(
        fits(value[name], hint) for name, hint in hints.items() if name in value
    )


def _required(schema: Any, hints: Mapping[str, Any]) -> set[str]:
    """The fields that a ``TypedDict`` must have; what it says itself does not know of NotRequired in a string."""
    return {name for name in schema.__required_keys__ if get_origin(hints[name]) is not NotRequired}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def json_bytes(tree: Any) -> bytes:
    """A value as indented JSON."""
    return json.dumps(tree, indent=1).encode() + b"\n"


def lock(folder: Path) -> int | None:
    """Lock a folder for this process, until the handle is closed or the process ends; None without ``fcntl``.

    Raises:
        ValueError: when another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ValueError(f"{folder} is being written by another process") from None
    return handle
