"""Runs on disk, as they are read: settings, metrics, samples, checkpoints and the evaluation at the end."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from gridzero.agents import checkpoint
from gridzero.agents.agent import Agent
from gridzero.agents.files import DamagedError, Natural, read_lines, read_signed
from gridzero.envs.suggestions import closest

FOLDER = Path("runs")
"""Folder of the runs, sweeps and recipes that have a name alone."""
FORMAT = "gridzero-run"
VERSION = 1
SWEEP = "sweep.json"
SAMPLES = "samples.jsonl"
COMPLETIONS = "completions.jsonl"
METRICS = "metrics.jsonl"
EVALUATION = "evaluation.json"
BEST: Literal["best"] = "best"
Which = int | Literal["best"] | None
"""A checkpoint of a run: by its step, the best one, or the last."""
WALL_CLOCK = ("seconds", "cpu_seconds", "steps_per_second", "tokens_per_second")
"""Metrics that the clock decides: all others are the same whenever the seed is."""


class Config(checkpoint.Identity):
    """``config.json`` of a run: the agent as it was before it learnt anything, and the training loop's settings."""

    training: dict[str, Any]


class Step(TypedDict):
    """Fields of each line of ``metrics.jsonl`` and ``samples.jsonl``."""

    step: Natural


def candidates(name: str | Path) -> tuple[Path, Path]:
    """The folders that a name may mean: one in ``runs/``, then a path."""
    return FOLDER / name, Path(name)


def display_name(path: Path) -> str:
    """Name of a run as the commands take it: its name in ``runs/``, or its path.

    >>> display_name(Path("runs/lake")), display_name(Path("elsewhere/lake"))
    ('lake', 'elsewhere/lake')
    """
    return path.name if path.parent == FOLDER else str(path)


def typed_name(path: Path) -> str:
    """Name of a run as it is typed in a shell: in quotes where it has spaces.

    >>> typed_name(Path("runs/lake")), typed_name(Path("runs/my lake"))
    ('lake', "'my lake'")
    """
    return shlex.quote(display_name(path))


def find(name: str | Path) -> Path:
    """The directory of a run, by its name under ``runs/`` or by its path.

    Raises:
        ValueError: when there is none; the message has the closest names that there are.
    """
    if not str(name):
        raise ValueError("a run needs a name, not ''")
    for candidate in candidates(name):
        if (candidate / "config.json").is_file():
            return candidate
    for candidate in candidates(name):
        if (candidate / SWEEP).is_file():
            entries = sorted(str(entry.parent.relative_to(candidate)) for entry in candidate.rglob("config.json"))
            example = f", such as {name}/{entries[0]}" if entries else ""
            raise ValueError(f"{name} is a sweep of {len(entries)} run{'s' * (len(entries) != 1)}{example}")
        if candidate.is_dir():
            raise ValueError(f"{candidate} is not a run: config.json is missing")
    names = sorted(entry.name for entry in FOLDER.glob("[!.]*") if entry.is_dir())
    raise ValueError(f"there is no run {str(name)!r}; {closest(str(name), names) if names else 'runs/ has none'}")


def load(path: str | Path, env: Any = None, step: Which = None) -> Agent:
    """The agent of a run or of a single checkpoint, ready to act and to go on learning.

    Args:
        path: of the run, or its name under ``runs/``, or the path of a checkpoint.
        env: the environment, if not the one on record.
        step: of the run's checkpoint, or "best" by the evaluations on the way; the last one if not given.

    Raises:
        ValueError: when it is damaged, truncated, of another format or a newer version, is not the run's own, or does
            not fit ``env``.
    """
    return load_checkpoint(path, env, step)[0]


def load_checkpoint(path: str | Path, env: Any = None, step: Which = None) -> tuple[Agent, checkpoint.Manifest]:
    """The agent that :func:`load` returns, and the manifest of its checkpoint."""
    folder = Path(path)
    if not (folder / checkpoint.MANIFEST).exists():
        run = find(path)
        if step is None and checkpoint.latest(run / "checkpoints") is None:
            raise ValueError(f"{run} has no checkpoint yet")
        return last_state(run, env, step)
    if step is not None:
        raise ValueError(f"{folder} is a single checkpoint; a step is chosen from a run")
    run = folder.absolute().parent.parent
    if folder.absolute().parent.name == "checkpoints" and (run / "config.json").is_file():
        contents = _read(run, folder)
    else:
        contents = checkpoint.read(folder)
    return checkpoint.restore(folder, *contents, env), contents[0]


