"""Conversations as pictures: columns of coloured text that scroll as a terminal does."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pygame
from numpy.typing import NDArray

from gridzero.envs.rendering import colors
from gridzero.envs.rendering.colors import RGB
from gridzero.envs.rendering.fonts import font
from gridzero.envs.rendering.screen import to_array

PAD = 20
SIZE = 17
LINE = 24
SMALL = 13
WORDS = (colors.INK, colors.MUTED, colors.ACCENT, colors.TARGET, colors.AGENT)
"""Colors of text besides the likelihoods."""
SPEAKERS = {"prompt": colors.INK, "model": colors.TARGET, "reply": colors.ACCENT}
"""Colours of who speaks: the task's problem, the model, the environment's replies."""


class Span(NamedTuple):
    r"""Some text of one colour; a new line begins where it has ``\n``."""

    text: str
    color: RGB
    bold: bool = False


class TextView:
    """Draws columns of text side by side, the last lines of each.

    Args:
        columns: how many.
        size: of the picture, in pixels.
        title: above them.

    Attributes:
        characters: that a line of a column holds.
        lines: that a column holds.
    """

    def __init__(self, columns: int, size: tuple[int, int], title: str) -> None:
        self.size = size
        self.title = title
        self._width = (size[0] - PAD) // columns
        self._top = PAD + LINE + 12
        self.characters = characters(self._width - PAD)
        self.lines = max(1, (size[1] - self._top - PAD) // LINE)

    def draw(
        self,
        texts: Sequence[Iterable[Span]],
        note: str = "",
        pictures: Sequence[NDArray[np.uint8] | None] | None = None,
    ) -> NDArray[np.uint8]:
        """A picture (H, W, 3) uint8.

        Args:
            texts: the spans of each column.
            note: at the right of the title.
            pictures: (h, w, 3) uint8 of each column, at the right of its text, or None.
        """
        surface = pygame.Surface(self.size)
        surface.fill(colors.PAPER)
        _write(surface, self.title, PAD, PAD, SIZE, colors.INK, True)
        self._draw_scale(surface, note)
        surface.fill(colors.HAIRLINE, (PAD, self._top - 10, self.size[0] - 2 * PAD, 1))
        for column, spans in enumerate(texts):
            left = PAD + column * self._width
            if column:
                surface.fill(colors.HAIRLINE, (left - PAD // 2, self._top, 1, self.size[1] - self._top - PAD))
            width, picture = self.characters, None if pictures is None else pictures[column]
            if picture is not None:
                half = (self._width - PAD) // 2
                frame = pygame.Rect(left + half, self._top, half, self.size[1] - self._top - PAD)
                width = characters(_draw_picture(surface, picture, frame) - left - PAD)
            _write_lines(surface, wrap(spans, width)[-self.lines :], left, self._top)
        return to_array(surface)

    def _draw_scale(self, surface: pygame.Surface, note: str) -> None:
        """The note, and which colour means what."""
        right, y = self.size[0] - PAD, PAD + 4
        words = "likely"
        right -= _font(SMALL, False).size(words)[0]
        _write(surface, words, right, y, SMALL, colors.MUTED, False)
        bar = pygame.Rect(right - 6 - 5 * len(colors.LIKELIHOODS), y + 4, 5, 9)
        for place, color in enumerate(colors.LIKELIHOODS.tolist()):
            surface.fill(color, bar.move(5 * place, 0))
        words = f"{note}     unlikely" if note else "unlikely"
        _write(surface, words, bar.left - 6 - _font(SMALL, False).size(words)[0], y, SMALL, colors.MUTED, False)


def conversation_frame(
    turns: Iterable[tuple[str, str]],
    verdict: str = "",
    correct: bool | None = None,
    *,
    picture: NDArray[np.uint8] | None = None,
    width: int = 640,
    height: int = 400,
) -> NDArray[np.uint8]:
    """Draw a conversation: each turn under its speaker's name, the verdict in the last line.

    A conversation that does not fit shows its end, as a terminal does. All frames of one size have the same shape.

    Args:
        turns: (speaker, text) in order; a speaker without a colour of its own in ``SPEAKERS`` is written in ink.
        verdict: one line at the foot, shortened to fit; none while the conversation goes on.
        correct: colours the verdict: right, wrong, or not judged.
        picture: (h, w, 3) uint8, shown at the right of the turns, as large as fits there.
        width: of the picture, in pixels, at least 40.
        height: of the picture, in pixels, at least 80.

    Returns:
        (height, width, 3) uint8.

    Example:
        >>> conversation_frame([("prompt", "2 + 3 = "), ("model", "5")], "right", correct=True).shape
        (400, 640, 3)
    """
    surface = pygame.Surface((width, height))
    surface.fill(colors.PAPER)
    spans: list[Span] = []
    for speaker, text in turns:
        spans.append(Span(f"{chr(10) * bool(spans)}{speaker}\n", colors.MUTED))
        spans.append(Span(text.strip("\n"), SPEAKERS.get(speaker, colors.INK), speaker == "prompt"))
    foot = height - PAD - LINE
    left = width - PAD
    if picture is not None:
        left = _draw_picture(
            surface, picture, pygame.Rect(width * 11 // 20, PAD, width * 9 // 20 - PAD, foot - 12 - PAD)
        )
    lines = wrap(spans, characters(left - 2 * PAD))
    _write_lines(surface, lines[-max(1, (foot - 12 - PAD) // LINE) :], PAD, PAD)
    room = characters(width - 2 * PAD)
    if verdict:
        surface.fill(colors.HAIRLINE, (PAD, foot - 8, width - 2 * PAD, 1))
        line = " ".join(verdict.split())
        line = line if len(line) <= room else f"{line[: room - 1]}…"
        ink = colors.MUTED if correct is None else colors.TARGET if correct else colors.AGENT
        _write(surface, line, PAD, foot, SIZE, ink, True)
    return to_array(surface)


def _draw_picture(surface: pygame.Surface, picture: NDArray[np.uint8], frame: pygame.Rect) -> int:
    """Draw a picture in the upper right of a frame, by whole multiples where it is smaller; its left edge."""
    height, width = picture.shape[:2]
    scale: float = min(frame.width / width, frame.height / height)
    scale = max(1, int(scale)) if scale >= 1 else scale
    size = max(1, int(width * scale)), max(1, int(height * scale))
    scaled = pygame.transform.scale(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), size)
    surface.blit(scaled, (frame.right - size[0], frame.top))
    return frame.right - size[0]


def characters(width: int) -> int:
    """Number of characters that fit into a line of so many pixels, at least one."""
    return max(1, int(width / _advance()))


def wrap(spans: Iterable[Span], width: int) -> list[list[Span]]:
    r"""Lines of at most so many characters, as a terminal breaks them; there is always one.

    >>> red = (255, 0, 0)
    >>> [[span.text for span in line] for line in wrap([Span("abc", red), Span("de\n\nf", red)], 4)]
    [['abc', 'd'], ['e'], [], ['f']]
    """
    lines: list[list[Span]] = [[]]
    room = width
    for span in spans:
        for number, part in enumerate(span.text.expandtabs(4).split("\n")):
            if number:
                lines.append([])
                room = width
            while part:
                if not room:
                    lines.append([])
                    room = width
                lines[-1].append(span._replace(text=part[:room]))
                part, room = part[room:], max(0, room - len(part))
    return lines


def palette() -> NDArray[np.uint8]:
    """The colours of such pictures, (C, 3): the words' and how they fade into the paper, for GIFs."""
    words = [*WORDS, colors.HAIRLINE, *map(tuple, colors.LIKELIHOODS.tolist())]
    shades = [colors.mix(word, colors.PAPER, step / 10) for word in words for step in range(11)]
    return np.array([*dict.fromkeys(shades)], dtype=np.uint8)[:256]


