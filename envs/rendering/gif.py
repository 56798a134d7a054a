"""Animated GIFs that are written frame by frame, so that a long one takes no more memory than a short one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

_TRANSPARENT = 255
_LONGEST = 65_535


class GifWriter:
    """Writes the frames of a GIF that plays for ever; of each, only what differs from the one before.

    Args:
        path: the file.
        hundredths: of a second that a frame lasts.
        palette: up to 255 colors (C, 3) uint8; without one, each frame has its own.
    """

    def __init__(self, path: Path, hundredths: int, palette: NDArray[np.uint8] | None) -> None:
        self._file = path.open("wb")
        self._hundredths = hundredths
        self._palette: Image.Image | None = None
        if palette is not None:
            self._palette = Image.new("P", (1, 1))
            self._palette.putpalette(palette[:_TRANSPARENT].tobytes())
        self._last: NDArray[np.uint8] | None = None
        self._part: Image.Image
        self._corner = (0, 0)
        self._repeats = 0

    def add(self, frame: NDArray[np.uint8], repeat: int = 1) -> None:
        """Append a frame (H, W, 3), ``repeat`` times; one that equals the one before prolongs it."""
        if self._last is None:
            self._part = self._quantised(frame)
            header, _ = GifImagePlugin.getheader(self._part.copy(), info={"loop": 0})
            self._file.writelines(header)
        else:
            channels = frame != self._last
            differs = channels[..., 0] | channels[..., 1] | channels[..., 2]
            rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
            if rows.size == 0:
                self._repeats += repeat
                return
            self._write_part()
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            part = self._quantised(frame[box])
            self._part = Image.fromarray(np.where(differs[box], np.asarray(part), np.uint8(_TRANSPARENT)))
            self._part.putpalette(part.getpalette() or [])
            self._corner = int(columns[0]), int(rows[0])
        self._last, self._repeats = frame.copy(), repeat

    def _quantised(self, frame: NDArray[np.uint8]) -> Image.Image:
        colored = Image.fromarray(np.ascontiguousarray(frame))
        if self._palette is None:
            return colored.quantize(_TRANSPARENT)
        return colored.quantize(palette=self._palette, dither=Image.Dither.NONE)

    def _write_part(self) -> None:
        """Write what the last frame changed, now that it is known how long it lasts."""
        lasts = min(self._repeats * self._hundredths, _LONGEST)
        self._file.writelines(
            GifImagePlugin.getdata(
                self._part, self._corner, duration=10 * lasts, transparency=_TRANSPARENT,
                include_color_table=self._palette is None,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Write the last frame, and the end of the file."""
        if self._last is not None:
            self._write_part()
            self._file.write(b";")
        self._file.close()
