"""Many grid worlds at once are, bit for bit, single ones: held against Gymnasium's own vectorisation of those."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st

import gridzero  # noqa: F401 - registers the environments
from gridzero.envs.grid.observations import OBSERVATIONS
from gridzero.envs.grid.vector import GridWorldVector
from gridzero.envs.grid.world import GridWorld

MODES = list(AutoresetMode)
TELEPORTS = "S..T\n.#.T\n..aG\n\nT: sends_to=., reward=-2\na: leads_to=S, leaving_reward=3\n"
LAYOUTS = ["frozen-lake-4x4", "zhao-3x3", "windy-king", "cliff", TELEPORTS, "maze:5x5", "obstacles:4x5", "rooms:9x9"]


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Options over maps small enough for episodes to end."""
    layout = draw(st.sampled_from(LAYOUTS))
    options: dict[str, Any] = {
        "layout": layout,
        "actions": draw(st.sampled_from([4, 5, 8])),
        "slip": draw(st.sampled_from([0.0, 0.4, 1.0])),
        "slip_to": draw(st.sampled_from(["perpendicular", "any", "backward", "stay"])),
        "start": draw(st.sampled_from([None, "random"])),
        "target_terminal": draw(st.booleans()),
        "observation": draw(st.sampled_from(OBSERVATIONS)),
        "window_size": draw(st.sampled_from([3, 5])),
    }
    if ":" in layout.partition("\n")[0]:
        options["regenerate"] = draw(st.booleans())
    return options


def same(ours: Any, theirs: Any) -> bool:
    """Equal values, dtypes and shapes."""
    return bool(data_equivalence(ours, theirs, exact=True))


@pytest.mark.parametrize("mode", MODES)
@given(worlds(), st.integers(0, 2**64), st.integers(1, 7), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_vector_is_scalar(mode: AutoresetMode, options: dict[str, Any], seed: int, limit: int, random: Any) -> None:
    count = 3
    single = SyncVectorEnv([lambda: TimeLimit(GridWorld(**options), limit)] * count, autoreset_mode=mode)
    native = GridWorldVector(count, max_episode_steps=limit, autoreset_mode=mode, **options)
    assert native.single_observation_space == single.single_observation_space
    seeds = [seed + i for i in range(count)]
    assert same(native.reset(seed=seeds), single.reset(seed=seeds))
    for _ in range(14):
        actions = np.array([random.randrange(options["actions"]) for _ in range(count)])
        ours, theirs = native.step(actions), single.step(actions)
        assert same(ours, theirs)
        assert ours[0] in native.observation_space
        masks = native.action_masks()
        assert same(masks, np.array([env.unwrapped.action_masks() for env in single.envs]))
        done = ours[2] | ours[3]
        if mode is AutoresetMode.DISABLED and done.any():
            ours_after, info = native.reset(options={"reset_mask": done})
            theirs_after, their_info = single.reset(options={"reset_mask": done})
            assert same(ours_after, theirs_after)
            assert same(info["is_success"][done], their_info["is_success"][done])


@given(worlds(), st.integers(0, 2**40))
@settings(max_examples=20)
def test_an_environment_depends_on_the_seed_and_its_number_alone(options: dict[str, Any], seed: int) -> None:
    few, many, single = GridWorldVector(2, **options), GridWorldVector(5, **options), GridWorld(**options)
    few_seen, many_seen, (single_seen, _) = few.reset(seed=seed)[0], many.reset(seed=seed)[0], single.reset(seed=seed)
    rng = np.random.default_rng(seed)
    ended = False
    for _ in range(12):
        assert same(few_seen, many_seen[:2])
        assert same(np.asarray(few_seen[0]), np.asarray(single_seen))
        actions = rng.integers(options["actions"], size=5)
        few_seen, *_ = few.step(actions[:2])
        many_seen, *_ = many.step(actions)
        single_seen, _, done, *_ = (*single.reset(), False) if ended else single.step(int(actions[0]))
        ended = bool(done) if not ended else False


def test_streams_differ_between_environments_and_seeds() -> None:
    """Random(seed + index) would make seed 0's second environment seed 1's first."""
    options = {"layout": "empty:100x100", "start": "random"}
    first = GridWorldVector(50, **options).reset(seed=0)[0]
    second = GridWorldVector(50, **options).reset(seed=1)[0]
    assert len(set(first) | set(second)) > 95  # of 10,000 cells


def test_without_a_seed_the_streams_go_on() -> None:
    envs = GridWorldVector(20, layout="empty:50x50", start="random")
    first, _ = envs.reset(seed=5)
    second, _ = envs.reset()
    again, _ = envs.reset(seed=5)
    assert same(first, again)
    assert same(envs.reset()[0], second)
    assert not same(first, second)
    fresh = [GridWorldVector(20, layout="empty:50x50", start="random").reset()[0] for _ in range(2)]
    assert not same(*fresh)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"layout": "frozen-lake-4x4"}, {"layout": "maze:5x5", "regenerate": True}])
