"""``gridzero sweep --sampler optuna``: settings chosen one after another, each by what the ones before have shown."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gridzero.agents import runs
from gridzero.agents.learner import Update
from gridzero.agents.registry import agent_class
from gridzero.commands.engines import ENGINES, Job, NoMetricError
from gridzero.commands.summary import Row, best_is_low, summarise
from gridzero.commands.sweep import PICTURE, RESULTS, Sweep
from gridzero.commands.sweep_pictures import draw_study
from gridzero.envs import plugins

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.jsonl"
"""Optuna's journal in the folder of the sweep: one JSON object a line."""
POINTS_ON_THE_WAY = 20
"""Points of a run at which trials are compared with each other."""
STARTUP_TRIALS, WARMUP_POINTS = 4, 4
"""Trials that are never pruned, and evaluations on the way before which none is."""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, drawn evenly on a logarithmic scale.

    Attributes:
        low, high: both possible.
        type: of the setting: int, float, or str for schedules, which may be a number.
    """

    low: float
    high: float
    type: type[Any]


class Study(Sweep):
    """A sweep of which Optuna chooses the settings (Akiba et al. 2019): by a tree-structured Parzen estimator.

    Trials are kept in a journal of JSON lines beside their runs; interrupted ones go on. Each trial's choice is seeded
    by how many there were before, so that one job at a time gives the same study each time. Evaluations on the way
    prune a trial that is worse than the median of the others at the same point.
    """

    @cached_property
    def space(self) -> dict[str, Range | list[Any]]:
        """Settings that are varied, by name: a range, or values to choose from.

        Raises:
            ValueError: for a setting that there is not, or a range that is none.
        """
        found = dict(self._choices(text) for text in self.options.over)
        if len(found) < len(self.options.over):
            raise ValueError("--over takes each setting once, with all its values")
        if not found:
            raise ValueError("--sampler optuna needs --over KEY=LOW..HIGH or KEY=V1,V2,...")
        return found

    def _choices(self, text: str) -> tuple[str, Range | list[Any]]:
        key, _, words = text.partition("=")
        low, dots, high = words.partition("..")
        if not dots:
            return self._values(text)
        name, ends = self._values(f"{key}={low},{high}")
        try:
            least, most = (float(end) for end in ends)
        except (TypeError, ValueError):
            least = most = math.nan
        if isinstance(ends[0], bool) or not 0 < least < most < math.inf:
            raise ValueError(f"--over {name} takes LOW..HIGH with 0 < LOW < HIGH, not {words!r}")
        return name, Range(least, most, type(ends[0]))

    @cached_property
    def settings(self) -> list[dict[str, Any]]:
        """Both ends of every range, and every value once: what is tried to be made before the study begins."""
        most = max(2 if isinstance(space, Range) else len(space) for space in self.space.values())
        return [{name: self._example(space, i) for name, space in self.space.items()} for i in range(most)]

    @staticmethod
    def _example(space: Range | list[Any], i: int) -> Any:
        if isinstance(space, Range):
            return space.type((space.low, space.high)[i % 2])
        return space[i % len(space)]

    def chosen(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """The setting of a trial."""
        found: dict[str, Any] = {}
        for name, space in self.space.items():
            if isinstance(space, Range) and space.type is int:
                found[name] = trial.suggest_int(name, int(space.low), int(space.high), log=True)
            elif isinstance(space, Range):
                drawn = trial.suggest_float(name, space.low, space.high, log=True)
                found[name] = space.type(float(f"{drawn:.4g}"))
            else:
                words = [str(value) for value in space]
                found[name] = space[words.index(trial.suggest_categorical(name, words))]
        return found

    def trial_jobs(self, number: int, setting: Mapping[str, Any]) -> list[Job]:
        """The runs of a trial, one a seed."""
        return self._jobs_of(setting, self.path / f"trial-{number}")

    def load(self) -> optuna.Study:
        """The study, begun or gone on with."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.path / JOURNAL))),
            study_name=self.path.name,
            direction="minimize" if best_is_low(self.options.metric) else "maximize",
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_POINTS),
            load_if_exists=True,
        )
        study.sampler = optuna.samplers.TPESampler(seed=len(study.get_trials(deepcopy=False)))
        return study

    def run(self) -> int:
        """Train the trials that are missing, then report."""
        from optuna.trial import TrialState

        from gridzero.agents.training import interruptible

        known = self.load().get_trials(deepcopy=False)
        under_way = [trial._trial_id for trial in known if trial.state == TrialState.RUNNING]
        wanted = self.options.trials or 0
        fresh = max(0, wanted - len(known))
        template = self._jobs_of({}, self.path)[0]
        fields = {field.name: getattr(template, field.name) for field in dataclasses.fields(Job)}
        todo = [TrialJob(**fields, study=self, trial=trial) for trial in [*under_way, *[None] * fresh]]
        if todo:
            with interruptible() as interrupted:
                ENGINES[self.options.engine](todo, self.options.jobs, interrupted)
        trials = self.load().get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state.is_finished()]
        if len(ended) < wanted:
            again = f"gridzero sweep --run {runs.typed_name(self.path)} --resume{plugins.import_flags()}"
            print(
                f"gridzero: interrupted, {len(ended)} of {wanted} trials are done; `{again}` goes on", file=sys.stderr
            )
            return 130
        return self._report(ended)

    def _report(self, trials: Sequence[optuna.trial.FrozenTrial]) -> int:
        from optuna.trial import TrialState

        from gridzero.commands import report

        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if not complete:
            raise ValueError(f"no trial came to its end; the last one: {trials[-1].user_attrs.get('error', 'pruned')}")
        low = best_is_low(self.options.metric)
        complete.sort(key=lambda trial: float(trial.value or 0.0) * (1 if low else -1))
        settings = {trial.number: self.chosen(trial) for trial in trials}
        rows = [self._row(trial.number, settings[trial.number]) for trial in complete]
        result: dict[str, Any] = {
            "agent": self.agent,
            "environment": self.environment["id"],
            "over": list(self.options.over),
            "metric": self.options.metric or "return",
            "seeds": self.options.seeds,
            "best": {"trial": complete[0].number, **rows[0].to_json()},
            "trials": [
                {
                    "trial": trial.number,
                    "state": trial.state.name.lower(),
                    "value": trial.value if trial.state == TrialState.COMPLETE else None,
                    "setting": settings[trial.number],
                    **trial.user_attrs,
                }
                for trial in trials
            ],
        }
        text = json.dumps(result, indent=1) + "\n"
        (self.path / RESULTS).write_text(text)
        draw_study(self.load(), self.options.metric, self.path / PICTURE)
        if self.options.json:
            print(text, end="")
            return 0
        pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
        title = f"{self.agent} on {self.environment['id']}: the best of {len(trials)} trials, {pruned} of them pruned"
        numbered = [
            dataclasses.replace(row, setting={"trial": trial.number, **row.setting})
            for row, trial in zip(rows[:10], complete, strict=False)
        ]
        report.print_sweep(title, numbered, self.options.metric)
        best = self.path / f"trial-{complete[0].number}" / rows[0].jobs[0].path.name
        print(f"saved in {self.path}: {RESULTS}, {PICTURE}, {JOURNAL} and the runs; of the best trial {best}")
        return 0

    def _row(self, number: int, setting: Mapping[str, Any]) -> Row:
        return summarise(setting, self.trial_jobs(number, setting), self.options.metric)


