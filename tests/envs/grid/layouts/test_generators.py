import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from gridzero.envs.grid.layouts.generators import KINDS, Generator, generate
from gridzero.envs.grid.layouts.layout import Layout
from gridzero.envs.grid.layouts.tiles import DEFAULT_LEGEND, FREE, START, TARGET, WALL

KEYS = st.integers(0, 2**64 - 1)


def graph(cells):
    """The free cells as nodes: how many there are, how many joined pairs, how many connected parts, and each's part."""
    free = cells != WALL
    index = np.arange(cells.size).reshape(cells.shape)
    across, down = free[:, :-1] & free[:, 1:], free[:-1] & free[1:]
    rows = np.concatenate([index[:, :-1][across], index[:-1][down]])
    columns = np.concatenate([index[:, 1:][across], index[1:][down]])
    _, labels = connected_components(coo_matrix((np.ones(rows.size), (rows, columns)), shape=(cells.size,) * 2))
    return int(free.sum()), rows.size, np.unique(labels[free.reshape(-1)]).size, labels.reshape(cells.shape)


def test_the_codes_of_cells_are_the_default_legend():
    assert [DEFAULT_LEGEND[code].symbol for code in (FREE, WALL, START, TARGET)] == list(".#SG")


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.integers(1, 40), st.integers(1, 40), KEYS, st.floats(0, 1))
def test_every_map_is_solvable_from_its_start_to_its_target(kind, height, width, key, density):
    if height * width < 2 or (kind == "maze" and max(height, width) < 3):
        return
    cells = generate(kind, height, width, key, density)
    assert cells.shape == (height, width)
    assert (cells == START).sum() == (cells == TARGET).sum() == 1
    assert cells[0, 0] == START
    labels = graph(cells)[3]
    assert labels[cells == START] == labels[cells == TARGET]


@settings(max_examples=100)
@given(st.integers(1, 41), st.integers(3, 41), KEYS)
def test_a_maze_has_exactly_one_path_between_any_two_cells(height, width, key):
    nodes, edges, parts, _ = graph(generate("maze", height, width, key))
    assert (parts, edges) == (1, nodes - 1)  # connected, with a tree's number of edges
    rows, columns = (height + 1) // 2, (width + 1) // 2
    assert nodes == 2 * rows * columns - 1  # every junction and the passages of a spanning tree


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(2, 60), KEYS)
def test_rooms_are_all_connected_and_none_is_larger_than_eight(height, width, key):
    cells = generate("rooms", height, width, key)
    assert graph(cells)[2] == 1
    free = cells != WALL
    for block in (np.lib.stride_tricks.sliding_window_view(free, (9, 9)),) if min(cells.shape) >= 9 else ():
        assert not block.all(axis=(2, 3)).any()


def test_all_mazes_of_two_by_two_junctions_are_equally_likely():
    # The four spanning trees of a square, by depth-first search from a random corner. Chi-square with 3 degrees of
    # freedom: 16.27 is exceeded with probability 0.001; the keys are fixed.
    _, counts = np.unique(
        np.stack([generate("maze", 3, 3, key).reshape(-1) for key in range(4000)]), axis=0, return_counts=True
    )
    assert counts.size == 4
    assert ((counts - 1000) ** 2 / 1000).sum() < 16.27


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3])
def test_obstacles_have_their_density(density):
    cells = generate("obstacles", 500, 500, 3, density)
    # 250,000 cells: five standard deviations, and the few walls that are opened.
    assert abs((cells == WALL).mean() - density) <= 5 * np.sqrt(density * (1 - density) / cells.size) + 0.001


def test_the_fewest_walls_are_opened():
    cells = generate("obstacles", 7, 12, 1, 1.0)  # all walls but a path of the shortest length
    assert (cells != WALL).sum() == 7 + 12 - 1


@pytest.mark.parametrize("kind", ["maze", "obstacles", "rooms"])
def test_different_keys_give_different_maps_and_the_same_key_the_same(kind):
    keys = [*range(300), *(key << 32 for key in range(1, 300)), 2**64 - 1]
    maps = {generate(kind, 25, 25, key).tobytes() for key in keys}
    assert len(maps) == len(keys)
    assert (generate(kind, 25, 25, 5) == generate(kind, 25, 25, 5)).all()


def splitmix(state):
    """Vigna's reference implementation of SplitMix64, in unbounded integers."""
    z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@pytest.mark.parametrize("key", [0, 7, 2**64 - 1])
def test_maps_are_the_same_on_every_platform(key):
    # Drawn again here in Python's integers, which are the same everywhere.
    golden = 0x9E3779B97F4A7C15
    state = splitmix((key + golden) % 2**64)
    walls = []
    for _ in range(400):
        state = (state + golden) % 2**64
        walls.append((splitmix(state) >> 11) * 2.0**-53 < 0.2)
    cells = generate("obstacles", 20, 20, key, 0.2).reshape(-1)
    differs = np.flatnonzero((cells == WALL) != walls)
    # Only start, target and walls that were opened to make the map solvable may differ.
    assert all(walls[cell] for cell in differs)
    assert differs.size <= 6


def test_recorded_maps_stay_what_they_are():
    # A seed in somebody's paper must go on meaning the same map.
    recorded = {
        "maze:15x15:7": "b4db1d355bebd158",
        "obstacles:20x20:7": "e55b173751214ca0",
        "rooms:25x25:7": "2e18c86342a28486",
    }
    assert {
        spec: hashlib.sha256(Generator.parse(spec).cells().tobytes()).hexdigest()[:16] for spec in recorded
    } == recorded


@given(st.sampled_from(KINDS), st.integers(3, 4096), st.integers(3, 4096), KEYS, st.floats(0, 1))
def test_a_specification_survives_being_written_and_read(kind, height, width, seed, density):
    generator = Generator(kind, height, width, seed, density if kind == "obstacles" else 0.3)
    assert Generator.parse(str(generator)) == generator


def test_layouts_are_generated_from_a_specification():
    layout = Layout.load("obstacles:6x9:3:0.5")
    assert layout.name == "obstacles:6x9:3:0.5"
    assert (layout.cells == generate("obstacles", 6, 9, 3, 0.5)).all()
    assert (Layout.load("obstacles:6x9::0.5").cells == generate("obstacles", 6, 9, 0, 0.5)).all()
    again = Layout.load(layout.text())
    assert (again.cells == layout.cells).all()
    assert Generator.parse(again.name) == Generator("obstacles", 6, 9, 3, 0.5)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("maze", "cannot read 'maze'"),
        ("maze:15", "such as maze:15x15:7"),
        ("maze:15x15:-1", "cannot read"),
        ("maze:15x15:1:0.3", "cannot read"),  # only obstacles have a density
        ("obstacles:5x5:1:-0.1", "density must be between 0 and 1"),
        ("obstacles:5x5:1:1e", "not a number"),
        ("maze:0x5", "1 to 4096"),
        ("maze:4097x5", "1 to 4096"),
        ("maze:2x2", "at least 3"),
        ("empty:1x1", "at least 2 cells"),
        ("maze:5x5:18446744073709551616", "2\\^64"),
        ("mase:5x5", "did you mean maze"),
        ("?:5x5", "there are empty, maze"),
    ],
)
def test_a_bad_specification_is_refused(text, what):
    with pytest.raises(ValueError, match=what):
        Generator.parse(text)
