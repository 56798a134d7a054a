"""The panel beside the map: numbers, a learning curve, the colour scale, keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pygame

from gridzero.envs.rendering import colors, sprites
from gridzero.envs.rendering.colors import RGB, Scale

WIDTH = 300
PAD = 16
CURVE_POINTS = 512
LARGEST_CURVE, MARKED = 280, 40
"""Pixels that a curve is high, at most, and points, at most, that have a dot each."""


class Curve:
    """A series of any length in at most ``CURVE_POINTS`` points, each the mean of equally many values."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._points: list[float] = []
        self._each = 1
        self._sum = 0.0
        self._count = 0

    def append(self, value: float) -> None:
        """Add a value; one that is not finite is left out."""
        if not np.isfinite(value):
            return
        self._sum += value
        self._count += 1
        if self._count == self._each:
            self._points.append(self._sum / self._count)
            self._sum, self._count = 0.0, 0
            if len(self._points) == CURVE_POINTS:
                self._points = [(a + b) / 2 for a, b in zip(self._points[::2], self._points[1::2], strict=True)]
                self._each *= 2

    def points(self) -> list[float]:
        """The means so far."""
        return self._points


@dataclass
class Dashboard:
    """The content of the panel.

    Attributes:
        title: the first line.
        subtitle: the second.
        rows: names and values.
        curve: a series to plot.
        message: one line for the moment.
        keys: keys and what they do; those of a layer in use are lit.
        palette: colours and names of the tiles that the mouse paints with.
        brush: the index of the one in use.
        help: whether to show the keys.
        layer: what the colours mean.
    """

    title: str
    subtitle: str = ""
    rows: Sequence[tuple[str, str]] = ()
    curve: Curve | None = None
    message: str = ""
    keys: Sequence[tuple[str, str, bool]] = ()
    palette: Sequence[tuple[RGB, str]] = field(default_factory=list)
    brush: int = 0
    help: bool = True
    layer: str = ""


def draw_panel(surface: pygame.Surface, area: pygame.Rect, dashboard: Dashboard, scale: Scale | None) -> None:
    """Draw the panel: a column beside the picture, or, where there is more breadth than height, two below it."""
    surface.fill(colors.PAPER, area)
    if area.width <= 2 * WIDTH:
        surface.fill(colors.HAIRLINE, (area.left, area.top + PAD, 1, area.height - 2 * PAD))
        inner = area.inflate(-2 * PAD, -2 * PAD)
        y = _draw_numbers(surface, dashboard, inner)
        _draw_rest(surface, dashboard, scale, pygame.Rect(inner.x, y, inner.width, inner.bottom - y))
    else:
        surface.fill(colors.HAIRLINE, (area.left + PAD, area.top, area.width - 2 * PAD, 1))
        inner = area.inflate(-2 * PAD, -2 * PAD)
        left = pygame.Rect(inner.x, inner.y, WIDTH - PAD, inner.height)
        _draw_numbers(surface, dashboard, left)
        _draw_rest(
            surface,
            dashboard,
            scale,
            pygame.Rect(left.right + 2 * PAD, inner.y, inner.right - left.right - 2 * PAD, inner.height),
        )


def _draw_numbers(surface: pygame.Surface, dashboard: Dashboard, area: pygame.Rect) -> int:
    """Title and rows, as many as there is room for; gives where they end."""
    x, y, right = area.x, area.y, area.right
    write(surface, dashboard.title, x, y, 22, colors.INK, right - x)
    y += 22
    if dashboard.subtitle:
        write(surface, dashboard.subtitle, x, y, 16, colors.MUTED, right - x)
        y += 20
    y += 6
    for name, value in dashboard.rows:
        if y + 19 > area.bottom:
            break
        write(surface, name, x, y, 17, colors.MUTED, 0)
        write_right(surface, value, right, y, 17, colors.INK)
        y += 19
    return y


def _draw_rest(surface: pygame.Surface, dashboard: Dashboard, scale: Scale | None, area: pygame.Rect) -> None:
    """Scale, curve, keys and message."""
    x, y, right, bottom = area.x, area.y, area.right, area.bottom
    if scale is not None:
        y = _draw_scale(surface, scale, dashboard.layer, pygame.Rect(x, y + 8, min(right - x, 400), 12))
    if dashboard.message:
        bottom -= 18
        write(surface, dashboard.message, x, bottom, 16, colors.AGENT, right - x)
    if dashboard.help and dashboard.keys:
        bottom = _draw_keys(surface, dashboard, x, min(right, x + 400), bottom)
    elif dashboard.keys:
        bottom -= 18
        write(surface, "H  keys", x, bottom, 16, colors.MUTED, 0)
    if dashboard.curve is not None:
        height = min(LARGEST_CURVE, bottom - y - 8)
        if height >= 48:
            _draw_curve(surface, dashboard.curve, pygame.Rect(x, y + 8, right - x, height))


def write(surface: pygame.Surface, string: str, x: int, y: int, size: int, color: RGB, width: int) -> None:
    """Text from ``x`` on, shortened to ``width`` pixels unless that is 0."""
    if width and sprites.text_width(string, size) > width:
        while string and sprites.text_width(string + "…", size) > width:
            string = string[:-1]
        string += "…"
    surface.blit(sprites.text(string, size, color), (x, y), special_flags=sprites.BLEND)


