import re
import unicodedata
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import MAPS
from hypothesis import given, settings
from hypothesis import strategies as st

from gridzero.envs.grid.layouts.layout import DEFAULT_LEGEND, LAYOUTS, Layout, Tile
from gridzero.envs.grid.layouts.text_format import SETTINGS
from gridzero.envs.grid.world import GridWorld

FOUR = [(-1, 0), (0, 1), (1, 0), (0, -1)]
EIGHT = [*FOUR, (-1, 1), (1, 1), (1, -1), (-1, -1)]


def grid(layout):
    """The map as (row, column) -> Tile."""
    return {
        (row, column): layout.legend[layout.cells[row, column]]
        for row in range(layout.height)
        for column in range(layout.width)
    }


def shortest_path(layout, moves=FOUR):
    """The fewest moves from the S tile to a target, wind and walls included; it never enters what sends it back."""
    tiles = grid(layout)
    (start,) = [cell for cell, tile in tiles.items() if tile.start]
    queue, steps = deque([start]), {start: 0}
    while queue:
        row, column = queue.popleft()
        if tiles[row, column].target:
            return steps[row, column]
        wind = tiles[row, column].wind
        for move in moves:
            there = (
                min(max(row + move[0] + wind[0], 0), layout.height - 1),
                min(max(column + move[1] + wind[1], 0), layout.width - 1),
            )
            tile = tiles[there]
            if there not in steps and not (tile.blocks or tile.ends or tile.sends_to):
                steps[there] = steps[row, column] + 1
                queue.append(there)
    return None


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_named_layout_survives_being_written_and_read(name):
    layout = Layout.load(name)
    again = Layout.load(layout.text())
    assert (again.name, again.settings) == (name, layout.settings)
    assert grid(again) == grid(layout)


@pytest.mark.parametrize("size", ["4x4", "8x8"])
def test_frozen_lake_is_gymnasiums(size):
    rows = Layout.load(f"frozen-lake-{size}").text().split("\n\n")[0].split("\n")
    assert rows == MAPS[size]
    assert Layout.load("\n".join(MAPS[size])).mask("ends").sum() == "".join(MAPS[size]).count("H")


@pytest.mark.parametrize(
    ("name", "moves", "steps"),
    [
        ("cliff", FOUR, 13),  # Sutton & Barto, ex. 6.6
        ("windy", FOUR, 15),  # ex. 6.5
        ("windy-king", EIGHT, 7),  # exercise 6.9
        ("dyna-maze", FOUR, 14),  # ex. 8.1
        ("blocking-maze", FOUR, 10),  # ex. 8.2: the optimal paths before and after the change
        ("blocking-maze-blocked", FOUR, 16),
        ("shortcut-maze", FOUR, 16),  # ex. 8.3
        ("shortcut-maze-open", FOUR, 10),
    ],
)
def test_shortest_paths_are_as_published(name, moves, steps):
    assert shortest_path(Layout.load(name), moves) == steps


def test_four_rooms_has_104_cells_and_its_hallways_join_the_rooms():
    layout = Layout.load("four-rooms")
    free = ~layout.mask("blocks")
    assert free.sum() == 104
    hallways = [
        (row, column)
        for row in range(1, 12)
        for column in range(1, 12)
        if free[row, column]
        and (
            (not free[row - 1, column] and not free[row + 1, column])
            or (not free[row, column - 1] and not free[row, column + 1])
        )
    ]
    assert hallways == [(3, 6), (6, 2), (7, 9), (10, 6)]
    assert layout.mask("target")[7, 9]


def test_zhao_5x5_has_the_books_cells():
    layout = Layout.load("zhao-5x5")
    one_based = {(int(r) + 1, int(c) + 1) for r, c in np.argwhere(layout.mask("forbidden"))}
    assert one_based == {(2, 2), (2, 3), (3, 3), (4, 2), (4, 4), (5, 2)}
    assert [tuple(cell + 1) for cell in np.argwhere(layout.mask("target"))] == [(4, 3)]
    strict = Layout.load("zhao-5x5-strict")
    assert (strict.cells == layout.cells).all()
    assert strict.settings == {**layout.settings, "reward_forbidden": -10}


def value_iteration(layout, sweeps, gamma=0.9):
    """Zhao's worlds straight from the tiles: v after so many sweeps from 0, and the table of one-step outcomes."""
    tiles, moves = grid(layout), [*FOUR, (0, 0)]
    values = dict.fromkeys(tiles, 0.0)
    outcomes = {}
    for cell in tiles:
        for action, move in enumerate(moves):
            there = (cell[0] + move[0], cell[1] + move[1])
            if there not in tiles:
                outcomes[cell, action] = (-1, cell)
            else:
                reward = 1 if tiles[there].target else layout.settings.get("reward_forbidden", -1)
                outcomes[cell, action] = (reward if tiles[there].target or tiles[there].forbidden else 0, there)
    for _ in range(sweeps):
        values = {c: max(r + gamma * values[t] for r, t in (outcomes[c, a] for a in range(5))) for c in tiles}
    return values, outcomes


