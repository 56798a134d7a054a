"""Base of the single text environments: a vector of one, unpacked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym

from gridzero.envs.tasks import Problem, Verdict, task_options
from gridzero.envs.tasks.reward import Judgement, RewardSum, StepReward
from gridzero.envs.text.drawing import RENDER_MODES
from gridzero.envs.text.scene import one_of
from gridzero.envs.text.vector import VERDICT_ENTRIES

_UNJUDGED = Verdict(False, False, None, "")


class ProblemEnv(gym.Env[Any, Any]):
    """One environment: a vector of one, unpacked, so that both agree in everything.

    Args:
        vector: of one environment, with autoreset disabled.
        render_mode: ``"ansi"``, ``"rgb_array"`` or None.

    Attributes:
        task: the task.
        optimum: what a right and well-formed answer pays; None where other rewards than the verdict's count.
        evaluation_options: with which options a learner is to be judged.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [*RENDER_MODES], "render_fps": 1}  # type: ignore[misc]  # Gymnasium's is per instance

    def __init__(self, vector: Any, render_mode: str | None) -> None:
        self._vector = vector
        self.render_mode = render_mode
        self.observation_space, self.action_space = vector.single_observation_space, vector.single_action_space
        self.task = vector.task
        self.rewards: RewardSum = vector.rewards
        self.optimum: float | None = vector.optimum
        self.evaluation_options: dict[str, Any] = vector.evaluation_options

    @classmethod
    def further_parameters(cls, given: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
        """The keywords that the constructor takes besides its own, when these are given: those of the task."""
        return task_options(given.get("task", inspect.signature(cls).parameters["task"].default))

    @property
    def problem(self) -> Problem:
        """The problem under way."""
        problem: Problem = self._vector.problems[0]
        return problem

    @property
    def text(self) -> str:
        """The conversation so far."""
        text: str = self._vector._text(0)
        return text

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: begins the random stream (seed, 0); without one the stream goes on.
            options: there are none.
        """
        super().reset(seed=seed)
        observations, _ = self._vector.reset(seed=seed)
        return one_of(observations, 0), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action.

        Raises:
            ValueError: for one that is not allowed, or after the end of an episode.
        """
        observations, rewards, terminated, truncated = self._vector._advance([action])
        return one_of(observations, 0), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), self._info()

    def _info(self) -> dict[str, Any]:
        judgement: Judgement | None = self._vector._judgements.get(0)
        verdict = _UNJUDGED if judgement is None else judgement.verdict
        values = (verdict.correct, verdict.well_formed, verdict.correct, verdict.answer or "", verdict.reason)
        info: dict[str, Any] = dict(zip(VERDICT_ENTRIES, values, strict=True))
        if self.rewards.others:
            parts = {} if judgement is None else judgement.parts
            steps: tuple[StepReward, ...] = () if judgement is None else judgement.steps
            info |= {f"reward/{name}": parts.get(name, 0.0) for name in self.rewards.others} | {"step_rewards": steps}
        return info

    def render(self) -> Any:
        """The conversation with its verdict: a string in ``"ansi"`` mode, else a picture (H, W, 3) uint8."""
        rendered = self._vector.render()
        return None if rendered is None else rendered[0]

    def get_state(self) -> dict[str, Any]:
        """State to continue from."""
        state: dict[str, Any] = self._vector.get_state()
        return state

    def set_state(self, state: Any) -> Any:
        """Continue from what :meth:`get_state` gave; the observation there."""
        return one_of(self._vector.set_state(state), 0)
