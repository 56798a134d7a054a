"""``gridzero evaluate``: how good runs are, with intervals and the gap to the exact optimum."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gridzero.commands.arguments import parse


@dataclass(frozen=True)
class Options:
    """Evaluate runs: mean return with its 95 % interval, the exact optimum where the model is known, and the gap.

    Example: gridzero evaluate lake cliff --episodes 1000
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Names of runs, or paths of runs or of single checkpoints."""
    episodes: int = 100
    """Episodes of each."""
    seed: int = 0
    """Decides every reset."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes must be at least 1, not {self.episodes}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, not {self.seed}")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "evaluate")
    if not options.runs:
        raise ValueError("which run? `gridzero evaluate RUN`")
    from gridzero.agents import checkpoint, evaluate, runs
    from gridzero.commands import report

    results = {}
    for name in options.runs:
        folder = Path(name)
        if not (folder / checkpoint.MANIFEST).exists():
            path = runs.find(name)
            found = checkpoint.latest(path / "checkpoints")
            if found is None:
                raise ValueError(f"{path} has no checkpoint yet")
            folder = found
        agent = checkpoint.load(folder)
        manifest = checkpoint.read_manifest(folder)
        result = evaluate(agent, episodes=options.episodes, seed=options.seed)
        step = int(manifest["training"].get("step", 0))
        results[name] = (agent.name, (manifest["environment"] or {}).get("id", ""), step, result)
    if options.json:
        rows = [
            {"run": run, "agent": agent, "environment": environment, "step": step, **result.to_json()}
            for run, (agent, environment, step, result) in results.items()
        ]
        json.dump(rows, sys.stdout, indent=1)
        print()
    else:
        report.print_evaluations(results)
    return 0