def last_state(path: Path, env: Any = None, step: Which = None) -> tuple[Agent, checkpoint.Manifest]:
    """The agent at a run's checkpoint and its manifest; at the very beginning, those of ``config.json``.

    Raises:
        ValueError: when the checkpoint is damaged or is not the run's own; the message names an older one that is
            whole.
    """
    folder, step = path / "checkpoints", chosen_step(path, step)
    steps = checkpoint.steps(folder)
    if step is None and not steps:
        config = read_config(path)
        return checkpoint.rebuild(config, env, path), {**config, "training": {}, "files": {}}
    if step is not None and step not in steps:
        known = f"there are {', '.join(map(str, steps))}" if steps else "there is none yet"
        raise ValueError(f"{path} has no checkpoint of step {step}; {known}")
    target = folder / str(steps[-1] if step is None else step)
    try:
        contents = _read(path, target)
    except DamagedError as error:
        older = next(
            (earlier for earlier in reversed(steps) if earlier < int(target.name) and _whole(path, earlier)), None
        )
        if older is None:
            raise
        raise DamagedError(f"{error}; the one of step {older} is whole: --from {older}") from None
    return checkpoint.restore(target, *contents, env), contents[0]


def _read(run: Path, folder: Path) -> tuple[checkpoint.Manifest, Any, Any]:
    """Read a checkpoint of a run.

    Raises:
        DamagedError: when it is damaged, or of another agent, environment, seed or step than the run's.
    """
    config, contents = read_config(run), checkpoint.read(folder)
    manifest = contents[0]
    for name in ("agent", "config", "environment", "seed"):
        if manifest[name] != config[name]:
            raise DamagedError(f"{folder} is not a checkpoint of this run: its {name} is another")
    if str(manifest["training"].get("step")) != folder.name:
        raise DamagedError(f"{folder} is not what its name says: its step is {manifest['training'].get('step')}")
    return contents


def _whole(run: Path, step: int) -> bool:
    try:
        _read(run, run / "checkpoints" / str(step))
    except DamagedError:
        return False
    return True


def read_config(path: Path) -> Config:
    """Read ``config.json`` of a run, checked against its digest and its schema."""
    return cast(Config, read_signed(path / "config.json", FORMAT, VERSION, Config))


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; a last one that was cut off in writing is left out.

    Raises:
        DamagedError: for a line that is none of metrics, or fewer of them than there were at the last checkpoint.
    """
    last, lines, number = checkpoint.latest(path / "checkpoints"), 0, 0
    if last is not None:
        with contextlib.suppress(DamagedError):
            lines = checkpoint.read_manifest(last)["training"].get("lines", 0)
    for _, row in read_lines(path / METRICS, dict[str, float | None], Step):
        yield row
        number += 1
    if number < lines:
        raise too_short(path / METRICS, lines, number)


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The lines of ``samples.jsonl``."""
    return [row for _, row in read_lines(path / SAMPLES, Step)]


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read ``evaluation.json`` of a run; empty where its training has not ended.

    Raises:
        DamagedError: when it is damaged.
    """
    file = path / EVALUATION
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise DamagedError(f"{file} is damaged") from None


def best_of(path: Path) -> tuple[int, float] | None:
    """Step and mean return of a run's best checkpoint: by the evaluations on the way, and the one at the end.

    None where there was none on the way.
    """
    last = checkpoint.latest(path / "checkpoints")
    best = None if last is None else checkpoint.read_manifest(last)["training"].get("best")
    if last is None or best is None:
        return None
    try:
        at_the_end = float(read_evaluation(path)["mean"])
    except (OSError, ValueError, TypeError, KeyError):  # not yet evaluated, or what it says cannot be read
        at_the_end = -math.inf
    if at_the_end >= best["mean_return"]:
        return int(last.name), at_the_end
    return best["step"], best["mean_return"]


def chosen_step(path: Path, step: Which) -> int | None:
    """The step of a run's checkpoint that is asked for: a number, the "best" as evaluations say, or none: the last.

    Raises:
        ValueError: for the best one where there was no evaluation on the way.
    """
    if step != BEST:
        return step
    best = best_of(path)
    if best is None:
        raise ValueError(f"{path} has no best checkpoint: it was not evaluated on the way")
    return best[0]


def too_short(path: Path, lines: int, number: int) -> DamagedError:
    """The error of a file of metrics with fewer lines than its run's last checkpoint says."""
    return DamagedError(f"{path} is damaged: the last checkpoint was taken after {lines} lines, it has {number}")
