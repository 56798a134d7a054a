from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest

from gridzero.agents.interaction import Interaction
from gridzero.agents.learner import Update
from gridzero.envs.rendering import Viewer
from gridzero.envs.rendering.frame_renderer import FrameRenderer, OwnFrames
from gridzero.envs.rendering.screen import to_array

RED, BLUE = (200, 30, 40), (20, 60, 180)


class Square(gym.Env[int, int]):
    """A square that moves to the right; its picture is ``shape`` pixels."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4}
    observation_space = gym.spaces.Discrete(20)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, shape: tuple[int, int] = (30, 40), render_mode: str | None = None) -> None:
        self.shape = shape
        self.render_mode = render_mode
        self.place = 0
        self.canvas: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.place += action
        return self.place, 1.0, self.place == 5, False, {}

    def render(self) -> Any:
        if self.render_mode is None:
            return None
        if self.canvas is None:
            self.canvas = np.empty((*self.shape, 3), dtype=np.uint8)
        self.frames = getattr(self, "frames", 0) + 1
        self.canvas[:] = BLUE
        self.canvas[:, : self.shape[1] // 2] = RED
        return self.canvas


def test_its_own_picture_is_shown_beside_the_panel() -> None:
    env = Square()
    viewer = Viewer(env, human=False, size=400)
    env.reset(seed=0)
    frame = viewer.frame()
    red, blue = ((frame == color).all(axis=-1) for color in (RED, BLUE))
    assert red.sum() == blue.sum() == 300 * 400 / 2, "ten times as large, no pixel lost"
    assert np.argwhere(red)[:, 1].max() + 1 == np.argwhere(blue)[:, 1].min()
    assert frame.shape[1] == 400 + 24 + 300
    viewer.close()


@pytest.mark.parametrize("shape", [(900, 300), (7, 7), (1, 1), (300, 2000)])
def test_pictures_are_scaled_to_fit(shape: tuple[int, int]) -> None:
    env = Square(shape)
    frame = to_array(FrameRenderer(env, size=500).draw())
    assert max(frame.shape) <= 500 + 25
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0
    inner = frame[12:-12, 12:-12]
    color = RED if min(shape) > 1 else BLUE
    assert (np.abs(inner.astype(int) - color).max(axis=-1) <= 2).any()
    assert inner.shape[0] / inner.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.1)


@pytest.mark.parametrize("mode", [None, "rgb_array"])
def test_drawing_leaves_the_environment_as_it_was(mode: str | None) -> None:
    env = Square(render_mode=mode)
    env.reset(seed=0)
    before = dict(vars(env))
    frames = OwnFrames(env)
    for _ in range(3):
        assert frames.frame() is not None
        assert vars(env) == before
    assert frames._drawing["frames"][1] == 3, "what drawing keeps for itself is there the next time"


def test_a_native_vector_that_was_drawn_is_still_restored_exactly() -> None:
    def play(interaction: Interaction, drawn: bool) -> list[Any]:
        frames = OwnFrames(interaction.env)
        seen = []
        for step in range(40):
            interaction.step(np.full(3, step % 2))
            if drawn:
                assert np.shape(frames.frame()) == (400, 600, 3)
            seen.append(np.array(interaction.observations))
        return seen

    def begin() -> Interaction:
        env = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="vector_entry_point")
        interaction = Interaction(env, 3)
        interaction.start()
        return interaction

    first = begin()
    play(first, drawn=True)
    state = first.state_dict()
    second = begin()
    second.load_state_dict(state)
    assert second.restored
    np.testing.assert_array_equal(play(first, drawn=True), play(second, drawn=False))


def test_nothing_is_drawn_before_the_first_reset() -> None:
    env = gym.make("CartPole-v1")
    frames = OwnFrames(env)
    assert frames.frame() is None
    env.reset(seed=0)
    assert np.shape(frames.frame()) == (400, 600, 3)


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_cannot_be_drawn_is_said_in_one_line(wrapped: bool) -> None:
    class Dark(Square):
        metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}

    env: Any = gym.wrappers.TimeLimit(Dark(), 5) if wrapped else Dark()
    with pytest.raises(ValueError, match="Dark cannot be drawn: it is no grid, and has no render mode rgb_array"):
        Viewer(env, human=False)
    with pytest.raises(ValueError, match="human"):
        OwnFrames(Square(render_mode="human"))


@pytest.mark.parametrize("wrong", [np.zeros((3, 4)), np.zeros((3, 4, 3)), "text"])
def test_what_is_no_picture_is_said(wrong: Any) -> None:
    class Odd(Square):
        def render(self) -> Any:
            return wrong

    with pytest.raises(ValueError, match=r"Odd gives .*, not a picture"):
        OwnFrames(Odd()).frame()


def test_the_first_environment_of_a_vector_is_shown_and_its_grid_where_it_has_one() -> None:
    env = gym.make_vec("FrozenLake-v1", num_envs=3, vectorization_mode="sync")
    viewer = Viewer(env, human=False)
    assert viewer.renderer.board is not None
    env.reset(seed=0)
    env.step(np.array([2, 2, 2]))
    assert viewer.episodes.total_steps + viewer.episodes.steps == 1
    viewer.close()


def test_keys_of_grids_are_not_offered_for_other_pictures() -> None:
    viewer = Viewer(Square())
    offered = {key for key, _, _ in viewer.controls.offered()}
    assert {"space", "R", "S", "Q Esc"} <= offered
    assert not offered & {"V", "A", "C", "P", "N", "T", "drag", "wheel"}
    viewer.close()
    grid = Viewer(gym.make("FrozenLake-v1"))
    assert {"V", "A", "C"} <= {key for key, _, _ in grid.controls.offered()}
    grid.close()


def test_returns_and_updates_are_on_the_panel() -> None:
    env = Square()
    viewer = Viewer(env, human=False)
    for _ in range(2):
        env.reset(seed=0)
        for _ in range(5):
            env.step(1)
    viewer.present()
    assert dict(viewer.dashboard().rows)["return so far"] == "5"
    assert viewer.curve is not None
    assert viewer.curve.points() == [5.0, 5.0]
    viewer.note(Update(10, {"episode_return": 4.0}))
    assert dict(viewer.dashboard().rows)["episode return"] == "4"
    viewer.close()


def test_a_recording_keeps_the_colors_of_the_picture(tmp_path: Any) -> None:
    from PIL import Image

    env = Square()
    viewer = Viewer(env, human=False, record=tmp_path / "a.gif")
    env.reset(seed=0)
    viewer.present()
    viewer.close()
    with Image.open(tmp_path / "a.gif") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for color in (RED, BLUE):
        assert np.abs(pixels - color).max(axis=-1).min() <= 4
