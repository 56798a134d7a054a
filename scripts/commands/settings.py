"""Settings of ``train`` and ``sweep``: one command line for the command, the environment and the agent."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from gridzero.agents.config_checks import check_at_least
from gridzero.agents.environments import remake
from gridzero.agents.neural.configs.grpo import VARIANTS
from gridzero.agents.presets import Preset, preset, preset_for
from gridzero.agents.registry import REGISTRY, config_class, default_config, registration
from gridzero.agents.training import Budget
from gridzero.commands.arguments import parse, split_dotted
from gridzero.commands.environment_words import EnvironmentWords, environment_help, policy_help, policy_options
from gridzero.envs.suggestions import closest

NO_PRESET = "none"


@dataclass(frozen=True)
class TrainingOptions:
    """Environment, budget, and times of checkpoints and evaluations."""

    env: str | None = None
    """Id of the environment, as `gridzero list` shows it or any other of Gymnasium's."""
    steps: int | None = None
    """Environment steps in all (sweeps, for agents that plan); learners get 100,000 if nothing is said."""
    seconds: float | None = None
    """Time budget, instead of or besides the steps."""
    threads: int | None = None
    """Threads of torch and of compiled kernels; if not given, 1, and all cores for sweeps of agents that plan."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; a tenth of the budget if not given."""
    evaluate_every: int | None = None
    """Steps between evaluations along the way, 0 for none; a few episodes at a cost below 5 % if not given."""
    evaluation_episodes: int = 100
    """Episodes of the evaluation at the end, and of each along the way if --evaluate-every is given."""
    keep: int | None = None
    """Checkpoints to keep, the last ones; all if not given. The best by the evaluations on the way stays besides."""
    stop_at: float | None = None
    """End at the first evaluation on the way with such a mean return; if --evaluate-every is not given, there is one of
    a few episodes each twentieth of the budget."""
    preset: str | None = None
    """Tuned settings, by the name of their environment, or "none" for the bare defaults; by default those of this
    environment, if there are any. What is given by flags counts before them."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "threads")
        self.budget()

    def budget(self, default_steps: int | None = None) -> Budget:
        """Budget of the training loop, ``default_steps`` long where neither steps nor seconds are given."""
        steps = default_steps if self.steps is None and self.seconds is None else self.steps
        return Budget(
            steps, self.seconds, self.checkpoint_every, self.evaluate_every, self.evaluation_episodes,
            self.keep, self.stop_at,
        )  # fmt: skip


Options = TypeVar("Options", bound=TrainingOptions)


@dataclass(frozen=True)
class VectorOptions:
    """Number of environments, for agents whose own settings do not have it."""

    num_envs: int | None = None
    """Learn from so many environments at once."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "num_envs")


@dataclass(frozen=True)
class Settings(Generic[Options]):
    """Settings of a run or a sweep.

    Attributes:
        options: of the command.
        num_envs: number of environments, for agents whose own settings do not have it.
        config: of the agent.
        defaults: the same without the agent's flags.
    """

    options: Options
    num_envs: int | None
    config: Any
    defaults: Any

    def check_unchanged(self, before: Settings[Options], changeable: Sequence[str]) -> None:
        """Raise ValueError for a setting that is another than before and not among those that may change."""
        pairs = (
            (before.options, self.options),
            (VectorOptions(before.num_envs), VectorOptions(self.num_envs)),
            (before.config, self.config),
        )
        for then, now in cast(Any, pairs):
            for field in dataclasses.fields(then):
                was, given = getattr(then, field.name), getattr(now, field.name)
                if was != given and field.name not in changeable:
                    raise ValueError(f"the run was begun with {field.name} {was}; it cannot go on with {given}")


