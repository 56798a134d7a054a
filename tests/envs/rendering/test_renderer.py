import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from gridzero.envs.grid.vector import GridWorldVector
from gridzero.envs.grid.world import GridWorld
from gridzero.envs.rendering import GridRenderer, Picture, colors, sprites
from gridzero.envs.rendering.colors import srgb_to_oklab
from gridzero.envs.rendering.overlays import format_numbers
from gridzero.envs.rendering.renderer import Layers

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # before Gymnasium 1.3
OPEN = "\n".join(["." * 5] * 4 + ["....G"])


def inside(renderer, frame, cell, margin=2):
    x, y = renderer.corner(cell)
    size = renderer.cell
    return frame[y + margin : y + size - margin + 1, x + margin : x + size - margin + 1]


def only(background="none", **layers):
    return Layers(**{"background": background, "numbers": False, "policy": False, "trace": False, **layers})


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1", TAXI, "gridzero/GridWorld-v0"])
def test_window_and_array_show_the_same(env_id):
    import pygame

    env = gym.make(env_id)
    env.reset(seed=3)
    frames = {}
    for human in (False, True):
        renderer = GridRenderer(env, human=human)
        renderer.window and setattr(renderer.window, "fps", 0)
        frames[human] = renderer.frame()
        if human:
            shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        renderer.close()
    assert frames[False].dtype == np.uint8
    np.testing.assert_array_equal(frames[True], frames[False])
    np.testing.assert_array_equal(shown, frames[False])


def test_frames_are_fresh_arrays():
    env = GridWorld("zhao-5x5")
    renderer = GridRenderer(env)
    first = renderer.frame()
    kept = first.copy()
    env.set_state(24)
    assert (renderer.frame() != kept).any()
    np.testing.assert_array_equal(first, kept)


def test_heat_follows_the_order_of_the_values():
    env = GridWorld(OPEN)
    rng = np.random.default_rng(0)
    values = rng.permutation(25).astype(float)
    renderer = GridRenderer(env)
    frame = renderer.frame(Picture(values, layers=only("state values")))
    cells = [cell for cell in range(24) if cell != env.cell]
    lightness = [srgb_to_oklab(inside(renderer, frame, cell)[3, 3])[0] for cell in cells]
    assert list(np.argsort(lightness)[::-1]) == list(np.argsort(values[cells]))


def test_walls_and_ends_keep_their_colours_under_a_heat_map():
    env = GridWorld("..#\n..G\n")
    renderer = GridRenderer(env)
    frame = renderer.frame(Picture(np.arange(6.0), layers=only("state values")))
    assert tuple(inside(renderer, frame, 2)[5, 5]) == colors.WALL
    assert tuple(inside(renderer, frame, 5)[5, 5]) == colors.TARGET


