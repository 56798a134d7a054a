"""Base of the vectors of text environments: episodes about a task's problems, ended by a verdict."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from gridzero.envs.checks import autoreset, check_none_done, environments_to_reset, positive_integer, step_limit
from gridzero.envs.suggestions import closest
from gridzero.envs.tasks import Problem, Verdict, make_task, task_options
from gridzero.envs.tasks.reward import Judgement, RewardSum, Weights
from gridzero.envs.text.drawing import RENDER_MODES, as_picture, as_text
from gridzero.envs.text.scene import one_of

BoolArray = NDArray[np.bool_]

VERDICT_ENTRIES = ("correct", "well_formed", "is_success", "answer", "reason")
_PATIENCE = 1_000


class ProblemVector(VectorEnv[Any, Any, Any]):
    """N episodes, each about one problem of a task; a subclass says what an action and an observation are.

    The rewards are paid at the end of the episode. Infos have ``correct``, ``well_formed``, ``is_success`` (the same as
    ``correct``), ``answer`` and ``reason``; before the end they are False and "". Rewards other than the verdict's are
    there too, each as ``reward/NAME``, unweighted and 0 before the end, and ``step_rewards``, for each environment a
    tuple of :class:`~gridzero.envs.tasks.reward.StepReward`, weighted, whose sum is part of the reward.

    Problem k of environment i depends on the seed, i and k alone: on neither N nor the actions.

    Args:
        num_envs: N.
        task: the name of a task; see :data:`~gridzero.envs.tasks.TASKS`.
        rewards: weights of reward functions by name, such as ``"correct,form=0.1"``, or a mapping.
        distinct: the number of different problems, always the same ones; None: all that the task has.
        max_episode_steps: after how many steps an episode is cut off, unjudged; None: never.
        autoreset_mode: an ``AutoresetMode`` or its value: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        render_mode: how the conversations and their verdicts are drawn: ``"ansi"`` or ``"rgb_array"``.
        task_options: the task's own options.

    Attributes:
        autoreset_mode: the mode.
        task: the task.
        problems: the N problems under way.
        distinct_problems: the only ones there are, with ``distinct``; else None.
        optimum: what a right and well-formed answer pays; None where other rewards than the verdict's count.
        evaluation_options: with which options a learner is to be judged: problems held out of training, unless
            ``distinct`` or ``split`` say which ones there are.

    Raises:
        TypeError: for an option that neither the environment nor its task has; it suggests the closest ones.
        ValueError: for a value that is not allowed; it says what is.
    """

    metadata: dict[str, Any]

    def __init__(
        self,
        num_envs: int,
        task: str,
        *,
        rewards: Weights,
        distinct: int | None,
        max_episode_steps: int | None,
        autoreset_mode: AutoresetMode | str,
        render_mode: str | None,
        task_options: Mapping[str, Any],
    ) -> None:
        self.num_envs = positive_integer("num_envs", num_envs)
        self._limit = step_limit(max_episode_steps)
        self.autoreset_mode = autoreset(autoreset_mode)
        self.metadata = {"render_modes": [*RENDER_MODES], "render_fps": 1, "autoreset_mode": self.autoreset_mode}
        if render_mode not in (None, *RENDER_MODES):
            raise ValueError(f"render_mode must be {', '.join(RENDER_MODES)} or None, not {render_mode!r}")
        self.render_mode = render_mode
        self.task = make_task(task, **self._known_options(task, task_options))
        self.rewards = RewardSum(self.task, rewards)
        self._generator = np.random.Generator(np.random.Philox(0))
        self._fresh: Any = self._generator.bit_generator.state
        self.distinct_problems = (
            None if distinct is None else self._fixed_problems(positive_integer("distinct", distinct))
        )
        self.optimum = self.rewards.optimum
        learning = self.distinct_problems is None and self.task.split == "train"
        self.evaluation_options = {"split": "held-out"} if learning else {}
        self._keys = np.zeros((self.num_envs, 2), dtype=np.uint64)
        self._begun = np.zeros(self.num_envs, dtype=np.int64)  # how many problems each has had
        self._ready = False  # every environment has had one
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._done = np.zeros(self.num_envs, dtype=np.bool_)
        self._numbers = np.zeros(self.num_envs, dtype=np.int64)  # of the problems among the distinct ones
        self.problems: list[Problem] = [Problem("", "")] * self.num_envs
        self._completions: list[list[str]] = [[] for _ in range(self.num_envs)]
        self._verdicts: dict[int, Verdict] = {}  # of the episodes that are over
        self._judgements: dict[int, Judgement] = {}

    def _known_options(self, task: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        own = [
            name for name in inspect.signature(type(self).__init__).parameters if name not in ("self", "task_options")
        ]
        known = [*task_options(task), *own]
        for name in given:
            if name not in known:
                # Callers that try a keyword, such as TorchRL's frameskip, look for Python's own words in a TypeError.
                raise TypeError(
                    f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}: "
                    f"the task {task} has no such option; {closest(name, known)}"
                )
        return given

    def _fixed_problems(self, count: int) -> tuple[Problem, ...]:
        rng = np.random.default_rng(0)  # whatever the seed is, so that all environments have the same ones
        problems: dict[tuple[str, str], Problem] = {}  # a prompt with a picture does not have the question
        misses = 0
        while len(problems) < count:
            problem = self.task.sample(rng)
            known = len(problems)
            problems.setdefault((self.task.prompt(problem), problem.question), problem)
            misses = 0 if len(problems) > known else misses + 1
            if misses > _PATIENCE + 10 * known:
                split = "" if self.task.split == "all" else f"{self.task.split} "
                raise ValueError(f"{self.task.name} has only {known} {split}problems, not {count}")
        return tuple(problem for _, problem in sorted(problems.items()))

    def _draw(self, key: Sequence[int], index: int) -> tuple[Problem, int]:
        """Problem ``index`` of a stream, and its number among the distinct ones."""
        # A counter of its own for each problem, far enough from the next one's for all that drawing it can take.
        counter = np.array([0, 0, 0, index], dtype=np.uint64)
        state = {"key": np.array(key, dtype=np.uint64), "counter": counter}
        self._generator.bit_generator.state = {**self._fresh, "state": state}
        if self.distinct_problems is None:
            return self.task.sample(self._generator), 0
        number = int(self._generator.integers(len(self.distinct_problems)))
        return self.distinct_problems[number], number

    def _begin(self, which: NDArray[np.int64]) -> None:
        """The next problems; streams that are alike have the same ones, drawn once."""
        drawn: dict[tuple[int, ...], tuple[Problem, int]] = {}
        keys, begun = self._keys[which].tolist(), self._begun[which].tolist()
        for i, key, index in zip(which.tolist(), keys, begun, strict=True):
            name = (*key, index)
            if name not in drawn:
                drawn[name] = self._draw(key, index)
            self._pose(i, *drawn[name])
        self._begun[which] += 1
        self._elapsed[which] = 0
        self._done[which] = False

    def _pose(self, i: int, problem: Problem, number: int) -> None:
        self.problems[i], self._numbers[i] = problem, number
        self._completions[i] = []
        self._verdicts.pop(i, None)
        self._judgements.pop(i, None)
        self._open(i, self.task.prompt(problem))

    @abstractmethod
    def _open(self, i: int, prompt: str) -> None:
        """Begin the conversation of environment i."""

    @abstractmethod
    def _check(self, actions: Any) -> Any:
        """Check the actions.

        Raises:
            ValueError: for actions that are not allowed.
        """

    @abstractmethod
    def _act(self, actions: Any, acting: BoolArray) -> None:
        """Act in the environments ``acting``; every completion that is finished is given to :meth:`_say`."""

    @abstractmethod
    def _observe(self) -> Any:
        """The observations of all, new."""

    @abstractmethod
    def _text(self, i: int) -> str:
        """The conversation of environment i so far."""

    def _say(self, i: int, completion: str) -> str | None:
        """Add a completion to a conversation: the task's reply, or None and a verdict."""
        completions = self._completions[i]
        completions.append(completion)
        reply = None
        if len(completions) < self.task.turns:
            reply = self.task.reply(self.problems[i], completions)
        if reply is None:
            self._verdicts[i] = self.task.judge(self.problems[i], completions)
        return reply

    def _judge(self) -> None:
        """Judge the episodes that have just ended, all together."""
        ended = [i for i in self._verdicts if i not in self._judgements]
        if not ended:
            return
        problems, verdicts = [self.problems[i] for i in ended], [self._verdicts[i] for i in ended]
        texts = [""] * len(ended)
        if self.rewards.others:
            begins = {id(problem): len(self.task.prompt(problem)) for problem in problems}
            texts = [self._text(i)[begins[id(self.problems[i])] :] for i in ended]
        self._judgements |= zip(ended, self.rewards.judge_verdicts(problems, verdicts, texts), strict=True)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: s begins the streams (s, i), a sequence the streams (s_i, 0), alike for equal s_i; where there is
                none, streams go on.
            options: ``{"reset_mask": mask}``, (N,) bool: only there.

        Raises:
            ValueError: for seeds or a mask that are not N, or another option.
        """
        which = environments_to_reset(options, self.num_envs)
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            self._begin_streams(which.tolist(), [(int(seed), i) for i in which.tolist()])
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise ValueError(f"a sequence of seeds must have one for each of {self.num_envs}, not {len(seed)}")
            given = {i: own for i in which.tolist() if (own := seed[i]) is not None}
            self._begin_streams(list(given), [(int(own), 0) for own in given.values()])
        if not self._ready:  # at first all begin, and those that have no stream yet get one
            self._ready = True
            which = np.arange(self.num_envs)
            new = np.flatnonzero((self._keys == 0).all(axis=1)).tolist()
            if new:
                drawn = int(self.np_random.integers(1 << 63))
                self._begin_streams(new, [(drawn, i) for i in new])
        self._begin(which)
        return self._observe(), self._info()

    def _begin_streams(self, which: list[int], names: list[tuple[int, int]]) -> None:
        keys: dict[tuple[int, int], NDArray[np.uint64]] = {}
        for i, name in zip(which, names, strict=True):
            if name not in keys:
                if name[0] < 0:
                    raise ValueError(f"a seed is an integer from 0, not {name[0]}")
                keys[name] = np.asarray(np.random.SeedSequence(name).generate_state(2, np.uint64), dtype=np.uint64)
            self._keys[i] = keys[name]
            self._begun[i] = 0

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """Act in all environments; those that are done begin anew, by the autoreset mode.

        Args:
            actions: N, as the action space has them.

        Returns:
            Observations, rewards (N,) float64, terminated and truncated (N,) bool, and an info with N of each entry.
            All are new. In ``SAME_STEP`` mode, where an episode ended, the info has ``final_obs`` and ``final_info``.

        Raises:
            ValueError: for actions that are not allowed, or (``DISABLED``) when an environment is done and was not
                reset.
        """
        observations, rewards, terminated, truncated = self._advance(actions)
        info = self._info()
        done = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            observations, info = self._reset_done(done, observations, info)
        return observations, rewards, terminated, truncated, info

    def _advance(self, actions: Any) -> tuple[Any, NDArray[np.float64], BoolArray, BoolArray]:
        """A step, without infos and the resets of ``SAME_STEP`` mode."""
        taken = self._check(actions)
        acting = np.ones(self.num_envs, dtype=np.bool_)
        if self._done.any():
            if self.autoreset_mode is AutoresetMode.DISABLED:
                check_none_done(self._done)
            acting = ~self._done
            self._begin(np.flatnonzero(self._done))
        elif not self._ready:
            raise ValueError("reset the environments before the first step")
        self._act(taken, acting)
        self._elapsed += acting
        terminated, rewards = np.zeros(self.num_envs, dtype=np.bool_), np.zeros(self.num_envs)
        self._judge()
        for i, judgement in self._judgements.items():
            terminated[i], rewards[i] = True, judgement.total
        truncated = acting & (self._elapsed >= self._limit)
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._done = terminated | truncated
        return self._observe(), rewards, terminated, truncated

    def _reset_done(self, done: BoolArray, last: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done).tolist():
            final[i] = one_of(last, i)
        final_info = {name: done.copy() if name.startswith("_") else values for name, values in info.items()}
        self._begin(np.flatnonzero(done))
        whole = {
            "final_obs": final,
            "_final_obs": done.copy(),
            "final_info": final_info,
            "_final_info": done.copy(),
            **self._info(),
        }
        return self._observe(), whole

    def _info(self) -> dict[str, Any]:
        n = self.num_envs
        correct, well_formed = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
        answer, reason = np.full(n, "", dtype=object), np.full(n, "", dtype=object)
        for i, verdict in self._verdicts.items():
            correct[i], well_formed[i] = verdict.correct, verdict.well_formed
            answer[i], reason[i] = verdict.answer or "", verdict.reason
        values = (correct, well_formed, correct.copy(), answer, reason)
        entries: dict[str, NDArray[Any]] = dict(zip(VERDICT_ENTRIES, values, strict=True))
        if self.rewards.others:
            for name in self.rewards.others:
                entries[f"reward/{name}"] = np.zeros(n)
            steps = np.empty(n, dtype=object)
            steps[:] = [() for _ in range(n)]
            for i, judgement in self._judgements.items():
                steps[i] = judgement.steps
                for name, value in judgement.parts.items():
                    entries[f"reward/{name}"][i] = value
            entries["step_rewards"] = steps
        return entries | {f"_{name}": np.ones(n, dtype=np.bool_) for name in entries}

    def render(self) -> tuple[Any, ...] | None:
        """The N conversations with their verdicts: strings in ``"ansi"`` mode, else pictures (H, W, 3) uint8."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without render_mode='ansi' or 'rgb_array'")
            return None
        conversations = zip(self.problems, self._completions, map(self._text, range(self.num_envs)), strict=True)
        draw = as_text if self.render_mode == "ansi" else as_picture
        return tuple(draw(self.task, *one, self._verdicts.get(i)) for i, one in enumerate(conversations))

    def get_state(self) -> dict[str, Any]:
        """State to continue from: the random streams, the problems by their place in them, the conversations."""
        if not self._ready:
            self.reset()
        return {
            "keys": self._keys.copy(),
            "begun": self._begun.copy(),
            "elapsed": self._elapsed.copy(),
            "done": self._done.copy(),
            "completions": [list(completions) for completions in self._completions],
        }

    def state_of(self, i: int) -> dict[str, Any]:
        """State from which a single environment continues as environment ``i`` would."""
        return {name: part[i : i + 1] for name, part in self.get_state().items()}

    def set_state(self, state: Any) -> Any:
        """Continue from what :meth:`get_state` gave.

        Returns:
            The observations there.

        Raises:
            ValueError: when the numbers of environments disagree.
        """
        if np.shape(state["keys"]) != self._keys.shape:
            raise ValueError(f"the state is of {len(state['keys'])} environments; these are {self.num_envs}")
        self._keys = np.array(state["keys"], dtype=np.uint64)
        self._begun = np.array(state["begun"], dtype=np.int64) - 1
        completions = state["completions"]
        self._ready = True
        self._begin(np.arange(self.num_envs))
        self._elapsed = np.array(state["elapsed"], dtype=np.int64)
        self._done = np.array(state["done"], dtype=np.bool_)
        self._restore(completions, state)
        self._judge()
        return self._observe()

    @abstractmethod
    def _restore(self, completions: Sequence[Sequence[str]], state: Mapping[str, Any]) -> None:
        """Bring the conversations, just begun, to where they were."""
