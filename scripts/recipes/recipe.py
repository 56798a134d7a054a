"""Recipes: trainings in stages, each a run that may begin from earlier ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gridzero.envs.suggestions import closest

_REFERENCE = re.compile(r"\{([^{}]*)\}")
SCORERS = ("reward-model", "process-reward-model")
"""Learners whose models judge, and answer nothing."""
_MODEL = re.compile(r"--policy\.model \{([^{}]*)\}")


@dataclass(frozen=True)
class Stage:
    """One training of a recipe: a line of ``gridzero train``.

    Attributes:
        name: of its folder, lower case, words joined by hyphens.
        line: learner and flags; ``{NAME}`` stands for the run of an earlier stage. Environment, seed and run are added.
        steps: the budget, which the command scales.
        about: what it is for, in a few words.
    """

    name: str
    line: str
    steps: int
    about: str = ""

    @property
    def references(self) -> list[str]:
        """Names of the stages whose runs it needs."""
        return _REFERENCE.findall(self.line)

    @property
    def begins_with(self) -> str | None:
        """Name of the stage whose model it goes on with; None: it begins with another one."""
        found = _MODEL.search(self.line)
        return None if found is None else found[1]

    def words(self, folder: Path, environment: Sequence[str], seed: int, scale: float) -> list[str]:
        """The words of ``gridzero train`` that begin the stage.

        Args:
            folder: of the recipe.
            environment: the words that name it and its options.
            seed: decides everything that is random.
            scale: factor of the budget.
        """
        line = _REFERENCE.sub(lambda match: str(folder / match[1]), self.line)
        steps = max(1, round(self.steps * scale))
        rest = ["--steps", str(steps), "--seed", str(seed), "--run", str(folder / self.name)]
        learner, *flags = shlex.split(line)
        return [learner, *environment, *flags, *rest]


@dataclass(frozen=True)
class Recipe:
    """Stages in their order.

    Attributes:
        about: what it shows, in a sentence.
        task: the usual task.
        stages: each may name earlier ones.
        options: of the environment, besides the task.
        base: the stage whose model the others are compared with; None: the task's base model.
        compared: stages that the report also holds against each other at equal cost, in tokens and in CPU seconds,
            by the checkpoints of each.
        source: papers.

    Raises:
        ValueError: for stages of one name, one that names a later or unknown stage, or a base or compared stage whose
            model answers nothing.

    Example:
        >>> recipe = Recipe("Two stages.", "addition", [Stage("sft", "sft", 100), Stage("rl", "grpo", 100)])
        >>> [stage.name for stage in recipe.stages]
        ['sft', 'rl']
    """

    about: str
    task: str
    stages: Sequence[Stage]
    options: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    compared: Sequence[str] = ()
    source: str = ""

    def __post_init__(self) -> None:
        known: list[str] = []
        for stage in self.stages:
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", stage.name):
                raise ValueError(f"a stage's name is lower case, words joined by hyphens, not {stage.name!r}")
            if stage.name in known:
                raise ValueError(f"two stages are called {stage.name!r}")
            for name in stage.references:
                if name not in known:
                    raise ValueError(f"stage {stage.name} needs {name!r}, which is no stage before it")
            known.append(stage.name)
        if not known:
            raise ValueError("a recipe has at least one stage")
        for role, names in (("base", [self.base] if self.base is not None else []), ("compared", self.compared)):
            for name in names:
                if name not in known:
                    raise ValueError(f"{role} names {name!r}, which is no stage; {closest(name, known)}")
                if self.stages[known.index(name)].line.split()[0] in SCORERS:
                    raise ValueError(f"{role} names {name!r}, whose model answers nothing")
