"""``gridzero benchmark``: this machine, ours and the peers' side by side."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from gridzero.commands.arguments import parse
from gridzero.envs.folders import check_folder

PARTS = ("stepping", "solving", "drawing", "tabular", "learning", "language")


@dataclass(frozen=True)
class Options:
    """Time stepping, solving, drawing, learning (tabular, PPO) and language models, against the installed peers.

    All in one run. Contenders take turns; figures are medians, ratios the medians over the rounds. Peers that are not
    there are marked; `pip install quantecon mdpsolver envpool minigrid trl` brings them.

    Example: gridzero benchmark stepping --json speed.json
    """

    parts: tyro.conf.Positional[
        tuple[Literal["stepping", "solving", "drawing", "tabular", "learning", "language"], ...]
    ] = ()
    """Which; all if nothing is said."""
    quick: bool = False
    """Smaller sizes, fewer rounds: seconds instead of minutes, and rougher."""
    clock: Literal["wall", "cpu"] = "wall"
    """Seconds on the wall, or of the processor (all threads together), which is fairer on a machine that is shared."""
    json: Path | None = None
    """Write the figures to this file too."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "benchmark")
    if options.json is not None:
        check_folder(options.json.parent)
    from gridzero.benchmarks.measure import Row, use_clock
    from gridzero.commands import report

    use_clock(options.clock)
    table: list[Row] = []
    for part in options.parts or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        table += importlib.import_module(f"gridzero.benchmarks.{part}").rows(options.quick)
    columns = ["work", "gridzero", "peer", "its figure", "ratio", "bar", "", ""]
    report.print_table("benchmark", columns, [_cells(row) for row in table])
    if options.json is not None:
        rows = [{**dataclasses.asdict(row), "reached": row.reached} for row in table]
        options.json.write_text(
            json.dumps({"machine": machine(), "clock": options.clock, "quick": options.quick, "rows": rows}, indent=1)
            + "\n"
        )
    return 0


def _cells(row: Any) -> list[str]:
    bar = ""
    if row.bar is not None:
        sign = "<=" if row.on == "ours" and not row.unit.endswith("/s") else ">="
        bar = f"{sign} {_figure(row.bar)}" + (" x" if row.on == "ratio" else "")
    return [
        row.work,
        f"{_figure(row.ours)} {row.unit}",
        row.peer,
        "" if row.theirs is None else f"{_figure(row.theirs)} {row.unit}",
        "" if row.ratio is None else f"{_figure(row.ratio)} x",
        bar,
        {True: "reached", False: "missed", None: ""}[row.reached],
        row.note,
    ]


def _figure(value: float) -> str:
    """Three significant digits, large numbers in millions."""
    if value >= 1e6:
        return f"{value / 1e6:,.4g} M"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """Processor, system and versions that the figures were taken on."""
    from gridzero.agents.checkpoint import versions

    return {
        "machine": platform.machine(),
        "processor": platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions(),
    }
