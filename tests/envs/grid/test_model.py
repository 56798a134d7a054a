"""The model of a grid world against a plain reading of the rules, Gymnasium's own worlds, and published numbers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from gridzero.envs.grid.layouts.layout import Layout, Tile
from gridzero.envs.grid.vector import GridWorldVector
from gridzero.envs.grid.world import GridWorld
from gridzero.envs.mdp import FiniteMDP

UP, RIGHT, DOWN, LEFT, STAY = (-1, 0), (0, 1), (1, 0), (0, -1), (0, 0)
CLOCKWISE = [UP, (-1, 1), RIGHT, (1, 1), DOWN, (1, -1), LEFT, (-1, -1)]
ACTIONS = {
    4: [UP, RIGHT, DOWN, LEFT],
    5: [UP, RIGHT, DOWN, LEFT, STAY],
    8: [UP, RIGHT, DOWN, LEFT, (-1, 1), (1, 1), (1, -1), (-1, -1)],
}
LEGEND = (
    Tile(".", "free"),
    Tile("#", "wall", blocks=True),
    Tile("S", "start", start=True),
    Tile("G", "target", target=True),
    Tile("x", "forbidden", forbidden=True),
    Tile("H", "hole", ends=True, reward=-3.0),
    Tile("^", "wind", wind=(-2, 0)),
    Tile(">", "slanting wind", wind=(1, 1)),
    Tile("m", "mud", reward=-0.3),
    Tile("T", "trapdoor", sends_to=".", reward=-7.0),
    Tile("A", "here", leads_to="a", leaving_reward=10.0),
    Tile("B", "here too", leads_to="G"),
    Tile("a", "there"),
    Tile("W", "way down", sends_to="G"),
)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Small maps of all kinds of tiles, mostly free."""
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    tile = st.one_of(st.just(0), st.integers(0, len(LEGEND) - 1))
    cells = draw(st.lists(tile, min_size=height * width, max_size=height * width))
    try:
        return Layout(np.array(cells, dtype=np.uint8).reshape(height, width), LEGEND)
    except ValueError:
        assume(False)
        raise


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """The options that make a model."""
    return {
        "reward_step": draw(st.sampled_from([0.0, -1.0, 0.25])),
        "reward_target": draw(st.sampled_from([1.0, 5.5])),
        "reward_forbidden": draw(st.sampled_from([-1.0, -10.0])),
        "reward_boundary": draw(st.sampled_from([-1.0, 0.0])),
        "forbidden_enterable": draw(st.booleans()),
        "target_terminal": draw(st.booleans()),
        "actions": draw(st.sampled_from([4, 5, 8])),
        "slip": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "slip_to": draw(st.sampled_from(["perpendicular", "any", "backward", "stay"])),
        "start": draw(st.sampled_from([None, "random"])),
    }


def make(layout: Layout, options: dict[str, Any]) -> GridWorld:
    try:
        return GridWorld(layout, **options)
    except ValueError as error:
        assume("no episode can start" not in str(error))
        raise


def read_literally(
    layout: Layout, options: dict[str, Any], cell: int, move: tuple[int, int]
) -> tuple[Any, float, bool]:
    """The rules as the documentation words them: where a move may land, its reward, whether it bumps."""
    height, width = layout.height, layout.width
    tile_at = {divmod(s, width): layout.legend[t] for s, t in enumerate(layout.cells.reshape(-1))}
    place = divmod(cell, width)
    tile = tile_at[place]

    def with_symbol(symbol: str) -> list[tuple[int, int]]:
        return [p for p, t in tile_at.items() if t.symbol == symbol]

    def entering(t: Tile) -> float:
        if t.reward is not None:
            return t.reward
        if t.target:
            return float(options["reward_target"])
        return float(options["reward_forbidden"] if t.forbidden else options["reward_step"])

    if tile.blocks or tile.ends or (tile.target and options["target_terminal"]):
        return [place], 0.0, False
    if tile.leads_to is not None:
        places = with_symbol(tile.leads_to)
        return places, entering(tile_at[places[0]]) if tile.leaving_reward is None else tile.leaving_reward, False
    row, column = place[0] + move[0], place[1] + move[1]
    bumps = not (0 <= row < height and 0 <= column < width)
    if tile.wind != (0, 0):
        row = min(max(row + tile.wind[0], 0), height - 1)
        column = min(max(column + tile.wind[1], 0), width - 1)
    elif bumps:
        return [place], options["reward_boundary"], True
    there = tile_at[row, column]
    if there.blocks:
        return [place], options["reward_boundary"], True
    landing = [(row, column)]
    if there.forbidden and not options["forbidden_enterable"]:
        landing = [place]
    elif there.sends_to is not None:
        landing = with_symbol(there.sends_to)
    return landing, options["reward_boundary"] if bumps else entering(there), bumps