@pytest.mark.parametrize("way", ["state", "pickle", "deepcopy"])
def test_interrupted_goes_on_as_if_not(mode: AutoresetMode, options: dict[str, Any], way: str) -> None:
    options = {**options, "observation": "window", "max_episode_steps": 5, "autoreset_mode": mode}
    envs = GridWorldVector(16, **options)
    rng = np.random.default_rng(0)
    seen, _ = envs.reset(seed=1)

    def advance(envs: GridWorldVector, actions: np.ndarray[Any, Any]) -> Any:
        result = envs.step(actions)
        done = result[2] | result[3]
        if mode is AutoresetMode.DISABLED and done.any():
            return result, envs.reset(options={"reset_mask": done})
        return result

    for _ in range(7):
        advance(envs, rng.integers(4, size=16))
    if way == "state":
        other = GridWorldVector(16, **options)
        other.reset(seed=99)
        seen = other.set_state(envs.get_state())
        assert same(seen, envs.observer.batch(envs.cells))
    else:
        other = pickle.loads(pickle.dumps(envs)) if way == "pickle" else copy.deepcopy(envs)
    for _ in range(20):
        actions = rng.integers(4, size=16)
        assert same(advance(envs, actions), advance(other, actions))


def test_a_copy_lives_on_its_own() -> None:
    envs = GridWorldVector(4, layout="maze:5x5", regenerate=True)
    envs.reset(seed=0)
    other = copy.deepcopy(envs)
    before = envs.get_state()
    for _ in range(30):
        other.step(np.array([0, 1, 2, 3]))
        other.reset()
    assert same(envs.get_state(), before)


@pytest.mark.parametrize("mode", [*MODES, "SameStep"])
def test_made_by_gymnasium(mode: AutoresetMode | str) -> None:
    before = dict(GridWorld.metadata)
    envs = gym.make_vec("gridzero/GridWorld-v0", num_envs=3, layout="cliff", autoreset_mode=mode)
    assert isinstance(envs, GridWorldVector)
    assert envs.metadata["autoreset_mode"] is AutoresetMode(mode) is envs.autoreset_mode
    envs.reset(seed=0)
    truncated = np.zeros(3, dtype=np.bool_)
    for _ in range(200):
        assert not truncated.any()
        _, _, _, truncated, _ = envs.step(np.zeros(3, dtype=np.int64))
    assert truncated.all(), "the registered limit of 200 steps holds"
    assert GridWorld.metadata == before


def test_arrays_are_new_each_step() -> None:
    envs = GridWorldVector(8, layout="frozen-lake-4x4")
    kept = [envs.reset(seed=0)[0]]
    copies = [kept[0].copy()]
    for _ in range(5):
        observations, rewards, terminated, truncated, info = envs.step(np.ones(8, dtype=np.int64))
        for array in (observations, rewards, terminated, truncated, info["is_success"], info["_is_success"]):
            assert not any(np.shares_memory(array, other) for other in kept)
            kept.append(array)
            copies.append(array.copy())
    assert all(same(array, saved) for array, saved in zip(kept, copies, strict=True))
    before = envs.cells
    observations[:] = 3
    assert same(envs.cells, before), "what the caller does with observations is no concern of the environment"


