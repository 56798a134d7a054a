"""Agents on disk: tensors as safetensors, the rest as JSON, all of it checked, none of it ever run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NotRequired, TypedDict, cast, get_type_hints

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.agent import Agent
from gridzero.agents.environments import Description, describe, remake
from gridzero.agents.files import (
    AtLeast,
    DamagedError,
    Natural,
    fits,
    json_bytes,
    new_directory,
    read_signed,
    signed,
)
from gridzero.agents.registry import build, config_class
from gridzero.envs import plugins
from gridzero.envs.suggestions import closest

FORMAT = "gridzero-checkpoint"
VERSION = 1
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "tensors.safetensors"
_TENSOR_KEY = "$tensor"
_RECORDED = {
    "gridzero": "gridzero",
    "gymnasium": "gymnasium",
    "numpy": "numpy",
    "numba": "numba",
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "stable-baselines3": "stable_baselines3",
}
"""Distributions whose version can decide numbers, and the module that is imported where one takes part."""


class NotFiniteError(ValueError):
    """A learned state with NaN or an infinity in it."""


class Identity(TypedDict):
    """Identity of an agent, its learning aside."""

    agent: str
    config: dict[str, Any]
    environment: Description | None
    seed: Natural
    imports: NotRequired[list[str]]
    versions: dict[str, str]


class Best(TypedDict):
    """The best evaluation on the way so far.

    Attributes:
        step: of it, and of its checkpoint.
        mean_return: of its episodes.
        extra: whether its checkpoint is there only because it is the best.
    """

    step: Natural
    mean_return: float
    extra: bool


class Progress(TypedDict, total=False):
    """Progress of the training loop at a checkpoint."""

    step: Natural
    lines: Natural
    seconds: Annotated[float, AtLeast(0)]
    saved: Natural
    evaluation: dict[str, float]
    best: Best


class File(TypedDict):
    """Size and checksum of a file."""

    sha256: str
    bytes: Natural


class Manifest(Identity):
    """``manifest.json`` of a checkpoint."""

    training: Progress
    files: dict[str, File]


def save(agent: Agent, path: str | Path, *, training: Mapping[str, Any] | None = None) -> Path:
    """Write an agent to a new directory, whole or not at all.

    It is written under a temporary name, flushed to the disk, then renamed.

    Args:
        agent: to be saved as it stands.
        path: the directory to make; what is there already is never overwritten.
        training: what else a training loop wants to find again, as JSON holds it.

    Raises:
        ValueError: when ``path`` exists, or the agent's state has something else than dicts, lists, arrays, numbers,
            strings, booleans and None, or arrays that are not finite.
    """
    from safetensors.numpy import save_file

    target = Path(path)
    if target.exists():
        raise ValueError(f"{target} exists; a checkpoint is never overwritten")
    tree, tensors = flatten(agent.state_dict())
    broken = not_finite(tensors)
    if broken:
        raise NotFiniteError(f"{agent.name} has numbers that are not finite in {broken}")
    manifest = {**identity(agent), "training": dict(training or {})}
    with new_directory(target) as folder:
        agent.save_artifacts(folder)
        (folder / STATE).write_bytes(json_bytes(tree))
        save_file(tensors, folder / TENSORS)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        manifest["files"] = {file.relative_to(folder).as_posix(): _fingerprint(file) for file in files}
        (folder / MANIFEST).write_bytes(signed(manifest, FORMAT, VERSION))
    return target


def load(path: str | Path, env: Any = None) -> Agent:
    """The agent that was saved, ready to act and to go on learning.

    Args:
        path: the directory of a checkpoint; of runs, see :func:`gridzero.agents.runs.load`.
        env: the environment, if not the one on record.

    Raises:
        ValueError: when it is damaged, truncated, of another format or a newer version, or does not fit ``env``.
    """
    folder = Path(path)
    return restore(folder, *read(folder), env)


def restore(folder: Path, manifest: Manifest, tree: Any, tensors: Mapping[str, NDArray[Any]], env: Any = None) -> Agent:
    """The agent of a checkpoint that was read.

    Args:
        folder: of the checkpoint.
        manifest: as :func:`read` gives it, like ``tree`` and ``tensors``.
        tree: of the state.
        tensors: of the state.
        env: the environment, if not the one on record.

    Raises:
        ValueError: when its contents do not make an agent, or not in ``env``.
    """
    agent = rebuild(manifest, env, folder)
    try:
        agent.load_artifacts(folder)
        agent.load_state_dict(unflatten(tree, tensors))
    except ValueError:
        raise
    except Exception as error:  # of any kind: the checksums are right, so the contents were made to be wrong
        raise ValueError(f"{folder} does not fit {agent.name}: {_line(error)}") from error
    return agent


def identity(agent: Agent) -> dict[str, Any]:
    """Describe an agent, its learning aside: name, config, environment, seed, and the versions of what made it."""
    return {
        "agent": agent.name,
        "config": dataclasses.asdict(agent.config),
        "environment": describe(agent.env),
        "seed": agent.seed,
        "imports": plugins.imported(),
        "versions": versions(),
    }


def rebuild(record: Identity | Manifest, env: Any = None, where: Any = "the record") -> Agent:
    """A new agent from its :func:`identity`, as it was before it learnt anything."""
    try:
        plugins.restore(record.get("imports", []))
        if env is None:
            described = record["environment"]
            if described is None:
                raise ValueError(f"{where} does not say how to make its environment; give one")
            env = remake(described, described.get("num_envs"))
        return build(record["agent"], env, make_config(record["agent"], record["config"]), seed=record["seed"])
    except ValueError:
        raise
    except Exception as error:  # of any kind: what the record holds goes to constructors of any library
        raise ValueError(f"{where} does not make an agent: {_line(error)}") from error


def make_config(agent: str, config: Mapping[str, Any]) -> Any:
    """``Config`` of an agent from its fields as JSON holds them, which has lists for tuples.

    Raises:
        ValueError: for a field that the agent does not have, or a value of another type than the field's.
    """
    kind = config_class(agent)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    result = {}
    for name, value in config.items():
        if name not in fields:
            raise ValueError(f"{agent} has no field {name!r}; {closest(name, fields)}")
        if not fits(value, hints[name]):
            raise ValueError(f"{name} of {agent} cannot be {value!r}")
        result[name] = tuple(value) if isinstance(value, list) and "tuple" in str(fields[name].type) else value
    return kind(**result)


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder of them, in ascending order."""
    if not folder.is_dir():
        return []
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]{0,17}", name))


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most steps in a folder of them."""
    known = steps(folder)
    return folder / str(known[-1]) if known else None


def read(folder: Path) -> tuple[Manifest, Any, dict[str, NDArray[Any]]]:
    """Read manifest, tree and tensors of a checkpoint, every byte of them checked.

    Raises:
        DamagedError: when anything is missing, damaged, foreign, newer, or not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    manifest = read_manifest(folder)
    for name in sorted({STATE, TENSORS, *manifest["files"]}):
        _check_file(folder, manifest, name)
    try:
        tree, tensors = json.loads((folder / STATE).read_bytes()), load_file(folder / TENSORS)
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise DamagedError(f"{folder} cannot be read: {_line(error)}") from error
    if not isinstance(tree, dict):
        raise DamagedError(f"{folder} is damaged: {STATE} is no state")
    broken = not_finite(tensors)
    if broken:
        raise DamagedError(f"{folder} has numbers that are not finite in {broken}")
    return manifest, tree, tensors


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint, checked against its own digest and its schema."""
    if not folder.is_dir():
        raise DamagedError(f"there is no checkpoint at {folder}")
    return cast(Manifest, read_signed(folder / MANIFEST, FORMAT, VERSION, Manifest))


def not_finite(tensors: Mapping[str, NDArray[Any]]) -> str | None:
    """The name of the first array with NaN or an infinity among what was learned; None where all is finite.

    Episodes under way are left out: whether one succeeds may be unknown, which is NaN there.
    """
    for name, array in tensors.items():
        if array.dtype.kind == "f" and "interaction" not in name.split(".") and not np.isfinite(array).all():
            return name
    return None


def _check_file(folder: Path, manifest: Manifest, name: str) -> None:
    """Hold a file against its size and checksum in the manifest; nothing outside of ``folder`` is opened.

    Raises:
        DamagedError: when it is missing, damaged, or not a regular file inside the folder.
    """
    if name not in manifest["files"]:
        raise DamagedError(f"{folder} is damaged: its manifest does not name {name}")
    expected, path = manifest["files"][name], folder / name
    parts = PurePosixPath(name).parts
    inside = bool(parts) and name == "/".join(parts) and not {"..", "/"} & set(parts)
    if not inside or any((folder / Path(*parts[:depth])).is_symlink() for depth in range(1, len(parts) + 1)):
        raise DamagedError(f"{folder} is damaged: its manifest names {name!r}, which is not a file of its own")
    if not path.is_file():
        raise DamagedError(f"{folder} is incomplete: {name} is missing")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise DamagedError(f"{folder} is damaged: {name} has {size} bytes, not {expected['bytes']}")
    if _fingerprint(path)["sha256"] != expected["sha256"]:
        raise DamagedError(f"{folder} is damaged: {name} does not have its checksum")


def _fingerprint(path: Path) -> dict[str, Any]:
    """Checksum and size of a file, which is read piece by piece."""
    with open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


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


def versions() -> dict[str, str]:
    """The versions of the libraries that can decide numbers."""
    installed = {}
    for name in _RECORDED:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def version_changes(record: Identity | Manifest) -> list[str]:
    """The libraries of a record that are of other versions now, in words: those that were imported, which take part."""
    before, now = record["versions"], versions()
    return [
        f"{name} {before[name]}, now {now.get(name, 'missing')}"
        for name, module in _RECORDED.items()
        if name in before and module in sys.modules and now.get(name) != before[name]
    ]


def _line(error: Exception) -> str:
    """An error in one line, with its kind."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
