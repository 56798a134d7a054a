"""Packed sequences: the states and gradients of a padded pass by the model itself."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gridzero.llm_rl.models.causal import hidden_states, tiny_model
from gridzero.llm_rl.models.peft import add_lora
from gridzero.llm_rl.scoring.packed_forward import packed_forward
from gridzero.llm_rl.scoring.packing import Packing

SIZES = {"width": 16, "layers": 2, "heads": 4, "positions": 64}

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def qwen2() -> Any:
    """Grouped queries, and biases."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.Qwen2Config(
            vocab_size=11,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
        model = transformers.Qwen2ForCausalLM(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model


def adapted() -> Any:
    model = add_lora(tiny_model(11, **SIZES), 2, 4.0, seed=3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(5))
    return model


MODELS = {
    "llama": lambda: tiny_model(11, **SIZES),
    "qwen3": lambda: tiny_model(11, architecture="qwen3", **SIZES),
    "qwen2": qwen2,
    "adapted": adapted,
}


def sequences(seed: int, longest: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Some sequences from few prompts of several lengths, in any order."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(11, size=rng.integers(1, 6)) for _ in range(3)] + [np.zeros(2, int), np.zeros(3, int)]
    rows = [
        (prompts[rng.integers(len(prompts))], rng.integers(11, size=rng.integers(0, longest)))
        for _ in range(rng.integers(1, 12))
    ]
    prompt_lengths = torch.tensor([len(prompt) for prompt, _ in rows])
    lengths = torch.tensor([len(prompt) + len(said) for prompt, said in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for row, (prompt, said) in zip(tokens, rows, strict=True):
        row[: len(prompt) + len(said)] = torch.from_numpy(np.concatenate([prompt, said]))
    return tokens, prompt_lengths, lengths


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_every_token_has_its_place_and_prompts_are_there_once(seed: int) -> None:
    tokens, prompt_lengths, lengths = sequences(seed)
    packing = Packing.of(tokens, prompt_lengths, lengths)
    prompts = {tuple(row[:n].tolist()) for row, n in zip(tokens, prompt_lengths, strict=True)}
    said = int((lengths - prompt_lengths).sum())
    assert len(packing.tokens) == said + sum(map(len, prompts))
    steps = torch.cat([part.reshape(-1) for part in packing.parts])
    assert steps[packing.part_indices].tolist() == list(range(len(packing.tokens)))
    assert sum(map(len, packing.parts)) == len(tokens)
    for i, length in enumerate(lengths):
        places = packing.places[i, :length]
        assert packing.tokens[places].tolist() == tokens[i, :length].tolist()
        assert packing.positions[places].tolist() == list(range(length))


def test_short_and_long_sequences_do_not_pad_each_other() -> None:
    tokens = torch.ones(8, 100, dtype=torch.long)
    lengths = torch.tensor([100, 3, 4, 99, 5, 5, 3, 2])
    packing = Packing.of(tokens, torch.ones(8, dtype=torch.long), lengths)
    assert [tuple(part.shape) for part in packing.parts] == [(2, 3), (2, 4), (2, 5), (2, 100)]
    even = Packing.of(tokens, torch.ones(8, dtype=torch.long), torch.full((8,), 100))
    assert [tuple(part.shape) for part in even.parts] == [(8, 100)]


@pytest.mark.parametrize("name", MODELS)
def test_states_and_gradients_are_those_of_a_padded_pass(name: str) -> None:
    model = MODELS[name]()
    for seed, longest in itertools.product(range(5), (8, 40)):
        tokens, prompt_lengths, lengths = sequences(seed, longest)
        there = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
        packing = Packing.of(tokens, prompt_lengths, lengths)
        packed = packed_forward(model, packing)
        assert packed is not None
        weights = torch.randn(int(there.sum()), 16, generator=torch.Generator().manual_seed(seed))
        results = []
        for states in (packed[packing.places][there], hidden_states(model, tokens)[there]):
            model.zero_grad()
            (states * weights).sum().backward()
            gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            results.append((states.detach(), gradients))
        (ours, our_gradients), (theirs, their_gradients) = results
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert len(our_gradients) == len(their_gradients)
        for mine, other in zip(our_gradients, their_gradients, strict=True):
            assert torch.allclose(mine, other, atol=1e-4 * float(other.abs().max()) + 1e-6)


def test_other_families_are_left_to_themselves() -> None:
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=11, n_embd=16, n_layer=1, n_head=2))
    assert packed_forward(model, Packing.of(*sequences(0))) is None


def test_half_precision_is_as_close_as_it_can_be() -> None:
    model = tiny_model(11, **SIZES).to(torch.bfloat16)
    tokens, prompt_lengths, lengths = sequences(3)
    there = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
    packing = Packing.of(tokens, prompt_lengths, lengths)
    with torch.no_grad():
        packed = packed_forward(model, packing)
        assert packed is not None
        assert packed.dtype is torch.bfloat16
        assert torch.allclose(packed[packing.places][there], hidden_states(model, tokens)[there], atol=0.05, rtol=0.05)
