"""``gridzero evaluate``: how good runs are, with intervals and the gap to the exact optimum."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from gridzero.agents.config_checks import check_at_least
from gridzero.agents.runs import Which, candidates
from gridzero.commands.arguments import parse, split_dotted
from gridzero.commands.environment_words import environment_options
from gridzero.process import loading


@dataclass(frozen=True)
class Options:
    """Evaluate runs: mean return with its 95 % interval, the exact optimum where the model is known, and the gap.

    Options of the environment that are to be others than in training are given as --env.KEY VALUE.

    Example: gridzero evaluate lake cliff --episodes 1000
    """

    runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[RUN ...]")]]
    """Names of runs or recipes, or paths of runs, recipes or single checkpoints."""
    episodes: int = 100
    """Episodes of each."""
    seed: int = 0
    """Decides every reset."""
    from_: Annotated[Which, tyro.conf.arg(name="from")] = None
    """The step of the checkpoint, or "best" by the evaluations on the way; the last one if not given."""
    json: bool = False
    """Print JSON instead of a table."""
    search: str | None = None
    """Of language models: greedy, majority:N, vote:N, best-of:N, beam:N, mcts:N or pass:N. Several completions are
    written for each problem, and one of them is the answer."""
    scorer: str | None = None
    """With --search: the run of a reward-model or a process-reward-model, which judges completions."""
    tokens: int | None = None
    """With --search: budget of tokens for each problem, in place of N; beam and mcts begin nothing once it is spent."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "episodes", "tokens")
        check_at_least(self, 0, "seed")
        if self.search is None and (self.scorer is not None or self.tokens is not None):
            raise ValueError("--scorer and --tokens need --search")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    given, arguments = split_dotted("env", argv)
    options = parse(Options, arguments, "evaluate")
    if not options.runs:
        raise ValueError("which run? `gridzero evaluate RUN`")
    if options.search is not None:
        from gridzero.commands.evaluate_search import evaluate_search

        names = [name for each in options.runs for name in _stages(each)]
        return evaluate_search(options, names, given)
    from gridzero.agents import evaluate, runs
    from gridzero.commands import report

    results = {}
    reasons = {name: _not_a_run(name) for given_name in options.runs for name in _stages(given_name)}
    if None not in reasons.values():
        raise ValueError(next(iter(reasons.values())))
    for reason in filter(None, reasons.values()):
        print(f"gridzero: skipped: {reason}", file=sys.stderr)
    names = [name for name, reason in reasons.items() if reason is None]
    for number, name in enumerate(names):
        with loading():
            agent, manifest = runs.load_checkpoint(name, step=options.from_)
        env = with_options(agent.env, given) if given else None
        with report.waiting(f"evaluating {name}", number, len(names)):
            result = evaluate(agent, env, episodes=options.episodes, seed=options.seed)
        step = manifest["training"].get("step", 0)
        environment = manifest["environment"]
        results[name] = (agent.name, "" if environment is None else environment["id"], step, result)
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


def _stages(name: str) -> list[str]:
    """The runs of a recipe, in the order in which they were begun; any other name itself."""
    from gridzero.plotting.groups import RECIPE, find_runs

    if not any((folder / RECIPE).is_file() for folder in candidates(name)):
        return [name]
    return [str(path) for path in sorted(find_runs([name]), key=lambda path: (path / "config.json").stat().st_mtime)]


def _not_a_run(name: str) -> str | None:
    """Reason why a name has nothing to evaluate; None where it has."""
    from gridzero.agents import checkpoint, runs

    if (Path(name) / checkpoint.MANIFEST).exists():
        return None
    try:
        path = runs.find(name)
    except ValueError as error:
        return str(error)
    return f"{path} has no checkpoint yet" if checkpoint.latest(path / "checkpoints") is None else None


def with_options(env: Any, given: Mapping[str, str]) -> Any:
    """An environment like this one, but for some options.

    Raises:
        ValueError: when it has no such options, or what is seen or done in it is of another kind.
    """
    from gridzero.agents.environments import remake_single

    other = remake_single(env, **environment_options(env.spec.id, given))
    for name in ("observation_space", "action_space"):
        before, after = getattr(env, f"single_{name}", None) or getattr(env, name), getattr(other, name)
        if before != after:
            raise ValueError(f"the agent's {name.replace('_', ' ')} is {before}, not {after}")
    return other
