"""``gridzero train``: train an agent, log and save it, and hold it against the optimum."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro

from gridzero.agents import runs
from gridzero.agents.neural import distributed
from gridzero.agents.neural.distributed import ProcessGroup
from gridzero.agents.registry import REGISTRY, agent_class, registration
from gridzero.commands.arguments import (
    EnvironmentWords,
    environment_help,
    environment_options,
    parse,
    policy_help,
    policy_options,
    split_dotted,
)
from gridzero.commands.conversation import converses
from gridzero.commands.session import Length, Session, new_path
from gridzero.envs import plugins
from gridzero.envs.suggestions import closest
from gridzero.process import prepare

Chosen = TypeVar("Chosen")
CHANGEABLE = ("steps", "seconds", "run", "resume", "from_", "watch", "threads")
"""What may be different when a run is resumed."""

DESCRIPTION = """Train {agent}: {summary}.

Options of the environment are given as --env.KEY VALUE{policy}; --wrapper module:Class wraps each one, --wrapper.KEY VALUE goes to the wrapper that takes it. The run goes to runs/NAME: settings, metrics, checkpoints, TensorBoard events, evaluation. Ctrl-C saves and ends.

Example: gridzero train {agent} --env FrozenLake-v1 --env.is_slippery False --run lake
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
class Options(Length):
    """Where, how long, and what is kept."""

    seed: int = 0
    """Decides everything that is random."""
    run: str | None = None
    """Name of the run, or a path; agent-environment-seed if not given."""
    resume: bool = False
    """Go on with the run from its last checkpoint, exactly as if it had not stopped."""
    from_: Annotated[int | None, tyro.conf.arg(name="from")] = None
    """With --resume: the step of the checkpoint to go on from; the last one if not given."""
    watch: bool = False
    """Draw the agent while it learns; of a language model, show some of what it writes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, not {self.seed}")
        if self.from_ is not None and not self.resume:
            raise ValueError("--from needs --resume")


@dataclass(frozen=True)
class Vector:
    """How many environments there are; agents that say this in their own settings do not have it."""

    num_envs: int | None = None
    """Learn from so many environments at once."""

    def __post_init__(self) -> None:
        if self.num_envs is not None and self.num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {self.num_envs}")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    name, arguments = split_agent(argv)
    if name is None and wants_help(arguments):
        print(usage(USAGE), end="")
        return 0
    given, arguments = EnvironmentWords.split(arguments)
    record: dict[str, Any] | None = None
    if "--resume" in arguments:
        path = runs.find(run_to_resume(arguments))
        record = {**runs.read_config(path), "path": path}
        plugins.restore(record.get("imports", []))
    name = needed_agent("train", name, record)
    parsed = _parse(name, arguments, record, given)
    prepare(parsed.options.threads)
    with distributed.initialized() as group:
        session = _resumed(parsed.options, given, record, group) if record else _new(name, parsed, given, group)
        with contextlib.nullcontext() if session.run is None else contextlib.closing(session.run):
            status = _train(session, parsed.options.watch)
    if group.world_size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # Gloo's threads, where they outlive it, abort an orderly exit
    return status


def _parse(
    name: str, arguments: list[str], record: dict[str, Any] | None, of_environment: EnvironmentWords
) -> Given[Options]:
    """Options of the loop and config of the agent, from one command line."""
    before = {} if record is None else _before(name, agent_class(name).Config, record)
    given = parse_with_agent("train", DESCRIPTION, Options, name, arguments, before, of_environment)
    for group, now in (("training", given.options), ("vector", Vector(given.num_envs)), ("agent", given.config)):
        if group in before:
            refuse_changes(before[group], now, CHANGEABLE)
    return given


def parse_with_agent(
    command: str,
    description: str,
    options: type[Chosen],
    name: str,
    arguments: list[str],
    before: Mapping[str, Any] | None = None,
    of_environment: EnvironmentWords | None = None,
) -> Given[Chosen]:
    """The command's own options and the settings of the agent, from one command line.

    Args:
        command: its name, for messages.
        description: with ``{agent}`` and ``{summary}``, for the help.
        options: the command's own.
        name: of the agent.
        arguments: without the agent, and without the options of the environment.
        before: defaults other than the classes' own, by group: training, vector, agent.
        of_environment: the environment's options and wrappers, on which the agent's defaults may depend.

    Raises:
        ValueError: in one line, for whatever is wrong.
    """
    config_class = agent_class(name).Config
    groups: dict[str, Any] = {"training": options, "vector": Vector, "agent": config_class}
    own = {field.name for field in dataclasses.fields(config_class)}
    if "num_envs" in own:
        del groups["vector"]
    clash = own & {field.name for field in dataclasses.fields(cast(Any, options))}
    assert not clash, f"{name} has fields of the command's: {clash}"
    of_policy, arguments = split_dotted("policy", arguments)
    env_id = _value_of("--env", arguments)
    of_environment = of_environment or EnvironmentWords()
    env = None if env_id is None or "policy" not in own else _sample_environment(env_id, of_environment)
    before = dict(before or {})
    if env is not None and not before:
        before["agent"] = config_class(
            **agent_class(name).defaults(env, {"policy": of_policy, **_given_variant(own, arguments)})
        )
    fields: list[Any] = [
        (group, kind, before[group]) if group in before else (group, kind) for group, kind in groups.items()
    ]
    both = dataclasses.make_dataclass("Command", fields, kw_only=True)
    of_its_own = ", those of a language model as --policy.KEY VALUE" if "policy" in own else ""
    both.__doc__ = description.format(agent=name, summary=REGISTRY[name].summary, policy=of_its_own)
    if env_id is not None and {"-h", "--help"} & set(arguments):
        both.__doc__ += "\n" + environment_help(env_id, of_environment.options)
        if env is not None:
            both.__doc__ += policy_help(env)
    parsed: Any = parse(both, arguments, f"{command} {name}")
    vector: Vector = getattr(parsed, "vector", Vector())
    config = parsed.agent
    if of_policy:
        from gridzero.agents.environments import remake

        if env is None and "policy" in own and env_id is not None:
            remake(of_environment.described(env_id))  # says what is wrong with the environment
        if env is None:
            raise ValueError(f"{name} has no policy with options")
        config = dataclasses.replace(config, policy={**config.policy, **policy_options(env, of_policy)})
    return Given(parsed.training, vector.num_envs, config)


def _sample_environment(env_id: str, words: EnvironmentWords) -> Any:
    """One such environment, to see what kind it is; None where it cannot be made so, which is told later."""
    from gridzero.agents.environments import remake

    try:
        return remake(words.described(env_id))
    except ValueError:
        return None


def _given_variant(own: set[str], arguments: list[str]) -> dict[str, Any]:
    """The variant that is asked for, on which other defaults depend."""
    variant = _value_of("--variant", arguments) if "variant" in own else None
    return {} if variant in (None, "None") else {"variant": variant}


def _before(name: str, config_class: type[Any], record: dict[str, Any]) -> dict[str, Any]:
    """What the run that is resumed was begun with."""
    from gridzero.agents.checkpoint import config_fields

    described = record["environment"] or {"id": None, "num_envs": None}
    try:
        options = Options(env=described["id"], seed=record["seed"], **record["training"])
    except TypeError as error:
        raise ValueError(f"{record['path'] / 'config.json'} is damaged: {error}") from error
    return {
        "training": options,
        "vector": Vector(described["num_envs"]),
        "agent": config_class(**config_fields(name, record["config"])),
    }


def refuse_changes(before: Any, after: Any, changeable: Sequence[str]) -> None:
    """What goes on must be what was begun.

    Raises:
        ValueError: for a field that changed and is not among those that may.
    """
    for field in dataclasses.fields(before):
        was, now = getattr(before, field.name), getattr(after, field.name)
        if was != now and field.name not in changeable:
            raise ValueError(f"the run was begun with {field.name} {was}; it cannot go on with {now}")


def split_agent(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The agent's name, if it is given, and the rest of the command line."""
    arguments = list(argv)
    return (arguments.pop(0) if arguments and not arguments[0].startswith("-") else None), arguments


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether there is nothing to do but to say what can be done."""
    return not arguments or bool({"-h", "--help"} & set(arguments))


def usage(text: str) -> str:
    """A command's usage with the list of agents in it."""
    width = max(map(len, REGISTRY))
    return text.format(agents="\n".join(f"  {r.name:<{width}}  {r.summary}" for r in REGISTRY.values()))


