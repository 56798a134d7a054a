"""Runs grouped for a picture: a panel for each environment, a curve for each setting, its seeds behind it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gridzero.agents import runs

RECIPE = "recipe.json"
LONGEST_VALUE = 24
"""Characters of a value in a label or title; a longer one is shortened."""


@dataclass(frozen=True)
class LoggedRun:
    """A run and what it logged.

    Attributes:
        path: its directory.
        record: its ``config.json``.
        rows: the lines of its ``metrics.jsonl``.
    """

    path: Path
    record: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    @cached_property
    def metrics(self) -> set[str]:
        """Names of what was logged with at least one finite value, the step aside."""
        return {name for row in self.rows for name, value in row.items() if value is not None} - {"step"}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Settings that tell environments apart, by name: id, options, wrappers."""
        described = self.record["environment"] or {"id": "its environment", "kwargs": {}}
        found = {"id": described["id"], **described["kwargs"]}
        if str(described["id"]).endswith(("TextGeneration-v0", "TokenGeneration-v0")):
            found.setdefault("task", "addition")
        return {**found, "wrappers": described["wrappers"]} if described.get("wrappers") else found

    @cached_property
    def setting(self) -> dict[str, Any]:
        """Settings that tell curves apart, by name: agent, copies, the agent's settings, budget."""
        described = self.record["environment"] or {}
        budget = {name: self.record["training"].get(name) for name in ("steps", "seconds")}
        flat = {"agent": self.record["agent"], "num_envs": described.get("num_envs"), **_flat(self.record["config"])}
        return {**flat, **budget}


@dataclass(frozen=True)
class Group:
    """Runs of one setting in one environment, each with a seed of its own.

    Attributes:
        setting: by name.
        runs: one for each seed.
    """

    setting: Mapping[str, Any]
    runs: Sequence[LoggedRun]


def find_runs(names: Iterable[str]) -> list[Path]:
    """The directories of runs; those within, for a sweep or a recipe.

    Raises:
        ValueError: for a name of neither, or a sweep without a run.
    """
    found: dict[Path, None] = {}
    for name in names:
        folder = next(
            (
                candidate
                for candidate in runs.candidates(name)
                if name and any((candidate / file).is_file() for file in (runs.SWEEP, RECIPE))
            ),
            None,
        )
        inside = [] if folder is None else _runs_within(folder)
        if folder is not None and not inside:
            raise ValueError(f"{folder} has no run with metrics yet")
        found.update(dict.fromkeys(inside or [runs.find(name)]))
    return list(found)


def _runs_within(folder: Path) -> list[Path]:
    configs = [path for path in folder.rglob("config.json") if "checkpoints" not in path.relative_to(folder).parts]
    return sorted(path.parent for path in configs if (path.parent / runs.METRICS).is_file())


def read(paths: Iterable[Path]) -> list[LoggedRun]:
    """Settings and metrics of runs.

    Raises:
        ValueError: for a run that is damaged or has logged nothing.
    """
    found = [LoggedRun(path, runs.read_config(path), list(runs.read_metrics(path))) for path in paths]
    for run in found:
        if not run.metrics:
            raise ValueError(f"{run.path} has logged nothing yet")
    return found


def group(logged: Iterable[LoggedRun]) -> tuple[list[list[Group]], list[str]]:
    """Groups of each environment, and a sentence for each run that is left out.

    Two runs of the same settings and seed have the same numbers: the longer one counts, the other is no second seed.
    """
    panels: dict[str, dict[str, dict[int, LoggedRun]]] = {}
    notes = []
    for run in logged:
        seeds = panels.setdefault(_key(run.environment), {}).setdefault(_key(run.setting), {})
        seed = int(run.record["seed"])
        known = seeds.setdefault(seed, run)
        if known is not run:
            longer, other = sorted((known, run), key=lambda r: -float(r.rows[-1]["step"]))
            seeds[seed] = longer
            notes.append(f"{other.path} is left out: {longer.path} has the same settings and the same seed {seed}")
    return [
        [Group(next(iter(seeds.values())).setting, list(seeds.values())) for seeds in settings.values()]
        for settings in panels.values()
    ], notes


def labels(panels: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Labels of the settings in each panel: the agent where there are several, and what differs in a panel.

    Settings of one agent are compared with each other; different agents have different settings anyway.

    >>> labels([[{"agent": "sarsa", "gamma": 0.9}, {"agent": "sarsa", "gamma": 0.99}]])
    [['gamma 0.9', 'gamma 0.99']]
    """
    agents = dict.fromkeys(setting["agent"] for panel in panels for setting in panel)
    names: dict[str, list[str]] = {}
    for agent in agents:
        found = [differing([setting for setting in panel if setting["agent"] == agent]) for panel in panels]
        names[agent] = list(dict.fromkeys(name for within in found for name in within))

    def label(setting: Mapping[str, Any]) -> str:
        agent = setting["agent"]
        parts = [f"{words(name)} {value(setting[name])}" for name in names[agent] if name in setting]
        return ", ".join([agent, *parts] if len(agents) > 1 or not parts else parts)

    return [[label(setting) for setting in panel] for panel in panels]


def titles(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """A title for each environment: its id (task and layout with it), and the options that differ under one id."""
    found = []
    for environment in environments:
        same = [other for other in environments if other["id"] == environment["id"]]
        name = str(environment["id"]).rpartition("/")[2]
        shown = [option for option in ("task", "layout", "map_name") if option in environment]
        shown += [option for option in differing(same) if option not in shown]
        parts = [
            value(environment.get(option)) if option in ("task", "layout") else
            f"{words(option)} {value(environment.get(option, 'by default'))}"
            for option in shown
        ]  # fmt: skip
        found.append(", ".join([name, *parts]))
    return found


def differing(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that do not have the same value everywhere."""
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return [name for name in names if len({_key(mapping.get(name)) for mapping in mappings}) > 1]


def words(name: str) -> str:
    """A setting's name in words."""
    return name.replace("_", " ")


def value(given: Any) -> str:
    """A setting's value, short; a map as text by its name, or where it has none by its size."""
    if isinstance(given, str) and "\n" in given.strip():
        rows = list(itertools.takewhile(str.strip, given.strip().splitlines()))
        name = re.search(r'^name = ("[^\n]*")\s*$', given, re.MULTILINE)
        named = "custom" if name is None else json.loads(name[1])
        return f"map {len(rows)}×{max(map(len, rows))}" if named == "custom" else value(named)
    if isinstance(given, int) and not isinstance(given, bool):
        return thousands(given)
    text = f"{given:g}" if isinstance(given, float) else " ".join(str(given).split())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def thousands(number: float) -> str:
    """A number with k for thousands and M for millions.

    >>> thousands(1500), thousands(2e6), thousands(0.25), thousands(-12000)
    ('1.5k', '2M', '0.25', '-12k')
    """
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, given in settings.items():
        found |= _flat(given, f"{prefix}{name}.") if isinstance(given, Mapping) else {prefix + name: given}
    return found


def _key(given: Any) -> str:
    return json.dumps(given, sort_keys=True)
