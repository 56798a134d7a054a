"""The language model inside of an image-text model, against that model's own forward pass on its own inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gridzero.agents.neural.muon import hidden_matrices
from gridzero.envs.tasks import make_task
from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.decoding.decoder import ModelDecoder
from gridzero.llm_rl.decoding.generate import Sampling, fast_decoder, generate
from gridzero.llm_rl.decoding.llama_cpu import FastDecoder
from gridzero.llm_rl.models.image_text import (
    seeing_model,
    tiny_image_text_model,
    vision_parameters,
)
from gridzero.llm_rl.models.peft import add_lora
from gridzero.llm_rl.models.pretrained import load_image_text_model, load_model, write_model
from gridzero.llm_rl.models.vision_towers import patches_of
from gridzero.llm_rl.scoring.completions import completion_scores

VOCABULARY, SHAPE, PATCH = 20, (16, 24, 3), 4
PARTS = 6


def tiny(architecture: Any = "llama") -> Any:
    model = tiny_image_text_model(
        VOCABULARY, SHAPE, width=16, layers=2, heads=2, positions=64, patch=PATCH, text=architecture, seed=3
    )
    model.set_experts_implementation("eager")  # of which alone there are doubles
    return model


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, *SHAPE), dtype=np.uint8)


def logits_of(model: Any, shown: np.ndarray, texts: list[list[int]]) -> Tensor:
    """(B, P + T, V) by the model's own way: placeholders, patches and their grid."""
    ids = torch.tensor([[model.config.image_token_id] * PARTS + text for text in texts])
    grid = torch.tensor([[1, SHAPE[0] // PATCH, SHAPE[1] // PATCH]] * len(texts))
    patches = patches_of(torch.from_numpy(shown), PATCH).to(model.dtype)
    logits: Tensor = model(input_ids=ids, pixel_values=patches, image_grid_thw=grid).logits
    return logits


def test_patches_are_cut_row_by_row() -> None:
    picture = pictures(1)
    patches = patches_of(torch.from_numpy(picture), PATCH)
    number = 0
    for row in range(0, SHAPE[0], PATCH):
        for column in range(0, SHAPE[1], PATCH):
            expected = picture[0, row : row + PATCH, column : column + PATCH].transpose(2, 0, 1) / 127.5 - 1
            np.testing.assert_allclose(patches[number].numpy(), expected, atol=1e-6)
            number += 1
    assert number == len(patches)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "deepseek_v3"])
def test_scores_and_gradients_are_those_of_the_whole_model(architecture: Any) -> None:
    """Pictures are read once for all sequences that have them, here the first for two and the second for one."""
    ours, theirs = tiny(architecture).double(), tiny(architecture).double()
    causal = seeing_model(ours)
    see = causal.pictures.tokens
    shown = pictures(2)[[0, 0, 1]]
    texts = [[4, 5, 6, 7], [4, 5, 9, 8], [4, 5, 6, 7]]
    examples = [
        Example(see(picture) + text, [False] * (PARTS + 2) + [True, True])
        for picture, text in zip(shown, texts, strict=True)
    ]
    scores = completion_scores(causal, examples, 0)
    expected = logits_of(theirs, shown, texts).log_softmax(-1)
    own = torch.tensor(texts)[:, 2:]
    expected = expected[:, PARTS + 1 : -1].gather(-1, own.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(scores.log_probs.view(3, 2), expected, atol=1e-5, rtol=0)
    assert abs(float((scores.log_probs[0] - scores.log_probs[4]).detach())) > 1e-4  # equal texts, other pictures
    scores.log_probs.square().sum().backward()
    expected.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4, msg=name)
    assert sum(float(parameter.grad.abs().sum()) for parameter in vision_parameters(ours)) > 0


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "deepseek_v3"])
@pytest.mark.parametrize("fast", [True, False])
def test_greedy_completions_are_the_whole_models(
    architecture: Any, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDZERO_CPU_KERNELS", "1" if fast else "0")
    model = tiny(architecture)
    causal = seeing_model(model)
    assert isinstance(
        fast_decoder(causal, 32, 8) or ModelDecoder(causal, 8),
        FastDecoder if fast and architecture != "deepseek_v3" else ModelDecoder,
    )
    see = causal.pictures.tokens
    shown, texts = pictures(2), [[4, 5], [4, 5]]
    prompts = [see(picture) + text for picture, text in zip(shown, texts, strict=True)]
    sampling = Sampling(greedy=True, max_tokens=8)
    found = generate(causal, prompts, 2, sampling, end=[1], pad=0, rng=np.random.default_rng(0))
    with torch.no_grad():
        for _ in range(8):
            new = logits_of(model, shown, texts)[:, -1].argmax(-1).tolist()
            texts = [[*text, token] for text, token in zip(texts, new, strict=True)]
    for row, text in enumerate(texts):
        for copy in range(2):
            length = int(found.lengths[2 * row + copy])
            assert found.tokens[2 * row + copy, :length].tolist() == text[2 : 2 + length]
    assert int(found.tokens.max()) < VOCABULARY


def test_equal_pictures_have_equal_tokens_and_others_are_refused() -> None:
    embedding = seeing_model(tiny()).pictures
    first, second = pictures(2)
    tokens = embedding.tokens(first)
    assert tokens == list(range(VOCABULARY, VOCABULARY + PARTS))
    assert embedding.tokens(second) == [token + PARTS for token in tokens]
    assert embedding.tokens(first.copy()) == tokens
    assert embedding.knows(VOCABULARY + 2 * PARTS - 1)
    assert not embedding.knows(VOCABULARY + 2 * PARTS)
    with pytest.raises(ValueError, match="pictures have one shape"):
        embedding.tokens(first[:8])


def test_adapters_are_of_the_language_model_alone() -> None:
    model = tiny()
    adapted = add_lora(seeing_model(model), 2, 4.0, "all-linear", seed=0)
    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert names
    assert not [name for name in names if "vision" in name]
    embedding = adapted.pictures
    prompts = [[*embedding.tokens(pictures(1)[0]), 4, 5]]
    sampling = Sampling(greedy=True, max_tokens=4)
    assert generate(adapted, prompts, 1, sampling, end=[1], pad=0, rng=np.random.default_rng(0)).tokens.shape[0] == 1


@pytest.mark.parametrize("architecture", ["llama", "deepseek_v3"])
def test_it_is_saved_in_hugging_faces_format(architecture: Any, tmp_path: Path) -> None:
    from gridzero.envs.tasks.vocabulary import Vocabulary
    from gridzero.llm_rl.models.tokenizer import character_tokenizer

    vocabulary = Vocabulary.for_task(make_task("grid-path", pixels=8))
    model = tiny(architecture)
    seeing_model(model)
    write_model(model, character_tokenizer(vocabulary), tmp_path / "model")
    loaded, _ = load_image_text_model(tmp_path / "model")
    shown, texts = pictures(2), [[4, 5], [6, 7]]
    with torch.no_grad():
        torch.testing.assert_close(
            logits_of(loaded, shown, texts), logits_of(tiny(architecture), shown, texts), atol=0, rtol=0
        )
    with pytest.raises(ValueError, match="a kimi_k25 is not a causal language model"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"patch": 3}, "not made of patches of 6"), ({"heads": 3}, "width must be a multiple of 8 · heads")],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2, "positions": 32, "patch": PATCH} | sizes
    with pytest.raises(ValueError, match=message):
        tiny_image_text_model(VOCABULARY, SHAPE, **given)


def test_muon_takes_the_matrices_of_both_parts_and_no_table() -> None:
    model = tiny()
    seeing_model(model)
    names = {id(one): name for name, one in model.named_parameters()}
    chosen = {names[id(one)] for one in hidden_matrices(model, [*model.parameters()])}
    assert any("vision_tower" in name for name in chosen)
    assert any("mm_projector" in name for name in chosen)
    assert all(model.get_parameter(name).ndim == 2 for name in chosen)
    assert not [name for name in chosen if "embed" in name or "head" in name]