def test_episodes_can_begin_on_chosen_cells() -> None:
    envs = GridWorldVector(2, layout="zhao-2x2", max_episode_steps=2, target_terminal=True)
    envs.reset(seed=0)
    for _ in range(3):
        assert same(envs.set_state([0, 2]), np.array([0, 2]))
        observations, _, terminated, truncated, _ = envs.step(np.array([0, 1]))
        assert same(observations, np.array([0, 3]))
        assert terminated.tolist() == [False, True]
        assert not truncated.any()


def test_edit_changes_the_map_for_all() -> None:
    envs = GridWorldVector(3, layout="zhao-2x2", start=0)
    envs.reset(seed=0)
    before = envs.mdp
    envs.edit(1, 0, "#")
    assert envs.mdp is not before
    assert same(envs.step(np.array([2, 2, 1]))[0], np.array([0, 0, 1]))
    fresh = GridWorldVector(3, layout="zhao-2x2", start=0)
    fresh.set_state(envs.get_state())
    assert same(fresh.layout.cells, envs.layout.cells)
    with pytest.raises(ValueError, match="no episode can start"):
        envs.edit(0, 0, "#")
    assert same(fresh.step(np.array([1, 1, 1])), envs.step(np.array([1, 1, 1])))


def test_what_is_refused() -> None:
    envs = GridWorldVector(2, layout="cliff", autoreset_mode="Disabled", max_episode_steps=1)
    envs.reset(seed=0)
    state = envs.get_state()
    for actions, message in [
        (np.array([0, 4]), "from 0 to 3, not 4"),
        (np.array([-1, 0]), "from 0 to 3, not -1"),
        (np.array([0]), "must be \\(2,\\) integers"),
        (np.array([0.0, 1.0]), "integers, not float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            envs.step(actions)
    assert same(envs.get_state(), state), "a refused step changes nothing"
    envs.step([0, 0])
    with pytest.raises(ValueError, match="environment 0 is done"):
        envs.step([0, 0])
    for mask in (np.array([True]), np.array([1, 0])):
        with pytest.raises(ValueError, match="reset_mask must be"):
            envs.reset(options={"reset_mask": mask})
    with pytest.raises(ValueError, match="the one option"):
        envs.reset(options={"mask": np.array([True, False])})
    with pytest.raises(ValueError, match="one for each of 2"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="from 0, not -1"):
        GridWorldVector(2).reset(seed=[-1, 2])
    for cells, message in [([0], "must be \\(2,\\)"), ([0, 48], "from 0 to 47"), ([0.5, 1], "integers, not float")]:
        with pytest.raises(ValueError, match=message):
            envs.set_state(np.array(cells))
    with pytest.raises(ValueError, match="of 3 environments; these are 2"):
        envs.set_state(GridWorldVector(3, layout="cliff").get_state())
    with pytest.raises(ValueError, match="nobody can be on state 7 in environment 1"):
        GridWorldVector(2, layout="dyna-maze").set_state([0, 7])
    generated = GridWorldVector(2, layout="maze:5x5", regenerate=True)
    with pytest.raises(AttributeError, match="its own map"):
        _ = generated.mdp
    with pytest.raises(ValueError, match="its own map"):
        generated.edit(0, 0, "#")
    for arguments, message in [
        ({"num_envs": 0}, "num_envs"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"autoreset_mode": "Never"}, "NextStep, SameStep, Disabled, not 'Never'"),
        ({"render_mode": "human"}, "render_mode"),
    ]:
        with pytest.raises(ValueError, match=message):
            GridWorldVector(**arguments)


def test_rendered_as_the_single_ones_are() -> None:
    envs = GridWorldVector(3, layout="maze:5x5", regenerate=True, render_mode="ansi", start="random")
    singles = [GridWorld("maze:5x5", regenerate=True, render_mode="ansi", start="random") for _ in range(3)]
    envs.reset(seed=[1, 2, 3])
    for single, seed in zip(singles, [1, 2, 3], strict=True):
        single.reset(seed=seed)
    assert envs.render() == tuple(single.render() for single in singles)
