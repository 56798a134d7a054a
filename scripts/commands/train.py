"""``gridzero train``: train an agent, log and save it, and hold it against the optimum."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from gridzero.agents import checkpoint, runs
from gridzero.agents.config_checks import check_at_least, check_used, unused_fields
from gridzero.agents.neural import distributed
from gridzero.agents.neural.distributed import ProcessGroup
from gridzero.agents.registry import agent_class
from gridzero.agents.runs import Which
from gridzero.commands.conversation import converses
from gridzero.commands.environment_words import EnvironmentWords, environment_options
from gridzero.commands.session import Session, new_path
from gridzero.commands.settings import (
    Settings,
    TrainingOptions,
    parse_settings,
    recorded_settings,
    required_agent,
    required_environment,
    resumed_name,
    show_preset,
    split_agent,
    usage,
    wants_help,
)
from gridzero.commands.tracking import Tracker, tracking
from gridzero.envs import plugins
from gridzero.process import configure

CHANGEABLE = ("steps", "seconds", "keep", "stop_at", "run", "resume", "from_", "watch", "log", "threads")
"""Options that may be different when a run is resumed."""

DESCRIPTION = """Train {agent}: {summary}.

Options of the environment are given as --env.KEY VALUE{policy}; --wrapper module:Class wraps each one, --wrapper.KEY VALUE goes to the wrapper that takes it; --reward NAME[=WEIGHT], once or more, pays in tasks of text what a reward function or the run of a reward model says. The run goes to runs/NAME: settings, metrics, checkpoints, TensorBoard events, evaluation. Ctrl-C saves and ends.

Example: gridzero train {agent} {example}
"""  # noqa: E501  (the terminal wraps it)

USAGE = """\
usage: gridzero train AGENT --env ID [--env.KEY VALUE ...] [--wrapper module:Class ...] [OPTIONS]
       gridzero train --run NAME --resume [OPTIONS]

Train an agent. The run goes to runs/NAME: settings, metrics, checkpoints, TensorBoard events, evaluation.

agents:
{agents}

`gridzero train AGENT --help` shows its settings, `gridzero list` the environments. AGENT, ID and names of tasks and
layouts may be module:name: the module is imported first, from the current folder too.

example:
  gridzero train value-iteration --env gridzero/GridWorld-v0 --env.layout zhao-5x5 --gamma 0.9