def slips(options: dict[str, Any], move: tuple[int, int]) -> list[tuple[float, tuple[int, int]]]:
    """(probability, move) pairs of an action."""
    slip, to = options["slip"], options["slip_to"]
    if move == STAY:
        return [(1.0, move)]
    place = CLOCKWISE.index(move)
    others = {
        "perpendicular": [CLOCKWISE[(place + 2) % 8], CLOCKWISE[(place - 2) % 8]],
        "any": [m for m in ACTIONS[8 if options["actions"] == 8 else 4] if m != move],
        "backward": [CLOCKWISE[(place + 4) % 8]],
        "stay": [STAY],
    }[to]
    return [(1 - slip, move), *((slip / len(others), other) for other in others)]


@given(layouts(), rules())
@settings(max_examples=150)
def test_the_model_is_the_rules_read_literally(layout: Layout, options: dict[str, Any]) -> None:
    env = make(layout, options)
    mdp, table = env.mdp, env.P
    tiles = [layout.legend[t] for t in layout.cells.reshape(-1)]
    for cell, tile in enumerate(tiles):
        ends = tile.blocks or tile.ends or (tile.target and options["target_terminal"])
        assert mdp.terminal[cell] == ends
        if tile.sends_to is not None:  # nobody is ever there
            continue
        bumps = []
        for action, intended in enumerate(ACTIONS[options["actions"]]):
            expected: dict[tuple[int, float], float] = defaultdict(float)
            for probability, move in slips(options, intended):
                landing, reward, _ = read_literally(layout, options, cell, move)
                for place in landing:
                    expected[place[0] * layout.width + place[1], reward] += probability / len(landing)
            bumps.append(read_literally(layout, options, cell, intended)[2])
            found = {(nxt, reward): p for p, nxt, reward, _ in table[cell][action]}
            assert found == pytest.approx({key: p for key, p in expected.items() if p > 0})
            assert all(terminated == mdp.terminal[nxt] for _, nxt, _, terminated in table[cell][action])
            assert mdp.rewards[cell, action] == pytest.approx(sum(p * reward for (_, reward), p in expected.items()))
            successors: dict[int, float] = defaultdict(float)
            for (nxt, _), p in expected.items():
                successors[nxt] += p
            listed: dict[int, float] = defaultdict(float)
            for s, p in zip(mdp.successors[cell, action], mdp.probabilities[cell, action], strict=True):
                listed[int(s)] += p
            assert {s: p for s, p in listed.items() if p > 0} == pytest.approx(
                {s: p for s, p in successors.items() if p > 0}
            )
        if not tile.blocks:
            env.set_state(cell)
            assert env.action_masks().tolist() == ([True] * len(bumps) if all(bumps) else [not b for b in bumps])


@given(layouts(), rules())
@settings(max_examples=50)
def test_episodes_start_on_the_start_cells_or_anywhere_sensible(layout: Layout, options: dict[str, Any]) -> None:
    start = make(layout, options).mdp.start
    tiles = [layout.legend[t] for t in layout.cells.reshape(-1)]
    possible = [
        not (t.blocks or t.ends or t.sends_to or (t.target and options["target_terminal"]))
        and (options["forbidden_enterable"] or not t.forbidden)
        for t in tiles
    ]
    marked = [fine and t.start and options["start"] is None for fine, t in zip(possible, tiles, strict=True)]
    chosen = np.array(marked if any(marked) else possible, dtype=float)
    np.testing.assert_allclose(start, chosen / chosen.sum())


