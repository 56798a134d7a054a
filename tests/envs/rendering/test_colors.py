import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridzero.envs.rendering import colors
from gridzero.envs.rendering.colors import COUNTS, DIVERGING, SEQUENTIAL, Scale, oklab_to_srgb, srgb_to_oklab

# Ottosson (2020), table of example conversions, through XYZ: sRGB primaries in Oklab, as CSS Color 4 lists them.
PRIMARIES = {
    (255, 0, 0): (0.62796, 0.22486, 0.12585),
    (0, 255, 0): (0.86644, -0.23389, 0.17950),
    (0, 0, 255): (0.45201, -0.03246, -0.31153),
}


@pytest.mark.parametrize(("rgb", "lab"), PRIMARIES.items())
def test_oklab_of_the_primaries(rgb, lab):
    np.testing.assert_allclose(srgb_to_oklab(rgb), lab, atol=2e-4)
    assert tuple(oklab_to_srgb(lab)) == rgb


@pytest.mark.parametrize("table", [SEQUENTIAL, COUNTS, DIVERGING[:128][::-1], DIVERGING[128:]])
def test_perceived_steps_are_equal_and_lightness_falls(table):
    lab = srgb_to_oklab(table)[::8]
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.max() < 1.35 * steps.min()
    assert (np.diff(lab[:, 0]) < 0).all()


def simulate_deuteranopia(rgb):
    """Viénot, Brettel and Mollon (1999)."""
    linear = (np.asarray(rgb) / 255) ** 2.2
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    lms = linear @ to_lms.T
    lms[..., 1] = 0.494207 * lms[..., 0] + 1.24827 * lms[..., 2]
    return np.clip(lms @ np.linalg.inv(to_lms).T, 0, 1) ** (1 / 2.2) * 255


def test_both_signs_stay_apart_for_the_colour_blind():
    low, high = (srgb_to_oklab(simulate_deuteranopia(DIVERGING[i])) for i in (20, 235))
    assert np.linalg.norm(low - high) > 0.2


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_levels_follow_the_order_of_the_values(values):
    values = np.array(values)
    levels = Scale(values.min(), values.max()).levels(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(levels[order]) >= 0).all()
    assert levels.min() >= 0
    assert levels.max() <= 255


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_zero_is_in_the_middle_where_signs_differ(negative, positive):
    scale = Scale(-negative, positive)
    zero = srgb_to_oklab(scale.table[scale.levels(np.zeros(1))[0]])
    assert zero[0] > 0.95
    below, above = scale.levels(np.array([-negative, positive]))
    assert below == 0 or positive > 4.9 * negative
    assert above == 255 or negative > 4.9 * positive
    assert below <= 127 <= above


def test_ink_is_readable():
    for table in (SEQUENTIAL, DIVERGING, COUNTS):
        for color, dark in zip(table, colors.is_dark(table), strict=True):
            ink = srgb_to_oklab(colors.FLOOR if dark else colors.INK)
            assert abs(ink[0] - srgb_to_oklab(color)[0]) > 0.33
