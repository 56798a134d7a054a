import contextlib
import math
import time

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.agents import Update, episodes
from gridzero.envs.grid.world import GridWorld
from gridzero.envs.rendering import Viewer, colors
from gridzero.envs.rendering.boards import STEP_LIMIT
from gridzero.envs.rendering.episodes import Episodes
from gridzero.envs.rendering.panel import number
from gridzero.envs.rendering.screen import open_display

CORRIDOR = "S..\n.#.\n..G\n"


@pytest.fixture
def planner():
    env = gym.make("gridzero/GridWorld-v0", layout="S....\n.....\n....G\n", reward_step=-0.1)
    env.reset(seed=0)
    agent = gridzero.agents.make("value-iteration", env, gamma=0.95)
    for _ in agent.learn():
        pass
    viewer = Viewer(env, agent)
    viewer.draw()
    yield viewer
    viewer.close()


def post(viewer, kind, **attributes):
    import pygame

    pygame.event.post(pygame.event.Event(getattr(pygame, kind), **attributes))
    viewer.draw()
    viewer._handle_events()


def press(viewer, name):
    import pygame

    post(viewer, "KEYDOWN", key=pygame.key.key_code(name))


def centre(viewer, row, column):
    x, y = viewer.renderer.corner(row * viewer.renderer.board.width + column)
    return x + viewer.renderer.cell // 2, y + viewer.renderer.cell // 2


def click(viewer, row, column, button=1):
    post(viewer, "MOUSEMOTION", pos=centre(viewer, row, column), rel=(0, 0), buttons=(0, 0, 0))
    post(viewer, "MOUSEBUTTONDOWN", pos=centre(viewer, row, column), button=button)
    post(viewer, "MOUSEBUTTONUP", pos=centre(viewer, row, column), button=button)


def wall_names(viewer):
    layout = viewer.env.unwrapped.layout
    return {divmod(int(c), layout.width) for c in np.flatnonzero(layout.mask("blocks"))}


def test_layer_keys(planner):
    layers = planner.layers
    for key, background in (("a", "action values"), ("c", "visits"), ("v", "state values")):
        press(planner, key)
        assert layers.background == background
    press(planner, "v")
    assert layers.background == "none"
    for key, name in (("p", "policy"), ("n", "numbers"), ("t", "trace")):
        before = getattr(layers, name)
        press(planner, key)
        assert getattr(layers, name) is not before


def test_every_layer_looks_different(planner):
    frames = [planner.frame()]
    for key in "pnac":
        press(planner, key)
        frames.append(planner.frame())
    for i, first in enumerate(frames):
        for second in frames[i + 1 :]:
            assert (first[:, :600] != second[:, :600]).any()
    for key in "vnp":
        press(planner, key)
    np.testing.assert_array_equal(planner.frame(), frames[0])


@pytest.mark.parametrize("key", ["escape", "q"])
def test_quitting(planner, key):
    press(planner, key)
    assert planner.closed
    planner.update(Update(1, {}))
    planner.present()


def test_closing_the_window(planner):
    post(planner, "QUIT")
    assert planner.closed


def test_space_pauses_and_a_dot_makes_one_step(planner):
    planner.controls.rate = 1000.0
    press(planner, "space")
    assert planner.controls.paused
    script = iter([".", "space"])
    original, calls = planner._handle_events, []

    def scripted():
        import pygame

        calls.append(planner.controls.paused)
        if len(calls) % 3 == 0:
            key = next(script, None)
            if key is not None:
                pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(key)))
        original()

    planner._handle_events = scripted
    planner.present()
    assert planner.controls.paused, "one step, and still paused"
    planner.present()
    assert not planner.controls.paused


def test_speed_keys(planner):
    start = planner.controls.rate
    press(planner, "+")
    assert planner.controls.rate > start
    press(planner, "-")
    press(planner, "-")
    assert planner.controls.rate < start
    assert planner.controls.training_rate < math.inf
    for _ in range(20):
        press(planner, "+")
    assert planner.controls.training_rate == math.inf


