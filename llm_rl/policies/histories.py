"""Conversations that a language model took part in, so that it reads on from the very tokens that it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridzero.llm_rl.models.rendering import Picture, Renderer


class History(NamedTuple):
    """A conversation so far.

    Attributes:
        tokens: all of them.
        written: how many of them the model wrote.
    """

    tokens: list[int]
    written: int

    def with_completion(self, tokens: Sequence[int]) -> History:
        """The conversation after the model has written these tokens."""
        return History([*self.tokens, *tokens], self.written + len(tokens))


class Histories:
    """The conversations of the model's last turn, by the text that they show.

    Args:
        renderer: makes tokens of what the environment shows.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.last: list[tuple[str, History]] = []

    def find(self, row: int, text: str, picture: Picture | None) -> History:
        """The conversation that a text shows: one that the model took part in when it acted last, or a new one.

        A text is first held against that of its own row, and only there where pictures tell conversations apart.
        """
        known = self.last[row : row + 1] + ([] if picture is not None else self.last)
        for before, history in known:
            if len(text) > len(before) and text.startswith(before):
                return History(history.tokens + self.renderer.reply(text[len(before) :], picture), history.written)
        return History(self.renderer.prompt(text, picture), 0)

    def remember(self, shown: Sequence[str], completions: Sequence[str], histories: Sequence[History]) -> None:
        """Keep the conversations in which these completions followed what was shown, in place of those before."""
        self.last = [
            (text + completion, history)
            for text, completion, history in zip(shown, completions, histories, strict=True)
        ]