def write_right(surface: pygame.Surface, string: str, right: int, y: int, size: int, color: RGB) -> None:
    """Text up to ``right``."""
    sprite = sprites.text(string, size, color)
    surface.blit(sprite, (right - sprite.get_width(), y), special_flags=sprites.BLEND)


def number(value: float) -> str:
    """Three or four digits that matter.

    >>> number(0.0), number(12345.0), number(-0.0123), number(1234567.0), number(3.0)
    ('0', '12,345', '-0.0123', '1.23e+06', '3')
    """
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.2e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _draw_scale(surface: pygame.Surface, scale: Scale, name: str, bar: pygame.Rect) -> int:
    write(surface, name, bar.x, bar.y, 16, colors.MUTED, 0)
    bar = bar.move(0, 18)
    strip = pygame.surfarray.make_surface(scale.table[:, None])
    surface.blit(pygame.transform.smoothscale(strip, bar.size), bar)
    low, high = (
        (np.expm1(v) for v in (scale.low, scale.high)) if scale.table is colors.COUNTS else (scale.low, scale.high)
    )
    y = bar.bottom + 3
    write(surface, f"{'≤ ' * scale.clipped}{number(float(low))}", bar.x, y, 15, colors.INK, 0)
    if low == high:
        return y + 16
    write_right(surface, number(float(high)), bar.right, y, 15, colors.INK)
    if scale.diverging:
        zero = sprites.text("0", 15, colors.INK)
        surface.blit(zero, (bar.centerx - zero.get_width() // 2, y), special_flags=sprites.BLEND)
    return y + 16


def _draw_curve(surface: pygame.Surface, curve: Curve, area: pygame.Rect) -> None:
    write(surface, curve.name.replace("_", " "), area.x, area.y, 16, colors.MUTED, 0)
    plot = pygame.Rect(area.x, area.y + 20, area.width, area.height - 22)
    surface.fill(colors.FLOOR, plot)
    values = np.asarray(curve.points())
    if not values.size:
        write(surface, "the first is under way", plot.x + 6, plot.y + 6, 15, colors.MUTED, 0)
        return
    logarithmic = bool(values.min() > 0) and values.max() / values.min() > 1000
    heights = np.log10(values) if logarithmic else values
    low, high = float(heights.min()), float(heights.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    span = high - low
    inner = plot.inflate(-8, -12)
    x = np.linspace(inner.left, inner.right, values.size)
    if low < 0 < high:
        zero = round(inner.bottom - (0 - low) / span * inner.height)
        surface.fill(colors.HAIRLINE, (plot.x, zero, plot.width, 1))
    y = inner.bottom - (heights - low) / span * inner.height
    if values.size == 1:
        x = np.array([inner.centerx])
    if values.size <= MARKED:
        for point in zip(np.rint(x).astype(int).tolist(), np.rint(y).astype(int).tolist(), strict=True):
            pygame.draw.circle(surface, colors.ACCENT, point, 3)
    window = max(1, values.size // 25)
    if window > 1:
        pygame.draw.aalines(
            surface, colors.mix(colors.ACCENT, colors.FLOOR, 0.7), False, np.column_stack([x, y]).tolist()
        )
        padded = np.concatenate([np.full(window - 1, y[0]), y])
        y = np.convolve(padded, np.full(window, 1 / window), mode="valid")
    if values.size > 1:
        pygame.draw.aalines(surface, colors.ACCENT, False, np.column_stack([x, y]).tolist())
    write_right(surface, f"last {number(float(values[-1]))}", area.right, area.y, 15, colors.INK)
    write(surface, number(float(values.max())), plot.x + 4, plot.y + 2, 14, colors.MUTED, 0)
    if values.min() < values.max():
        write(surface, number(float(values.min())), plot.x + 4, plot.bottom - 13, 14, colors.MUTED, 0)


def _draw_keys(surface: pygame.Surface, dashboard: Dashboard, x: int, right: int, bottom: int) -> int:
    rows = (len(dashboard.keys) + 1) // 2
    palette_rows = (len(dashboard.palette) + 2) // 3
    top = bottom - 17 * rows - (18 * palette_rows + 6 if palette_rows else 0)
    y = top
    for index, (color, name) in enumerate(dashboard.palette):
        left = x + (index % 3) * ((right - x) // 3)
        line = y + 18 * (index // 3)
        surface.fill(colors.INK if index == dashboard.brush else colors.HAIRLINE, (left, line, 14, 14))
        surface.fill(color, (left + 2, line + 2, 10, 10))
        label = colors.INK if index == dashboard.brush else colors.MUTED
        write(surface, f"{index + 1} {name}", left + 19, line + 1, 15, label, (right - x) // 3 - 22)
    y += 18 * palette_rows + 6 if palette_rows else 0
    for index, (key, meaning, lit) in enumerate(dashboard.keys):
        left = x + (index // rows) * ((right - x) // 2)
        line = y + 17 * (index % rows)
        write(surface, key, left, line, 15, colors.ACCENT if lit else colors.INK, 0)
        write(surface, meaning, left + 44, line, 15, colors.INK if lit else colors.MUTED, (right - x) // 2 - 46)
    return top
