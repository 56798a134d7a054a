"""Conversations as tokens: prompts, completions and replies, in a chat template or as plain text.

Rollouts, evaluation, ``gridzero play``, demonstrations, files of examples and exports all render with these, so that a
model reads in each of them what it reads in the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.tasks.numbers import shown

Message = dict[str, Any]
Mark = Literal["part", "text"] | None
Picture = NDArray[np.uint8]
_COMPLETION = "COMPLETION"
_PICTURE = "PICTURE"
_REMEMBERED = 4096
"""Texts whose tokens are remembered: prompts and short answers come again and again."""


class Encode(Protocol):
    """A function from a text to its tokens."""

    def __call__(self, text: str, *, begins: bool) -> list[int]:
        """The tokens of ``text``; ``begins`` says whether a conversation begins with it."""


class Renderer(ABC):
    """Tokens of the parts of a conversation: a prompt, then completions and replies in turn.

    Attributes:
        end: the token that ends a completion.
        see: tokens of a picture, for models that see; None for those that read text alone.
        placeholder: what the chat template writes where a picture is.
    """

    end: int
    see: Callable[[Picture], list[int]] | None = None
    placeholder: str = ""

    @abstractmethod
    def prompt(self, text: str, picture: Picture | None = None) -> list[int]:
        """Tokens up to the first completion, those of a picture before those of the text that goes with it."""

    def picture(self, picture: Picture | None) -> list[int]:
        """Tokens of a picture; none where there is none.

        Raises:
            ValueError: for a model that reads text alone.
        """
        if picture is None:
            return []
        if self.see is None:
            raise ValueError("this model reads text alone, and the task shows pictures")
        return self.see(picture)

    @abstractmethod
    def text(self, text: str) -> list[int]:
        """Tokens of a part of a completion."""

    def completion(self, text: str) -> list[int]:
        """Tokens of a completion, with its end."""
        return [*self.text(text), self.end]

    @abstractmethod
    def reply(self, text: str, picture: Picture | None = None) -> list[int]:
        """Tokens between the end of a completion and the next completion, in which the task answers."""


class PlainRenderer(Renderer):
    """Renderer of texts as they are, each completion followed by an end token.

    Args:
        encode: the tokenizer's.
        end: the token that ends a completion.
        system: a system prompt, in a paragraph of its own before the prompt.
    """

    def __init__(self, encode: Encode, end: int, system: str = "") -> None:
        self.encode = encode
        self.end = end
        self.system = system

    def prompt(self, text: str, picture: Picture | None = None) -> list[int]:
        """Tokens of system prompt and prompt, with the mark of the beginning where the tokenizer has one."""
        return self.picture(picture) + self.encode(with_system(self.system, text), begins=True)

    def text(self, text: str) -> list[int]:
        """Tokens of the text."""
        return self.encode(text, begins=False)

    def reply(self, text: str, picture: Picture | None = None) -> list[int]:
        """Tokens of picture and text."""
        return self.picture(picture) + self.encode(text, begins=False)


class ChatRenderer(Renderer):
    """Renderer by a tokenizer's chat template: the task is the user, the model the assistant.

    Args:
        tokenizer: with a chat template.
        ends: tokens that end a completion; the one that the template puts there is :attr:`end`.
        system: a system prompt.

    Raises:
        ValueError: for a template that cannot render such a conversation.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int], system: str = "") -> None:
        self.tokenizer = tokenizer
        self.ends = ends
        self.system = system
        first = self._after_completion("reply")[:1]
        self.end = first[0] if first and first[0] in ends else next(iter(ends))

    def prompt(self, text: str, picture: Picture | None = None) -> list[int]:
        """Tokens of the system prompt and the user's turn, up to where the assistant's begins."""
        return self._with_picture(picture, lambda picture: self._template(messages(self.system, text, picture)))

    def text(self, text: str) -> list[int]:
        """Tokens of the text."""
        return self._encode(text)

    def reply(self, text: str, picture: Picture | None = None) -> list[int]:
        """Tokens of the user's next turn, and of all that the template has around it."""
        tokens = self._after_completion(text, picture)
        return tokens[1:] if tokens and tokens[0] in self.ends else tokens

    def _after_completion(self, reply: str, picture: Picture | None = None) -> list[int]:
        def after(mark: Mark) -> str:
            turns = [*messages(self.system, "prompt"), {"role": "assistant", "content": _COMPLETION}]
            _, found, rest = self._template([*turns, *messages("", reply, mark)]).partition(_COMPLETION)
            if not found:
                raise ValueError("the model's chat template leaves out what the assistant says; give --policy.chat off")
            return rest

        return self._with_picture(picture, after)

    def _with_picture(self, picture: Picture | None, render: Callable[[Mark], str]) -> list[int]:
        """Tokens of a rendered conversation, those of the picture where the template has it, or before its text."""
        if picture is None:
            return self._encode(render(None))
        place = self.placeholder
        try:
            rendered = render("part") if place else ""
        except ValueError:  # the template has no place for pictures
            rendered = ""
        if not place or rendered.count(place) != 1:
            place, rendered = _PICTURE, render("text")
        before, _, after = rendered.partition(place)
        return self._encode(before) + self.picture(picture) + self._encode(after)

    def _template(self, turns: Sequence[Message]) -> str:
        try:
            rendered: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates raise what they like
            raise ValueError(f"the model's chat template refuses: {error}; --policy.chat off goes without") from error
        return rendered

    def _encode(self, text: str) -> list[int]:
        return encode_text(self.tokenizer, text, begins=False)


