"""The vocabulary of a tiny language model, as a tokenizer that Hugging Face's libraries load."""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gridzero.envs.tasks.templates import TAGS
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.models.rendering import encode_text


def character_tokenizer(vocabulary: Vocabulary) -> PreTrainedTokenizerFast:
    """A tokenizer that encodes and decodes as a vocabulary does.

    Tags are single tokens, everything else is one character a token, and the marks of padding and end cannot be
    written: what looks like them in a text is taken for the characters it is made of. It saves as ``tokenizer.json``,
    which loads without gridzero. In decoding, ``skip_special_tokens=True`` leaves the marks out.

    >>> tokenizer = character_tokenizer(Vocabulary.of("0123456789+="))
    >>> tokenizer.encode("<answer>7</answer>")
    [4, 14, 5]
    >>> tokenizer.decode([4, 14, 5, 1], skip_special_tokens=True)
    '<answer>7</answer>'
    """
    tokenizer = Tokenizer(models.WordLevel({token: place for place, token in enumerate(vocabulary.tokens)}))
    tags = [re.escape(tag) for tag in TAGS if tag in vocabulary.tokens]
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*tags, r"[\s\S]"])), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers' own
        tokenizer_object=tokenizer,
        pad_token=vocabulary.tokens[vocabulary.pad],
        eos_token=vocabulary.tokens[vocabulary.end],
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def end_tokens(model: Any, tokenizer: Any, *, lines: bool = False) -> tuple[int, ...]:
    """End tokens of a completion, the one that demonstrations end in first.

    They are the tokenizer's and those of the model's own settings.

    Args:
        model: a causal model.
        tokenizer: its tokenizer.
        lines: whether the tokens that end a line end a completion too; demonstrations then end as lines do.
    """
    of_model = getattr(model.generation_config, "eos_token_id", None)
    of_model = of_model if isinstance(of_model, list) else [of_model]
    found = dict.fromkeys(int(token) for token in [tokenizer.eos_token_id, *of_model] if token is not None)
    if not found:
        raise ValueError("the model has no end token")
    return tuple(dict.fromkeys(_line_ends(tokenizer) if lines else []) | found)


def _line_ends(tokenizer: Any) -> list[int]:
    """Tokens that end a line and say nothing else, first the one that the tokenizer itself writes."""
    blank = "\n\r\t ĊčĉĠ▁"  # and what byte-level and sentence-piece vocabularies write for them
    candidates = [token for text, token in tokenizer.get_vocab().items() if not text.strip(blank) or text == "<0x0A>"]
    texts = {token: str(tokenizer.decode([token], clean_up_tokenization_spaces=False)) for token in candidates}
    usual = encode_text(tokenizer, "\n", begins=False)[-1:]
    ends = (token for token, text in texts.items() if "\n" in text and not text.strip())
    return sorted(ends, key=lambda token: ([token] != usual, token))


def token_texts(tokenizer: Any) -> list[str]:
    """The texts that single tokens write, without those of parts of a character."""
    tokens = [[token] for token in sorted(tokenizer.get_vocab().values())]
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text for text in texts if text and "\ufffd" not in text]


def padding_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that fill up: the tokenizer's, and that of the model's configuration where no text is encoded as it."""
    of_tokenizer = tokenizer.pad_token_id
    of_model = getattr(model.config.get_text_config(decoder=True), "pad_token_id", None)
    found = [] if of_tokenizer is None else [int(of_tokenizer)]
    if of_model is not None and of_model not in found and not _is_text(tokenizer, of_model):
        found.append(int(of_model))
    return tuple(found)


def _is_text(tokenizer: Any, token: int) -> bool:
    """Whether a token is what its own text is encoded as."""
    try:
        return bool(tokenizer.encode(tokenizer.decode([token]), add_special_tokens=False) == [token])
    except Exception:  # of a text without tokens, tokenizers raises nothing more specific
        return False


def known_tokens(tokenizer: Any, marks: str) -> list[int]:
    """Tokens of a text of marks such as ``<img>``; none where the tokenizer does not have each of them as a token."""
    known, tokens = tokenizer.get_vocab(), list[int]()
    for part in re.split(r"(<[^<>]+>)", marks):
        if part.startswith("<"):
            if part not in known:
                return []
            tokens.append(known[part])
        elif part:
            tokens += tokenizer.encode(part, add_special_tokens=False)
    return tokens
