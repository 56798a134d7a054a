"""Rows of a batch in decoding: dropped, reordered, duplicated, against each sequence read from its beginning."""

import functools
from typing import Any

import pytest
import torch
import transformers as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gridzero.llm_rl.decoding.decoder import Decoder, ModelDecoder
from gridzero.llm_rl.decoding.generate import fast_decoder
from gridzero.llm_rl.decoding.llama_cpu import FastDecoder
from gridzero.llm_rl.decoding.llama_cuda_graph import GraphDecoder
from gridzero.llm_rl.decoding.llama_weights import plain_llama

from ..tiny import GPT2, PAD, SIZES, VOCABULARY, WINDOW

STEPS = 6
CONFIGS: dict[str, Any] = {
    "llama": lambda: tf.LlamaConfig(**SIZES),
    "qwen3": lambda: tf.Qwen3Config(**SIZES),
    "gpt2": lambda: tf.GPT2Config(**GPT2),
    "gemma3": lambda: tf.Gemma3TextConfig(**SIZES, **WINDOW),
    "lfm2": lambda: tf.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], conv_L_cache=3),
}


@functools.cache
def model(name: str) -> Any:
    torch.manual_seed(0)
    return tf.AutoModelForCausalLM.from_config(CONFIGS[name]()).double().eval()


def decoder(kind: str, name: str) -> Decoder:
    if kind == "general":
        return ModelDecoder(model(name), STEPS)
    if kind == "graph":
        return GraphDecoder(model(name), plain_llama(model(name), 64), STEPS)
    found = fast_decoder(model(name), 64, STEPS)
    assert isinstance(found, FastDecoder)
    return found


def plain_logits(name: str, sequence: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(name)(torch.tensor([sequence]), use_cache=False).logits[0, -1]
    return logits


tokens = st.integers(0, VOCABULARY - 1)
prompts = st.lists(st.lists(tokens, min_size=1, max_size=7), min_size=1, max_size=3)
# A selection is drawn as numbers that are taken modulo the rows there are; after each a token is appended.
selections = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), max_size=STEPS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("general", name) for name in CONFIGS]
    + [(kind, name) for kind in ("fast", "graph") for name in ("llama", "qwen3")],
)
@settings(max_examples=12)
@given(sequences=prompts, selections=selections, data=st.data())
def test_after_a_selection_decoding_is_that_of_the_selected_sequences(
    kind: str, name: str, sequences: list[list[int]], selections: list[list[int]], data: st.DataObject
) -> None:
    width = max(map(len, sequences))
    padded = torch.tensor([[PAD] * (width - len(sequence)) + sequence for sequence in sequences])
    with torch.inference_mode():
        decoding = decoder(kind, name)
        logits = decoding.start(padded, torch.tensor([len(sequence) for sequence in sequences]))
        for numbers in selections:
            rows = [number % len(sequences) for number in numbers]
            decoding.select(torch.tensor(rows))
            new = data.draw(st.lists(tokens, min_size=len(rows), max_size=len(rows)))
            sequences = [[*sequences[row], token] for row, token in zip(rows, new, strict=True)]
            logits = decoding.step(torch.tensor(new))
        expected = torch.stack([plain_logits(name, sequence) for sequence in sequences])
    torch.testing.assert_close(logits.log_softmax(-1), expected.log_softmax(-1), atol=1e-5, rtol=0)


def test_rows_that_keep_their_number_stay_in_memory() -> None:
    with torch.inference_mode():
        decoding = ModelDecoder(model("llama"), STEPS)
        decoding.start(torch.tensor([[3, 4], [5, 6], [7, 8]]), torch.tensor([2, 2, 2]))
        before = [array.data_ptr() for layer in decoding.layers for array in layer.room]
        decoding.select(torch.tensor([0, 2]))
        assert [array.data_ptr() for layer in decoding.layers for array in layer.room] == before
