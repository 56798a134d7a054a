"""Pictures of maps against the maps that they show, and the observations that have them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import gridzero  # noqa: F401 - registers the environments
from gridzero.envs import GridWorld
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.grid_path import MOVES
from gridzero.envs.tasks.pictures import SYMBOLS, map_picture, tile_pictures

TEXT = "gridzero/TextGeneration-v0"


def read(picture: np.ndarray, pixels: int) -> str:
    """The map that a picture shows: each tile compared with the four that there are."""
    height, width = picture.shape[0] // pixels, picture.shape[1] // pixels
    rows = []
    for row in range(height):
        tiles = [picture[row * pixels : (row + 1) * pixels, i * pixels : (i + 1) * pixels] for i in range(width)]
        rows.append(
            "".join(SYMBOLS[[np.array_equal(t, one) for one in tile_pictures(pixels)].index(True)] for t in tiles)
        )
    return "\n".join(rows)


@given(st.integers(1, 6).flatmap(lambda width: st.lists(st.text(SYMBOLS, min_size=width, max_size=width), min_size=1)))
def test_every_map_can_be_read_from_its_picture(rows: list[str]) -> None:
    for pixels in (2, 8, 64):
        assert read(map_picture("\n".join(rows), pixels), pixels) == "\n".join(rows)


@pytest.mark.parametrize("name", ["grid-path", "grid-walk"])
def test_a_picture_shows_what_the_text_no_longer_has(name: str) -> None:
    shown, written = make_task(name, pixels=8, split="all"), make_task(name, split="all")
    for seed in range(20):
        problem = shown.sample(np.random.default_rng(seed))
        assert problem == written.sample(np.random.default_rng(seed))
        assert shown.prompt(problem) == written.prompt(problem).replace(problem.question, "")
        picture = shown.picture(problem)
        assert picture.shape == shown.picture_shape
        assert read(picture, 8) == problem.question
        assert shown.verify(problem, f"<think></think> <answer>{problem.reference}</answer>").well_formed


def test_a_walk_is_shown_where_the_environment_says_that_it_is() -> None:
    env: Any = gym.make(TEXT, task="grid-walk", pixels=4, template="plain")
    rng = np.random.default_rng(0)
    for seed in range(10):
        env.reset(seed=seed)
        question = env.unwrapped.problem.question
        world = GridWorld(question, observation="coordinates")
        world.reset(seed=0)
        over = False
        while not over:
            move = str(rng.choice([*MOVES]))
            observation, _, over, _, _ = env.step(move)
            place, *_ = world.step(MOVES.index(move))
            rows = question.replace("S", ".").split("\n")
            row, column = np.asarray(place).tolist()
            rows[row] = f"{rows[row][:column]}S{rows[row][column + 1 :]}"
            assert read(observation["image"], 4) == "\n".join(rows)
            assert not set(observation["text"]) & set("#.G")


@pytest.mark.parametrize("name", ["grid-path", "grid-walk"])
def test_environments_with_pictures_pass_gymnasiums_checker(name: str) -> None:
    check_env(gym.make(TEXT, task=name, pixels=8).unwrapped, skip_render_check=True)
    envs = gym.make_vec(TEXT, 3, vectorization_mode="vector_entry_point", task=name, pixels=8)
    synchronous = gym.make_vec(TEXT, 3, vectorization_mode="sync", task=name, pixels=8)
    assert envs.observation_space == synchronous.observation_space
    observations, _ = envs.reset(seed=[0, 1, 2])
    others, _ = synchronous.reset(seed=[0, 1, 2])
    assert observations in envs.observation_space
    np.testing.assert_array_equal(observations["image"], others["image"])
    assert observations["text"] == others["text"]


def test_a_transcription_is_the_map_and_is_paid_by_its_cells() -> None:
    env: Any = gym.make(TEXT, task="grid-path", pixels=8, transcribe=True, worked=1.0, rewards="correct,transcription")
    env.reset(seed=0)
    problem, task = env.unwrapped.problem, env.unwrapped.task
    demonstration = task.demonstrate(problem, np.random.default_rng(0))
    assert problem.question in demonstration
    assert env.step(demonstration)[1] == 2.0
    direct = make_task("grid-path", pixels=8, transcribe=True, direct=True)
    assert direct.demonstrate(problem, np.random.default_rng(0)) == (
        f"<think>{problem.question}</think> <answer>{problem.reference}</answer>"
    )
    env.reset(seed=0)
    wrong = problem.question.replace(".", "#", 1)
    cells = len(problem.question.replace("\n", ""))
    assert env.step(f"<think>{wrong}</think> <answer></answer>")[1] == pytest.approx(1 - 1 / cells)


def test_right_transcriptions_are_told_though_they_pay_nothing() -> None:
    env: Any = gym.make(TEXT, task="grid-path", height=2, width=3, pixels=8, transcribe=True)
    assert env.unwrapped.optimum == pytest.approx(1.1)
    for seed in range(8):
        env.reset(seed=seed)
        text = env.unwrapped.problem.question
        written = text.replace("#", ".") if seed % 2 else text
        _, reward, _, _, info = env.step(f"<think>{written}</think> <answer>X</answer>")
        assert (reward, info["reward/transcribed"]) == (pytest.approx(0.1), written == text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "addition", "pixels": 8}, "addition has no such option"),
        ({"task": "grid-path", "pixels": 7}, "pixels must be even, not 7"),
        ({"task": "grid-path", "pixels": 65}, "pixels must be an integer from 0 to 64"),
        ({"task": "grid-path", "transcribe": 1}, "transcribe must be true or false"),
    ],
)
def test_options_that_are_not_allowed_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        gym.make(TEXT, **options)


def test_tokens_are_not_observed_beside_pictures() -> None:
    with pytest.raises(ValueError, match="pixels must be 0 here"):
        gym.make("gridzero/TokenGeneration-v0", task="grid-path", pixels=8)
