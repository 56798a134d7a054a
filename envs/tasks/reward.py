"""Reward functions: what a completion is worth, from the task's verdict or from any other judge."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from gridzero.envs import plugins
from gridzero.envs.suggestions import closest
from gridzero.envs.tasks.task import Problem, Task, Verdict

OF_THE_VERDICT: Mapping[str, Callable[[Verdict], float]] = {
    "correct": lambda verdict: float(verdict.correct),
    "form": lambda verdict: float(verdict.well_formed),
}
"""Rewards that the task's own verifier gives: a right answer, a well-formed completion."""

DEFAULT = "correct,form=0.1"


@dataclass(frozen=True)
class StepReward:
    """Reward of one step of a completion.

    Attributes:
        value: the reward.
        start: where the step's text begins in the completion, in characters.
        end: where it ends; the reward is paid by the last token of the step.
    """

    value: float
    start: int
    end: int


@dataclass(frozen=True)
class Rewards:
    """Rewards of N completions.

    Attributes:
        totals: (N,) what each completion is paid for as a whole, at its end.
        steps: what each is paid for its steps, besides; empty where steps are not judged.
    """

    totals: Sequence[float]
    steps: Sequence[Sequence[StepReward]] = ()


class RewardFunction(Protocol):
    """A judge of completions: of a problem and N completions, one number a completion, or :class:`Rewards`.

    One that has a method ``many(problems, completions)`` too, as models have, is asked about several problems at once;
    one that has ``check_texts(texts)`` is shown first what a completion may consist of, and raises ValueError for what
    it cannot read.
    """

    def __call__(self, problem: Problem, completions: Sequence[str], /) -> Rewards | Sequence[float]:
        """Judge completions.

        Args:
            problem: which they are about.
            completions: N texts; of a task that answers back, all that followed the prompt.
        """


Weights: TypeAlias = "str | Mapping[str | RewardFunction, float]"

REWARDS: dict[str, str] = {
    "brevity": "gridzero.envs.tasks.reward:brevity",
    "consistency": "gridzero.envs.tasks.consistency:consistency",
    "transcribed": "gridzero.envs.tasks.grid_path:transcribed",
    "transcription": "gridzero.envs.tasks.grid_path:transcription",
}
"""Entry points of named reward functions, imported when they are asked for."""


def register(name: str, entry_point: str) -> None:
    """Make a reward function known by name.

    Args:
        name: lower case, words joined by hyphens.
        entry_point: ``"package.module:function"``, imported only when it is used.
    """
    REWARDS[name] = entry_point


_RESOLVERS: list[str] = []


def register_resolver(entry_point: str) -> None:
    """Add a function that knows further rewards: of a name it returns a reward function, or None for an unknown one.

    Args:
        entry_point: ``"package.module:function"``, imported only for a name that nothing else knows.
    """
    if entry_point not in _RESOLVERS:
        _RESOLVERS.append(entry_point)


def reward_function(name: str) -> RewardFunction:
    """The reward function of a registered name, of ``module:name``, of ``module:function``, or of a run.

    Raises:
        ValueError: for an unknown name, a module that cannot be imported, or something that cannot be called.
    """
    registered = plugins.resolve(name)
    if registered not in REWARDS:
        plugins.load_installed()
    if registered not in REWARDS and registered == name:
        for entry_point in _RESOLVERS:
            resolved: RewardFunction | None = plugins.load(entry_point)(name)
            if resolved is not None:
                return resolved
        raise ValueError(f"no reward is called {name!r}; {closest(name, [*OF_THE_VERDICT, *REWARDS])}")
    function: RewardFunction = plugins.load(REWARDS.get(registered, name))
    if not callable(function):
        raise ValueError(f"the reward {name} is a {type(function).__name__}, not a function")
    return function


def brevity(problem: Problem, completions: Sequence[str]) -> list[float]:
    """1 for an empty completion, falling to 0 with its length: 1 / (1 + characters / 100).

    >>> brevity(Problem("", ""), ["", "x" * 100])
    [1.0, 0.5]
    """
    return [1.0 / (1.0 + len(completion) / 100) for completion in completions]