def renderer_of(tokenizer: Any, ends: Collection[int], *, chat: bool, system: str = "") -> Renderer:
    """The renderer for a tokenizer: by its chat template, or of plain text."""
    if chat:
        return ChatRenderer(tokenizer, ends, system)

    @lru_cache(maxsize=_REMEMBERED)
    def tokens(text: str, begins: bool) -> tuple[int, ...]:
        return tuple(encode_text(tokenizer, text, begins=begins))

    def encode(text: str, *, begins: bool) -> list[int]:
        return list(tokens(text, begins))

    return PlainRenderer(encode, next(iter(ends)), system)


def messages(system: str, prompt: str, mark: Mark = None) -> list[Message]:
    r"""System prompt, if there is one, and prompt as messages, without the white space around them.

    Args:
        system: the system prompt.
        prompt: the prompt.
        mark: of a picture before the prompt: a part of its message, or a word in the text of it.

    >>> messages("Be brief.", "1+1=\n")
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': '1+1='}]
    """
    first: list[Message] = [{"role": "system", "content": system.strip()}] if system else []
    if mark == "part":
        parts = [{"type": "image"}, {"type": "text", "text": prompt.strip()}]
        first = [{"role": one["role"], "content": [{"type": "text", "text": one["content"]}]} for one in first]
        return [*first, {"role": "user", "content": parts}]
    return [*first, {"role": "user", "content": (_PICTURE if mark else "") + prompt.strip()}]


def with_system(system: str, prompt: str) -> str:
    """System prompt, if there is one, and prompt as one text."""
    return f"{system}\n\n{prompt}" if system else prompt


def encode_text(tokenizer: Any, text: str, *, begins: bool) -> list[int]:
    """Tokens of a text; with the mark of the beginning, where the model has one and the text begins there.

    Raises:
        ValueError: for a text that the tokenizer has no tokens for.
    """
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=begins)
    except Exception as error:  # tokenizers raises nothing more specific
        raise ValueError(f"the model's tokenizer has no tokens for {shown(text)} ({error})") from error
    return ids


def unreadable(tokenizer: Any, texts: Sequence[str]) -> Iterator[str]:
    """Those of some texts that a tokenizer has no tokens for."""
    try:
        tokenizer(list(texts), add_special_tokens=False)  # all at once, since they mostly can be read
        return
    except Exception:  # as above
        pass
    for text in texts:
        try:
            encode_text(tokenizer, text, begins=False)
        except ValueError:
            yield text
