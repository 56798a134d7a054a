"""Frames to a GIF, an MP4 or a PNG, with no screen."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gridzero.envs.folders import check_folder
from gridzero.envs.rendering import colors
from gridzero.envs.rendering.gif import GifWriter

FORMATS = (".gif", ".mp4", ".png")


class Recorder:
    """Writes frames to a file. It appears, complete, on :meth:`close`; an existing one is never overwritten.

    A GIF's frames last a whole number of hundredths of a second, so its rate is only near ``fps``; frames that equal
    the one before prolong it. A PNG is the last frame.

    Args:
        path: ends in .gif, .mp4 or .png.
        fps: frames per second, from 1 to 100.
        palette: up to 256 colors (C, 3) uint8 of a GIF, see :func:`grid_palette`; without one, each frame has its own.

    Attributes:
        path: the file.
        frames: how many were added.
        keeps_last: the file has the last frame alone.

    Raises:
        ValueError: for another ending, a file that exists, a folder that does not, or a rate out of range.
    """

    def __init__(self, path: str | Path, fps: int, palette: NDArray[np.uint8] | None = None) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in FORMATS:
            raise ValueError(f"a recording ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {self.path.name!r}")
        if self.path.exists():
            raise ValueError(f"{self.path} exists; recordings never overwrite a file")
        check_folder(self.path.parent)
        if not 1 <= fps <= 100:
            raise ValueError(f"a recording has 1 to 100 frames a second, not {fps}")
        self.fps = fps
        self.frames = 0
        self.keeps_last = self.path.suffix.lower() == ".png"
        self._partial = self.path.with_name(f".{self.path.stem}.{os.getpid()}{self.path.suffix.lower()}")
        self._palette = palette
        self._last: NDArray[np.uint8] | None = None
        self._gif: GifWriter | None = None
        self._video: Generator[None, NDArray[np.uint8] | None, None] | None = None

    def add(self, frame: NDArray[np.uint8], repeat: int = 1) -> None:
        """Append a frame (H, W, 3) uint8, ``repeat`` times; all must have the first one's size, even for video."""
        self.frames += repeat
        if self.keeps_last:
            self._last = frame
            return
        if self.path.suffix.lower() == ".gif":
            self._gif = self._gif or GifWriter(self._partial, round(100 / self.fps), self._palette)
            self._gif.add(frame, repeat)
            return
        if self._video is None:
            self._video = self._open_video(frame)
        for _ in range(repeat):
            self._video.send(frame)

    def _open_video(self, frame: NDArray[np.uint8]) -> Generator[None, NDArray[np.uint8] | None, None]:
        import imageio_ffmpeg

        size = (frame.shape[1], frame.shape[0])
        video: Generator[None, NDArray[np.uint8] | None, None] = imageio_ffmpeg.write_frames(
            str(self._partial), size, fps=self.fps, quality=8, macro_block_size=2, ffmpeg_log_level="error"
        )
        video.send(None)
        return video

    def close(self) -> None:
        """Finish the file; nothing if no frame came."""
        if self._last is not None:
            Image.fromarray(self._last).save(self._partial, optimize=True)
            self._last = None
        elif self._gif is not None:
            self._gif.close()
            self._gif = None
        elif self._video is not None:
            self._video.close()
            self._video = None
        else:
            return
        try:
            os.link(self._partial, self.path)
        except FileExistsError:
            raise ValueError(f"{self.path} exists; the recording is in {self._partial}") from None
        self._partial.unlink()


@cache
def grid_palette() -> NDArray[np.uint8]:
    """The colors of grids, (C, 3) uint8: the theme, its greys, the color maps.

    With one palette for all frames of a GIF, parts that stay the same cost nothing.
    """
    theme = [value for value in vars(colors).values() if isinstance(value, tuple) and len(value) == 3]
    shades = [colors.mix(colors.INK, colors.PAPER, step / 11) for step in range(12)]
    shades += [
        colors.mix(colors.FLOOR, color, step / 4)
        for color in (colors.AGENT, colors.ACCENT, colors.TARGET)
        for step in (1, 2, 3)
    ]
    chosen = [*dict.fromkeys(theme + shades)]
    maps = np.concatenate([colors.SEQUENTIAL[::3], colors.DIVERGING[::3], colors.COUNTS[::9]])
    return np.concatenate([np.array(chosen, dtype=np.uint8), maps])[:256]