def parse_weights(rewards: Weights) -> dict[str | RewardFunction, float]:
    """Weights of reward functions by name, as a mapping or as ``"name,name=weight"``.

    Raises:
        ValueError: for no reward, one named twice, or a weight that is not a finite number.

    >>> parse_weights("correct,form=0.1,mymod:politeness=-2")
    {'correct': 1.0, 'form': 0.1, 'mymod:politeness': -2.0}
    """
    if not isinstance(rewards, str):
        pairs = list(rewards.items())
    else:
        pairs = []
        for part in rewards.split(","):
            name, given, weight = part.strip().partition("=")
            try:
                pairs.append((name, float(weight) if given else 1.0))
            except ValueError:
                raise ValueError(f"the weight of the reward {name} must be a number, not {weight!r}") from None
    weights = dict(pairs)
    if not weights or len(weights) < len(pairs) or "" in weights:
        raise ValueError(f"rewards must be different names with commas between them, not {rewards!r}")
    for key, number in weights.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"the weight of the reward {reward_name(key)} must be a finite number, not {number!r}")
    return {key: float(number) for key, number in weights.items()}


def reward_name(key: str | RewardFunction) -> str:
    """The name under which a reward is logged."""
    return key if isinstance(key, str) else str(getattr(key, "__name__", type(key).__name__))


@dataclass(frozen=True)
class Judgement:
    """Verdict and rewards of one completion.

    Attributes:
        verdict: the task's.
        total: the weighted sum of all rewards, those of steps included.
        parts: each reward by name, unweighted.
        steps: the weighted rewards of steps.
    """

    verdict: Verdict
    total: float
    parts: Mapping[str, float]
    steps: tuple[StepReward, ...] = ()


class RewardSum:
    """Weighted sum of named rewards, the task's verdict among them.

    Args:
        task: judges completions.
        rewards: name or function → weight; or text, see :func:`parse_weights`.

    Attributes:
        weights: weight of each reward, by name or function.
        others: names of the rewards that are not the verdict's.
        optimum: what a right and well-formed completion pays; None where others count.

    Raises:
        ValueError: for rewards that there are not.

    Example:
        >>> from gridzero.envs.tasks import make_task
        >>> task = make_task("addition", digits=1, template="plain")
        >>> problem = Problem("2+4=", "6", {"numbers": [2, 4]})
        >>> round(RewardSum(task, {"correct": 1.0, brevity: 0.5}).judge(problem, [["6"]])[0].total, 3)
        1.495
    """

    def __init__(self, task: Task, rewards: Weights = DEFAULT) -> None:
        self.task = task
        self.weights: dict[str | RewardFunction, float] = dict.fromkeys(task.measured, 0.0)
        self.weights |= parse_weights(rewards)
        self._functions: dict[str, tuple[RewardFunction, float]] = {}
        for key, weight in self.weights.items():
            if not isinstance(key, str) or key not in OF_THE_VERDICT:
                function = reward_function(key) if isinstance(key, str) else key
                if reward_name(key) in self._functions or reward_name(key) in OF_THE_VERDICT:
                    raise ValueError(f"two rewards are called {reward_name(key)}")
                self._functions[reward_name(key)] = (function, weight)
        self.others = tuple(self._functions)
        of_verdict = [self.weights.get(name, 0.0) for name in OF_THE_VERDICT]
        known = not any(weight for _, weight in self._functions.values())
        self.optimum = sum(max(weight, 0.0) for weight in of_verdict) if known else None

    def check_texts(self, texts: Callable[[], Sequence[str]]) -> None:
        """Raise ValueError where a reward function cannot read what completions may consist of.

        Args:
            texts: gives all that one token may write; called where some function asks.
        """
        for name, (function, _) in self._functions.items():
            check = getattr(function, "check_texts", None)
            if check is None:
                continue
            try:
                check(texts())
            except ValueError as error:
                raise ValueError(f"the reward {name} {error}") from error

    def of_verdict(self, verdict: Verdict) -> float:
        """The weighted rewards of a verdict alone."""
        return sum(self.weights.get(name, 0.0) * reward(verdict) for name, reward in OF_THE_VERDICT.items())

    def judge(
        self, problem: Problem, episodes: Sequence[Sequence[str]], texts: Sequence[str] | None = None
    ) -> list[Judgement]:
        """Judge N episodes about one problem.

        Args:
            problem: which they are about.
            episodes: the completions of each.
            texts: all that followed the prompt in each; by default the completions, joined.

        Raises:
            ValueError: when a reward function fails, or returns something else than finite rewards.
        """
        verdicts = [self.task.judge(problem, completions) for completions in episodes]
        texts = texts or ["".join(completions) for completions in episodes]
        return self.judge_verdicts([problem] * len(verdicts), verdicts, texts)

    def judge_verdicts(
        self, problems: Sequence[Problem], verdicts: Sequence[Verdict], texts: Sequence[str]
    ) -> list[Judgement]:
        """Judge N episodes, each about its problem, whose verdicts are known; see :meth:`judge`."""
        totals = [self.of_verdict(verdict) for verdict in verdicts]
        parts: list[dict[str, float]] = [{} for _ in verdicts]
        steps: list[tuple[StepReward, ...]] = [() for _ in verdicts]
        for name, (function, weight) in self._functions.items():
            rewards = call(name, function, problems, texts)
            for i, own in enumerate(rewards.totals):
                of_steps = rewards.steps[i] if rewards.steps else ()
                parts[i][name] = own + sum(step.value for step in of_steps)
                totals[i] += weight * parts[i][name]
                steps[i] += tuple(StepReward(weight * step.value, step.start, step.end) for step in of_steps)
        return [Judgement(*row) for row in zip(verdicts, totals, parts, steps, strict=True)]


