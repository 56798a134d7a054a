"""Colours: the theme, and colour maps with equal perceived steps that the colour-blind can read."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

RGB = tuple[int, int, int]

PAPER: Final[RGB] = (246, 245, 241)
INK: Final[RGB] = (33, 37, 46)
MUTED: Final[RGB] = (118, 123, 134)
HAIRLINE: Final[RGB] = (214, 212, 205)
FLOOR: Final[RGB] = (255, 255, 255)
WALL: Final[RGB] = (58, 63, 75)
TARGET: Final[RGB] = (25, 148, 107)
FORBIDDEN: Final[RGB] = (222, 120, 0)
PIT: Final[RGB] = (146, 62, 48)
WATER: Final[RGB] = (17, 23, 38)
ICE: Final[RGB] = (235, 243, 249)
JUMP: Final[RGB] = (124, 92, 176)
AGENT: Final[RGB] = (205, 32, 116)
TRACE: Final[RGB] = (205, 32, 116)
ACCENT: Final[RGB] = (37, 99, 170)
UNKNOWN: Final[RGB] = (226, 225, 221)
HATCH: Final[RGB] = (196, 194, 188)
"""Ground and lines of what is not known yet: no color of a scale."""


def oklab_to_srgb(lab: ArrayLike) -> NDArray[np.uint8]:
    """Oklab (…, 3) to 8-bit sRGB (…, 3) (Ottosson 2020, "A perceptual color space for image processing").

    >>> oklab_to_srgb([1.0, 0.0, 0.0]).tolist()
    [255, 255, 255]
    """
    light, a, b = np.moveaxis(np.asarray(lab, dtype=np.float64), -1, 0)
    cones = (
        np.stack(
            [
                light + 0.3963377774 * a + 0.2158037573 * b,
                light - 0.1055613458 * a - 0.0638541728 * b,
                light - 0.0894841775 * a - 1.2914855480 * b,
            ],
            axis=-1,
        )
        ** 3
    )
    linear = (
        cones
        @ np.array(
            [
                [4.0767416621, -3.3077115913, 0.2309699292],
                [-1.2684380046, 2.6097574011, -0.3413193965],
                [-0.0041960863, -0.7034186147, 1.7076147010],
            ]
        ).T
    )
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), dtype=np.uint8)


def srgb_to_oklab(rgb: ArrayLike) -> NDArray[np.float64]:
    """8-bit sRGB (…, 3) to Oklab (…, 3), the inverse of :func:`oklab_to_srgb`."""
    encoded = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(
        linear
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    return np.asarray(
        cones
        @ np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        ).T
    )


def _ramp(points: list[tuple[float, float, float]], levels: int) -> NDArray[np.uint8]:
    """``levels`` colours along straight lines in Oklab through (lightness, chroma, hue in degrees), equally spaced."""
    lightness, chroma, hue = np.asarray(points).T
    lab = np.stack([lightness, chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))], axis=-1)
    along = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1)))
    at = np.linspace(0.0, along[-1], levels)
    return oklab_to_srgb(np.stack([np.interp(at, along, channel) for channel in lab.T], axis=-1))


LEVELS = 256
SEQUENTIAL: Final = _ramp([(0.97, 0.04, 100), (0.80, 0.09, 170), (0.60, 0.10, 225), (0.40, 0.11, 262)], LEVELS)
"""Pale yellow through teal to deep blue: the higher the darker."""
DIVERGING: Final = np.concatenate(
    [
        _ramp([(0.50, 0.13, 48), (0.74, 0.12, 60), (0.97, 0.005, 80)], LEVELS // 2),
        _ramp([(0.97, 0.005, 250), (0.72, 0.09, 240), (0.44, 0.12, 258)], LEVELS // 2),
    ]
)
"""Orange below 0, blue above it, nearly white at 0."""
COUNTS: Final = _ramp([(0.97, 0.015, 320), (0.72, 0.11, 310), (0.38, 0.14, 300)], LEVELS)
"""White to violet: visit counts."""
LIKELIHOODS: Final = _ramp([(0.58, 0.16, 27), (0.58, 0.12, 80), (0.58, 0.14, 148)], 16)
"""Red for unlikely through amber to green for likely: letters that are read on white and on black."""


class Scale:
    """Maps numbers to one of 256 colours.

    Where signs differ the map diverges around 0, each side reaching at least a fifth of the other's extent so that
    noise around 0 stays pale; else it runs from the least to the greatest value.

    Args:
        low: the least value shown.
        high: the greatest.
        clipped: whether there are values below ``low``, which have its colour.

    Attributes:
        table: (256, 3) uint8.
        low: the value of the first colour.
        high: the value of the last colour.
        diverging: whether 0 is in the middle.
    """

    def __init__(
        self, low: float, high: float, table: NDArray[np.uint8] | None = None, *, clipped: bool = False
    ) -> None:
        self.clipped = clipped
        self.diverging = table is None and low < 0 < high
        if self.diverging:
            low, high = min(low, -high / 5), max(high, -low / 5)
        self.low, self.high = low, high
        self.table = table if table is not None else (DIVERGING if self.diverging else SEQUENTIAL)

    def levels(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Indices into ``table``, of the same shape as ``values``.

        >>> Scale(0.0, 10.0).levels(np.array([0.0, 5.0, 10.0])).tolist()
        [0, 127, 255]
        >>> Scale(-1.0, 10.0).levels(np.array([-2.0, 0.0, 10.0])).tolist()
        [0, 127, 255]
        """
        if self.diverging:
            unit = np.where(values < 0, values / -self.low, values / self.high) * 0.5 + 0.5
        elif self.high > self.low:
            unit = (values - self.low) / (self.high - self.low)
        else:
            unit = np.full(np.shape(values), 0.0 if self.high <= 0 else 0.5)
        return np.asarray(np.clip(unit * (LEVELS - 1), 0, LEVELS - 1), dtype=np.intp)


def likelihood(probability: float) -> RGB:
    """The colour of something with this probability.

    >>> likelihood(0.0), likelihood(1.0)
    ((199, 75, 67), (49, 144, 71))
    """
    red, green, blue = LIKELIHOODS[min(int(probability * len(LIKELIHOODS)), len(LIKELIHOODS) - 1)].tolist()
    return red, green, blue


def is_dark(colors: ArrayLike) -> NDArray[np.bool_]:
    """Whether white is easier to read than ink on each colour of (…, 3)."""
    return np.asarray(srgb_to_oklab(colors)[..., 0] < 0.66)


def mix(color: RGB, other: RGB, share: float) -> RGB:
    """``color`` with ``share`` of ``other`` mixed in.

    >>> mix((0, 0, 0), (100, 200, 50), 0.5)
    (50, 100, 25)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue
