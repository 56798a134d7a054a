"""Small pictures, drawn once, four times too large, scaled down smoothly, and kept: arrows, discs, text."""

from __future__ import annotations

import math
from functools import lru_cache

import pygame

from gridzero.envs.rendering.colors import RGB
from gridzero.envs.rendering.fonts import font

OVERSAMPLING = 4
BLEND = pygame.BLEND_PREMULTIPLIED


def _canvas(width: int, height: int, color: RGB) -> pygame.Surface:
    """Transparent everywhere, but of the colour to come, so that scaling down leaves no dark rim."""
    surface = pygame.Surface((width * OVERSAMPLING, height * OVERSAMPLING), pygame.SRCALPHA, 32)
    surface.fill((*color, 0))
    return surface


def _finish(surface: pygame.Surface, alpha: float = 1.0) -> pygame.Surface:
    size = (surface.get_width() // OVERSAMPLING, surface.get_height() // OVERSAMPLING)
    small = pygame.transform.smoothscale(surface, size)
    if alpha < 1:
        small.fill((255, 255, 255, round(255 * alpha)), special_flags=pygame.BLEND_RGBA_MULT)
    return small.premul_alpha()


@lru_cache(maxsize=4096)
def arrow(move: tuple[int, int], length: int, thickness: int, color: RGB, alpha: float = 1.0) -> pygame.Surface:
    """An arrow from the sprite's centre, ``length`` pixels long, along ``move`` (rows, columns).

    The sprite is square with side 2·length + 2·thickness + 2, so that its centre is the arrow's tail.
    """
    half = length + thickness + 1
    surface = _canvas(2 * half, 2 * half, color)
    scale = OVERSAMPLING
    norm = math.hypot(*move)
    forward = pygame.Vector2(move[1] / norm, move[0] / norm)
    side = pygame.Vector2(-forward.y, forward.x)
    tail = pygame.Vector2(half * scale, half * scale)
    tip = tail + forward * (length * scale)
    head = min(length * 0.62, thickness * 2.9) * scale
    neck = tip - forward * head
    breadth = side * (thickness * scale / 2)
    wing = side * (head * 0.62)
    pygame.draw.polygon(surface, color, [tail + breadth, neck + breadth, neck - breadth, tail - breadth])
    pygame.draw.polygon(surface, color, [tip, neck + wing, neck - wing])
    return _finish(surface, alpha)


@lru_cache(maxsize=1024)
def disc(radius: int, color: RGB, rim: RGB | None = None, rim_width: int = 0, alpha: float = 1.0) -> pygame.Surface:
    """A filled circle, with a rim outside it if asked."""
    half = radius + rim_width + 1
    surface = _canvas(2 * half, 2 * half, rim or color)
    centre = (half * OVERSAMPLING, half * OVERSAMPLING)
    if rim is not None:
        pygame.draw.circle(surface, rim, centre, (radius + rim_width) * OVERSAMPLING)
    pygame.draw.circle(surface, color, centre, radius * OVERSAMPLING)
    return _finish(surface, alpha)


@lru_cache(maxsize=1024)
def ring(radius: int, thickness: int, color: RGB, alpha: float = 1.0) -> pygame.Surface:
    """A circle's line."""
    half = radius + 1
    surface = _canvas(2 * half, 2 * half, color)
    pygame.draw.circle(
        surface, color, (half * OVERSAMPLING,) * 2, radius * OVERSAMPLING, max(1, thickness * OVERSAMPLING)
    )
    return _finish(surface, alpha)


@lru_cache(maxsize=1024)
def segment(rows: int, columns: int, cell: int, thickness: int, color: RGB, alpha: float) -> pygame.Surface:
    """A round-ended line between the centres of two cells, ``(rows, columns)`` apart."""
    pad = thickness
    width, height = abs(columns) * cell + 2 * pad, abs(rows) * cell + 2 * pad
    surface = _canvas(width, height, color)
    start = pygame.Vector2(pad if columns >= 0 else width - pad, pad if rows >= 0 else height - pad) * OVERSAMPLING
    end = start + pygame.Vector2(columns * cell, rows * cell) * OVERSAMPLING
    across = (end - start).normalize().rotate(90) * (thickness * OVERSAMPLING / 2)
    pygame.draw.polygon(surface, color, [start + across, end + across, end - across, start - across])
    for point in (start, end):
        pygame.draw.circle(surface, color, point, thickness * OVERSAMPLING / 2)
    return _finish(surface, alpha)


@lru_cache(maxsize=256)
def spokes(lines: tuple[tuple[float, float, float, float], ...], cell: int, color: RGB, alpha: float) -> pygame.Surface:
    """Lines within a cell, their ends in units of its side: the borders of wedges."""
    surface = _canvas(cell, cell, color)
    scale = cell * OVERSAMPLING
    for x0, y0, x1, y1 in lines:
        pygame.draw.line(surface, color, (x0 * scale, y0 * scale), (x1 * scale, y1 * scale), OVERSAMPLING)
    return _finish(surface, alpha)


@lru_cache(maxsize=256)
def frame(cell: int, thickness: int, color: RGB) -> pygame.Surface:
    """A frame just inside a cell."""
    surface = pygame.Surface((cell, cell), pygame.SRCALPHA, 32)
    pygame.draw.rect(surface, color, (0, 0, cell, cell), thickness)
    return surface.premul_alpha()


@lru_cache(maxsize=16)
def shade(cell: int, color: RGB, alpha: float) -> pygame.Surface:
    """A cell's area, half transparent."""
    surface = pygame.Surface((cell, cell), pygame.SRCALPHA, 32)
    surface.fill((*color, round(255 * alpha)))
    return surface.premul_alpha()


@lru_cache(maxsize=64)
def bar(move: tuple[int, int], cell: int, color: RGB) -> pygame.Surface:
    """A bar at the side of a cell that a move would cross; a stud in the corner for a move askew."""
    surface = pygame.Surface((cell, cell), pygame.SRCALPHA, 32)
    breadth, length = max(2, cell // 14), cell // 2
    width, height = (length if move[1] == 0 else breadth), (length if move[0] == 0 else breadth)
    x = (cell - width) // 2 if move[1] == 0 else 1 if move[1] < 0 else cell - width
    y = (cell - height) // 2 if move[0] == 0 else 1 if move[0] < 0 else cell - height
    surface.fill(color, (x, y, width, height))
    return surface.premul_alpha()


def _words(string: str, size: int, color: RGB) -> pygame.Surface:
    """Text without premultiplied alpha; drawn large and scaled down, which spaces small letters evenly."""
    large = font(size * OVERSAMPLING).render(string, True, color)
    return pygame.transform.smoothscale(
        large, (max(1, large.get_width() // OVERSAMPLING), max(1, large.get_height() // OVERSAMPLING))
    )


@lru_cache(maxsize=16384)
def text(string: str, size: int, color: RGB) -> pygame.Surface:
    """A line of text, about ``size`` · 0.7 pixels high."""
    return _words(string, size, color).premul_alpha()


@lru_cache(maxsize=4096)
def text_width(string: str, size: int) -> int:
    """Pixels that a line of text takes."""
    return int(font(size * OVERSAMPLING).size(string)[0]) // OVERSAMPLING


@lru_cache(maxsize=1024)
def tag(string: str, size: int, color: RGB, ink: RGB) -> pygame.Surface:
    """Text on a patch of colour, rounded at the lower right: a label for a cell's upper left corner."""
    words = _words(string, size, ink)
    surface = pygame.Surface((words.get_width() + 6, words.get_height() + 2), pygame.SRCALPHA, 32)
    pygame.draw.rect(surface, color, surface.get_rect(), border_bottom_right_radius=5)
    surface.blit(words, (3, 1))
    return surface.premul_alpha()


@lru_cache(maxsize=256)
def token(string: str, radius: int, color: RGB, ink: RGB) -> pygame.Surface:
    """A disc with a letter on it, where there is room for one."""
    surface = disc(max(1, radius), color).copy()
    if radius >= 6:
        words = text(string, round(radius * 1.7), ink)
        at = ((surface.get_width() - words.get_width() + 1) // 2, (surface.get_height() - words.get_height() + 1) // 2)
        surface.blit(words, at, special_flags=BLEND)
    return surface


@lru_cache(maxsize=64)
def person(size: int, color: RGB) -> pygame.Surface:
    """A head and shoulders, ``size`` pixels high."""
    surface = _canvas(size, size, (255, 255, 255))
    unit = size * OVERSAMPLING
    for grow, paint in ((0.08, (255, 255, 255)), (0.0, color)):
        pygame.draw.circle(surface, paint, (unit * 0.5, unit * 0.3), unit * (0.18 + grow))
        body = pygame.Rect(0, 0, unit * (0.56 + 2 * grow), unit * (0.42 + grow))
        body.midtop = (round(unit * 0.5), round(unit * (0.52 - grow)))
        pygame.draw.rect(surface, paint, body, border_radius=round(unit * 0.18))
    return _finish(surface)