@dataclass(frozen=True, kw_only=True)
class TrialJob(Job):
    """A trial that is trained: one that was under way, or the next that the study chooses.

    Attributes:
        study: that it belongs to.
        trial: the id of one that was under way; None: the next.
    """

    study: Study
    trial: int | None

    def train(
        self, stopped: Callable[[], bool] = lambda: False, on_update: Callable[[Update], None] = lambda update: None
    ) -> None:
        """Train a run for each seed, and tell the study how the trial ended; one that is stopped is left under way."""
        import optuna
        from optuna.trial import TrialState

        if stopped():
            return
        study = self.study.load()
        trial = study.ask() if self.trial is None else optuna.trial.Trial(study, self.trial)
        setting = self.study.chosen(trial)
        jobs = self.study.trial_jobs(trial.number, setting)
        planned = self.study.options.budget(agent_class(self.agent).default_steps).steps
        try:
            for job in jobs:
                job.train(stopped, _Pruning(trial, job.seed, self.study.options.metric, planned).on_update)
                if not job.finished:
                    return
            study.tell(trial, summarise(setting, jobs, self.study.options.metric).mean)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except NoMetricError:
            raise
        except ValueError as error:  # a setting that does not fit, or that diverges, is a bad one
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=TrialState.FAIL)


class _Pruning:
    """Reports evaluations on the way of one run of a trial, and ends it where others were better at that point."""

    def __init__(self, trial: optuna.Trial, seed: int, metric: str | None, planned: int | None) -> None:
        self.trial, self.seed, self.metric, self.planned = trial, seed, metric or "evaluation_return", planned
        self._count = 0

    def on_update(self, update: Update) -> None:
        """Take in an update.

        Raises:
            optuna.TrialPruned: when the trial is worse than the median of others.
        """
        import optuna

        value = update.metrics.get(self.metric)
        if value is None:
            return
        self._count += 1
        point = self._count if self.planned is None else update.step * POINTS_ON_THE_WAY // self.planned
        step = self.seed * POINTS_ON_THE_WAY + min(point, POINTS_ON_THE_WAY - 1)
        self.trial.report(value, step)
        if self.trial.should_prune():
            raise optuna.TrialPruned