def test_pictures_are_numbered_and_never_overwritten(planner, tmp_path):
    from PIL import Image

    planner.pictures = tmp_path
    press(planner, "s")
    first = (tmp_path / "gridzero-0001.png").read_bytes()
    press(planner, "s")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gridzero-0001.png", "gridzero-0002.png"]
    assert (tmp_path / "gridzero-0001.png").read_bytes() == first
    with Image.open(tmp_path / "gridzero-0001.png") as image:
        assert image.size == planner.draw().get_size()


def test_a_painted_wall_changes_the_model_and_the_policy_reroutes(planner):
    env, agent = planner.env.unwrapped, planner.agent
    before, model = agent.state_values(), env.mdp
    for row in (1, 2):
        click(planner, row, 2)
    assert wall_names(planner) == {(1, 2), (2, 2)}
    assert env.mdp is not model
    planner.learn_on()
    after = agent.state_values()
    expected = env.mdp.policy_values(agent.policy_table(), 0.95)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert env.mdp.bellman_residual(after, 0.95) < 1e-6
    assert after[11] < before[11], "the way is longer now"
    assert agent.policy_table()[11, 1] == 0, "and does not lead into the wall"


def test_dragging_paints_and_painting_again_erases(planner):
    post(planner, "MOUSEBUTTONDOWN", pos=centre(planner, 1, 1), button=1)
    for column in (2, 3):
        post(planner, "MOUSEMOTION", pos=centre(planner, 1, column), rel=(0, 0), buttons=(1, 0, 0))
    post(planner, "MOUSEBUTTONUP", pos=centre(planner, 1, 3), button=1)
    assert wall_names(planner) == {(1, 1), (1, 2), (1, 3)}
    click(planner, 1, 2)
    assert wall_names(planner) == {(1, 1), (1, 3)}
    click(planner, 1, 3, button=3)
    assert wall_names(planner) == {(1, 1)}


def test_number_keys_choose_the_tile(planner):
    names = [tile.name for tile in planner.editor.palette()]
    press(planner, str(names.index("forbidden") + 1))
    click(planner, 1, 1)
    assert planner.env.unwrapped.layout.mask("forbidden")[1, 1]


def test_the_wheel_changes_what_entering_pays(planner):
    model = planner.env.unwrapped
    post(planner, "MOUSEMOTION", pos=centre(planner, 0, 1), rel=(0, 0), buttons=(0, 0, 0))
    post(planner, "MOUSEWHEEL", x=0, y=-2)
    assert model.mdp.rewards[0, 1] == pytest.approx(-1.1)
    post(planner, "MOUSEWHEEL", x=0, y=4)
    assert model.mdp.rewards[0, 1] == pytest.approx(0.9)
    post(planner, "MOUSEMOTION", pos=centre(planner, 1, 0), rel=(0, 0), buttons=(0, 0, 0))
    post(planner, "MOUSEWHEEL", x=0, y=2)
    assert model.mdp.rewards[0, 2] == pytest.approx(0.9)


def test_start_over_undoes_every_edit(planner):
    text = planner.env.unwrapped.layout.cells.copy()
    click(planner, 1, 1)
    click(planner, 1, 1)
    click(planner, 0, 3)
    press(planner, "r")
    np.testing.assert_array_equal(planner.env.unwrapped.layout.cells, text)
    assert planner.restarting()
    assert not planner.restarting()


def test_an_impossible_edit_is_a_message(planner):
    messages = []
    for cell in range(15):
        walls = len(wall_names(planner))
        click(planner, *divmod(cell, 5))
        if len(wall_names(planner)) == walls:
            messages.append(planner.controls.status())
    assert messages
    assert all(messages)


def test_other_worlds_cannot_be_edited():
    env = gym.make("FrozenLake-v1")
    env.reset(seed=0)
    viewer = Viewer(env)
    viewer.draw()
    click(viewer, 1, 0)
    assert viewer.editor is None
    assert not viewer.controls.palette()
    viewer.close()


