"""``gridzero sweep``: every combination of some settings, each with several seeds, as one table and one picture."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
import itertools
import json
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

import tyro

from gridzero.agents import files, runs
from gridzero.agents.config_checks import check_at_least, check_used, unused_fields
from gridzero.agents.environments import Description, describe, parameters, remake
from gridzero.agents.files import Positive
from gridzero.agents.neural.configs.grpo import VARIANTS
from gridzero.agents.presets import preset
from gridzero.agents.registry import agent_class
from gridzero.commands import memory
from gridzero.commands.arguments import coerce
from gridzero.commands.engines import ENGINES, Job, NoMetricError, label
from gridzero.commands.environment_words import EnvironmentWords
from gridzero.commands.session import new_path
from gridzero.commands.settings import (
    NO_PRESET,
    Settings,
    TrainingOptions,
    closest_setting,
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
from gridzero.envs import plugins
from gridzero.envs.suggestions import closest

FORMAT, VERSION = "gridzero-sweep", 2
RESULTS, PICTURE = "results.json", "sweep.png"
CHANGEABLE = ("resume", "run", "jobs", "engine", "json", "metric", "trials")
"""Options that may be different when a sweep is resumed."""

DESCRIPTION = """Train {agent} with every combination of some settings, each with several seeds: {summary}.

Each run is the one that `gridzero train` gives. The sweep goes to runs/NAME: the runs, results.json, sweep.png. Ctrl-C saves and ends; --run NAME --resume goes on.

Example: gridzero sweep {agent} {example} --over {over} --seeds 3
"""  # noqa: E501  (the terminal wraps it)

USAGE = """\
usage: gridzero sweep AGENT --env ID --over KEY=V1,V2 [--over ...] [--seeds N] [--jobs N | --engine ray]
                      [--env.KEY VALUE ...] [--wrapper module:Class ...] [OPTIONS]
       gridzero sweep AGENT --env ID --sampler optuna --trials N --over KEY=LOW..HIGH [--over ...] [OPTIONS]
       gridzero sweep --run NAME --resume [OPTIONS]

Train an agent with every combination of some settings, each with several seeds; the result is a table with intervals
and a picture. On this machine's cores, or on a Ray cluster.

agents:
{agents}

`gridzero sweep AGENT --help` shows its settings, `gridzero list` the environments.

example:
  gridzero sweep ppo --env CartPole-v1 --over learning_rate=1e-4,3e-4,1e-3 --seeds 5