def _write_lines(surface: pygame.Surface, lines: Iterable[list[Span]], left: int, top: int) -> None:
    """Write lines below each other, every character in a column of its own."""
    advance = _advance()
    for row, line in enumerate(lines):
        column = 0
        for span in line:
            _write(surface, span.text, left + round(column * advance), top + row * LINE, SIZE, span.color, span.bold)
            column += len(span.text)


def _advance() -> float:
    """Pixels from one character to the next."""
    return _font(SIZE, False).size("m" * 100)[0] / 100


def _write(surface: pygame.Surface, text: str, x: int, y: int, size: int, color: RGB, bold: bool) -> None:
    surface.blit(
        _words("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text), size, color, bold), (x, y)
    )


@lru_cache(maxsize=4096)
def _words(text: str, size: int, color: RGB, bold: bool) -> pygame.Surface:
    return _font(size, bold).render(text, True, color)


def _font(size: int, bold: bool) -> pygame.font.Font:
    return font(size, _file(bold))


@lru_cache
def _file(bold: bool) -> str | None:
    """DejaVu Sans Mono, which comes with matplotlib and has most letters; without it, pygame's own."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        name = f"DejaVuSansMono{'-Bold' * bold}.ttf"
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name
        if path.is_file():
            return str(path)
    return None