def parse_settings(
    command: str,
    description: str,
    options: type[Options],
    agent: str,
    arguments: Sequence[str],
    environment: EnvironmentWords,
    before: Settings[Options] | None = None,
) -> Settings[Options]:
    """Read the settings of a command that trains from its command line.

    Args:
        command: its name, for messages.
        description: with ``{agent}``, ``{summary}``, ``{policy}``, ``{example}`` and ``{over}``, for the help.
        options: the command's own.
        agent: name of the agent.
        arguments: without the agent, and without the options of the environment.
        environment: its options and wrappers, on which the agent's defaults may depend.
        before: the settings on record of what is resumed, which are the defaults then.

    Raises:
        ValueError: in one line, for whatever is wrong.
    """
    entry = registration(agent)
    agent_config = entry.config_class()
    own = {field.name for field in dataclasses.fields(agent_config)}
    clash = own & {field.name for field in dataclasses.fields(options)}
    assert not clash, f"{agent} has fields of the command's: {clash}"
    policy_words, rest = split_dotted("policy", arguments)
    env_id = option_value("--env", rest)
    env = None if env_id is None or "policy" not in own else _sample_environment(env_id, environment)
    tuned = _preset(agent, env_id, option_value("--preset", rest)) if before is None else None
    groups: list[Any] = [("training", options), ("vector", VectorOptions), ("agent", agent_config)]
    if before is not None:
        if policy_words:
            raise ValueError("the policy of a run that was begun cannot be changed")
        defaults = (before.options, VectorOptions(before.num_envs), before.config)
        groups = [(*group, default) for group, default in zip(groups, defaults, strict=True)]
    elif policy_words or env is not None:
        given = {"policy": _policy_options(agent, env, env_id, environment, policy_words)} if policy_words else {}
        variant = _variant(own, rest)
        fields = {} if tuned is None else tuned.besides(VARIANTS.get(variant.get("variant", ""), ()))
        groups[2] = (*groups[2], default_config(agent, env, {**fields, **variant, **given}))
    if "num_envs" in own:
        del groups[1]
    command_line = dataclasses.make_dataclass("Command", groups, kw_only=True)
    policy_hint = ", those of a language model as --policy.KEY VALUE" if "policy" in own else ""
    command_line.__doc__ = description.format(
        agent=agent, summary=entry.summary, policy=policy_hint, example=entry.example,
        over="gamma=0.9,0.99" if "gamma" in own else "learning_rate=1e-4,1e-3",
    )  # fmt: skip
    if env_id is not None and {"-h", "--help"} & set(rest):
        command_line.__doc__ += "\n" + environment_help(env_id, environment.options)
        if tuned is not None:
            command_line.__doc__ += (
                f"\n\nThe defaults below are those of the preset {tuned.name}, with {tuned.steps:,} steps; "
                "with --preset none they are the bare ones."
            )
        if env is not None:
            command_line.__doc__ += policy_help(env)
    parsed: Any = parse(command_line, _without_defaults(rest, groups[-1]), f"{command} {agent}")
    vector: VectorOptions = getattr(parsed, "vector", VectorOptions())
    chosen = parsed.training
    if tuned is not None:
        steps = tuned.steps if chosen.steps is None and chosen.seconds is None else chosen.steps
        chosen = dataclasses.replace(chosen, preset=tuned.name, steps=steps)
    defaults = groups[-1][2] if len(groups[-1]) > 2 else agent_config()
    return Settings(chosen, vector.num_envs, parsed.agent, defaults)


def _without_defaults(arguments: Sequence[str], group: Sequence[Any]) -> list[str]:
    """The command line without flags that say what is the default anyway, which depends on environment and preset."""
    if len(group) < 3:
        return list(arguments)
    flags = [field.name for field in dataclasses.fields(group[2]) if isinstance(getattr(group[2], field.name), bool)]
    said = {f"--{'' if getattr(group[2], name) else 'no-'}{name.replace('_', '-')}" for name in flags}
    return [argument for argument in arguments if argument.replace("_", "-") not in said]


def _preset(agent: str, env_id: str | None, name: str | None) -> Preset | None:
    """The preset that is asked for, else the one of the environment, if there is one.

    Raises:
        ValueError: for a name that there is not.
    """
    if name == NO_PRESET:
        return None
    if name is None:
        return None if env_id is None else preset_for(agent, env_id.rpartition(":")[2])
    return preset(agent, name)


