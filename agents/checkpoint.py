"""Agents on disk: tensors as safetensors, the rest as JSON, all of it checked, none of it ever run."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.environments import describe, remake
from gridzero.agents.registry import agent_class, make
from gridzero.envs import plugins
from gridzero.envs.suggestions import closest

FORMAT = "gridzero-checkpoint"
VERSION = 1
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "tensors.safetensors"
_TENSOR_KEY = "$tensor"
_RECORDED = ("gridzero", "gymnasium", "numpy", "numba", "torch")


def save(agent: Agent, path: str | Path, *, training: Mapping[str, Any] | None = None) -> Path:
    """Write an agent to a new directory, whole or not at all.

    It is written under a temporary name, flushed to the disk, then renamed.

    Args:
        agent: to be saved as it stands.
        path: the directory to make; what is there already is never overwritten.
        training: what else a training loop wants to find again, as JSON holds it.

    Raises:
        ValueError: when ``path`` exists, or the agent's state has something else than dicts, lists, arrays, numbers,
            strings, booleans and None.
    """
    from safetensors.numpy import save_file

    target = Path(path)
    if target.exists():
        raise ValueError(f"{target} exists; a checkpoint is never overwritten")
    tree, tensors = flatten(agent.state_dict())
    manifest = {**identity(agent), "training": dict(training or {})}
    with new_directory(target) as folder:
        agent.save_artifacts(folder)
        (folder / STATE).write_bytes(_json_bytes(tree))
        save_file(tensors, folder / TENSORS)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        manifest["files"] = {file.relative_to(folder).as_posix(): _fingerprint(file) for file in files}
        (folder / MANIFEST).write_bytes(signed(manifest, FORMAT, VERSION))
    return target


def load(path: str | Path, env: Any = None) -> Agent:
    """The agent that was saved, ready to act and to go on learning.

    Args:
        path: a checkpoint, or the directory of a run, whose last checkpoint is meant.
        env: the environment, if not the one on record.

    Raises:
        ValueError: when it is damaged, truncated, of another format or a newer version, or does not fit ``env``.
    """
    folder = Path(path)
    if not (folder / MANIFEST).exists():
        folder = latest(folder / "checkpoints") or folder
    manifest, tree, tensors = read(folder)
    agent = rebuild(manifest, env, folder)
    try:
        agent.load_artifacts(folder)
        agent.load_state_dict(unflatten(tree, tensors))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{folder} does not fit {agent.name}: {error!r}") from error
    return agent


def identity(agent: Agent) -> dict[str, Any]:
    """What an agent is, its learning aside: name, config, environment, seed, and the versions of what made it."""
    return {
        "agent": agent.name,
        "config": dataclasses.asdict(agent.config),
        "environment": describe(agent.env),
        "seed": agent.seed,
        "imports": plugins.imported(),
        "versions": versions(),
    }


def rebuild(record: Mapping[str, Any], env: Any = None, where: Any = "the record") -> Agent:
    """A new agent from its :func:`identity`, as it was before it learnt anything."""
    try:
        plugins.restore(record.get("imports", []))
        if env is None:
            described = record["environment"]
            if described is None:
                raise ValueError(f"{where} does not say how to make its environment; give one")
            env = remake(described, described["num_envs"])
        return make(record["agent"], env, seed=record["seed"], **config_fields(record["agent"], record["config"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where} lacks what makes an agent: {error!r}") from error


def config_fields(agent: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as JSON gave it, lists turned back into the tuples that fields have."""
    fields = {field.name: field for field in dataclasses.fields(agent_class(agent).Config)}
    result = {}
    for name, value in config.items():
        if name not in fields:
            raise ValueError(f"{agent} has no field {name!r}; {closest(name, fields)}")
        result[name] = tuple(value) if isinstance(value, list) and "tuple" in str(fields[name].type) else value
    return result


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most steps in a folder of them."""
    if not folder.is_dir():
        return None
    steps = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit() and entry.is_dir()]
    return folder / str(max(steps)) if steps else None


def read(folder: Path) -> tuple[dict[str, Any], Any, dict[str, NDArray[Any]]]:
    """Manifest, tree and tensors of a checkpoint, every byte of them checked.

    Raises:
        ValueError: when anything is missing, damaged, foreign or newer.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    manifest = read_manifest(folder)
    for name in {STATE, TENSORS, *manifest["files"]}:
        _check_file(folder, manifest, name)
    try:
        return manifest, json.loads((folder / STATE).read_bytes()), load_file(folder / TENSORS)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} cannot be read: {error}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, checked against its own digest."""
    if not folder.is_dir():
        raise ValueError(f"there is no checkpoint at {folder}")
    return read_signed(folder / MANIFEST, FORMAT, VERSION)


def signed(record: Mapping[str, Any], form: str, version: int) -> bytes:
    """A record as JSON, with its format, version and digest."""
    full = {"format": form, "version": version, **record}
    return _json_bytes({**full, "sha256": _sha256(_json_bytes(full))})


def read_signed(path: Path, form: str, version: int) -> dict[str, Any]:
    """What :func:`signed` made.

    Raises:
        ValueError: when it is missing, damaged, of another format or a newer version.
    """
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != form:
        raise ValueError(f"{path.parent} is not a {form.replace('-', ' ')}")
    found = record.get("version")
    if not isinstance(found, int) or found > version:
        raise ValueError(f"{path.parent} has format version {found}; this gridzero reads up to {version}")
    rest = {name: value for name, value in record.items() if name not in ("format", "version", "sha256")}
    if path.read_bytes() != signed(rest, form, found):
        raise ValueError(f"{path.parent} is damaged: {path.name} does not have its checksum")
    return rest


def _check_file(folder: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Hold a file against its size and checksum in the manifest; nothing outside of ``folder`` is opened.

    Raises:
        ValueError: when it is missing, damaged, or not a regular file inside the folder.
    """
    expected, path = manifest["files"][name], folder / name
    parts = PurePosixPath(name).parts
    inside = name == "/".join(parts) and not {"..", "/"} & set(parts)
    if not inside or any((folder / Path(*parts[:depth])).is_symlink() for depth in range(1, len(parts) + 1)):
        raise ValueError(f"{folder} is damaged: its manifest names {name!r}, which is not a file of its own")
    if not path.is_file():
        raise ValueError(f"{folder} is incomplete: {name} is missing")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ValueError(f"{folder} is damaged: {name} has {size} bytes, not {expected['bytes']}")
    if _fingerprint(path)["sha256"] != expected["sha256"]:
        raise ValueError(f"{folder} is damaged: {name} does not have its checksum")