TELEPORTS = "S..T\n.#.T\n..aG\n\nT: sends_to=., reward=-2\na: leads_to=S, leaving_reward=3\n"


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "frozen-lake-4x4"},
        {"layout": "four-rooms", "actions": 8},
        {"layout": "windy-king", "slip": 0.2, "slip_to": "backward"},
        {"layout": "zhao-5x5", "slip": 0.5, "slip_to": "stay", "forbidden_enterable": False},
        {"layout": TELEPORTS, "slip": 0.35, "slip_to": "any"},
    ],
    ids=["frozen-lake", "four-rooms", "windy-king", "zhao", "teleports"],
)
def test_what_happens_is_what_the_model_says(options: dict[str, Any]) -> None:
    """Chi-square on (next cell, reward, terminated) in every pair; fails by chance once in 10,000 seeds a test."""
    model = GridWorld(**options)
    live = np.flatnonzero(~model.mdp.terminal)
    each, actions = 600, model.rules.actions
    pairs = np.array([(s, a) for s in live for a in range(actions)])
    envs = GridWorldVector(num_envs=len(pairs) * 4, **options)
    envs.reset(seed=12345)
    states, acts = np.tile(pairs[:, 0], 4), np.tile(pairs[:, 1], 4)
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    for _ in range(each // 4):
        envs.reset()
        envs.set_state(states)
        nexts, rewards, terminated, _, _ = envs.step(acts)
        for key in zip(states, acts, nexts, rewards, terminated, strict=True):
            counts[key] += 1
    statistic, freedom, seen = 0.0, 0, 0
    for state, action in pairs:
        outcomes = model.P[state][action]
        freedom += len(outcomes) - 1
        for probability, nxt, reward, terminated in outcomes:
            observed = counts.get((state, action, nxt, reward, terminated), 0)
            seen += observed
            statistic += (observed - each * probability) ** 2 / (each * probability)
    assert seen == len(pairs) * each, "something happened that the model does not have"
    assert stats.chi2.sf(statistic, freedom) > 1e-4


def test_starts_follow_the_model() -> None:
    """Chi-square over the cells of four rooms; fails by chance once in 10,000 seeds."""
    envs = GridWorldVector(num_envs=20_000, layout="four-rooms", start="random")
    cells, _ = envs.reset(seed=3)
    start = envs.mdp.start
    observed = np.bincount(cells, minlength=start.size)
    assert observed[start == 0].sum() == 0
    assert stats.chisquare(observed[start > 0], len(cells) * start[start > 0]).pvalue > 1e-4


def dense(mdp: FiniteMDP) -> np.ndarray[Any, Any]:
    return mdp.transition_matrix.toarray().reshape(mdp.num_states, mdp.num_actions, mdp.num_states)


@pytest.mark.parametrize("size", ["4x4", "8x8"])
def test_frozen_lake_is_gymnasiums(size: str) -> None:
    ours = GridWorld(f"frozen-lake-{size}").mdp
    theirs = FiniteMDP.from_env(gym.make("FrozenLake-v1", map_name=size))
    order = [3, 2, 1, 0]  # up, right, down, left among Gymnasium's left, down, right, up
    live = ~ours.terminal
    np.testing.assert_array_equal(ours.terminal, theirs.terminal)
    np.testing.assert_array_equal(ours.start, theirs.start)
    np.testing.assert_allclose(dense(ours)[live], dense(theirs)[:, order][live], atol=1e-12)
    np.testing.assert_allclose(ours.rewards[live], theirs.rewards[:, order][live], atol=1e-12)


def test_cliff_walking_is_gymnasiums() -> None:
    ours = GridWorld("cliff").mdp
    name = "CliffWalking-v1" if "CliffWalking-v1" in gym.registry else "CliffWalking-v0"
    theirs = FiniteMDP.from_env(gym.make(name))
    visited = ~ours.terminal
    visited[37:47] = False  # the cliff
    states = ours.num_states
    np.testing.assert_array_equal(dense(ours)[visited], dense(theirs)[:states, :, :states][visited])
    np.testing.assert_array_equal(ours.rewards[visited], theirs.rewards[:states][visited])
    assert ours.finite_horizon_values(100)[36] == -13


def solve(env: GridWorld, gamma: float, policy: str = "best") -> np.ndarray[Any, Any]:
    """Value iteration over ``env.P`` in plain Python, independent of the arrays."""
    values = [0.0] * len(env.P)
    combine = max if policy == "best" else (lambda q: sum(q) / len(q))
    for _ in range(2000):
        new = [
            combine([sum(p * (r + (0 if end else gamma * values[n])) for p, n, r, end in row) for row in rows.values()])
            for rows in env.P.values()
        ]
        change = max(abs(a - b) for a, b in zip(values, new, strict=True))
        values = new
        if change < 1e-10:
            break
    return np.array(values).reshape(env.layout.cells.shape)


def numbers(text: str) -> np.ndarray[Any, Any]:
    return np.array([[float(x) for x in row.split()] for row in text.split("/")])


@pytest.mark.parametrize(
    ("layout", "published"),
    [
        (
            "zhao-5x5",
            "5.8 5.6 6.2 6.5 5.8/6.5 7.2 8.0 7.2 6.5/7.2 8.0 10 8.0 7.2/8.0 10 10 10 8.0/7.2 9.0 10 9.0 8.1",
        ),
        (
            "zhao-5x5-strict",
            "3.5 3.9 4.3 4.8 5.3/3.1 3.5 4.8 5.3 5.9/2.8 2.5 10 5.9 6.6/2.5 10 10 10 7.3/2.3 9.0 10 9.0 8.1",
        ),
    ],
)
def test_zhao_figure_3_4(layout: str, published: str) -> None:
    np.testing.assert_allclose(solve(GridWorld(layout), 0.9), numbers(published), atol=0.051)


def test_zhao_first_sweeps_on_2x2() -> None:
    mdp = GridWorld("zhao-2x2").mdp
    np.testing.assert_allclose(mdp.finite_horizon_values(1, 0.9), [0, 1, 1, 1])
    np.testing.assert_allclose(mdp.finite_horizon_values(2, 0.9), [0.9, 1.9, 1.9, 1.9])


@given(st.floats(0.1, 5), st.floats(-3, 3))
@settings(max_examples=5)
def test_zhao_affine_law(alpha: float, beta: float) -> None:
    """Zhao, theorem 3.6: rewards αr + β have the values αv + β/(1-γ)."""
    plain = GridWorld("zhao-5x5")
    names = ("reward_step", "reward_target", "reward_forbidden", "reward_boundary")
    changed = GridWorld("zhao-5x5", **{name: alpha * getattr(plain.rules, name) + beta for name in names})
    expected = alpha * solve(plain, 0.9) + beta / (1 - 0.9)
    np.testing.assert_allclose(solve(changed, 0.9), expected, atol=1e-6)


def test_sutton_figures_3_2_and_3_5() -> None:
    random = "3.3 8.8 4.4 5.3 1.5/1.5 3.0 2.3 1.9 .5/.1 .7 .7 .4 -.4/-1.0 -.4 -.4 -.6 -1.2/-1.9 -1.3 -1.2 -1.4 -2.0"
    best = "22.0 24.4 22.0 19.4 17.5/19.8 22.0 19.8 17.8 16.0/17.8 19.8 17.8 16.0 14.4/16.0 17.8 16.0 14.4 13.0/"
    best += "14.4 16.0 14.4 13.0 11.7"
    env = GridWorld("sutton-3.5")
    np.testing.assert_allclose(solve(env, 0.9, "random"), numbers(random), atol=0.051)
    np.testing.assert_allclose(solve(env, 0.9), numbers(best), atol=0.051)


def test_aima_utilities() -> None:
    values = solve(GridWorld("aima-4x3"), 1.0)
    published = numbers(".812 .868 .918 0/.762 0 .660 0/.705 .655 .611 .388")
    np.testing.assert_allclose(values, published, atol=6e-4)