def needed_agent(command: str, name: str | None, record: Mapping[str, Any] | None) -> str:
    """The agent that was given, or that of the record that is gone on with.

    Raises:
        ValueError: when there is none, or another one.
    """
    name = None if name is None else registration(name).name
    if record is not None:
        if name not in (None, record["agent"]):
            raise ValueError(f"the run was trained with {record['agent']}; it cannot go on with {name}")
        return str(record["agent"])
    if name is None:
        raise ValueError(f"which agent? `gridzero {command} AGENT --env ID`; {closest('', REGISTRY)}")
    return name


def run_to_resume(arguments: list[str]) -> str:
    """The name of what ``--resume`` goes on with."""
    name = _value_of("--run", arguments)
    if name is None:
        raise ValueError("--resume needs --run NAME")
    return name


def _value_of(flag: str, arguments: list[str]) -> str | None:
    """What is given for a flag, before everything is parsed."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        name, given, value = argument.partition("=")
        if name == flag:
            return value if given else following
    return None


@dataclass(frozen=True)
class Given(Generic[Chosen]):
    """What the command line said."""

    options: Chosen
    num_envs: int | None
    config: Any


def _train(session: Session, watch: bool) -> int:
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
        with interruptible() as interrupted, contextlib.closing(updates), progress:
            for update in updates:
                step, speed = update.step, update.metrics["steps_per_second"]
                progress.show(update)
                if viewer is not None:
                    viewer.update(update)
                stopped = agent.decide_together(interrupted())
                if stopped or agent.decide_together(viewer is not None and viewer.closed):
                    break
        if stopped:
            if first:
                again = f"; `gridzero train --run {report.shown(path)} --resume{plugins.import_flags()}` goes on"
                again = again if agent.resumable else ""
                print(f"gridzero: interrupted and saved at step {step:,}{again}", file=sys.stderr)
            return 130
        if first:
            report.print_result(agent, path, session.evaluate(), step, speed)
            report.print_samples(path)
        if viewer is not None:
            viewer.hold()
    return 0


def _new(name: str, parsed: Given[Options], given: EnvironmentWords, group: ProcessGroup) -> Session:
    options = parsed.options
    described = given.described(needed_environment("train", name, options.env))
    path = new_path(options.run, f"{name}-{described['id'].rpartition('/')[2]}-{options.seed}")
    return Session.begin(
        path, name, described, parsed.num_envs, parsed.config, options, options.seed, options.watch, group
    )


def needed_environment(command: str, name: str, env_id: str | None) -> str:
    """The environment that was given.

    Raises:
        ValueError: when none was.
    """
    if env_id is None:
        raise ValueError(f"which environment? `gridzero {command} {name} --env ID`; `gridzero list` shows some")
    return env_id


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
    return Session.resume(record["path"], options.budget(), options.watch, options.from_, group)
