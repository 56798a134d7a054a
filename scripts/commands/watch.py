"""``gridzero watch``: a run's agent at work in its environment, on the screen or in a GIF, MP4 or PNG."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from gridzero.agents.config_checks import check_at_least, check_between, check_choice, check_unset
from gridzero.agents.runs import Which
from gridzero.commands.arguments import parse
from gridzero.commands.conversation import conversations, converses, spells
from gridzero.process import loading, until_interrupted

ATTENTION = "attention"
LAYERS = {"values": "state values", "actions": "action values", "visits": "visits", "none": "none"}


@dataclass(frozen=True)
class Options:
    """Watch a run's agent at work. Keys in the window: H shows them; the mouse edits the map of a grid world.

    Grids are drawn with the agent's values and policy, all other environments by themselves (rgb_array).

    A language model writes in the terminal, each token coloured by its probability, about problems that were held out
    of training; Ctrl-C ends it.

    Example: gridzero watch lake --record lake.gif --episodes 2
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]] = ""
    """Name of a run, or the path of a run or of a single checkpoint."""
    record: str | None = None
    """Write this GIF or MP4, or the last frame as PNG, instead of showing it."""
    episodes: int | None = None
    """Stop after so many; without end on the screen, 3 in a recording or a pipe."""
    max_steps: int | None = None
    """Cut episodes off after so many steps; at the environment's own limit if not given. Where it has none, those of a
    recording end after 1,000 steps, as those of an evaluation do."""
    fps: int | None = None
    """Steps, and frames, per second: 8 if not given; tokens of a language model: 30."""
    learn: bool = False
    """Let it go on learning while you watch, in memory only; a recording then has a frame for each update."""
    frames: int = 200
    """Frames of a recording with --learn."""
    layer: str = "values"
    """Colors of a grid's cells: values, actions, visits or none; of a language model that sees, attention: what it
    looks at in its picture as it writes each token."""
    view: bool = False
    """Darken the cells that a grid's observation leaves out, and bar the moves that lead nowhere."""
    temperature: float = 0.0
    """Language models: draw tokens at this temperature; 0 takes the most likely ones."""
    columns: int = 1
    """Language models: so many problems side by side."""
    delay: float = 1.0
    """Language models: seconds from one verdict to the next problem."""
    seed: int = 0
    """Decides every episode."""
    from_: Annotated[Which, tyro.conf.arg(name="from")] = None
    """The step of the run's checkpoint, or "best" by the evaluations on the way; the last one if not given."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "episodes", "max_steps", "frames", "columns")
        check_at_least(self, 0, "temperature", "delay", "seed")
        check_between(self, 1, 100, "fps")
        check_choice(self, "layer", (*LAYERS, ATTENTION))


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "watch")
    if not options.run:
        raise ValueError("which run? `gridzero watch RUN`")
    from gridzero.agents import runs

    with loading():
        agent = runs.load(options.run, step=options.from_)
    if not (options.learn and options.record):
        check_unset(options, "without --learn and --record", "frames")
    if options.learn:
        check_unset(options, "with --learn", "episodes", "max_steps", "seed")
    if converses(agent.env) or spells(agent.env):
        return watch_writing(agent, options)
    if options.layer == ATTENTION:
        raise ValueError(f"attention is a layer of language models that see; one of {', '.join(LAYERS)} is of grids")
    check_unset(options, "but for a language model", "temperature", "columns", "delay")
    from gridzero.agents.episodes import STEP_LIMIT
    from gridzero.commands import report
    from gridzero.envs.rendering.boards import find_board

    world = single(agent.env)
    if find_board(world) is None:
        check_unset(options, "but for a grid", "layer", "view")
    env = stepped_environment(agent) if options.learn else world
    drawing = contextlib.nullcontext() if options.record is None else report.waiting(f"drawing {options.record}")
    with drawing, viewing(env, agent, options.record, options.fps or 8) as viewer:
        viewer.layers.background, viewer.layers.view = LAYERS[options.layer], options.view
        if options.learn:
            learn(viewer, agent, options.frames if options.record else None)
        else:
            episodes, limit = options.episodes, options.max_steps
            if options.record is not None:
                episodes = episodes or 3
                endless = getattr(env.spec, "max_episode_steps", None) is None
                limit = limit or (STEP_LIMIT if endless else None)
            play(viewer, env, agent, episodes, options.seed, limit)
    if options.record is not None:
        print(recorded(viewer.recorder.frames, options.record))
    return 0


def watch_writing(agent: Any, options: Options) -> int:
    """Show conversations until there were enough, or to Ctrl-C, which is no mistake here."""
    if options.learn:
        raise ValueError("--learn draws grids; `gridzero train ... --watch` shows what a language model writes")
    from gridzero.commands import memory, report, transcripts

    memory.check_columns(options.columns)
    check_unset(options, "where texts are written", "view", *(() if options.layer == ATTENTION else ("layer",)))
    if options.layer == ATTENTION and not hasattr(getattr(agent, "network", None), "attention"):
        raise ValueError("attention is a layer of language models that see, and this one reads text alone")
    session = conversations(agent, options.columns, options.temperature, options.seed, options.max_steps)
    console = report.console()
    session.attention = options.layer == ATTENTION
    rate, count, recording = options.fps or 30, options.columns, None
    transcript: transcripts.Transcript
    if options.record is not None:
        task = agent.env.unwrapped.task
        transcript = recording = transcripts.Recording(
            options.record, count, rate, options.delay, f"{agent.name}, {task.name}",
            pictures=task.picture_shape is not None,
        )  # fmt: skip
    elif not console.is_terminal:
        transcript = transcripts.Plain(console)
    elif count > 1:
        transcript = transcripts.Columns(console, count, rate, options.delay)
    else:
        transcript = transcripts.Stream(console, rate, options.delay)
    endless = console.is_terminal and recording is None
    left = options.episodes or (math.inf if endless else 3 * count)
    drawing = contextlib.nullcontext() if recording is None else report.waiting(f"drawing {options.record}")
    with drawing, transcript, until_interrupted():
        while session.begun < left:
            session.round(int(min(count, left - session.begun)), transcript.show)
            transcript.end_round()
    if recording is not None:
        print(recorded(recording.recorder.frames, str(options.record)), end="; ")
    print(f"{session.right} of {session.ended} right")
    return 0


def recorded(frames: int, file: str) -> str:
    """The line that says how many frames a recording has and in which file."""
    return f"the last of {frames} frames in {file}" if file.endswith(".png") else f"{frames} frames in {file}"


def single(env: Any) -> Any:
    """The environment itself if it is not a vector; one like those of a vector."""
    if not hasattr(env, "num_envs"):
        return env
    from gridzero.agents.environments import remake_single

    return remake_single(env)


def stepped_environment(agent: Any) -> Any:
    """The environment or vector in which an agent learns, which may be a copy of the one that it was given."""
    interaction = getattr(agent, "interaction", None)
    return getattr(agent, "vector", None) or getattr(interaction, "env", None) or agent.env


@contextlib.contextmanager
def viewing(
    env: Any,
    agent: Any,
    record: str | Path | None,
    fps: int,
    hint: str = "--record FILE.gif (or .mp4) needs none",
    **settings: Any,
) -> Iterator[Any]:
    """A viewer, in a window or recording, closed at the end.

    Raises:
        ValueError: when there is no display, with the hint, or the environment cannot be drawn.
    """
    from gridzero.envs.rendering import NoDisplayError, Viewer
    from gridzero.envs.rendering.screen import unseen

    with contextlib.nullcontext() if record is None else unseen():
        try:
            viewer = Viewer(env, agent, human=record is None, record=record, fps=fps, **settings)
        except NoDisplayError as error:
            raise ValueError(f"{error}; {hint}") from None
        try:
            yield viewer
        finally:
            viewer.close()


def play(viewer: Any, env: Any, agent: Any, episodes: int | None, seed: int, max_steps: int | None = None) -> None:
    """Let the agent play without exploring; after an edit of the map, one that plans does so anew."""
    plans = getattr(type(agent), "default_steps", 0) is None
    roots = np.random.SeedSequence(seed)
    for _ in itertools.count() if episodes is None else range(episodes):
        observation, info = env.reset(seed=int(roots.spawn(1)[0].generate_state(1)[0]))
        if hasattr(agent, "reset_memory"):
            agent.reset_memory()
        viewer.present()
        for _ in itertools.count() if max_steps is None else range(max_steps):
            if viewer.closed:
                return
            if viewer.restarting():
                break
            if plans:
                viewer.learn_on()
            agent.attend(env, info)
            action = agent.act([observation])[0]
            observation, _, terminated, truncated, info = env.step(action)
            viewer.present()
            if terminated or truncated:
                break


def learn(viewer: Any, agent: Any, frames: int | None) -> None:
    """Let the agent learn: for so many recorded updates, or until the window is closed."""
    if frames is None:
        for update in agent.learn():
            viewer.update(update)
            if viewer.closed:
                return
        viewer.hold()
        return
    for update in itertools.islice(agent.learn(), frames):
        viewer.note(update)
        viewer.present()