def test_watching_changes_nothing_of_the_learning():
    def learn(watch):
        env = gym.make("gridzero/GridWorld-v0", layout="four-rooms", slip=0.1)
        agent = gridzero.agents.make("q-learning", env, seed=3, steps_per_update=50)
        viewer = Viewer(env, agent) if watch else None
        for update in agent.learn():
            if viewer is not None:
                viewer.update(update)
                viewer._due = 0.0
            if update.step >= 3000:
                break
        if viewer is not None:
            assert sum(viewer.episodes.visits) >= 1000
            viewer.close()
            assert "step" not in vars(env.unwrapped)
        return agent.action_values()

    np.testing.assert_array_equal(learn(True), learn(False))


def test_frames_keep_to_their_share_of_the_time(monkeypatch):
    env = gym.make("FrozenLake-v1")
    env.reset(seed=0)
    viewer = Viewer(env)
    clock, drawn = [0.0], []

    def draw():
        drawn.append(clock[0])
        clock[0] += 0.05

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(viewer, "draw", draw)
    for step in range(20_000):
        clock[0] += 0.001
        viewer.update(Update(step, {}))
    assert len(drawn) > 10
    assert 0.05 * len(drawn) / clock[0] < 0.06
    viewer.close()


def test_updates_reach_the_panel():
    env = gym.make("FrozenLake-v1")
    viewer = Viewer(env, human=False)
    for step in range(1, 200):
        viewer.note(Update(step, {"episode_return": step / 200, "epsilon": 0.25}))
    shown = dict(viewer.dashboard().rows)
    assert shown["steps"] == "199"
    assert shown["epsilon"] == "0.25"
    assert viewer.curve.points()[-1] == pytest.approx(199 / 200)
    viewer.close()


def test_episodes_counts_what_happens():
    env = GridWorld(CORRIDOR, reward_step=-1, reward_target=5)
    viewer = Viewer(env, human=False)
    episodes = viewer.episodes
    for path in ([1, 1, 2, 2], [2, 2, 1, 1], [1, 1]):
        env.reset(seed=0)
        for action in path:
            env.step(action)
    assert episodes.count == 3
    assert episodes.take_returns() == [2.0, 2.0]
    assert list(episodes.outcomes) == [True, True]
    assert list(episodes.trace) == [0, 1, 2]
    assert episodes.visits == [0, 2, 2, 1, 0, 1, 1, 1, 2]
    env.reset()
    assert episodes.take_returns() == [-2.0]
    assert list(episodes.outcomes) == [True, True, False]
    viewer.close()


def test_not_hearing_costs_nothing_and_forgets_parts_of_episodes():
    env = GridWorld(CORRIDOR)
    viewer = Viewer(env, human=False)
    episodes: Episodes = viewer.episodes
    env.reset(seed=0)
    episodes.listening = False
    assert "step" not in vars(env)
    env.step(1)
    episodes.listening = True
    for action in (1, 2, 2):
        env.step(action)
    assert episodes.take_returns() == []
    viewer.close()


def test_no_display_is_said_so(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ValueError, match="no display"):
        open_display()


def test_a_learner_reroutes_around_walls_painted_while_it_learns():
    env = gym.make("gridzero/GridWorld-v0", layout="S....\n.....\n....G\n")
    agent = gridzero.agents.make("q-learning", env, step_size="0.2", gamma=0.9, epsilon="0.3", steps_per_update=200)
    viewer = Viewer(env, agent)
    viewer.draw()

    def route():
        mdp, greedy, cell, cells = env.unwrapped.mdp, agent.policy_table().argmax(axis=1), 0, [0]
        while cell != 14 and len(cells) < 15:
            cell = int(mdp.successors[cell, greedy[cell], 0])
            cells.append(cell)
        return cells

    for count, update in enumerate(agent.learn()):
        viewer.update(update)
        if count == 50:
            assert len(route()) == 7
            for row in (1, 2):
                click(viewer, row, 1)
                click(viewer, row, 3)
            assert wall_names(viewer) == {(1, 1), (2, 1), (1, 3), (2, 3)}
        if count == 200:
            break
    assert route() == [0, 1, 2, 3, 4, 9, 14]
    viewer.close()