"""


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Settings that are varied, environment and budget."""

    over: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=V1,V2,...: a setting of the agent, num_envs, or env.KEY, and its values. Give it once for each setting.
    With --sampler optuna also KEY=LOW..HIGH, drawn evenly on a logarithmic scale."""
    sampler: Literal["grid", "optuna"] = "grid"
    """Every combination, or settings that Optuna chooses one after another by what the ones before have shown."""
    trials: int | None = None
    """Settings that --sampler optuna tries."""
    metric: str | None = None
    """Compare and draw the last value of this metric of training, instead of the final return. Losses, errors, gaps
    and residuals are better when lower."""
    seeds: int = 5
    """Runs of each combination, with the seeds 0, 1, ..."""
    run: str | None = None
    """Name of the sweep, or a path; sweep-agent-environment if not given."""
    resume: bool = False
    """Go on with the sweep: finished runs are kept, interrupted ones go on from their last checkpoints."""
    jobs: int | None = None
    """Runs at a time; as many as there are cores if not given, or as a Ray cluster has room for."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or tasks of a Ray cluster, whose machines must all see the folder of the sweep."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "seeds", "jobs", "trials")
        if (self.sampler == "optuna") != (self.trials is not None):
            raise ValueError("--sampler optuna and --trials N belong together")
        if self.sampler == "optuna" and importlib.util.find_spec("optuna") is None:
            raise ValueError("the sampler optuna needs Optuna: pip install gridzero[tune]")
        if self.engine == "ray" and importlib.util.find_spec("ray") is None:
            raise ValueError("the engine ray needs Ray: pip install ray")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    name, arguments = split_agent(argv)
    if name is None and wants_help(arguments):
        print(usage(USAGE), end="")
        return 0
    given, arguments = EnvironmentWords.split(arguments)
    record = _record(arguments) if "--resume" in arguments else None
    if record is not None:
        plugins.restore(record.get("imports", []))
    name = required_agent("sweep", name, record)
    before = None if record is None else _before(name, record)
    settings = parse_settings("sweep", DESCRIPTION, Options, name, arguments, given, before)
    options = settings.options
    if record is None or before is None:
        described = _settled(given.described(required_environment("sweep", name, options.env)))
        path = new_path(options.run, f"sweep-{name}-{described['id'].rpartition('/')[2]}")
    else:
        fixed = ("metric",) if options.sampler == "optuna" else ()  # trials were chosen by it
        settings.check_unchanged(before, [name for name in CHANGEABLE if name not in fixed])
        if given:
            raise ValueError("the environment of a sweep that was begun cannot be changed")
        described, path = record["environment"], record["path"]
    kind: type[Sweep] = Sweep
    if options.sampler == "optuna":
        from gridzero.commands.study import Study

        kind = Study
    sweep = kind(path, name, described, settings.num_envs, settings.config, options)
    if before is None:
        sweep.begin(settings.defaults)
        show_preset(name, settings)
    elif options.metric != before.options.metric:
        sweep.check()
    return sweep.run()


def _settled(given: Description) -> Description:
    """The environment as a record holds it: a map's text for the name of its file, which may change or move."""
    kwargs = given["kwargs"]
    described = describe(remake(given))
    if described is None:
        raise ValueError(f"{given['id']} cannot be made again from {dict(kwargs)}")
    return {**given, "kwargs": {name: described["kwargs"].get(name, value) for name, value in kwargs.items()}}


class Record(TypedDict):
    """``sweep.json``: what a sweep was begun with."""

    agent: str
    environment: Description
    imports: list[str]
    num_envs: Positive | None
    config: dict[str, Any]
    options: dict[str, Any]


def _record(arguments: list[str]) -> dict[str, Any]:
    """Record of the sweep that is to be resumed, with its path."""
    name = resumed_name(arguments)
    for path in runs.candidates(name):
        if (path / runs.SWEEP).is_file():
            return {**files.read_signed(path / runs.SWEEP, FORMAT, VERSION, Record), "path": path}
    known = sorted(entry.parent.name for entry in runs.FOLDER.glob(f"*/{runs.SWEEP}"))
    raise ValueError(f"there is no sweep {name!r}; {closest(name, known) if known else 'runs/ has none'}")


def _before(name: str, record: Mapping[str, Any]) -> Settings[Options]:
    """Settings that the sweep that is resumed was begun with."""
    given = {field: tuple(value) if field == "over" else value for field, value in record["options"].items()}
    given["env"] = record["environment"]["id"]
    path = record["path"] / runs.SWEEP
    return recorded_settings(Options, name, path, record["config"], record["num_envs"], given)


