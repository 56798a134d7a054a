"""``gridzero recipe``: trainings of several stages as one resumable run, with a report at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import tyro

from gridzero import recipes
from gridzero.agents import files, runs
from gridzero.agents.config_checks import check_above_zero, check_at_least
from gridzero.commands import train
from gridzero.commands.arguments import parse
from gridzero.commands.environment_words import EnvironmentWords
from gridzero.commands.session import new_path
from gridzero.envs import plugins
from gridzero.plotting.groups import RECIPE
from gridzero.recipes.recipe import Recipe, Stage

FORMAT, VERSION = "gridzero-recipe", 1
ENVIRONMENT = "gridzero/TextGeneration-v0"


@dataclass(frozen=True)
class Options:
    """Train the stages of a recipe one after the other, and report what each was worth.

    The recipe goes to runs/NAME: each stage a run of its own, report.md, pictures. The same command goes on where an interrupted one was, within a stage too. Options of the environment are given as --env.KEY VALUE. NAME may be module:name, a Recipe of your own.

    Example: gridzero recipe r1-zero --env.task addition
    """  # noqa: E501  (the terminal wraps it)

    names: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME ...]")]] = ()
    """Which; `gridzero recipe --list` names them."""
    list: bool = False
    """List the recipes there are."""
    run: str | None = None
    """Name of the run, or a path; the recipe's and the task's if not given."""
    seed: int = 0
    """Decides everything that is random."""
    scale: float = 1.0
    """Factor of every stage's budget."""
    threads: int = 1
    """Threads of torch and of compiled kernels."""
    problems: int = 200
    """Held-out problems in the report."""
    samples: int = 16
    """Completions of each that are drawn for the report."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "threads", "problems", "samples")
        check_at_least(self, 0, "seed")
        if self.list and self.names:
            raise ValueError("--list lists them all: leave out the name")
        check_above_zero(self, "scale")


class Record(TypedDict):
    """``recipe.json``: what a recipe was begun with."""

    recipe: str
    seed: int
    imports: list[str]
    stages: dict[str, list[str]]


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    given, arguments = EnvironmentWords.split(argv)
    options = parse(Options, arguments, "recipe")
    if options.list:
        from gridzero.commands import report

        rows = [[name, recipes.load(name).about] for name in recipes.names()]
        report.print_table("recipes", ["name", "what it does"], rows)
        return 0
    if len(options.names) != 1:
        raise ValueError("which recipe? `gridzero recipe NAME`; `gridzero recipe --list` names them")
    name = options.names[0]
    recipe = recipes.load(name)
    words, task = environment_words(recipe, given)
    path = new_path(options.run or f"{name.rpartition(':')[2]}-{task}-{options.seed}", "")
    stages = {
        stage.name: stage.words(path, environment(words, stage), options.seed, options.scale) for stage in recipe.stages
    }
    for line in stages.values():
        train.check(without_runs(line, path))
    begin(path, Record(recipe=name, seed=options.seed, imports=plugins.imported(), stages=stages))
    handle = files.lock(path)
    try:
        status = train_stages(path, recipe, stages, options.threads)
        if status == 0:
            from gridzero.recipes.report import write_report

            write_report(path, recipe, stages, options.problems, options.samples, options.seed)
    finally:
        if handle is not None:
            os.close(handle)
    if status == 130:
        print(f"gridzero: the same command goes on with {path}", file=sys.stderr)
    return status


def environment_words(recipe: Recipe, given: EnvironmentWords) -> tuple[dict[str, str], str]:
    """Options of the environment, those that are given before the recipe's, and the task."""
    if given.wrappers or given.wrapper_options:
        raise ValueError("a recipe wraps nothing around its environment")
    found = {"task": recipe.task, **recipe.options, **given.options}
    return found, found["task"].rpartition(":")[2]


def environment(options: dict[str, str], stage: Stage) -> list[str]:
    """The words of the environment for a stage, without the options that its own line sets."""
    words = ["--env", ENVIRONMENT]
    for name, value in options.items():
        if f"--env.{name}" not in stage.line.split():
            words += [f"--env.{name}", value]
    return words


def without_runs(words: Sequence[str], path: Path) -> list[str]:
    """A stage's words without the flags whose values are runs of the recipe, which may not be there yet.

    >>> without_runs(["sft", "--policy.model", "runs/r/base", "--steps", "9"], Path("runs/r"))
    ['sft', '--steps', '9']
    """
    runs_named = [i for i, word in enumerate(words) if f"{path}/" in word]
    return [word for i, word in enumerate(words) if i not in runs_named and i + 1 not in runs_named]


def begin(path: Path, record: Record) -> None:
    """Make the folder of a recipe, or see that the one there was begun with the same.

    Raises:
        ValueError: when it was begun with something else, or is no recipe.
    """
    if not path.exists():
        files.write_directory(path, RECIPE, files.signed(record, FORMAT, VERSION))
        return
    if not (path / RECIPE).is_file():
        raise ValueError(f"{path} exists and is no recipe; choose another name with --run")
    if not any(path.glob("*/config.json")):  # nothing has begun, as after a mistake in the command
        files.replace_file(path / RECIPE, files.signed(record, FORMAT, VERSION))
        return
    before = files.read_signed(path / RECIPE, FORMAT, VERSION, Record)
    if (before["recipe"], before["seed"], before["stages"]) != (record["recipe"], record["seed"], record["stages"]):
        raise ValueError(f"{path} was begun as {before['recipe']} with other settings; choose another name with --run")


def train_stages(path: Path, recipe: Recipe, stages: dict[str, list[str]], threads: int) -> int:
    """Train what is left of the stages; the status of the first that was interrupted, else 0."""
    for number, stage in enumerate(recipe.stages, 1):
        run = path / stage.name
        if (run / runs.EVALUATION).is_file():
            continue
        begun = (run / "config.json").is_file()
        about = f": {stage.about}" if stage.about else ""
        print(f"stage {number} of {len(recipe.stages)}, {stage.name}{about}{' (goes on)' if begun else ''}", flush=True)
        words = ["--run", str(run), "--resume"] if begun else stages[stage.name]
        with contextlib.redirect_stdout(sys.stderr):
            status = train.main([*words, "--threads", str(threads)])
        if status:
            return status
    return 0