def test_the_panel_has_the_optimum_the_gap_and_the_words_of_planners():
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-5x5")
    agent = gridzero.agents.make("value-iteration", env, gamma=0.9)
    with contextlib.closing(Viewer(env, agent, human=False)) as viewer:
        for update in agent.learn():
            viewer.note(update)
        rows = dict(viewer.dashboard().rows)
        assert (rows["sweeps"], rows["discount γ"]) == (str(update.step), "0.9")
        assert "steps" not in rows
    with contextlib.closing(Viewer(env, agent, human=False)) as viewer:
        viewer.present()
        rows = dict(viewer.dashboard().rows)
        optimum = env.unwrapped.mdp.start @ env.unwrapped.mdp.finite_horizon_values(200)
        assert rows["optimum, all starts"] == number(float(optimum))
        assert rows["gap, all starts"] == "0"


def test_the_curve_says_something_from_the_first_episode_on():
    viewer = Viewer(gym.make("FrozenLake-v1"), human=False)
    blank = viewer.frame()
    viewer.note(Update(1, {"episode_return": 0.5}))
    viewer.rows = {}
    shown = viewer.frame()
    panel = shown[:, viewer.renderer.surface.get_width() :]
    assert (panel == colors.ACCENT).all(axis=2).any()
    assert not (blank[:, viewer.renderer.surface.get_width() :] == colors.ACCENT).all(axis=2).any()


def test_while_the_first_episode_lasts_the_curve_is_its_return_so_far():
    env = gym.make("CliffWalking-v1")
    with contextlib.closing(Viewer(env, human=False)) as viewer:
        env.reset(seed=0)
        viewer.present()
        for action in (0, 1, 1):
            env.step(action)
            viewer.present()
        curve = viewer.dashboard().curve
        assert (curve.name, curve.points()) == ("return so far", [0.0, -1.0, -2.0, -3.0])
        env.reset(seed=0)
        viewer.present()
        curve = viewer.dashboard().curve
        assert (curve.name, curve.points()) == ("episode_return", [-3.0])


def test_tables_of_transitions_have_their_optimum_on_the_panel():
    """0.7442 is what value iteration gives for FrozenLake within 100 steps."""
    env = gym.make("FrozenLake-v1")
    with contextlib.closing(Viewer(env, human=False)) as viewer:
        viewer.present()
        assert dict(viewer.dashboard().rows)["optimum"] == "0.744"
    wrapped = gym.wrappers.TransformReward(env, lambda reward: 2 * reward)
    with contextlib.closing(Viewer(wrapped, human=False)) as viewer:
        viewer.present()
        assert "optimum" not in dict(viewer.dashboard().rows)


def test_without_a_time_limit_and_on_a_large_map_the_panel_has_the_optimum_of_evaluations():
    """The cliff's shortest way is 13 steps (Sutton & Barto, example 6.6); an empty world's target pays 1."""
    assert STEP_LIMIT == episodes.STEP_LIMIT
    expected = {"CliffWalking-v1": "-13", "gridzero/GridWorld-v0": "1"}
    for (name, optimum), options in zip(expected.items(), ({}, {"layout": "empty:100x100"}), strict=True):
        with contextlib.closing(Viewer(gym.make(name, **options), human=False)) as viewer:
            viewer.present()
            assert dict(viewer.dashboard().rows)["optimum"] == optimum


def test_the_panel_of_a_long_map_is_below_it():
    wide = Viewer(gym.make("gridzero/GridWorld-v0", layout="S" + "." * 19 + "G\n"), human=False).frame()
    square = Viewer(gym.make("FrozenLake-v1"), human=False).frame()
    assert wide.shape[1] > 2 * wide.shape[0]
    assert square.shape[1] > square.shape[0] > 600