def show_preset(agent: str, settings: Settings[Any]) -> None:
    """Print the preset in use, if there is one: those of its settings that no flag changed."""
    name = settings.options.preset
    if name in (None, NO_PRESET):
        return
    fields = preset(agent, name).fields
    words = [f"{key} {value}" for key, value in fields.items() if getattr(settings.config, key) == value]
    print(f"gridzero: preset {agent} {name}: {', '.join(words)}; --preset none: without", file=sys.stderr)


def recorded_settings(
    options: type[Options],
    agent: str,
    path: Path,
    config: Mapping[str, Any],
    num_envs: int | None,
    given: Mapping[str, Any],
) -> Settings[Options]:
    """Settings of what is resumed, from its record.

    Args:
        options: the command's own.
        agent: name of the agent.
        path: the file with the record, for messages.
        config: of the agent, as JSON holds it.
        num_envs: number of environments.
        given: the command's options on record.

    Raises:
        ValueError: for options or a config that are not those of the command and the agent.
    """
    from gridzero.agents.checkpoint import make_config

    try:
        made = make_config(agent, config)
        return Settings(options(**given), num_envs, made, made)
    except TypeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _policy_options(
    agent: str, env: Any, env_id: str | None, environment: EnvironmentWords, words: Mapping[str, str]
) -> dict[str, Any]:
    """Options of the policy from the words of the command line."""
    if env is None and env_id is not None and "policy" in config_class(agent).__dataclass_fields__:
        remake(environment.described(env_id))  # says what is wrong with the environment
    if env is None:
        raise ValueError(f"{agent} has no policy with options")
    return policy_options(env, words)


def _sample_environment(env_id: str, words: EnvironmentWords) -> Any:
    """One such environment, to see what kind it is; None where it cannot be made so, which is told later."""
    try:
        return remake(words.described(env_id))
    except ValueError:
        return None


def _variant(own: set[str], arguments: Sequence[str]) -> dict[str, str]:
    """The variant that is asked for, on which other defaults depend."""
    variant = option_value("--variant", arguments) if "variant" in own else None
    return {} if variant is None or variant == "None" else {"variant": variant}


def split_agent(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The agent's name, if it is given, and the rest of the command line."""
    arguments = list(argv)
    return (arguments.pop(0) if arguments and not arguments[0].startswith("-") else None), arguments


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help, or is empty."""
    return not arguments or bool({"-h", "--help"} & set(arguments))


def usage(text: str) -> str:
    """A command's usage with the list of agents in it."""
    width = max(map(len, REGISTRY))
    return text.format(agents="\n".join(f"  {r.name:<{width}}  {r.summary}" for r in REGISTRY.values()))


def required_agent(command: str, name: str | None, record: Mapping[str, Any] | None) -> str:
    """Name of the agent that was given, or of the record's that is resumed.

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


def required_environment(command: str, agent: str, env_id: str | None) -> str:
    """Id of the environment that was given.

    Raises:
        ValueError: when none was.
    """
    if env_id is None:
        raise ValueError(f"which environment? `gridzero {command} {agent} --env ID`; `gridzero list` shows some")
    return env_id


def resumed_name(arguments: Sequence[str]) -> str:
    """Name of the run or sweep to resume.

    Raises:
        ValueError: when none was given.
    """
    name = option_value("--run", arguments)
    if name is None:
        raise ValueError("--resume needs --run NAME")
    return name


def closest_setting(key: str, own: Iterable[str], of_environment: Iterable[str]) -> str:
    """Hint for a wrong name of a setting: of the agent's own, or of an option of the environment, ``env.KEY``.

    >>> closest_setting("learning_rate", ["gamma", "step_size"], ["env.regenerate"])
    'did you mean step_size?'
    """
    names = {option.removeprefix("env."): option for option in of_environment}
    names |= {} if key.startswith("env.") else {name: name for name in own}
    return closest(key.removeprefix("env."), names, shown=names, cutoff=0.6)


def option_value(flag: str, arguments: Sequence[str]) -> str | None:
    """Value that is given for a flag, before everything is parsed; None where it is not."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        name, given, value = argument.partition("=")
        if name == flag:
            return value if given else following
    return None
