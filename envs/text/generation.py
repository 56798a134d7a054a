"""Text in, text out: a prompt is observed, a whole completion is the action, and a verifier judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from gridzero.envs.tasks.reward import DEFAULT, Weights
from gridzero.envs.text.scene import LONGEST, AnyText, Scene
from gridzero.envs.text.single import ProblemEnv
from gridzero.envs.text.vector import ProblemVector


class TextGenerationVector(ProblemVector, VectorEnv[Any, Any, Any]):  # some libraries look at direct bases only
    r"""N conversations: what :class:`TextGeneration` is, N times over.

    Environment i does what a :class:`TextGeneration` on the random stream (seed, i) does. ``reset(seed=s)`` gives
    environment i the stream (s, i); ``reset(seed=[s0, s1, …])`` gives it (s_i, 0), which a single one has after
    ``reset(seed=s_i)``: equal seeds, equal problems. Observations and actions are N strings; of a task with pictures,
    observations are ``{"image": (N, H, W, 3), "text": N strings}``.

    Args:
        num_envs: N.
        task: the name of a task.
        rewards: weights of reward functions by name, as in ``"correct,form=0.1,mymod:politeness=0.5"``, or a mapping of
            names or functions; see :mod:`~gridzero.envs.tasks.reward`.
        distinct: the number of different problems, always the same ones; None: all that the task has.
        max_episode_steps: after how many turns an episode is cut off, unjudged; None: never.
        autoreset_mode: an ``AutoresetMode`` or its value: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        render_mode: ``"ansi"`` or ``"rgb_array"``: the conversations with their verdicts.
        **task_options: the task's own options, and those that all tasks have.

    Attributes:
        autoreset_mode: the mode.
        task: the task.
        problems: the N problems under way.

    Raises:
        TypeError: for an option that neither the environment nor its task has; it suggests the closest ones.
        ValueError: for a value that is not allowed; it says what is.

    Example:
        >>> envs = TextGenerationVector(num_envs=2, digits=1, template="plain")
        >>> envs.reset(seed=[7, 7])[0]
        ('2+4=\n', '2+4=\n')
        >>> envs.step(["6", "10"])[1]
        array([1.1, 0.1])
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "addition",
        *,
        rewards: Weights = DEFAULT,
        distinct: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **task_options: Any,
    ) -> None:
        super().__init__(
            num_envs,
            task,
            rewards=rewards,
            distinct=distinct,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            task_options=task_options,
        )
        shape = self.task.picture_shape
        self.single_observation_space = AnyText() if shape is None else Scene(shape)
        self.single_action_space = AnyText()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._texts = [""] * self.num_envs

    def _open(self, i: int, prompt: str) -> None:
        self._texts[i] = prompt

    def _check(self, actions: Any) -> list[str]:
        batch = isinstance(actions, Sequence | np.ndarray) and not isinstance(actions, str)
        taken: list[Any] = list(actions) if batch else [actions]
        if not batch or len(taken) != self.num_envs or not all(isinstance(action, str) for action in taken):
            raise ValueError(f"actions must be {self.num_envs} strings, not {_shortened(actions)}")
        for action in taken:
            if len(action) > LONGEST:
                raise ValueError(f"an action has at most {LONGEST:,} characters, not {len(action):,}")
        return taken

    def _act(self, actions: list[str], acting: NDArray[np.bool_]) -> None:
        for i in np.flatnonzero(acting).tolist():
            self._texts[i] += actions[i] + (self._say(i, actions[i]) or "")

    def _observe(self) -> Any:
        texts = tuple(text[-LONGEST:] for text in self._texts)
        if self.task.picture_shape is None:
            return texts
        pictures = map(self.task.picture, self.problems, self._completions)
        return {"image": np.stack(list(pictures)), "text": texts}

    def _text(self, i: int) -> str:
        return self._texts[i]

    def _restore(self, completions: Sequence[Sequence[str]], state: Mapping[str, Any]) -> None:
        for i, said in enumerate(completions):
            for completion in said:
                self._texts[i] += completion + (self._say(i, completion) or "")


class TextGeneration(ProblemEnv):
    r"""A problem is observed as text; the action is the completion, and a verifier judges it.

    The observation is all text so far: the prompt, and for tasks that answer back also the completions and answers
    since; of a task with pictures, a :class:`Scene`: that text, and what the problem looks like now. An
    episode ends with its verdict: a right answer pays 1, a well-formed completion 0.1, unless ``rewards`` say
    otherwise. The info has ``correct``, ``well_formed``, ``is_success`` (the same as ``correct``), the ``answer`` that
    was found and the ``reason``, and each reward of another kind as ``reward/NAME``.

    Args:
        task: the name of a task.
        rewards: weights of reward functions by name, as in ``"correct,form=0.1,mymod:politeness=0.5"``, or a mapping of
            names or functions; see :mod:`~gridzero.envs.tasks.reward`.
        distinct: the number of different problems, always the same ones; None: all that the task has.
        render_mode: ``"ansi"`` or ``"rgb_array"``: the conversation with its verdict.
        **task_options: the task's own options, and those that all tasks have.

    Attributes:
        task: the task.
        problem: the problem under way.

    Raises:
        TypeError: for an option that neither the environment nor its task has; it suggests the closest ones.
        ValueError: for a value that is not allowed; it says what is.

    Example:
        >>> env = TextGeneration("addition", digits=1)
        >>> env.reset(seed=7)[0]
        '2+4=\n'
        >>> _, reward, terminated, _, info = env.step("<think>four more</think> <answer>6</answer>")
        >>> reward, terminated, info["correct"], info["answer"], info["reason"]
        (1.1, True, True, '6', 'right')
    """

    def __init__(
        self,
        task: str = "addition",
        *,
        rewards: Weights = DEFAULT,
        distinct: int | None = None,
        render_mode: str | None = None,
        **task_options: Any,
    ) -> None:
        vector = TextGenerationVector(
            1,
            task,
            rewards=rewards,
            distinct=distinct,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
            **task_options,
        )
        super().__init__(vector, render_mode)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
