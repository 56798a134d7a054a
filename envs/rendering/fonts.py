"""Fonts, each loaded once."""

from __future__ import annotations

from functools import lru_cache

import pygame


@lru_cache(maxsize=128)
def font(size: int, path: str | None = None) -> pygame.font.Font:
    """A font of this size from a file, by default the one that comes with pygame, the same on every machine.

    Whoever quits pygame, as Gymnasium's own environments do when they are closed, makes all fonts invalid: they are
    made anew then.
    """
    pygame.font.init()
    pygame.register_quit(font.cache_clear)
    return pygame.font.Font(path, size)