def _fingerprint(path: Path) -> dict[str, Any]:
    """Checksum and size of a file, which is read piece by piece."""
    with open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: when it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is not complete: {path.name} is missing") from None
    except NotADirectoryError:
        raise ValueError(f"{path.parent} is not a directory") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def flatten(tree: Any) -> tuple[Any, dict[str, NDArray[Any]]]:
    """A state as JSON, and the arrays that it refers to.

    Example:
        >>> tree, tensors = flatten({"table": np.zeros(2), "step": np.int64(3)})
        >>> tree
        {'table': {'$tensor': 'table'}, 'step': 3}
        >>> unflatten(tree, tensors)
        {'table': array([0., 0.]), 'step': 3}
    """
    tensors: dict[str, NDArray[Any]] = {}
    return _flatten(tree, "", tensors), tensors


def _flatten(node: Any, path: str, tensors: dict[str, NDArray[Any]]) -> Any:
    if isinstance(node, np.generic):
        node = node.item()
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Mapping):
        for key in node:
            if not isinstance(key, str) or key == _TENSOR_KEY:
                raise ValueError(f"a state's keys are strings other than {_TENSOR_KEY!r}; {path or 'it'} has {key!r}")
        return {key: _flatten(value, f"{path}.{key}" if path else key, tensors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_flatten(value, f"{path}.{i}" if path else str(i), tensors) for i, value in enumerate(node)]
    if isinstance(node, np.ndarray) and node.dtype.kind in "biuf":
        name = path
        while name in tensors:  # {"a.b": x, "a": {"b": y}}
            name += "'"
        tensors[name] = node.copy(order="C")
        return {_TENSOR_KEY: name}
    what = f"an array of {node.dtype}" if isinstance(node, np.ndarray) else f"a {type(node).__name__}"
    raise ValueError(f"{path or 'the state'} is {what}; a checkpoint holds numbers, strings, lists, dicts and arrays")


def unflatten(tree: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse of :func:`flatten`; tuples have become lists."""
    if isinstance(tree, dict):
        if _TENSOR_KEY in tree:
            return tensors[tree[_TENSOR_KEY]]
        return {key: unflatten(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [unflatten(value, tensors) for value in tree]
    return tree


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``target``, whole or not at all: its files are flushed, then it is renamed.

    Raises:
        ValueError: when ``target`` exists.
    """
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


def _flush(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk; directories where the system can."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def versions() -> dict[str, str]:
    """The versions of what decides the numbers."""
    found = {}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _json_bytes(tree: Any) -> bytes:
    return json.dumps(tree, indent=1).encode() + b"\n"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
