import enum
import time

import gymnasium as gym
import pytest

from gridzero.__main__ import main
from gridzero.commands.play import action_names
from gridzero.envs.rendering import Viewer

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3


@pytest.fixture
def typed(monkeypatch):
    """Types keys, one whenever the game waits, and gives what the viewer showed in between."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def play(arguments, keys):
        import pygame

        remaining = iter(keys)
        shown = []

        def wait(self, done):
            until = time.monotonic() + 0.1
            while not self.closed and not done():
                if time.monotonic() < until:  # it may only be keeping to its frame rate
                    time.sleep(0.005)
                    continue
                key = next(remaining, "escape")
                place = None if self.renderer.board is None else self.renderer.board.position()
                shown.append((dict(self._rows()), self.message, self.layers.background, place))
                pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(key)))
                self._handle_events()

        monkeypatch.setattr(Viewer, "wait", wait)
        monkeypatch.setattr("gridzero.envs.rendering.viewer.Viewer.draw", lambda self: None)
        return main(["play", *arguments]), shown

    return play


def test_a_game_is_held_against_the_optimum(typed):
    status, shown = typed(["CliffWalking-v1"], ["up", *["right"] * 11, "down"])
    assert status == 0
    assert [position for *_, position in shown[:3]] == [36, 24, 25]
    rows, message, *_ = shown[-1]
    assert "you got -13, the best expect -13" in message
    assert rows["best expected return"] == "-13"


def test_letters_move_too_and_keys_show_the_optimum(typed):
    status, shown = typed(["gridzero/GridWorld-v0", "--env.layout", "S..\n..G\n"], ["d", "s", "o", "a", "o", "w"])
    assert status == 0
    assert [position for *_, position in shown] == [0, 1, 4, 4, 3, 3, 0]
    assert [background for _, _, background, _ in shown][2:6] == ["none", "state values", "state values", "none"]


def test_taxi_has_keys_for_picking_up(typed):
    status, shown = typed([TAXI, "--seed", "0"], ["e"])
    assert status == 0
    assert shown[-1][0]["return so far"] == "-10"


def test_an_environment_that_is_no_grid_is_played_by_its_own_picture(typed):
    status, shown = typed(["CartPole-v1", "--seed", "3"], ["2", "right", "1", "left", *["2"] * 30])
    assert status == 0
    env = gym.make("CartPole-v1")
    env.reset(seed=3)
    total, over = 0.0, False
    for action in [1, 1, 0, 0, *[1] * 30]:
        _, reward, over, _, _ = env.step(action)
        total += float(reward)
        if over:
            break
    assert over
    assert f"you got {total:.4g}; any move plays on" in [message for _, message, _, _ in shown]
    assert [rows["step"] for rows, *_ in shown[:4]] == ["0", "1", "2", "3"]


def test_actions_are_called_as_the_environment_calls_them():
    class Moves(enum.IntEnum):
        left = 0
        forward = 1

    env = gym.make("CartPole-v1")
    assert action_names(env) == ["action 0", "action 1"]
    env.unwrapped.actions = Moves
    assert action_names(env) == ["left", "forward"]
    env.unwrapped.actions = None
    env.unwrapped.get_action_meanings = lambda: ["NOOP", "FIRE"]
    assert action_names(env) == ["NOOP", "FIRE"]
    env.unwrapped.action_space = gym.spaces.Discrete(2, start=5)
    assert len(action_names(env)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which environment"),
        (["FrozenLak-v1"], "did you mean FrozenLake-v1"),
        (["Pendulum-v1"], "PendulumEnv cannot be played with keys: its actions are Box"),
        (["Pendulum-v1", "--env.g", "9"], "not Discrete"),
        (["FrozenLake-v1", "--env.sise", "3"], "no option"),
        (["FrozenLake-v1", "--gamma", "2"], "gamma must be between 0 and 1"),
    ],
)
def test_errors_are_one_line(capsys, arguments, message):
    assert main(["play", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_screen(monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["play", "FrozenLake-v1"]) == 2
    assert "no display" in capsys.readouterr().err