@pytest.mark.parametrize("actions", [4, 8])
@pytest.mark.parametrize("probability", [0.25, 0.5, 1.0])
def test_arrows_are_as_long_as_they_are_probable(actions, probability):
    env = GridWorld(OPEN, actions=actions)
    env.set_state(0)
    renderer = GridRenderer(env)
    blank = renderer.frame(Picture(layers=only()))
    for action, move in enumerate(renderer.board.moves):
        policy = np.zeros((25, actions))
        policy[:, action] = probability
        frame = renderer.frame(Picture(policy=policy, layers=only(policy=True)))
        drawn = np.argwhere((inside(renderer, frame, 12, 0) != inside(renderer, blank, 12, 0)).any(axis=2))
        direction = np.array(move) / np.linalg.norm(move)
        reach = (drawn - renderer.cell // 2) @ direction
        if probability == 1.0:  # its middle is the cell's
            assert reach.max() == pytest.approx(-reach.min(), abs=3)
            reach = reach - reach.min()
        assert reach.max() == pytest.approx(probability * 0.42 * renderer.cell, abs=2)
        assert reach.min() > -5


def test_staying_is_a_ring_and_taxis_actions_have_letters():
    env = gym.make(TAXI)
    env.reset(seed=0)
    renderer = GridRenderer(env)
    blank = renderer.frame(Picture(layers=only()))
    drawn = []
    for action in (4, 5):
        policy = np.eye(6)[np.full(500, action)]
        frame = renderer.frame(Picture(policy=policy, layers=only(policy=True)))
        changed = (inside(renderer, frame, 12, 0) != inside(renderer, blank, 12, 0)).any(axis=2)
        assert abs(np.argwhere(changed).mean(axis=0) - renderer.cell / 2).max() < 2
        drawn.append(frame)
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize(("env_id", "kwargs"), [("FrozenLake-v1", {}), ("gridzero/GridWorld-v0", {"actions": 8})])
def test_wedges_lie_where_their_moves_lead(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    env.reset(seed=0)
    renderer = GridRenderer(env)
    board = renderer.board
    actions = len(board.moves)
    cell = next(
        c for c in range(1, board.width * board.height) if not renderer_solid(renderer, c) and c not in board.agents()
    )
    for action, move in enumerate(board.moves):
        q = np.zeros((board.height * board.width, actions))
        q[cell, action] = 1.0
        frame = renderer.frame(Picture(action_values=q, layers=only("action values")))
        dark = srgb_to_oklab(inside(renderer, frame, cell, 0))[..., 0] < 0.5
        mean = np.argwhere(dark).mean(axis=0) - renderer.cell / 2
        assert (mean / np.linalg.norm(mean)) @ (np.array(move) / np.linalg.norm(move)) > 0.97
        assert dark.mean() == pytest.approx(1 / actions, abs=0.05)


def renderer_solid(renderer, cell):
    renderer.frame()
    return renderer.ground.solid.flat[cell] or renderer.ground.faces[renderer.ground.kinds.flat[cell]].letter


def test_the_agent_is_drawn_where_it_is():
    env = GridWorld(OPEN)
    renderer = GridRenderer(env)
    for state in (0, 7, 23):
        env.set_state(state)
        frame = renderer.frame()
        cells = {cell for cell in range(25) if (inside(renderer, frame, cell) == colors.AGENT).all(axis=2).any()}
        assert cells == {state}
    env.set_state(7)
    env.step(1)
    frame = renderer.frame()
    x, y = renderer.corner(8)
    assert tuple(frame[y + renderer.cell // 2, x + renderer.cell // 2]) == colors.AGENT


def test_all_agents_of_a_vector_are_drawn():
    env = GridWorldVector(num_envs=3, layout=OPEN)
    env.reset(seed=1)
    renderer = GridRenderer(env)
    frame = renderer.frame()
    cells = {cell for cell in range(25) if (inside(renderer, frame, cell) == colors.AGENT).all(axis=2).any()}
    assert cells == set(env.cells.tolist())


def test_the_trace_covers_the_way_and_nothing_else():
    env = GridWorld(OPEN)
    env.set_state(0)
    renderer = GridRenderer(env)
    blank = renderer.frame(Picture(layers=only()))
    frame = renderer.frame(Picture(trace=[10, 11, 12, 17], layers=only(trace=True)))
    changed = {c for c in range(25) if (inside(renderer, frame, c, 6) != inside(renderer, blank, c, 6)).any()}
    assert changed == {10, 11, 12, 17}
    jump = renderer.frame(Picture(trace=[20, 4], layers=only(trace=True)))
    np.testing.assert_array_equal(jump, blank)


def test_taxi_shows_the_slice_of_its_passenger_and_destination():
    env = gym.make(TAXI)
    env.reset(seed=5)
    inner = env.unwrapped
    _, _, passenger, destination = inner.decode(inner.s)
    values = np.zeros(500)
    values[inner.encode(2, 3, passenger, destination)] = 1.0
    values[inner.encode(4, 1, passenger, (destination + 1) % 4)] = 5.0
    renderer = GridRenderer(env)
    frame = renderer.frame(Picture(values, layers=only("state values")))
    assert renderer.scale.high == 1.0
    dark = [c for c in range(25) if srgb_to_oklab(inside(renderer, frame, c)[20, 20])[0] < 0.45]
    assert 13 in dark
    inner.s = inner.encode(0, 0, 0, 0)  # the passenger has arrived
    assert renderer.board.states()[7] == inner.encode(1, 2, 4, 0)


def test_taxis_walls_are_those_of_its_map():
    renderer = GridRenderer(gym.make(TAXI))
    model = renderer.env.unwrapped.P
    for row in range(5):
        for column in range(4):
            state = renderer.env.unwrapped.encode(row, column, 0, 1)
            blocked = model[state][2][0][1] == state
            assert blocked == ((row, column) in renderer.board.thin_walls())


@pytest.mark.parametrize("layout", ["zhao-2x2", "obstacles:100x100:1", "maze:31x31:2", "cliff"])
def test_every_size_shows_every_value(layout):
    env = GridWorld(layout)
    env.reset(seed=0)
    states = env.mdp.num_states
    renderer = GridRenderer(env)
    low = renderer.frame(Picture(np.zeros(states), layers=only("state values")))
    open_cells = [c for c in np.flatnonzero(~env.mdp.terminal) if c != env.cell]
    for cell in np.random.default_rng(0).choice(open_cells, size=min(6, len(open_cells)), replace=False):
        values = np.zeros(states)
        values[cell] = 1.0
        frame = renderer.frame(Picture(values, layers=only("state values")))
        changed = (frame != low).any(axis=2)
        assert inside(renderer, changed, cell, 1).mean() > 0.6


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "gridzero/GridWorld-v0"])
def test_drawing_never_touches_the_environment(env_id):
    def walk(render):
        env = gym.make(env_id, **({"slip": 0.3} if "Grid" in env_id else {}))
        renderer = GridRenderer(env)
        observation, _ = env.reset(seed=7)
        seen = [observation]
        for action in np.random.default_rng(0).integers(0, 4, size=100):
            if render:
                renderer.frame(Picture(np.zeros(64), trace=[0, 1]))
            observation, reward, terminated, truncated, _ = env.step(int(action))
            seen += [observation, reward]
            if terminated or truncated:
                seen.append(env.reset()[0])
        return seen

    assert walk(True) == walk(False)


def test_an_edit_shows():
    env = GridWorld(OPEN)
    env.set_state(0)
    renderer = GridRenderer(env)
    renderer.frame()
    env.edit(2, 2, "#")
    assert tuple(inside(renderer, renderer.frame(), 12)[5, 5]) == colors.WALL


def test_numbers_have_as_many_decimals_as_fit():
    assert format_numbers(np.array([0.5, -0.25]), 100, 16) == ["0.500", "-0.250"]
    assert format_numbers(np.array([5.83, 10.0]), 100, 16) == ["5.8", "10.0"]
    assert format_numbers(np.array([-0.0001, 0.9]), 24, 16)[0] in ("0.0", "0")


def test_a_foreign_environment_is_refused():
    with pytest.raises(ValueError, match="CartPole"):
        GridRenderer(gym.make("CartPole-v1"))


def test_importing_gridzero_leaves_pygame_alone():
    code = "import sys, gridzero, gridzero.__main__; sys.exit('pygame' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_others_may_quit_pygame():
    """Gymnasium's own environments do when they are closed, which makes all fonts invalid."""
    before = sprites.text("some words", 20, (0, 0, 0)).get_size()
    lake = gym.make("FrozenLake-v1", render_mode="rgb_array")
    lake.reset()
    lake.render()
    lake.close()
    sprites.text.cache_clear()
    assert sprites.text("some words", 20, (0, 0, 0)).get_size() == before


def test_what_was_never_tried_is_hatched_and_leaves_the_scale_alone():
    env = GridWorld("...\n..G\n")
    renderer = GridRenderer(env)
    tried = np.ones((6, env.mdp.num_actions), dtype=bool)
    tried[1] = False
    values = np.array([1.0, 99.0, 2.0, 3.0, 4.0, 0.0])
    layers = only("state values", numbers=True, policy=True)
    policy = np.full((6, env.mdp.num_actions), 1.0) / env.mdp.num_actions
    frame = renderer.frame(Picture(values, policy=policy, tried=tried, layers=layers))
    assert (renderer.scale.low, renderer.scale.high) == (1.0, 4.0)
    shown = {tuple(pixel) for pixel in inside(renderer, frame, 1, 2).reshape(-1, 3).tolist()}
    assert shown == {colors.UNKNOWN, colors.HATCH}  # no number, no arrow
    renderer.frame(Picture(values, tried=np.zeros_like(tried), layers=layers))  # nothing is known
    renderer.frame(Picture(action_values=np.ones((6, 5)), tried=np.zeros((6, 5), bool), layers=only("action values")))


def test_the_greedy_action_is_outlined_among_all():
    env = GridWorld(OPEN, actions=4)
    renderer = GridRenderer(env)
    values = np.zeros((25, 4))
    values[12] = [1.0, 3.0, 2.0, 0.0]  # up, right, down, left
    plain = renderer.frame(Picture(action_values=values, layers=only("action values")))
    marked = renderer.frame(Picture(action_values=values, layers=only("action values", policy=True)))
    changed = np.argwhere((inside(renderer, plain, 12, 3) != inside(renderer, marked, 12, 3)).any(axis=2))
    assert len(changed)
    middle = renderer.cell / 2 - 3
    assert (changed[:, 1] >= middle - 2).all()
    assert (abs(changed[:, 0] - middle) <= changed[:, 1] - middle + 3).all()


def test_the_agent_hides_neither_the_target_nor_an_arrow():
    env = GridWorld("S.G\n")
    renderer = GridRenderer(env)
    env.set_state(0)
    away = renderer.frame()
    env.reset(seed=0)
    env.step(1)
    env.step(1)
    frame = inside(renderer, renderer.frame(), 2, 0).astype(int)
    letter = (inside(renderer, away, 2, 0) > 250).all(axis=2)
    assert letter.any()
    assert (frame[letter] > 250).all()
    assert (frame == colors.AGENT).all(axis=2).any()


def test_partial_views_and_masks_are_a_layer():
    env = GridWorld("S....\n.....\n....G\n", observation="window", window_size=3)
    env.reset(seed=0)
    renderer = GridRenderer(env)
    plain = renderer.frame(Picture(layers=only()))
    shown = renderer.frame(Picture(layers=only(view=True)))
    changed = [(inside(renderer, plain, c) != inside(renderer, shown, c)).any() for c in range(15)]
    assert [bool(changed[cell]) for cell in (6, 7, 4, 14)] == [False, True, True, True]  # the agent is on 0
    assert changed[0]  # moves up and left are barred
    seen = renderer.board.seen()
    assert seen is not None
    assert np.flatnonzero(seen).tolist() == [0, 1, 5, 6]


@pytest.mark.parametrize("shape", [(2, 2), (5, 5), (1, 21), (21, 1), (100, 100)])
def test_boards_of_every_shape_fill_the_canvas(shape):
    rows, columns = shape
    renderer = GridRenderer(GridWorld("\n".join(["." * columns] * rows) + "\n"), size=512)
    height, width, _ = renderer.frame().shape
    assert max(height, width) > 500
    assert renderer.cell == 512 // max(shape)
