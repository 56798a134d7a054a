"""The tokenizer of tiny models against the vocabulary it is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gridzero.envs.tasks.templates import TAGS
from gridzero.envs.tasks.vocabulary import END, PAD, Vocabulary
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer, padding_tokens

# The marks can be spelled out with these, and there is a space, a line break, an accent and a sign outside the plane.
CHARACTERS = "<>/adehinkprstw0123456789+= \n\r\té\u0301𝟗."
VOCABULARY = Vocabulary.of(CHARACTERS)


@pytest.fixture(scope="module", params=["made", "loaded"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = character_tokenizer(VOCABULARY)
    if request.param == "made":
        return made
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


pieces = st.lists(st.sampled_from([*TAGS, PAD, END, "<think", "</", *CHARACTERS]) | st.text(CHARACTERS)).map("".join)


@settings(max_examples=200)
@given(text=pieces)
def test_texts_become_the_same_tokens_and_come_back(tokenizer: Any, text: str) -> None:
    ids = VOCABULARY.encode(text)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == VOCABULARY.decode(ids) == text


@settings(max_examples=200)
@given(ids=st.lists(st.integers(0, len(VOCABULARY) - 1)))
def test_any_tokens_become_the_same_text(tokenizer: Any, ids: list[int]) -> None:
    until_end = ids[: ids.index(VOCABULARY.end)] if VOCABULARY.end in ids else ids
    assert tokenizer.decode(until_end, skip_special_tokens=True) == VOCABULARY.decode(ids)


def test_marks(tokenizer: Any) -> None:
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (VOCABULARY.pad, VOCABULARY.end)
    assert tokenizer.bos_token_id is None
    assert len(tokenizer) == len(VOCABULARY)


def test_what_is_not_in_the_vocabulary_is_not_passed_over(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="UNK"):
        tokenizer.encode("1+Z")


def test_padding_of_a_models_own_is_none_where_texts_have_it() -> None:
    """The mark of padding has no text; a letter has, whatever a configuration calls it."""
    model, tokenizer = (
        tiny_model(len(VOCABULARY), width=8, layers=1, heads=2, positions=8),
        character_tokenizer(VOCABULARY),
    )
    assert padding_tokens(model, tokenizer) == (VOCABULARY.pad,)
    tokenizer.pad_token = None
    assert padding_tokens(model, tokenizer) == (VOCABULARY.pad,)
    model.config.pad_token_id = VOCABULARY.encode("7")[0]
    assert padding_tokens(model, tokenizer) == ()
