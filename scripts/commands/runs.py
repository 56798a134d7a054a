"""``gridzero runs``: list the runs there are, compare their settings, delete some."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gridzero.agents import checkpoint, runs
from gridzero.agents.files import DamagedError, lock
from gridzero.commands.arguments import parse
from gridzero.plotting import groups

SIDE_BY_SIDE = 4
"""Runs that are compared in a column each."""


@dataclass(frozen=True)
class Options:
    """List the runs in runs/, compare the settings of some, or delete some.

    Example: gridzero runs compare lake-0 lake-1
    """

    action: tyro.conf.Positional[Literal["list", "compare", "delete"]] = "list"
    """What to do."""
    names: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[RUN ...]")]] = ()
    """Names of runs, sweeps or recipes, or their paths; of all runs if not given, to list."""
    yes: bool = False
    """Delete without asking."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        if self.yes and self.action != "delete":
            raise ValueError(f"--yes is for delete; {self.action} asks nothing")
        if self.json and self.action == "delete":
            raise ValueError("--json is for list and compare")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "runs")
    if options.action == "compare":
        return _compare(options)
    if options.action == "delete":
        return _delete(options)
    rows, notes = [], []
    for path in groups.find_runs(options.names) if options.names else _all():
        try:
            rows.append(describe(path))
        except DamagedError as error:
            notes.append(str(error))
    rows.sort(key=lambda row: str(row["last written"]))
    if rows or options.json or not notes:
        _print(rows, "runs", options.json)
    for note in notes:
        print(f"gridzero: skipped: {note}", file=sys.stderr)
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Row of the list for a run.

    Raises:
        DamagedError: when its settings or its evaluation cannot be read.
    """
    config = runs.read_config(path)
    last = checkpoint.latest(path / "checkpoints")
    evaluation = runs.read_evaluation(path)
    metrics = path / runs.METRICS
    return {
        "run": str(path.relative_to(runs.FOLDER)) if path.is_relative_to(runs.FOLDER) else str(path),
        "agent": config["agent"],
        "environment": groups.titles([groups.LoggedRun(path, config, ()).environment])[0],
        "seed": config["seed"],
        "step": None if last is None else int(last.name),
        "return": evaluation.get("mean"),
        "gap": evaluation.get("gap"),
        "megabytes": round(_size(path) / 2**20, 1),
        "last written": time.strftime(
            "%Y-%m-%d %H:%M", time.localtime((metrics if metrics.exists() else path).stat().st_mtime)
        ),
    }


def _all() -> list[Path]:
    """Every run below runs/, those of sweeps and recipes too."""
    configs = runs.FOLDER.rglob("config.json") if runs.FOLDER.is_dir() else []
    return sorted(path.parent for path in configs if "checkpoints" not in path.relative_to(runs.FOLDER).parts)


def _size(path: Path) -> int:
    """Size of a folder in bytes."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _compare(options: Options) -> int:
    """Print the settings in which runs differ, a row each; of many runs, which have no room side by side, a column."""
    paths = groups.find_runs(options.names)
    if len(paths) < 2:
        raise ValueError("compare needs two runs or more: `gridzero runs compare RUN RUN`")
    logged = [groups.LoggedRun(path, runs.read_config(path), ()) for path in paths]
    settings = [
        {**{f"env.{name}": value for name, value in run.environment.items()}, **run.setting, "seed": run.record["seed"]}
        for run in logged
    ]
    rows = [
        {"setting": name, **{str(path): setting.get(name) for path, setting in zip(paths, settings, strict=True)}}
        for name in groups.differing(settings)
    ]
    if not rows and not options.json:
        print("the settings are the same, seeds too")
        return 0
    if not options.json:
        rows = [{name: value if value is None else str(value) for name, value in row.items()} for row in rows]
        if len(paths) > max(SIDE_BY_SIDE, len(rows)):
            rows = [{"run": str(path), **{str(row["setting"]): row[str(path)] for row in rows}} for path in paths]
    _print(rows, "settings that differ", options.json)
    return 0


def _delete(options: Options) -> int:
    """Delete runs, after a question on a terminal."""
    if not options.names:
        raise ValueError("which runs? `gridzero runs delete RUN`")
    folders = [_folder(name) for name in options.names]
    held = [lock(path) for folder in folders for path in (groups.find_runs([str(folder)]) or [folder])]
    try:
        size = sum(map(_size, folders)) / 2**20
        names = ", ".join(map(str, folders))
        if not options.yes:
            if not sys.stdin.isatty():
                raise ValueError(f"{names} would be deleted, {size:.1f} MB; say --yes")
            if input(f"delete {names}, {size:.1f} MB? [y/N] ").strip().lower() not in ("y", "yes"):
                print("nothing was deleted")
                return 0
        for folder in folders:
            shutil.rmtree(folder)
    finally:
        for handle in filter(None, held):
            os.close(handle)
    print(f"deleted {names}")
    return 0


def _folder(name: str) -> Path:
    """The folder of a run, sweep or recipe.

    Raises:
        ValueError: when there is none, or when it is a link.
    """
    for candidate in (runs.FOLDER / name, Path(name)):
        if name and any((candidate / file).is_file() for file in (runs.SWEEP, groups.RECIPE)):
            return candidate
    path = runs.find(name)
    if path.is_symlink():
        raise ValueError(f"{path} is a link; delete what it points to")
    return path


def _print(rows: Sequence[dict[str, Any]], title: str, as_json: bool) -> None:
    if as_json:
        json.dump(rows, sys.stdout, indent=1)
        print()
        return
    if not rows:
        print("there are no runs in runs/ yet; `gridzero train` makes one")
        return
    from gridzero.commands import report

    def text(name: str, value: Any) -> str:
        if name == "megabytes":
            return f"{value:,.1f}"
        if name == "step" and value is not None:
            return f"{value:,}"
        return report.number(value) if isinstance(value, float) else "" if value is None else str(value)

    report.print_table(title, list(rows[0]), [[text(*item) for item in row.items()] for row in rows])
