"""The grid world as its user meets it: options, observations, state, edits, pictures, mistakes."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from numpy.typing import NDArray

import gridzero  # noqa: F401 - registers the environments
from gridzero.envs.grid.layouts.layout import LAYOUTS, Layout, Tile
from gridzero.envs.grid.observations import OBSERVATIONS
from gridzero.envs.grid.world import GridWorld
from gridzero.envs.random_streams import fill_draws, mix, mix_array, stream_key, stream_keys

ID = "gridzero/GridWorld-v0"
UP, RIGHT, DOWN, LEFT, STAY = range(5)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("layout", [*LAYOUTS, "maze:7x7", "obstacles:6x9:3"])
def test_gymnasium_finds_nothing_to_warn_of(layout: str, observation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(ID, layout=layout, observation=observation, regenerate=":" in layout)
        check_env(env.unwrapped, skip_render_check=True)


def test_gymnasium_finds_nothing_to_warn_of_when_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID, layout="cliff").unwrapped)


SMALL = Layout.load("S.x\n.#H\n..G\n")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("index", 3),
        ("coordinates", np.array([1, 0])),
        ("one_hot", np.eye(9, dtype=np.float32)[3]),
        ("text", "S.x\n@#H\n..G"),
    ],
)
def test_what_is_observed(kind: str, expected: Any) -> None:
    env = GridWorld(SMALL, observation=kind)
    assert data_equivalence(env.set_state(3), expected, exact=True)
    assert env.set_state(3) in env.observation_space


def planes(pixels: NDArray[np.uint8]) -> list[list[list[int]]]:
    """Channels first, 1 for 255."""
    assert set(np.unique(pixels)) <= {0, 255}
    return (np.moveaxis(pixels, 2, 0) // 255).tolist()  # type: ignore[no-any-return]  # tolist of three dimensions


def test_the_image_shows_agent_walls_targets_and_hazards() -> None:
    env = GridWorld(SMALL, observation="image")
    agent, wall, target, hazard = planes(env.set_state(3))
    assert agent == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert wall == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert target == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert hazard == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_the_window_is_centred_on_the_agent_and_walled_in() -> None:
    env = GridWorld(SMALL, observation="window", window_size=3)
    wall, target, hazard = planes(env.set_state(8 - 1))
    assert wall == [[0, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert target == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert hazard == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    corner = planes(env.set_state(0))[0]
    assert corner == [[1, 1, 1], [1, 0, 0], [1, 0, 1]]


def test_the_settings_of_the_map_yield_to_options() -> None:
    assert GridWorld("zhao-5x5").rules.actions == 5
    assert GridWorld("zhao-5x5", actions=4).rules.actions == 4
    assert GridWorld("zhao-5x5-strict").rules.reward_forbidden == -10
    assert GridWorld("zhao-5x5", target_terminal=True).mdp.terminal.sum() == 1
    assert GridWorld("zhao-5x5").mdp.terminal.sum() == 0


def test_diagonals_pass_between_walls_and_never_slide_along_the_edge() -> None:
    env = GridWorld(".#\n#G\n", actions=8, start=0)
    env.reset()
    assert env.action_masks().tolist() == [False] * 5 + [True] + [False] * 2
    assert env.step(4)[:2] == (0, -1.0)
    assert env.step(5)[:4] == (3, 1.0, True, False)


def test_success_is_being_on_a_target() -> None:
    env = GridWorld("zhao-2x2", start=2)
    assert env.reset()[1] == {"is_success": False}
    assert env.step(RIGHT)[4] == {"is_success": True}
    assert env.step(STAY)[1:] == (1.0, False, False, {"is_success": True})
    assert env.step(DOWN)[1:] == (-1.0, False, False, {"is_success": True})
    assert env.step(LEFT)[4] == {"is_success": False}


@pytest.mark.parametrize("options", [{"layout": "frozen-lake-8x8"}, {"layout": "maze:7x7", "regenerate": True}])
@pytest.mark.parametrize("way", ["state", "pickle", "deepcopy"])
def test_interrupted_goes_on_as_if_not(options: dict[str, Any], way: str) -> None:
    env = GridWorld(**options, observation="image", render_mode="ansi")
    rng = np.random.default_rng(1)
    env.reset(seed=3)
    for _ in range(150):  # past the first block of random numbers
        if env.step(int(rng.integers(4)))[2]:
            env.reset()
    if way == "state":
        other = GridWorld(**options, observation="image", render_mode="ansi")
        saved = json.loads(json.dumps(env.get_state()))
        assert data_equivalence(other.set_state(saved), env.observer.one(env.cell), exact=True)
    else:
        other = pickle.loads(pickle.dumps(env)) if way == "pickle" else copy.deepcopy(env)
        assert env.render() == other.render()
    for _ in range(150):
        action = int(rng.integers(4))
        ours, theirs = env.step(action), other.step(action)
        assert data_equivalence(ours, theirs, exact=True)
        if ours[2]:
            assert data_equivalence(env.reset(), other.reset(), exact=True)


def test_an_edit_is_kept_in_the_state_and_through_resets() -> None:
    env = GridWorld("zhao-5x5", start=0)
    env.reset(seed=0)
    before = env.mdp
    assert env.mdp is before
    env.edit(0, 1, Tile("q", "toll", reward=-4.0))
    assert env.mdp is not before
    assert env.step(RIGHT)[:2] == (1, -4.0)
    assert env.reset()[0] == 0
    assert env.step(RIGHT)[:2] == (1, -4.0)
    for symbol in ("#", "#"):
        env.edit(0, 2, symbol)
    env.edit(1, 1, "#")
    other = GridWorld("zhao-5x5", start=0)
    assert other.set_state(env.get_state()) == 1
    assert other.step(RIGHT)[:2] == (1, -1.0)
    assert other.P == env.P


def test_an_edit_that_text_cannot_show_is_refused_whole() -> None:
    env = GridWorld("zhao-2x2", observation="text", start=0)
    with pytest.raises(ValueError, match="cannot show the symbol 'é'"):
        env.edit(0, 1, Tile("é", "odd"))
    assert env.reset(seed=0)[0] == "@x\n.G"
    env.edit(0, 1, "#")
    assert env.reset(seed=0)[0] == "@#\n.G"


def test_an_edit_lasts_until_the_next_generated_map() -> None:
    env = GridWorld("empty:3x3", regenerate=True)
    env.reset(seed=0)
    env.edit(0, 1, "#")
    assert not env.action_masks()[RIGHT]
    env.reset()
    assert env.action_masks()[RIGHT]


def test_an_agent_walled_in_ends_its_episode() -> None:
    env = GridWorld("zhao-5x5", start=0)
    env.reset()
    env.step(RIGHT)
    env.edit(0, 1, "#")
    assert env.step(RIGHT)[1:3] == (0.0, True)
    with pytest.raises(ValueError, match="no episode can start on \\(0, 0\\): it is the tile 'wall'"):
        env.edit(0, 0, "#")
    assert env.layout.text().startswith(".#...")


def test_regenerate_makes_a_new_solvable_map_each_time() -> None:
    env = GridWorld("maze:9x9", regenerate=True)
    maps, models = [], []
    for seed in (0, None, None):
        env.reset(seed=seed)
        maps.append(env.layout.text())
        models.append(env.mdp)
        assert env.mdp.finite_horizon_values(81)[env.cell] == 1.0
    assert len(set(maps)) == 3
    assert models[0] is not models[1]
    env.reset(seed=0)
    assert env.layout.text() == maps[0]
    assert Layout.load(env.layout.name).text() == maps[0]


def test_the_spec_survives_json() -> None:
    env = gym.make(ID, layout="aima-4x3", start=(2, 0), slip=0.5, observation="window", window_size=3)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.rules == env.unwrapped.rules  # type: ignore[attr-defined]  # GridWorld's
    assert again.observation_space == env.observation_space
    assert data_equivalence(env.reset(seed=4), again.reset(seed=4), exact=True)


@pytest.mark.parametrize("mode", ["human", "rgb_array", "ansi", "rgb_array_list", "ansi_list"])
def test_every_render_mode_draws(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(ID, layout="zhao-3x3", start=0, render_mode=mode)
        env.reset(seed=0)
        env.step(RIGHT)
        picture = env.render()
    if mode == "human":
        assert picture is None
    elif mode.endswith("_list"):
        assert isinstance(picture, list)
        assert len(picture) == 2
    elif mode == "rgb_array":
        assert isinstance(picture, np.ndarray)
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
    else:
        assert picture == "  (right)\n.\x1b[41m.\x1b[0m.\n..\x1b[33mx\x1b[0m\n\x1b[33mx\x1b[0m.\x1b[32;1mG\x1b[0m\n"
    env.close()


def test_drawing_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    drawn, plain = (gym.make(ID, layout="frozen-lake-4x4", render_mode=mode) for mode in ("rgb_array", None))
    assert data_equivalence(drawn.reset(seed=0), plain.reset(seed=0), exact=True)
    for action in np.random.default_rng(0).integers(4, size=40):
        drawn.render()
        ours, theirs = drawn.step(action), plain.step(action)
        assert data_equivalence(ours, theirs, exact=True)
        if ours[2]:
            drawn.reset()
            plain.reset()


def test_masks_and_model_are_not_the_callers_to_change() -> None:
    env = GridWorld("zhao-5x5")
    env.reset(seed=0)
    env.action_masks()[:] = False
    assert env.action_masks().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "zhao-5x6"}, "did you mean zhao-5x5"),
        ({"actions": 6}, "actions must be 4, 5 or 8, not 6"),
        ({"slip": 1.5}, "slip must be a probability"),
        ({"slip_to": "left"}, "slip_to must be one of perpendicular, any, backward, stay"),
        ({"reward_step": float("nan")}, "reward_step must be a finite number"),
        ({"target_terminal": "no"}, "target_terminal must be true or false"),
        ({"start": 25}, "states go from 0 to 24"),
        ({"start": (5, 0)}, "5 rows and 5 columns"),
        ({"start": "left"}, "start must be"),
        ({"layout": "frozen-lake-4x4", "start": 5}, "no episode can start on \\(1, 1\\): it is the tile 'hole'"),
        ({"layout": "GG\nGG\n"}, "no episode can start: every cell"),
        ({"observation": "pixels"}, "index, coordinates, one_hot, window, image, text, not 'pixels'"),
        ({"observation": "window", "window_size": 4}, "odd number from 3, not 4"),
        ({"regenerate": True}, "regenerate needs a generated layout"),
        ({"layout": "maze:5x5", "regenerate": True, "start": 0}, "start must be None or 'random'"),
        ({"render_mode": "gif"}, "render_mode must be one of human, rgb_array, ansi or None"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridWorld(**options)


@pytest.mark.parametrize("action", [4, -1, 1.5, "up", None, np.array([1, 2])])
def test_a_wrong_action_is_refused(action: Any) -> None:
    env = GridWorld("cliff")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an action is an integer from 0 to 3"):
        env.step(action)
    assert env.step(np.int32(0)) == GridWorld("cliff", start=36).step(0)


@pytest.mark.parametrize(
    ("state", "message"), [(25, "from 0 to 24"), (-1, "from 0 to 24"), ("a", "not 'a'"), (0.5, "not 0.5")]
)
def test_a_wrong_state_is_refused(state: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridWorld("zhao-5x5").set_state(state)
    with pytest.raises(ValueError, match="nobody can be on \\(0, 7\\)"):
        GridWorld("dyna-maze").set_state(7)


def test_random_streams_are_the_same_counter_by_counter() -> None:
    """Key and draws, compiled and in plain Python; SplitMix64's published first outputs for seed 0."""
    assert [mix((0x9E3779B97F4A7C15 * n) & (2**64 - 1)) for n in (1, 2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    key = stream_key(2**70 + 5)
    assert key == int(stream_keys(2**70 + 5, 3)[0])
    assert key not in (stream_key(5), stream_key(2**70))
    block = np.empty(10, dtype=np.uint64)
    fill_draws(np.uint64(key), np.uint64(20), block)
    plain = [mix(key ^ (0x9E3779B97F4A7C15 * n & (2**64 - 1))) for n in range(20, 30)]
    assert block.tolist() == plain
    assert mix_array(np.array([7], dtype=np.uint64))[0] == mix(7)
    with pytest.raises(ValueError, match="an integer from 0, not -1"):
        stream_key(-1)


def test_importing_gridzero_imports_nothing_heavy() -> None:
    heavy = "numba", "torch", "pygame", "matplotlib"
    code = f"import sys, gridzero; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
