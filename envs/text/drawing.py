"""Conversations with their verdicts, as text and as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gridzero.envs.tasks import Problem, Task, Verdict

RENDER_MODES = ("ansi", "rgb_array")


def as_text(
    task: Task, problem: Problem, completions: Sequence[str], conversation: str, verdict: Verdict | None
) -> str:
    """The conversation and, where it is over, a colored line with the verdict."""
    if verdict is None:
        return conversation + "\n"
    mark = gym.utils.colorize("right" if verdict.correct else "wrong", "green" if verdict.correct else "red")
    return f"{conversation}\n{mark}{_remarks(verdict)}\n"


def as_picture(
    task: Task, problem: Problem, completions: Sequence[str], conversation: str, verdict: Verdict | None
) -> NDArray[np.uint8]:
    """The turns, the task's picture and the verdict at the end: (H, W, 3), of one shape for all conversations."""
    from gridzero.envs.rendering.text_view import conversation_frame  # pygame is imported by those who draw

    turns = turns_of(task, problem, completions, conversation)
    picture = None if task.picture_shape is None else task.picture(problem, completions)
    if verdict is None:
        return conversation_frame(turns, picture=picture)
    mark = "right" if verdict.correct else "wrong"
    return conversation_frame(turns, f"{mark}{_remarks(verdict)}", verdict.correct, picture=picture)


def turns_of(task: Task, problem: Problem, completions: Sequence[str], conversation: str) -> list[tuple[str, str]]:
    r"""A conversation as (speaker, text): the prompt, then completions and replies, then what is being written.

    >>> from gridzero.envs.tasks import make_task
    >>> turns_of(make_task("addition", digits=1, template="plain"), Problem("2+4=", "6"), [], "2+4=\n6")
    [('prompt', '2+4=\n'), ('model', '6')]
    """
    turns = [("prompt", task.prompt(problem))]
    for count, completion in enumerate(completions, 1):
        turns.append(("model", completion))
        reply = task.reply(problem, completions[:count]) if count < task.turns else None
        if reply is not None:
            turns.append(("reply", reply))
    rest = conversation[sum(len(text) for _, text in turns) :]
    return [*turns, ("model", rest)] if rest else turns


def _remarks(verdict: Verdict) -> str:
    form = "" if verdict.well_formed else ", not well-formed"
    return f"{form} ({verdict.reason})"
