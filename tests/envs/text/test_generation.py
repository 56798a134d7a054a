"""Text environments against the tasks they are about: what is shown, judged and paid."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Text
from hypothesis import given, settings
from hypothesis import strategies as st

import gridzero  # noqa: F401 - registers the environments
from gridzero.envs import TextGeneration, TextGenerationVector
from gridzero.envs.rendering.text_view import conversation_frame
from gridzero.envs.tasks import TASKS, make_task
from gridzero.envs.text.generation import AnyText

ONE_DIGIT = TextGeneration(digits=1)
GENERATED = sorted(set(TASKS) - {"jsonl", "reasoning-gym"})


@pytest.mark.parametrize("name", GENERATED)
def test_a_demonstration_is_paid_in_full_and_other_completions_by_their_parts(name: str) -> None:
    env = TextGeneration(name, rewards="correct,form=0.25")
    task, rng = make_task(name, worked=1.0), np.random.default_rng(0)
    for seed in range(10):
        observation, info = env.reset(seed=seed)
        assert observation == task.prompt(env.problem)
        assert info == {"correct": False, "well_formed": False, "is_success": False, "answer": "", "reason": ""}
        said: list[str] = []
        reward, over = 0.0, False
        while not over:
            assert reward == 0
            said.append(task.demonstrate(env.problem, rng, said))
            before = observation
            observation, reward, over, truncated, info = env.step(said[-1])
            assert observation.startswith(before + said[-1])
            assert not truncated
        assert reward == 1.25
        assert info["correct"]
        assert info["is_success"]
        assert info["well_formed"]
        if task.turns > 1:
            continue
        for form, formed in (("<think></think> <answer>{}</answer>", True), ("<answer>{}</answer>", False)):
            for answer, right in ((env.problem.reference, True), ("nonsense", False)):
                env.reset(seed=seed)
                _, reward, over, _, info = env.step(form.format(answer))
                assert over
                assert (info["correct"], info["well_formed"], info["answer"]) == (right, formed, answer)
                assert reward == right + 0.25 * formed
        env.reset(seed=seed)
        _, reward, over, _, info = env.step("")
        assert (reward, over, info["answer"]) == (0, True, "")


def test_a_conversation_goes_on_until_the_task_has_nothing_to_say() -> None:
    env = TextGeneration("grid-walk", turns=3, height=2, width=3, template="plain", rewards="correct,form=0.5")
    seen = 0
    for seed in range(30):
        text, _ = env.reset(seed=seed)
        said: list[str] = []
        over = False
        while not over:
            said.append("RDU"[len(said)])
            text, reward, over, _, info = env.step(said[-1])
            reply = env.task.reply(env.problem, said)
            assert over == (reply is None)
            expected, so_far = env.task.prompt(env.problem), []
            for completion in said:
                so_far.append(completion)
                expected += completion + (env.task.reply(env.problem, so_far) or "")
            assert text == expected
        verdict = env.task.judge(env.problem, said)
        assert reward == verdict.correct + 0.5 * verdict.well_formed
        assert info["reason"] == verdict.reason
        seen += len(said) == 3
    assert 0 < seen < 30


@settings(max_examples=150)
@given(st.text(st.characters(), max_size=200))
def test_every_string_is_in_the_spaces_and_judged(text: str) -> None:
    env = ONE_DIGIT
    prompt, _ = env.reset(seed=0)
    assert text in env.action_space
    observation, reward, over, _, info = env.step(text)
    assert observation == prompt + text
    assert observation in env.observation_space
    assert over
    assert info["correct"] == (reward >= 1)


def test_surrogates_and_a_million_characters_are_judged_too() -> None:
    env = TextGeneration(digits=1)
    for text in ("\ud800", "7" * 1_000_000, "<answer>" * 100_000, "\x00"):
        env.reset(seed=0)
        assert text in env.action_space
        observation, reward, over, _, _ = env.step(text)
        assert observation in env.observation_space
        assert (reward, over) == (0, True)
    env.reset(seed=0)
    longest = env.action_space.max_length  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="an action has at most 16,777,216 characters"):
        env.step("7" * (longest + 1))


def test_the_space_is_text_whatever_the_characters() -> None:
    space = AnyText(100, seed=0)
    assert isinstance(space, Text)
    assert space == AnyText(100)
    assert space != AnyText(101)
    assert "" in space
    assert "x" * 101 not in space
    assert 7 not in space
    samples = [space.sample() for _ in range(300)]
    assert max(map(len, samples)) == 64
    assert min(map(len, samples)) == 0
    assert all(sample.isascii() for sample in samples)
    assert len(AnyText(3, seed=1).sample(mask=(2, None))) == 2
    assert repr(space) == "AnyText(100)"
    copied = deepcopy(space)
    assert copied == space
    assert copied.sample() == deepcopy(space).sample()  # the generator is copied with its state
    assert copied.np_random is not space.np_random


def test_the_vector_takes_lists_tuples_and_arrays_of_strings() -> None:
    envs = TextGenerationVector(2, digits=1, template="plain", autoreset_mode="Disabled")
    rewards = []
    for form in (list, tuple, np.array):
        envs.reset(seed=0)
        answers = [problem.reference for problem in envs.problems]
        rewards.append(envs.step(form(answers))[1].tolist())
    assert rewards == [[1.1, 1.1]] * 3


def test_drawn_are_the_conversation_and_its_verdict() -> None:
    env: Any = gym.make("gridzero/TextGeneration-v0", digits=1, render_mode="ansi")
    prompt, _ = env.reset(seed=0)
    assert env.render() == prompt + "\n"
    right = env.unwrapped.problem.reference
    env.step(f"<answer>{right}</answer>")
    drawn = env.render()
    assert drawn.startswith(f"{prompt}<answer>{right}</answer>\n")
    assert "right" in drawn
    assert "not well-formed" in drawn
    assert "there is no thought" in drawn
    envs = TextGenerationVector(2, digits=1, render_mode="ansi")
    envs.reset(seed=0)
    envs.step(("x", "y"))
    pictures = envs.render()
    assert pictures is not None
    assert [picture.splitlines()[1] for picture in pictures] == ["x", "y"]
    assert all("wrong" in picture for picture in pictures)
    with pytest.warns(UserWarning, match="without render_mode='ansi' or 'rgb_array'"):
        assert TextGeneration(digits=1).render() is None


@pytest.mark.parametrize("name", ["gridzero/TextGeneration-v0", "gridzero/TokenGeneration-v0"])
def test_pictures_are_those_of_the_conversation_and_its_verdict(name: str) -> None:
    """Held against a drawing of what was said, and of the task's own replies and verdict; one shape throughout."""
    options: dict[str, Any] = {"task": "grid-walk", "turns": 3, "height": 2, "width": 3, "template": "plain"}
    env: Any = gym.make(name, render_mode="rgb_array", **options)
    judged = 0
    for seed in range(4):
        env.reset(seed=seed)
        task, problem, said = env.unwrapped.task, env.unwrapped.problem, []
        turns, over = [("prompt", task.prompt(problem))], False
        while not over:
            np.testing.assert_array_equal(env.render(), conversation_frame(turns))
            said.append("RDU"[len(said)])
            if "Token" in name:
                vocabulary = env.unwrapped.vocabulary
                env.step(vocabulary.encode(said[-1])[0])
                np.testing.assert_array_equal(env.render(), conversation_frame([*turns, ("model", said[-1])]))
                over = env.step(vocabulary.end)[2]
            else:
                over = env.step(said[-1])[2]
            turns.append(("model", said[-1]))
            if not over:
                turns.append(("reply", task.reply(problem, said)))
        verdict = task.judge(problem, said)
        form = "" if verdict.well_formed else ", not well-formed"
        words = f"{'right' if verdict.correct else 'wrong'}{form} ({verdict.reason})"
        frame = env.render()
        np.testing.assert_array_equal(frame, conversation_frame(turns, words, verdict.correct))
        assert frame.dtype == np.uint8
        judged += not np.array_equal(frame, conversation_frame(turns))
    assert judged == 4
    envs: Any = gym.make_vec(
        name, num_envs=2, vectorization_mode="vector_entry_point", render_mode="rgb_array", **options
    )
    envs.reset(seed=[0, 3])
    for seed, picture in zip((0, 3), envs.render(), strict=True):
        env.reset(seed=seed)
        np.testing.assert_array_equal(picture, env.render())