def test_zhao_2x2_is_the_hand_example():
    layout = Layout.load("zhao-2x2")
    assert list(value_iteration(layout, 1)[0].values()) == pytest.approx([0, 1, 1, 1])
    assert list(value_iteration(layout, 2)[0].values()) == pytest.approx([0.9, 1.9, 1.9, 1.9])


def test_zhao_3x3_is_the_mc_basic_example():
    _, outcomes = value_iteration(Layout.load("zhao-3x3"), 0)
    best = value_iteration(Layout.load("zhao-3x3"), 500)[0]
    best[0, 0] = -10.0  # the initial policy bumps into the boundary in s1, and is optimal elsewhere
    q = [reward + 0.9 * best[there] for reward, there in (outcomes[(0, 0), action] for action in range(5))]
    assert q == pytest.approx([-10, 7.29, 7.29, -10, -9])


PRINTABLE = st.characters(codec="utf-8").filter(
    lambda c: c.isprintable() and not c.isspace() and unicodedata.category(c)[0] != "M"
)
REWARDS = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def tiles(draw, symbol):
    name = draw(st.text(max_size=8))
    kind = draw(st.sampled_from(["plain", "blocks", "leads", "sends"]))
    if kind == "blocks":
        return Tile(symbol, name, blocks=True)
    wind = draw(st.tuples(st.integers(-3, 3), st.integers(-3, 3)))
    common = {"reward": draw(REWARDS), "wind": wind, "target": draw(st.booleans()), "forbidden": draw(st.booleans())}
    if kind == "leads":
        return Tile(symbol, name, leads_to=".", leaving_reward=draw(REWARDS), **common)
    if kind == "sends":
        return Tile(symbol, name, sends_to=".", **common)
    return Tile(symbol, name, ends=draw(st.booleans()), start=draw(st.booleans()), **common)


@st.composite
def layouts(draw):
    symbols = draw(st.lists(PRINTABLE.filter(lambda c: c not in ".S"), unique=True, max_size=6))
    custom = [draw(tiles(symbol)) for symbol in symbols]
    legend = (*(tile for tile in DEFAULT_LEGEND if tile.symbol not in symbols), *custom)
    height, width = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    cells = np.array(draw(st.lists(st.integers(0, len(legend) - 1), min_size=height * width, max_size=height * width)))
    cells[0] = 0  # one ".", to which the others may lead
    cells[1:][cells[1:] == 0] = next(i for i, tile in enumerate(legend) if tile.symbol == "S")
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "reward_step": st.floats(allow_nan=False, allow_infinity=False),
                "reward_boundary": st.integers(-100, 100),
                "forbidden_enterable": st.booleans(),
                "actions": st.sampled_from([4, 5, 8]),
                "slip": st.floats(0, 1),
                "slip_to": st.sampled_from(["perpendicular", "any", "backward", "stay"]),
                "start": st.none() | st.just("random") | st.integers(0, 3) | st.just([0, 0]),
            },
        )
    )
    assert set(options) <= set(SETTINGS)
    return Layout(cells.reshape(height, width), legend, draw(st.text(min_size=1, max_size=8)), options)


def attempt(text):
    try:
        return Layout.load(text), ""
    except ValueError as error:
        return None, str(error)


@settings(max_examples=200)
@given(layouts())
def test_text_and_load_are_inverse(layout):
    again, error = attempt(layout.text())
    if again is None:
        assert "no start can reach this target" in error
        return
    assert grid(again) == grid(layout)
    assert (again.name, again.settings) == (layout.name, layout.settings)
    assert set(again.legend) == set(layout.legend)


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from('.#SGxA \t\n\r:=,"(\\)1/-_é\u0301\ud800aebdlnowksrit'), max_size=60))
def test_any_text_gives_a_map_or_a_value_error_in_one_line(text):
    layout, error = attempt(text + "\n")
    if layout is None:
        assert re.match(r"line \d+, column \d+: [^\n]+$", error)
    else:
        assert layout.cells.size


def test_line_ends_indentation_and_comments_do_not_matter():
    plain = Layout.load("S.#\n..G\n\nA: ends\nslip = 0.5\n")
    other = Layout.load("\ufeff\r\n   S.#\r\n   ..G  \r\n\r\n# a comment\r\n\r\n   A:ends=true\r\n  slip=1/2")
    assert grid(plain) == grid(other)
    assert plain.settings == other.settings == {"slip": 0.5}
    assert [tile for tile in other.legend if tile.symbol == "A"] == [Tile("A", "A", ends=True)]


