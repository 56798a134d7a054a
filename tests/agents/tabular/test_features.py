"""Feature maps: partitions, shifts and counts that hold for all sizes; and which observations have features."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gridzero
from gridzero.agents.tabular.features import Aggregation, FeatureMap, Fourier, Polynomial, TileCoding
from gridzero.agents.tabular.inputs import BoxInputs

sizes = st.integers(1, 3)


def points(dimensions: int, seed: int, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    inside = rng.random((count, dimensions))
    corners = rng.integers(0, 2, (count, dimensions)).astype(float)
    return np.concatenate([inside, corners])


@given(sizes, st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_each_tiling_is_a_partition(dimensions: int, tilings: int, tiles: int, seed: int) -> None:
    coding = TileCoding(dimensions, tilings, tiles)
    indices, values = coding(points(dimensions, seed))
    assert coding.size == tilings * (tiles + 1) ** dimensions
    assert indices.shape == (80, tilings)
    assert (values == 1).all()
    np.testing.assert_array_equal(indices // (tiles + 1) ** dimensions, np.tile(np.arange(tilings), (80, 1)))


@given(sizes, st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_points_in_the_same_tile_are_near(dimensions: int, tilings: int, tiles: int, seed: int) -> None:
    """Two points share a tile only if they are less than a tile apart, and all tiles only if less than T-th of one."""
    where = points(dimensions, seed)
    shared = (
        TileCoding(dimensions, tilings, tiles)(where).indices[:, None]
        == TileCoding(dimensions, tilings, tiles)(where).indices[None]
    ).sum(axis=2)
    apart = np.abs(where[:, None] - where[None]).max(axis=2) * tiles
    assert (apart[shared > 0] < 1 + 1e-9).all()
    if dimensions == 1:
        assert (apart[shared == tilings] < 1 / tilings + 1e-9).all()


def test_tiles_are_those_of_suttons_software() -> None:
    """Its tilings are shifted by t (1 + 2 i) / T of a tile, so that the same points share tiles (tiles3)."""
    where = np.random.default_rng(0).random((300, 2))
    ours = TileCoding(2, 8, 8)(where).indices
    theirs = np.zeros((300, 8, 2), dtype=int)
    for n, point in enumerate(where):
        quantised = [math.floor(8 * x * 8) for x in point]
        for tiling in range(8):
            theirs[n, tiling] = [(q + tiling * (1 + 2 * i)) // 8 for i, q in enumerate(quantised)]
    same = (theirs[:, None] == theirs[None]).all(axis=3)
    np.testing.assert_array_equal(ours[:, None] == ours[None], same)


@given(sizes, st.integers(1, 8), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_aggregation_has_one_group_for_each_point(dimensions: int, groups: int, seed: int) -> None:
    where = points(dimensions, seed)
    indices, _ = Aggregation(dimensions, groups)(where)
    boxes = np.stack(np.unravel_index(indices[:, 0], (groups,) * dimensions), axis=1)
    assert (boxes <= where * groups + 1e-9).all()
    assert (where * groups <= boxes + 1 + 1e-9).all()


@given(sizes, st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_polynomials_span_those_of_their_degree(dimensions: int, order: int, seed: int) -> None:
    """The power of any linear form, up to the order, is a combination of the features."""
    where = points(dimensions, seed, count=100)
    matrix = Polynomial(dimensions, order).dense(where)
    target = (where @ np.arange(1.0, dimensions + 1) - 0.3) ** order
    found = np.linalg.lstsq(matrix, target, rcond=None)[0]
    np.testing.assert_allclose(matrix @ found, target, atol=1e-7 * np.abs(target).max())
    assert matrix.shape[1] == math.comb(dimensions + order, order)


def test_fourier_features_are_orthogonal() -> None:
    """In one dimension, on the midpoints of a fine grid, as cosines are (the discrete cosine transform)."""
    middle = (np.arange(20)[:, None] + 0.5) / 20
    matrix = Fourier(1, order=5).dense(middle)
    np.testing.assert_allclose(matrix.T @ matrix / 20, np.diag([1, *[0.5] * 5]), atol=1e-12)


@pytest.mark.parametrize("features", [Aggregation(2, 3), TileCoding(2, 5, 4), Polynomial(2, 3), Fourier(2, 2)])
def test_a_constant_is_the_same_everywhere(features: FeatureMap) -> None:
    np.testing.assert_allclose(features.dense(points(2, 0)) @ features.constant(7.0), 7.0)


@pytest.mark.parametrize(
    ("env", "fields", "line"),
    [
        ("CartPole-v1", {}, r"no bounds in component 1, 3.* clip=3"),
        ("MountainCar-v0", {"features": "tabular"}, "can be counted"),
        ("MountainCar-v0", {"features": "tile"}, "no features .tile.; did you mean tiles"),
        ("MountainCar-v0", {"features": "fourier", "order": 9999}, "at most 10,000,000"),
        ("MountainCar-v0", {"tilings": 0}, "tilings must be at least 1"),
        ("CartPole-v1", {"clip": -1.0}, "clip must be above 0"),
        ("Pendulum-v1", {}, "discrete action space"),
        ("MountainCar-v0", {"n": 2, "trace_decay": 0.5}, "one of them, not both"),
        ("MountainCar-v0", {"features": "fourier", "trace_decay": 0.5, "trace": "replacing"}, "0 or 1"),
        ("MountainCar-v0", {"trace": "dutsch"}, "dutch"),
        ("MountainCar-v0", {"step_size": "0"}, "step_size must be above 0"),
    ],
)
def test_settings_that_do_not_go_together(env: str, fields: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        gridzero.agents.make("sarsa-linear", env, **fields)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-1, 1, (3,)),
        gym.spaces.Box(0, 255, (2, 2), dtype=np.uint8),
        gym.spaces.MultiDiscrete([3, 4]),
        gym.spaces.Tuple([gym.spaces.Discrete(5), gym.spaces.Discrete(2, start=-1)]),
        gym.spaces.MultiBinary(3),
    ],
)
@pytest.mark.parametrize("features", ["tiles", "fourier", "polynomial", "aggregation"])
def test_any_box_or_discrete_observation_has_features(space: gym.Space, features: str) -> None:
    class Anything(gym.Env):
        observation_space, action_space = space, gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
            space.seed(seed)
            return space.sample(), {}

        def step(self, action):  # type: ignore[no-untyped-def]
            return space.sample(), 1.0, False, True, {}

    agent = gridzero.agents.make("q-linear", Anything(), features=features, order=1, tiles=2, groups=2, gamma=0.0)
    for update in agent.learn():
        if update.step >= 2000:
            break
    assert update.metrics["td_error"] < 0.2


def test_a_component_without_bounds_is_clipped() -> None:
    inputs = BoxInputs(gym.spaces.Box(-np.inf, np.inf, (1,)), clip=2.0)
    np.testing.assert_allclose(inputs(np.array([[-5.0], [-1.0], [0.0], [9.0]]))[:, 0], [0, 0.25, 0.5, 1])
