"""Reward functions: weights, checks of what users' functions return, and what the environments pay for them."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from gridzero.envs import TextGeneration, TextGenerationVector, TokenGeneration, TokenGenerationVector
from gridzero.envs.tasks import Problem, make_task
from gridzero.envs.tasks.reward import Rewards, RewardSum, StepReward, parse_weights, register

TASK = {"digits": 1, "template": "plain"}
COMPLETIONS = st.text(alphabet="0123456789 x\n", max_size=6)


def vowels(problem: Problem, completions: Any) -> list[float]:
    return [float(len(completion)) for completion in completions]


def halves(problem: Problem, completions: Any) -> Rewards:
    """1 for the first half of a completion, 2 for the second, 5 at the end."""
    steps = [
        (StepReward(1.0, 0, len(c) // 2), StepReward(2.0, len(c) // 2, len(c))) if len(c) > 1 else ()
        for c in completions
    ]
    return Rewards([5.0] * len(completions), steps)


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    found = types.ModuleType("judges")
    found.vowels, found.halves = vowels, halves  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "judges", found)


@settings(max_examples=50)
@given(COMPLETIONS, st.floats(-3, 3), st.floats(-3, 3))
def test_the_reward_is_the_weighted_sum(completion: str, a: float, b: float) -> None:
    env = TextGeneration(**TASK, rewards={"correct": a, "form": 0.25, vowels: b})
    env.reset(seed=3)
    verdict = env.task.verify(env.problem, completion)
    _, reward, terminated, _, info = env.step(completion)
    assert terminated
    assert reward == pytest.approx(a * verdict.correct + 0.25 * verdict.well_formed + b * len(completion))
    assert info["reward/vowels"] == len(completion)
    assert (env.optimum is None) == (b != 0)


def test_steps_are_part_of_the_reward_and_told_apart() -> None:
    env = TextGeneration(**TASK, rewards="correct=0,judges:halves=0.5")
    _, before = env.reset(seed=0)
    _, reward, _, _, info = env.step("1234")
    assert reward == pytest.approx(0.5 * (5 + 1 + 2))
    assert info["step_rewards"] == (StepReward(0.5, 0, 2), StepReward(1.0, 2, 4))
    assert info["reward/judges:halves"] == 8.0
    assert (before["step_rewards"], before["reward/judges:halves"]) == ((), 0.0)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_pays_what_single_environments_pay(mode: AutoresetMode) -> None:
    rewards = "correct,judges:vowels=0.1"
    envs = TextGenerationVector(3, **TASK, rewards=rewards, autoreset_mode=mode)
    envs.reset(seed=[5, 5, 6])
    singles = [TextGeneration(**TASK, rewards=rewards) for _ in range(3)]
    for single, seed in zip(singles, (5, 5, 6), strict=True):
        single.reset(seed=seed)
    actions = ["7", "12", ""]
    _, paid, _, _, info = envs.step(actions)
    alone = [single.step(action) for single, action in zip(singles, actions, strict=True)]
    assert paid.tolist() == pytest.approx([result[1] for result in alone])
    last = info["final_info"] if mode is AutoresetMode.SAME_STEP else info
    assert last["reward/judges:vowels"].tolist() == [1.0, 2.0, 0.0]


def test_functions_are_asked_once_for_all_that_answer_one_problem() -> None:
    asked: list[int] = []

    def counted(problem: Problem, completions: Any) -> list[float]:
        asked.append(len(completions))
        return [0.0] * len(completions)

    envs = TextGenerationVector(4, **TASK, rewards={counted: 1.0})
    envs.reset(seed=[1, 1, 1, 2])
    envs.step(["1"] * 4)
    assert sorted(asked) == [1, 3]


def test_a_conversation_is_judged_whole() -> None:
    seen: list[str] = []

    def noted(problem: Problem, completions: Any) -> list[float]:
        seen.extend(completions)
        return [0.0] * len(completions)

    env = TextGeneration("grid-walk", turns=2, height=2, width=3, template="plain", rewards={noted: 1.0})
    prompt, _ = env.reset(seed=0)
    env.step("U")
    observation, _, terminated, _, _ = env.step("U")
    assert terminated
    assert [prompt + text for text in seen] == [observation]


def test_the_exact_model_of_tokens_pays_them_too() -> None:
    options: dict[str, Any] = TASK | {"max_tokens": 2, "writable": "0123456789", "distinct": 5}
    env = TokenGeneration(**options, rewards={vowels: 1.0})
    # Two characters and no end token: the longest completion pays most.
    assert float(env.mdp.start @ env.mdp.finite_horizon_values(2)) == 2.0
    assert TokenGeneration(**options).mdp is not env.mdp
    envs = TokenGenerationVector(2, **options, rewards={vowels: 1.0})
    envs.reset(seed=0)
    envs.step(np.array([1, 0]))
    assert envs.step(np.array([2, 0]))[1].tolist() == [2.0, 0.0]


def test_a_registered_name_is_as_good_as_a_module() -> None:
    register("letters", "judges:vowels")
    assert RewardSum(make_task("addition"), "letters").others == ("letters",)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ("", "different names"),
        ("correct,correct=2", "different names"),
        ("corect", "no reward is called 'corect'; did you mean correct"),
        ("form=inf", "the weight of the reward form must be a finite number"),
        ("judges:nothing", "judges has no nothing"),
        ("no_such_module:x", "there is no module no_such_module"),
        ("os:sep", "the reward os:sep is a str, not a function"),
    ],
)
def test_rewards_that_there_are_not_are_refused(rewards: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextGeneration(rewards=rewards)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0, 2.0], "must return 1 rewards, not 2"),
        ([float("nan")], "must return finite numbers"),
        (["high"], "must return numbers or Rewards"),
        (None, "must return numbers or Rewards"),
        (Rewards([1.0], [[StepReward(1.0, 0, 9)]]), "a step from 0 to 9 in 1 characters"),
        (Rewards([1.0], [[StepReward(float("inf"), 0, 1)]]), "must return finite numbers"),
        (ZeroDivisionError("by zero"), "the reward wrong failed: ZeroDivisionError: by zero"),
    ],
)
def test_what_a_function_returns_is_checked(returned: Any, message: str) -> None:
    def wrong(problem: Problem, completions: Any) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    env = TextGeneration(**TASK, rewards={wrong: 1.0})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step("1")


def test_weights_may_be_written_in_either_way() -> None:
    assert parse_weights("correct, form=0.1") == parse_weights({"correct": 1.0, "form": 0.1})