def test_a_map_may_redefine_the_standard_symbols():
    layout = Layout.load('#:,G\n\n,:\n#: name="hedge, low", reward=-1/4\n:: leads_to=","\n')
    hedge, colon = layout.legend[layout.cells[0, 0]], layout.legend[layout.cells[0, 1]]
    assert hedge == Tile("#", "hedge, low", reward=-0.25)
    assert (colon.symbol, colon.leads_to) == (":", ",")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("\n \n", (1, 1), "empty"),
        ("S.\n...", (2, 3), "this row has 3 cells, the first has 2"),
        ("S..\n..", (2, 3), "this row has 2 cells, the first has 3"),
        ("S..\n  q.", (2, 3), "'q' is not a known symbol"),
        ("S G\n", (1, 2), "a space is not a cell"),
        ("S.G\n\nslop = 2", (3, 1), "no setting 'slop'"),
        ("S.G\n\n slip =  2", (3, 10), "slip must be a probability"),
        ("S.G\n\nslip = true", (3, 8), "slip must be a probability"),
        ("S.G\n\nactions = 7", (3, 11), "actions must be 4, 5 or 8"),
        ("S.G\n\nslip_to = left", (3, 11), "perpendicular, any"),
        ("S.G\n\ntarget_terminal = 1", (3, 19), "true or false"),
        ("S.G\n\nreward_step = 1" + "0" * 400, (3, 15), "finite number"),
        ("S.G\n\nreward_step = NaN", (3, 15), "finite number"),
        ("S.G\n\nstart = [1]", (3, 9), "[row, column]"),
        ("S.G\n\nstart = {", (3, 9), "cannot read"),
        ("S.G\n\nslip =", (3, 7), "needs a value"),
        ("S.G\n\nslip 2", (3, 1), "neither a tile"),
        ("S.G\n\n#..\n", (3, 1), "neither a tile"),  # a row after a blank line is no comment
        ("S.G\n\nslip = 0\n\nslip = 0", (5, 1), "already given in line 3"),
        ("SAG\n\nA: blocks\nA: ends", (4, 1), "already given in line 3"),
        ("SAG\n\nA: ends, colour=3", (3, 10), "no property 'colour'"),
        ("SAG\n\nA: ends, ends", (3, 10), "ends is given twice"),
        ("SAG\n\nA: ends=maybe", (3, 9), "true or false"),
        ("SAG\n\nA: reward=1/0", (3, 11), "finite number"),
        ("SAG\n\nA: reward", (3, 4), "needs a value"),
        ("SAG\n\nA: wind=up", (3, 9), "(rows, columns)"),
        ('SAG\n\nA: name="open', (3, 9), "closing quote"),
        ("SAG\n\nA: sends_to=SS", (3, 13), "one character"),
        ("SAG\n\nA: sends_to=Q", (3, 1), "no 'Q' on the map"),
        ("SAG\n\nA: sends_to=#\n", (3, 1), "no '#' on the map"),
        ("SAG#\n\nA: sends_to=#\n", (3, 1), "nobody can stand on '#'"),
        ("SA..\n\nA: leads_to=.\n", (3, 1), "there must be one '.'"),
        ("SA.\n\nA: sends_to=., ends\n", (3, 1), "nobody stays on tile"),
        ("SA.\n\nA: blocks, ends\n", (3, 1), "blocks"),
        ("SA.\n\nA: leaving_reward=2\n", (3, 1), "needs leads_to"),
        ("S.\u0301G\n\n\u0301: ends\n", (3, 1), "stand on its own"),
        ("\n##\n", (2, 1), "no cell to stand on"),
        ("\nS##\n  .#G", (3, 5), "no start can reach this target"),
    ],
)
def test_a_bad_map_names_the_line_and_the_column(text, where, what):
    with pytest.raises(ValueError, match=f"^line {where[0]}, column {where[1]}: ") as error:
        Layout.load(text if "\n" in text else text + "\n")
    assert what in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "S#G\n#.#\n",  # diagonally, with eight actions
        "S1.\n###\n..G\n\n",  # the wind may carry over walls
        "SA#G\n\nA: leads_to=G\n",
        "SA#.G\n\nA: sends_to=.\n",
        "Sa#bc#G.\n\na: leads_to=b\nb:\nc: leads_to=G\n",  # two jumps, in the order of the legend
        "Sc#ba#G.\n\na: leads_to=G\nb:\nc: leads_to=b\n",  # and against it
    ],
)
def test_a_target_that_some_options_reach_is_accepted(text):
    assert Layout.load(text).mask("target").any()


