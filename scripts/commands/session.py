"""Session: an agent, its run on disk and the budget, as ``train`` and ``sweep`` begin and resume it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridzero.agents.agent import Agent
from gridzero.agents.config_checks import check_used
from gridzero.agents.environments import Description, remake
from gridzero.agents.learner import Update
from gridzero.agents.neural.distributed import ALONE, ProcessGroup
from gridzero.agents.runs import FOLDER, Which
from gridzero.agents.training import Budget
from gridzero.commands import memory
from gridzero.commands.conversation import converses
from gridzero.commands.settings import TrainingOptions


@dataclass
class Session:
    """An agent, its run on disk, the budget, and perhaps a window.

    Of several processes that learn together, the first alone has the run and the window.
    """

    agent: Agent
    path: Path
    run: Any
    budget: Budget
    viewer: Any
    before: dict[str, Any]

    @classmethod
    def begin(
        cls,
        path: Path,
        name: str,
        described: Description,
        num_envs: int | None,
        config: Any,
        options: TrainingOptions,
        seed: int,
        watch: bool = False,
        group: ProcessGroup = ALONE,
        defaults: Any = None,
    ) -> Session:
        """A new run at ``path``.

        Args:
            path: its directory, which must not exist.
            name: of the agent.
            described: the environment, as :func:`~gridzero.agents.environments.remake` takes it.
            num_envs: how many, for agents that do not say it themselves.
            config: the agent's.
            options: budget, threads, times of checkpoints and evaluations.
            seed: decides everything that is random.
            watch: open a window on the agent at work.
            group: the processes that learn together.
            defaults: the config without what was given by hand, which must do something here; None: any.
        """
        from gridzero.agents.episodes import check_second_environment
        from gridzero.agents.registry import build
        from gridzero.agents.run_writer import Run

        memory.check(described, num_envs, config)
        env = remake(described, num_envs)
        agent = build(name, env, config, seed=seed)
        if defaults is not None:
            check_used([config], [agent.unused()], defaults)
        budget = options.budget(agent.default_steps)
        settings = {**dataclasses.asdict(budget), "threads": options.threads, "preset": options.preset}
        agent.setup()
        check_second_environment(agent)
        if group.rank > 0:
            return cls(agent, path, None, budget, None, {})
        viewer = _viewer(agent, watch)
        return cls(agent, path, Run.create(path, agent, settings), budget, viewer, {})

    @classmethod
    def resume(
        cls,
        path: Path,
        budget: Budget,
        watch: bool = False,
        step: Which = None,
        group: ProcessGroup = ALONE,
    ) -> Session:
        """The run at ``path``, from its last checkpoint or the one of ``step``."""
        from gridzero.agents.run_writer import Run
        from gridzero.agents.runs import last_state

        if group.rank > 0:
            agent, manifest = last_state(path, step=step)
            return cls(agent, path, None, budget, None, dict(manifest["training"]))
        run, agent, before = Run.resume(path, step=step)
        if run.version_changes:
            changes = "; ".join(run.version_changes)
            print(f"gridzero: {path} goes on, but not exactly as it would have: {changes}", file=sys.stderr)
        try:
            viewer = _viewer(agent, watch)
        except BaseException:
            run.close()
            raise
        run.extend({name: getattr(budget, name) for name in ("steps", "seconds", "keep", "stop_at")})
        return cls(agent, path, run, budget, viewer, before)

    def updates(self) -> Generator[Update, None, None]:
        """Train to the end of the budget; closing it saves the agent."""
        from gridzero.agents.training import training

        return training(self.agent, self.budget, self.run, self.before)

    def evaluate(self) -> Any:
        """Evaluate the agent as it is now, and write that into the run."""
        from gridzero.agents.evaluation import evaluate

        result = evaluate(self.agent, episodes=self.budget.evaluation_episodes, seed=self.agent.seed)
        self.run.write_evaluation(result.to_json())
        return result


def _viewer(agent: Agent, wanted: bool) -> Any:
    """A window on the agent at work; none where it writes, which the terminal shows."""
    if not wanted or converses(agent.env):
        return None
    from gridzero.commands.watch import stepped_environment
    from gridzero.envs.rendering import NoDisplayError, Viewer

    try:
        return Viewer(stepped_environment(agent), agent)
    except NoDisplayError as error:
        hint = "train without --watch, then `gridzero watch RUN --record FILE.gif`"
        raise ValueError(f"{error}; without a screen, {hint}") from error


def new_path(name: str | None, default: str) -> Path:
    """Path of a new run; a default name gets a number if it is taken.

    Raises:
        ValueError: for a name that is blank, begins with a dash or cannot be printed.
    """
    if name is not None:
        if not name.strip() or name.startswith("-") or not name.isprintable():
            raise ValueError(f"a run needs a name, not {name!r}")
        return Path(name) if os.sep in name else FOLDER / name
    path, number = FOLDER / default, 2
    while path.exists():
        path, number = FOLDER / f"{default}-{number}", number + 1
    return path