def call(name: str, function: RewardFunction, problems: Sequence[Problem], completions: Sequence[str]) -> Rewards:
    """Rewards that a function gives for N completions, each about its problem, checked.

    Raises:
        ValueError: when it fails, or returns another number of rewards, or some that are not finite.
    """
    many = getattr(function, "many", None)
    if many is not None:
        return _checked(name, functools.partial(many, problems, completions), completions)
    groups: dict[int, list[int]] = {}
    for i, problem in enumerate(problems):
        groups.setdefault(id(problem), []).append(i)
    totals = [0.0] * len(completions)
    steps: list[Sequence[StepReward]] = [()] * len(completions)
    for members in groups.values():
        texts, problem = [completions[i] for i in members], problems[members[0]]
        rewards = _checked(name, functools.partial(function, problem, texts), texts)
        for place, i in enumerate(members):
            totals[i] = rewards.totals[place]
            steps[i] = rewards.steps[place] if rewards.steps else ()
    return Rewards(totals, steps)


def _checked(name: str, judge: Callable[[], Any], completions: Sequence[str]) -> Rewards:
    try:
        given = judge()
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"the reward {name} failed: {type(error).__name__}: {text}") from error
    try:
        rewards = given if isinstance(given, Rewards) else Rewards(given)
        totals = [float(value) for value in rewards.totals]
        steps = [
            tuple(StepReward(float(step.value), int(step.start), int(step.end)) for step in each)
            for each in rewards.steps
        ]
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the reward {name} must return numbers or Rewards, not {given!r:.60}") from error
    if len(totals) != len(completions) or len(steps) not in (0, len(completions)):
        raise ValueError(f"the reward {name} must return {len(completions)} rewards, not {len(totals)}")
    if not all(map(math.isfinite, totals)) or not all(math.isfinite(step.value) for each in steps for step in each):
        raise ValueError(f"the reward {name} must return finite numbers, not {given!r:.60}")
    for completion, each in zip(completions, steps, strict=False):
        for step in each:
            if not 0 <= step.start < step.end <= len(completion):
                raise ValueError(
                    f"the reward {name} has a step from {step.start} to {step.end} in {len(completion)} characters"
                )
    return Rewards(totals, steps)