"""


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Environment, budget, seed, and the run on disk."""

    seed: int = 0
    """Decides everything that is random."""
    run: str | None = None
    """Name of the run, or a path; agent-environment-seed if not given."""
    resume: bool = False
    """Go on with the run from its last checkpoint, exactly as if it had not stopped."""
    from_: Annotated[Which, tyro.conf.arg(name="from")] = None
    """With --resume: the step of the checkpoint to go on from, or "best"; the last one if not given."""
    watch: bool = False
    """Draw the agent while it learns; of a language model, show some of what it writes."""
    log: Tracker | None = None
    """Send the metrics to this experiment tracker too, where it is installed; TensorBoard's events are always there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "seed")
        if self.from_ is not None and not self.resume:
            raise ValueError("--from needs --resume")
        if self.log is not None and importlib.util.find_spec(self.log) is None:
            raise ValueError(f"--log {self.log} needs it: pip install {self.log}")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    name, arguments = split_agent(argv)
    if name is None and wants_help(arguments):
        print(usage(USAGE), end="")
        return 0
    given, arguments = EnvironmentWords.split(arguments)
    record: dict[str, Any] | None = None
    if "--resume" in arguments:
        path = runs.find(resumed_name(arguments))
        record = {**runs.read_config(path), "path": path}
        plugins.restore(record.get("imports", []))
    name = required_agent("train", name, record)
    settings = _settings(name, arguments, record, given)
    configure(settings.options.threads)
    with distributed.initialized() as group:
        session = _resumed(settings.options, given, record, group) if record else _new(name, settings, given, group)
        with contextlib.nullcontext() if session.run is None else contextlib.closing(session.run):
            status = _train(session, settings.options.watch, settings.options.log)
    if group.world_size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # Gloo's threads, where they outlive it, abort an orderly exit
    return status


def check(argv: Sequence[str]) -> None:
    """Raise ValueError for words of a new run that :func:`main` would refuse to read; nothing is trained or written."""
    name, arguments = split_agent(argv)
    given, arguments = EnvironmentWords.split(arguments)
    _settings(required_agent("train", name, None), arguments, None, given)


def _settings(
    agent: str, arguments: list[str], record: dict[str, Any] | None, environment: EnvironmentWords
) -> Settings[Options]:
    """Settings from the command line; what is resumed must have those it was begun with."""
    if record is None:
        settings = parse_settings("train", DESCRIPTION, Options, agent, arguments, environment)
        check_used([settings.config], [unused_fields(settings.config)], settings.defaults)
        return settings
    described = record["environment"] or {"id": None, "num_envs": None}
    given = {"env": described["id"], "seed": record["seed"], **record["training"]}
    before = recorded_settings(
        Options, agent, record["path"] / "config.json", record["config"], described["num_envs"], given
    )
    settings = parse_settings("train", DESCRIPTION, Options, agent, arguments, environment, before)
    settings.check_unchanged(before, CHANGEABLE)
    return settings


def _train(session: Session, watch: bool, tracker: Tracker | None = None) -> int:
    """Train to the end of the budget or to Ctrl-C, then evaluate and report."""
    from gridzero.agents.training import interruptible
    from gridzero.commands import report

    updates, budget, path, viewer = session.updates(), session.budget, session.path, session.viewer
    agent, first = session.agent, session.run is not None
    samples = watch and converses(agent.env)
    step, speed = int(session.before.get("step", 0)), None
    with contextlib.nullcontext() if viewer is None else contextlib.closing(viewer):
        progress = report.Progress(budget.steps, budget.seconds, shown=first, samples=samples)
        stopped = False
        record = session.run.config if first else {}
        tracked = tracking(tracker if first else None, path, record)
        with interruptible() as interrupted, contextlib.closing(updates), progress, tracked as log:
            for update in updates:
                step, speed = update.step, update.metrics["steps_per_second"]
                log(step, update.metrics)
                progress.show(update)
                if viewer is not None:
                    viewer.update(update)
                stopped = agent.decide_together(interrupted())
                if stopped or agent.decide_together(viewer is not None and viewer.closed):
                    break
        if stopped:
            if first:
                again = f"; `gridzero train --run {runs.typed_name(path)} --resume{plugins.import_flags()}` goes on"
                again = again if agent.resumable else ""
                print(f"gridzero: interrupted and saved at step {step:,}{again}", file=sys.stderr)
            return 130
        if first:
            with report.waiting("evaluating"):
                result = session.evaluate()
            report.print_result(agent, path, result, step, speed)
            report.print_samples(path)
        if viewer is not None:
            viewer.hold()
    return 0


def _new(name: str, settings: Settings[Options], given: EnvironmentWords, group: ProcessGroup) -> Session:
    options = settings.options
    described = given.described(required_environment("train", name, options.env))
    path = new_path(options.run, f"{name}-{described['id'].rpartition('/')[2]}-{options.seed}")
    session = Session.begin(
        path, name, described, settings.num_envs, settings.config, options, options.seed, options.watch, group,
        settings.defaults,
    )  # fmt: skip
    if session.run is not None:
        show_preset(name, settings)
    return session


def _resumed(options: Options, given: EnvironmentWords, record: dict[str, Any], group: ProcessGroup) -> Session:
    if not agent_class(record["agent"]).resumable:
        raise ValueError(f"a run of {record['agent']} cannot be resumed: checkpoints do not hold its optimiser")
    described = record["environment"] or {"id": options.env, "kwargs": {}}
    changed = environment_options(described["id"], given.options)
    for name, value in changed.items():
        if name not in described["kwargs"] or described["kwargs"][name] != value:
            raise ValueError(f"the run was begun without --env.{name} {value}; it cannot go on with it")
    if given.wrappers or given.wrapper_options:
        raise ValueError("the wrappers of a run that was begun cannot be changed; it goes on with its own")
    steps = checkpoint.steps(record["path"] / "checkpoints")
    done = runs.chosen_step(record["path"], options.from_) or max(steps, default=0)
    if options.steps not in (None, record["training"]["steps"]) and options.steps < done:
        raise ValueError(f"{record['path']} is at step {done:,} already; --steps takes as many or more")
    return Session.resume(record["path"], options.budget(), options.watch, options.from_, group)
