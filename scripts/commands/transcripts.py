"""Transcripts of conversations: in the terminal, side by side, as plain text, or in a GIF, MP4 or PNG."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.style import Style
from rich.table import Table
from rich.text import Text

from gridzero.commands.conversation import Picture, Segment

if TYPE_CHECKING:
    from gridzero.envs.rendering.text_view import Span

UNLIKELY = 0.5
"""Tokens below this probability are underlined, for those who cannot tell the colors, or have none."""
KEPT = 2000
"""Segments of each column, the last ones: more than a screen holds."""
WIDTH, HEIGHT, COLUMN = 880, 400, 400
"""Pixels of a picture, and at least of each column."""

_LINES = 40
"""Pixels of a picture's height in a terminal, two in a line."""

News = Sequence[tuple[int, Segment]]


class Transcript(ABC):
    """A display of segments as they come, open within its context."""

    @abstractmethod
    def show(self, news: News) -> None:
        """Add segments to columns, and wait until it is time for the next ones."""

    @abstractmethod
    def end_round(self) -> None:
        """Close a round of conversations; wait a while before the next one."""

    def __enter__(self) -> Transcript:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        return None


class Plain(Transcript):
    """Plain text: each conversation whole, once it is over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._texts: dict[int, list[str]] = {}

    def show(self, news: News) -> None:  # noqa: D102
        for column, segment in news:
            self._texts.setdefault(column, []).append(segment.text)

    def end_round(self) -> None:  # noqa: D102
        for column in sorted(self._texts):
            self._console.out("".join(self._texts[column]), highlight=False)
        self._texts.clear()


class Stream(Transcript):
    """One conversation after another in a terminal, coloured, as it is written.

    Args:
        console: the terminal.
        fps: tokens a second.
        delay: seconds between conversations.
    """

    def __init__(self, console: Console, fps: float, delay: float) -> None:
        self._console, self._pace, self._delay = console, Pace(fps), delay
        console.print(legend(), "\n")

    def show(self, news: News) -> None:  # noqa: D102
        for _, segment in news:
            if segment.picture is not None and segment.kind != "model":
                self._console.print(blocks(segment.picture, self._console.width))
            self._console.print(styled(segment), end="", soft_wrap=True)
        if any(segment.kind == "model" for _, segment in news):
            self._pace.wait()

    def end_round(self) -> None:  # noqa: D102
        self._console.print()
        time.sleep(self._delay)


class Columns(Transcript):
    """Conversations side by side in a terminal, the last lines of each.

    Args:
        console: the terminal.
        count: of columns.
        fps: tokens a second.
        delay: seconds between conversations.
    """

    def __init__(self, console: Console, count: int, fps: float, delay: float) -> None:
        self._console, self._pace, self._delay = console, Pace(fps), delay
        self._texts = [Text() for _ in range(count)]
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Columns:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, news: News) -> None:  # noqa: D102
        for column, segment in news:
            if segment.picture is not None and segment.kind != "model":
                self._texts[column].append_text(blocks(segment.picture, self._room).append("\n"))
            self._texts[column].append_text(styled(segment))
        self._live.update(self._table(), refresh=True)
        if any(segment.kind == "model" for _, segment in news):
            self._pace.wait()

    def end_round(self) -> None:  # noqa: D102
        time.sleep(self._delay)
        for text in self._texts:
            text.append("\n")

    @property
    def _room(self) -> int:
        """Characters in a line of a column."""
        return max(8, (self._console.width - 3 * (len(self._texts) - 1)) // len(self._texts))

    def _table(self) -> Table:
        width = self._room
        height = max(1, self._console.height - 3)
        table = Table(box=None, padding=(0, 1), show_header=False, title=legend(), title_justify="left")
        cells = []
        for column, text in enumerate(self._texts):
            lines = text.wrap(self._console, width)[-height:]
            self._texts[column] = Text("\n").join(lines)  # what has scrolled away is forgotten
            table.add_column(width=width, no_wrap=True)
            cells.append(self._texts[column])
        table.add_row(*cells)
        return table


class Recording(Transcript):
    """Conversations side by side in a GIF, MP4 or PNG.

    Args:
        path: the file.
        count: of columns.
        fps: frames, and tokens, a second.
        delay: seconds between conversations.
        title: above them.
        pictures: whether there are some beside the texts, so that each frame of a GIF needs colors of its own.
    """

    def __init__(self, path: str, count: int, fps: int, delay: float, title: str, *, pictures: bool = False) -> None:
        from gridzero.envs.rendering import text_view
        from gridzero.envs.rendering.recording import Recorder

        self.recorder = Recorder(path, fps, None if pictures else text_view.palette())
        self._view = text_view.TextView(count, (max(WIDTH, COLUMN * count), HEIGHT), title)
        self._still = round(delay * fps)
        self._spans: list[list[Span]] = [[] for _ in range(count)]
        self._pictures: list[Picture | None] = [None] * count
        self._judged = self._right = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.recorder.close()

    def show(self, news: News) -> None:  # noqa: D102
        for column, segment in news:
            self._spans[column] = [*self._spans[column][-KEPT:], span(segment)]
            self._pictures[column] = self._pictures[column] if segment.picture is None else segment.picture
            self._judged += segment.kind in ("right", "wrong")
            self._right += segment.kind == "right"
        if any(segment.kind in ("prompt", "model") for _, segment in news):
            self._frame(1)

    def end_round(self) -> None:  # noqa: D102
        self._frame(1 + self._still)
        for spans in self._spans:
            spans.append(spans[-1]._replace(text="\n"))

    def _frame(self, repeat: int) -> None:
        note = f"{self._right} of {self._judged} right" if self._judged else ""
        self.recorder.add(self._view.draw(self._spans, note, self._pictures), repeat)


class Pace:
    """A pace that is kept by waiting."""

    def __init__(self, rate: float) -> None:
        self._every = 1 / rate
        self._due = 0.0

    def wait(self) -> None:
        """Wait until a ``rate``-th of a second has gone by since the last time."""
        now = time.monotonic()
        if now < self._due:
            time.sleep(self._due - now)
        self._due = max(now, self._due) + self._every


def blocks(picture: Picture, width: int) -> Text:
    """A picture of at most so many characters in a line, each of them two pixels, one above the other."""
    step = max(1, -(-picture.shape[1] // width), -(-picture.shape[0] // _LINES))
    pixels = picture[step // 2 :: step, step // 2 :: step].tolist()
    rows = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=False):
        pairs = zip(upper, lower, strict=True)
        rows.append(Text.assemble(*(("▀", Style(color=_rich(a), bgcolor=_rich(b))) for a, b in pairs)))
    return Text("\n").join(rows)


def styled(segment: Segment) -> Text:
    """A segment in the style of the terminal."""
    if segment.probability is None:
        return Text(segment.text, STYLES[segment.kind])
    return Text(segment.text, probability_style(segment.probability))


def probability_style(probability: float) -> Style:
    """The style of a token by its probability; on a terminal without colours, unlikely ones are still underlined."""
    from gridzero.envs.rendering.colors import likelihood

    return Style.from_color(_rich(likelihood(probability))) + Style(underline=probability < UNLIKELY)


STYLES = {
    "prompt": Style(bold=True),
    "model": Style(),
    "reply": Style(color="blue"),
    "right": Style(color="green", bold=True),
    "wrong": Style(color="red", bold=True),
    "note": Style(dim=True),
}


def _rich(color: Sequence[int]) -> Any:
    from rich.color import Color

    red, green, blue = color
    return Color.from_rgb(red, green, blue)


def span(segment: Segment) -> Span:
    """A segment in the colors of pictures."""
    from gridzero.envs.rendering import colors
    from gridzero.envs.rendering.text_view import Span

    if segment.probability is not None:
        return Span(segment.text, colors.likelihood(segment.probability), True)
    ink = {
        "reply": colors.ACCENT, "right": colors.TARGET, "wrong": colors.AGENT, "note": colors.MUTED,
    }.get(segment.kind, colors.INK)  # fmt: skip
    return Span(segment.text, ink, segment.kind in ("right", "wrong"))


def legend() -> Text:
    """The legend of the colors."""
    text = Text("tokens by their probability: 0 ", "dim")
    for step in range(11):
        text.append("■", probability_style(step / 10) + Style(underline=False))
    return text.append(" 1", "dim")
