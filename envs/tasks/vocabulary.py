"""The vocabulary of a tiny language model: two marks, the tags, and single characters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gridzero.envs.tasks.task import Task
from gridzero.envs.tasks.templates import TAGS

PAD, END = "<pad>", "<end>"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, whose ids are their places.

    Attributes:
        tokens: "<pad>" and "<end>" first; then tags, if any, and single characters.

    Raises:
        ValueError: for tokens that are none of these, or come twice.

    Example:
        >>> vocabulary = Vocabulary.of("0123456789+=")
        >>> vocabulary.encode("<answer>7</answer>")
        [4, 14, 5]
        >>> vocabulary.decode([14, 0, 14, 1, 14])
        '77'
    """

    tokens: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)
    _tags: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        if self.tokens[:2] != (PAD, END):
            raise ValueError(f"a vocabulary begins with {PAD} and {END}, not {' '.join(map(repr, self.tokens[:2]))}")
        ids = {token: place for place, token in enumerate(self.tokens)}
        for token in self.tokens[2:]:
            if token not in TAGS and len(token) != 1:
                raise ValueError(f"a token is one character or one of {' '.join(TAGS)}, not {token!r}")
        if len(ids) < len(self.tokens):
            raise ValueError("a vocabulary has each token once")
        object.__setattr__(self, "_ids", ids)
        tags = [re.escape(tag) for tag in TAGS if tag in ids]
        object.__setattr__(self, "_tags", re.compile(f"({'|'.join(tags)})" if tags else "(?!)"))

    @classmethod
    def of(cls, characters: Iterable[str]) -> Vocabulary:
        """Vocabulary of the special tokens, all tags, and these characters, sorted."""
        return cls((PAD, END, *TAGS, *sorted(set(characters))))

    @classmethod
    def for_task(cls, task: Task) -> Vocabulary:
        """Vocabulary of the prompts and demonstrations of a task."""
        return cls.of(task.alphabet())

    @property
    def pad(self) -> int:
        """Id of the padding token, 0."""
        return 0

    @property
    def end(self) -> int:
        """Id of the end token, 1."""
        return 1

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; tags are single tokens, and the marks cannot be written.

        Raises:
            ValueError: for a character that is not in the vocabulary.
        """
        ids: list[int] = []
        for place, piece in enumerate(self._tags.split(text)):
            if place % 2:
                ids.append(self._ids[piece])
                continue
            try:
                ids += [self._ids[character] for character in piece]
            except KeyError as error:
                raise ValueError(f"the character {error.args[0]!r} is not in the vocabulary") from None
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, up to the end mark; padding is left out.

        Raises:
            ValueError: for an id that there is not.
        """
        text = []
        for token in ids:
            if not 0 <= token < len(self.tokens):
                raise ValueError(f"ids go from 0 to {len(self.tokens) - 1}, not {token}")
            if token == self.end:
                break
            if token != self.pad:
                text.append(self.tokens[token])
        return "".join(text)
