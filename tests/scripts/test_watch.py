import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

import gridzero
from gridzero.__main__ import main
from gridzero.commands.watch import play
from gridzero.envs.rendering import Viewer
from gridzero.envs.rendering.frame_renderer import OwnFrames


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A checkpoint of an agent that knows the shortest way: 4 steps."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    env = gym.make("gridzero/GridWorld-v0", layout="S..\n...\n..G\n")
    agent = gridzero.agents.make("value-iteration", env, gamma=0.9)
    for _ in agent.learn():
        pass
    gridzero.agents.save(agent, tmp_path / "run")
    return str(tmp_path / "run")


def test_recording_has_a_frame_for_each_reset_and_step(run, capsys):
    assert main(["watch", run, "--record", "a.mp4", "--episodes", "2"]) == 0
    assert "10 frames" in capsys.readouterr().out
    assert imageio_ffmpeg.count_frames_and_secs("a.mp4")[0] == 10


def test_recording_of_a_short_episode_as_gif(run):
    assert main(["watch", run, "--record", "a.gif", "--episodes", "1", "--max-steps", "2", "--fps", "5"]) == 0
    with Image.open("a.gif") as image:
        assert image.n_frames == 3
        assert image.info["duration"] == 200


def test_a_recording_looks_for_no_display(tmp_path, monkeypatch, capfd):
    """CartPole starts all of pygame for a picture, and SDL's search for a display complains without a session."""
    import pygame

    pygame.quit()
    for name in ("XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    gridzero.agents.save(gridzero.agents.make("ppo", gym.make("CartPole-v1")), tmp_path / "pole")
    assert main(["watch", str(tmp_path / "pole"), "--record", "a.png", "--episodes", "1", "--max-steps", "2"]) == 0
    assert capfd.readouterr().err == ""
    pygame.quit()


def test_learning_on_while_recorded(tmp_path, run):
    env = gym.make("FrozenLake-v1")
    gridzero.agents.save(gridzero.agents.make("q-learning", env, steps_per_update=10), tmp_path / "q")
    before = sorted(path.read_bytes() for path in (tmp_path / "q").iterdir())
    assert main(["watch", str(tmp_path / "q"), "--record", "a.mp4", "--learn", "--frames", "7"]) == 0
    assert imageio_ffmpeg.count_frames_and_secs("a.mp4")[0] == 7
    assert sorted(path.read_bytes() for path in (tmp_path / "q").iterdir()) == before


def test_an_environment_that_is_no_grid_is_watched_by_its_own_picture(monkeypatch, capsys):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("gridzero.envs.rendering.Viewer.hold", lambda self: None)
    drawn = []
    original = OwnFrames.frame
    monkeypatch.setattr(OwnFrames, "frame", lambda self: drawn.append(original(self)) or drawn[-1])
    short = ["--num-envs", "2", "--rollout-steps", "64", "--evaluation-episodes", "2", "--threads", "1"]
    learnt = ["train", "ppo", "--env", "CartPole-v1", "--steps", "256", *short, "--watch", "--run", "cp"]
    assert main(learnt) == 0, capsys.readouterr().err
    assert drawn
    assert all(np.shape(frame) == (400, 600, 3) for frame in drawn)
    assert main(["watch", "cp", "--record", "a.mp4", "--episodes", "1", "--max-steps", "5"]) == 0
    assert main(["watch", "cp", "--record", "a.png", "--learn", "--frames", "2"]) == 0
    with Image.open("a.png") as image:
        pixels = np.asarray(image.convert("RGB"))[:400, :600]
    assert (pixels == (202, 152, 101)).all(axis=-1).sum() > 500, "the pole"


def test_an_environment_without_a_picture_is_refused_before_anything_starts(tmp_path, monkeypatch, capsys):
    class Dark(gym.Env):
        observation_space = action_space = gym.spaces.Discrete(2)
        metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

        def reset(self, *, seed=None, options=None):
            return 0, {}

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(gym.registry, "Dark-v0", gym.envs.registration.EnvSpec("Dark-v0", Dark))
    assert main(["train", "q-learning", "--env", "Dark-v0", "--steps", "100", "--watch", "--run", "dark"]) == 2
    assert (
        capsys.readouterr().err == "gridzero: Dark cannot be drawn: it is no grid, and has no render mode rgb_array\n"
    )
    assert not (tmp_path / "runs" / "dark").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no display; --record FILE"),
        (["--record", "a.avi"], ".gif, .mp4 or .png"),
        (["--record", "there.gif"], "exists"),
        (["--record", "no/a.gif"], "no folder"),
        (["--fps", "0"], "fps must be between 1 and 100"),
        (["--episodes", "0"], "episodes must be at least 1"),
        (["--layer", "q"], "values, actions, visits, none"),
        (["--recrod", "a.gif"], "did you mean --record"),
    ],
)
def test_errors_are_one_line(run, tmp_path, capsys, arguments, message):
    (tmp_path / "there.gif").write_bytes(b"kept")
    assert main(["watch", run, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "there.gif").read_bytes() == b"kept"


@pytest.mark.parametrize("arguments", [["watch"], ["watch", "nothing"]])
def test_which_run(run, capsys, arguments):
    assert main(arguments) == 2
    assert "run" in capsys.readouterr().err


def test_a_policy_with_a_memory_begins_each_episode_without_it():
    env = gym.make("CartPole-v1")
    agent = gridzero.agents.make("ppo", env, memory="gru")
    viewer = Viewer(env, agent, human=False)
    firsts = []
    act = agent.act

    def noted(observations):
        if viewer.episodes.steps == 0:
            firsts.append(agent._memory)
        return act(observations)

    agent.act = noted
    play(viewer, env, agent, 3, 0, max_steps=4)
    viewer.close()
    assert firsts == [None] * 3