def test_load_follows_its_rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cliff").write_text("S.G\n")
    Path("mine.txt").write_text("SxG\n", encoding="utf-8")
    assert Layout.load("cliff").width == 12  # a name comes before a file
    assert Layout.load("./cliff").width == 3
    assert Layout.load(Path("cliff")).width == 3
    assert Layout.load("mine.txt").name == "mine"
    assert Layout.load("maze:5x7").name == "maze:5x7:0"
    assert (Layout.load("maze:5x7:12").cells == Layout.load("maze:5x7:12").cells).all()
    layout = Layout.load("cliff\n\nc: \nl: \ni: \nf: ends\n")
    assert (layout.height, layout.width) == (1, 5)
    assert Layout.load(layout) is layout


def test_files_that_are_no_maps_are_refused_in_one_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"S.\0G")
    (tmp_path / "latin").write_bytes(b"S\xe9G\n")
    (tmp_path / "huge").write_bytes(b"." * ((32 << 20) + 1))
    (tmp_path / "wrong").write_text("S?G")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, what in {
        "": "is a folder",
        "binary": "is binary",
        "latin": "not UTF-8",
        "huge": "at most 32 MiB",
        "wrong": r"wrong: line 1, column 2: '\?' is not a known symbol",
        "missing.txt": "there is no file",
        "dangling": "there is no file",
    }.items():
        for source in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(ValueError, match=what) as error:
                Layout.load(source)
            assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="not a regular file"):
        Layout.load("/dev/null")


def test_an_unknown_name_gets_the_closest():
    with pytest.raises(ValueError, match="did you mean zhao-5x5"):
        Layout.load("zhao5x5")
    with pytest.raises(ValueError, match="did you mean maze:HEIGHTxWIDTH"):
        Layout.load("mase:15x15")
    for source in ("", "\0", "?" * 5000):
        with pytest.raises(ValueError, match="there are zhao-2x2"):
            Layout.load(source)
    with pytest.raises(ValueError, match="not int"):
        Layout.load(3)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"cells": np.zeros(3, dtype=int)}, "table"),
        ({"cells": np.zeros((0, 3), dtype=int)}, "table"),
        ({"cells": np.zeros((2, 2))}, "integers"),
        ({"cells": np.array([[-1]])}, "indices into the legend"),
        ({"cells": np.array([[256]])}, "indices into the legend"),
        ({"cells": np.array([[1]])}, "no cell to stand on"),
        ({"cells": np.zeros((1, 1), dtype=int), "legend": (Tile(".", "a"), Tile(".", "b"))}, "two tiles"),
        ({"cells": np.zeros((1, 1), dtype=int), "settings": {"gamma": 0.9}}, "no setting 'gamma'"),
        ({"cells": np.zeros((1, 1), dtype=int), "settings": {"slip": -1}}, "slip must be"),
    ],
)
def test_a_bad_layout_is_refused(arguments, what):
    with pytest.raises(ValueError, match=what):
        Layout(**arguments)


@pytest.mark.parametrize("symbol", ["", "ab", " ", "\n", "\u0301", "\ud800", "\u200b", 3])
def test_a_bad_symbol_is_refused(symbol):
    with pytest.raises(ValueError, match="symbol"):
        Tile(symbol, "bad")


def test_with_tile_changes_one_cell_of_a_new_map():
    layout = Layout.load("zhao-3x3")
    mud = Tile("~", "mud", reward=-3)
    edited = layout.with_tile(0, 2, mud).with_tile(1, 1, "#")
    changed = {cell for cell, tile in grid(edited).items() if tile != grid(layout)[cell]}
    assert changed == {(0, 2), (1, 1)}
    assert grid(edited)[0, 2] == mud
    assert edited.settings == layout.settings
    with pytest.raises(ValueError, match="read-only"):
        layout.cells[0, 0] = 1
    for row, column, tile, what in [
        (3, 0, "#", "no cell"),
        (0, -1, "#", "no cell"),
        (0, 0, "?", "not a known symbol"),
        (0, 0, Tile("#", "other"), "already the tile 'wall'"),
        (0, 0, Tile("?", "portal", leads_to="S"), "no 'S' on the map"),
    ]:
        with pytest.raises(ValueError, match=what):
            layout.with_tile(row, column, tile)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("random-walk", [0, *(k / 6 for k in range(1, 6)), 0]),  # Sutton & Barto, ex. 6.2
        ("random-walk-19", [0, *(k / 10 - 1 for k in range(1, 20)), 0]),  # ex. 7.1
        ("sutton-4.1", [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]),  # fig. 4.1
    ],
)
def test_the_random_policy_is_worth_what_is_published(name, values):
    mdp = GridWorld(layout=name).mdp
    np.testing.assert_allclose(mdp.policy_values(np.full((mdp.num_states, 4), 0.25), 1), values, atol=1e-9)