@dataclass(frozen=True)
class Sweep:
    """A sweep, on disk or about to be.

    Attributes:
        path: its directory.
        agent: its name.
        environment: as data, before anything is varied.
        num_envs: how many, for agents that do not say it themselves.
        config: the agent's, before anything is varied.
        options: what is varied, and how long.
    """

    path: Path
    agent: str
    environment: Description
    num_envs: int | None
    config: Any
    options: Options

    @cached_property
    def settings(self) -> list[dict[str, Any]]:
        """Every combination of what is varied, by name.

        Raises:
            ValueError: for a setting that there is not, given twice, or a value that is not of its type.
        """
        values = dict(self._values(text) for text in self.options.over)
        if len(values) < len(self.options.over):
            raise ValueError("--over takes each setting once, with all its values")
        return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]

    def _values(self, text: str) -> tuple[str, list[Any]]:
        """``learning_rate=1e-4,3e-4`` as the name and the values of a setting."""
        key, given, words = text.partition("=")
        key = key.strip().replace("-", "_")
        hints = typing.get_type_hints(type(self.config))
        known = {field.name: hints[field.name] for field in dataclasses.fields(self.config)}
        known = {"num_envs": int, **known}
        options = {
            f"env.{name}": parameter
            for name, parameter in parameters(self.environment["id"], self.environment["kwargs"]).items()
        }
        if key not in known and key not in options:
            if key in (*Options.__dataclass_fields__, "seed"):
                raise ValueError(f"--over varies agent and environment; {key} is of the whole sweep")
            raise ValueError(f"--over has no setting {key!r}; {closest_setting(key, known, options)}")
        parts = [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", words)] if given else []
        if not parts or "" in parts:
            raise ValueError(f"--over takes KEY=V1,V2,..., not {text!r}")
        if any(re.fullmatch(r"[\d.eE+-]*\d\.\.[\d.eE+-]+", part) for part in parts):
            raise ValueError(f"--over {key} takes values; a range such as {parts[0]} is for --sampler optuna")
        parameter = options.get(key) or inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=known[key])
        values = [coerce(f"--over {key}", part, parameter) for part in parts]
        for i, value in enumerate(values):
            if value in values[:i]:
                raise ValueError(f"--over {key} has {value} twice")
        return key, values

    @cached_property
    def jobs(self) -> list[list[Job]]:
        """For each combination the runs, one a seed."""
        groups = []
        for number, setting in enumerate(self.settings):
            words = re.sub(r"[^\w.,=+-]+", "_", label(setting).replace(", ", ","))[:80]
            groups.append(self._jobs_of(setting, self.path / f"{number}-{words}" if setting else self.path))
        return groups

    def _jobs_of(self, setting: Mapping[str, Any], path: Path) -> list[Job]:
        """The runs of a combination in a folder, one a seed."""
        names = [field.name for field in dataclasses.fields(TrainingOptions)]
        options = TrainingOptions(**{name: getattr(self.options, name) for name in names})
        imports, cwd, metric = tuple(plugins.imported()), Path.cwd(), self.options.metric
        config, environment, num_envs = self._with(setting)
        folder = path.absolute()
        return [
            Job(folder / f"seed-{seed}", self.agent, environment, num_envs, config, options, seed, metric, imports, cwd)
            for seed in range(self.options.seeds)
        ]

    def _with(self, setting: Mapping[str, Any]) -> tuple[Any, Description, int | None]:
        """Config, environment, and number of environments of a combination."""
        kwargs = {name[4:]: value for name, value in setting.items() if name.startswith("env.")}
        environment: Description = {**self.environment, "kwargs": {**self.environment["kwargs"], **kwargs}}
        own = {name: value for name, value in setting.items() if hasattr(self.config, name)}
        if "variant" in own:
            own = {**self._defaults_of_variant(own["variant"], environment), **own}
        num_envs = self.num_envs if "num_envs" in own else setting.get("num_envs", self.num_envs)
        return dataclasses.replace(self.config, **own), environment, num_envs

    def _defaults_of_variant(self, variant: Any, environment: Description) -> dict[str, Any]:
        """Defaults that come with a variant, of the fields that are at their defaults without it."""
        from gridzero.agents.registry import default_config

        used = self.options.preset
        tuned = None if used in (None, NO_PRESET) else preset(self.agent, used)
        with contextlib.closing(remake(environment)) as env:
            before, after = (
                default_config(
                    self.agent,
                    env,
                    {
                        "variant": name,
                        **({} if tuned is None else tuned.besides(VARIANTS.get(name, ()))),
                        "policy": self.config.policy,
                    },
                )
                for name in (self.config.variant, variant)
            )
        names = [field.name for field in dataclasses.fields(after)]
        return {name: getattr(after, name) for name in names if getattr(self.config, name) == getattr(before, name)}

    def check(self, defaults: Any = None) -> None:
        """Check that every combination can be built, and that its runs can have the metric that they are compared by.

        Args:
            defaults: the config without what was given by hand, which must do something in one of them; None: any.

        Raises:
            ValueError: for what is wrong.
        """
        from gridzero.agents.episodes import check_second_environment
        from gridzero.agents.registry import build
        from gridzero.agents.training import check_metric

        unused = []
        for first, *_ in self.jobs:
            memory.check(first.environment, first.num_envs, first.config)
            env: Any = remake(first.environment, first.num_envs)
            with contextlib.closing(env):
                agent = build(self.agent, env, first.config)
                unused.append({**unused_fields(first.config), **agent.unused()})
                agent.setup()
                check_second_environment(agent)
                if self.options.metric is not None:
                    check_metric(agent, self.options.budget(agent.default_steps), self.options.metric)
        if defaults is not None:
            check_used([first.config for first, *_ in self.jobs], unused, defaults)

    def begin(self, defaults: Any = None) -> None:
        """Check the sweep, as :meth:`check` does, then write its record."""
        if self.path.exists():
            raise ValueError(f"{self.path} exists; resume it or choose another name")
        self.check(defaults)
        left_out = ("env", "run", "resume", "jobs", "engine", "json")
        record = {
            "agent": self.agent,
            "environment": self.environment,
            "imports": plugins.imported(),
            "num_envs": self.num_envs,
            "config": dataclasses.asdict(self.config),
            "options": {k: v for k, v in dataclasses.asdict(self.options).items() if k not in left_out},
        }
        files.write_directory(self.path, runs.SWEEP, files.signed(record, FORMAT, VERSION))

    def run(self) -> int:
        """Train the runs that are not finished, then report."""
        from gridzero.agents.training import interruptible
        from gridzero.commands import report
        from gridzero.commands.summary import Watch, summarise
        from gridzero.commands.sweep_pictures import draw

        every = [job for group in self.jobs for job in group]
        todo = [job for job in every if not job.finished]
        again = f"gridzero sweep --run {runs.typed_name(self.path)} --resume{plugins.import_flags()}"
        for job in every:
            job.check_metric()
        if todo:
            budget = self.options.budget(agent_class(self.agent).default_steps)
            with interruptible() as interrupted, Watch(every, budget) as watch:

                def stopped() -> bool:
                    watch.look()
                    return interrupted()

                try:
                    ENGINES[self.options.engine](todo, self.options.jobs, stopped)
                except NoMetricError as error:
                    raise ValueError(f"{error}; `{again} --metric NAME` goes on") from None
            done = sum(job.finished for job in every)
            if done < len(every):
                print(
                    f"gridzero: interrupted, {done} of {len(every)} runs are done; `{again}` goes on", file=sys.stderr
                )
                return 130
        metric = self.options.metric
        rows = [summarise(setting, group, metric) for setting, group in zip(self.settings, self.jobs, strict=True)]
        result: dict[str, Any] = {
            "agent": self.agent,
            "environment": self.environment["id"],
            "over": list(self.options.over),
            "metric": metric or "return",
        }
        result |= {"seeds": self.options.seeds, "settings": [row.to_json() for row in rows]}
        text = json.dumps(result, indent=1) + "\n"
        (self.path / RESULTS).write_text(text)
        draw(rows, self.path / PICTURE, metric)
        if self.options.json:
            print(text, end="")
        else:
            report.print_sweep(f"{self.agent} on {self.environment['id']}", rows, metric)
            example = runs.display_name(self.path / every[0].path.relative_to(self.path.absolute()))
            print(f"saved in {self.path}: {RESULTS}, {PICTURE} and the runs, such as {example}")
        return 0
