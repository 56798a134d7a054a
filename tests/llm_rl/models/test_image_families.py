"""Image-text models of each family, against their own forward pass on their own inputs, one sequence at a time."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gridzero.agents.neural.batches import Steps
from gridzero.llm_rl.data.examples import Example
from gridzero.llm_rl.decoding.generate import Sampling, generate
from gridzero.llm_rl.models.image_families import image_family
from gridzero.llm_rl.models.image_text import seeing_model, tiny_image_text_model, vision_parameters
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.vision_language_policy import VisionLanguagePolicy
from gridzero.llm_rl.scoring.completions import completion_scores

SHAPE = (16, 24, 3)
Make = Callable[[], Any]
PROMPTS = [(0, [30, 31]), (0, [30, 31]), (1, [30, 31]), (0, [30, 31, 32]), (1, [30, 31])]
COMPLETIONS = [[40, 41, 42, 1], [43, 44, 1], [40, 41, 42, 1], [45, 46, 47, 48], [49, 1]]


def pictures(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, *SHAPE), dtype=np.uint8)


def own_inputs_of(model: Any, shown: list[np.ndarray]) -> dict[str, Tensor]:
    """What the model's processor makes of several pictures."""
    each = [own_inputs(model, picture) for picture in shown]
    return {name: torch.cat([one[name] for one in each]) for name in each[0]}


def own_inputs(model: Any, picture: np.ndarray) -> dict[str, Tensor]:
    """What the model's processor makes of a picture; for LFM2-VL by its formula."""
    if model.image_processor is None:
        values = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1
        rows, columns = SHAPE[0] // 4, SHAPE[1] // 4
        patches = [
            values[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].permute(1, 2, 0).reshape(-1)
            for row in range(rows)
            for column in range(columns)
        ]
        return {
            "pixel_values": torch.stack(patches)[None],
            "pixel_attention_mask": torch.ones(1, rows * columns, dtype=torch.int32),
            "spatial_shapes": torch.tensor([[rows, columns]]),
        }
    options = {kind: {"do_image_splitting": False} for kind in ("smolvlm", "idefics3")}
    found = model.image_processor(images=[picture], return_tensors="pt", **options.get(model.config.model_type, {}))
    return {name: value for name, value in found.items() if name not in ("num_crops", "num_patches")}


def logits_of(model: Any, picture: np.ndarray, before: list[int], parts: int, after: list[int]) -> Tensor:
    """(T, V) of a sequence with one picture, by the model's own forward pass."""
    return own_logits(model, [picture], [*before, *[model.config.image_token_id] * parts, *after])


def own_logits(model: Any, shown: list[np.ndarray], tokens: list[int]) -> Tensor:
    """(T, V) by the model's own forward pass; the tokens that mark pictures are left out."""
    ids = torch.tensor([tokens])
    types = (ids == model.config.image_token_id).long()
    name = {"gemma3": "token_type_ids", "qwen2_5_vl": "mm_token_type_ids", "qwen3_vl": "mm_token_type_ids"}
    given = {name[model.config.model_type]: types} if model.config.model_type in name else {}
    logits: Tensor = model(input_ids=ids, **own_inputs_of(model, shown), **given).logits[0]
    unseen = [model.config.image_token_id, getattr(model.config, "video_token_id", None)]
    unseen = [token for token in unseen if token is not None]
    return logits.index_fill(-1, torch.tensor(unseen), -1e4)


def sequences(see: Any) -> tuple[list[list[int]], list[list[int]]]:
    shown = pictures()
    return [[20, *see(shown[number]), *text] for number, text in PROMPTS], COMPLETIONS


def expected(model: Any, parts: int) -> list[Tensor]:
    """Log-probabilities of each completion's tokens."""
    shown, found = pictures(), []
    for (number, text), completion in zip(PROMPTS, COMPLETIONS, strict=True):
        logits = logits_of(model, shown[number], [20], parts, text + completion[:-1])
        own = logits[-len(completion) :].log_softmax(-1)
        found.append(own.gather(-1, torch.tensor(completion).unsqueeze(-1)).squeeze(-1))
    return found


def check_gradients(ours: Any, theirs: Any) -> None:
    gradients = {name: weight.grad for name, weight in theirs.named_parameters()}
    for name, weight in ours.named_parameters():
        if gradients[name] is None:
            assert weight.grad is None or not weight.grad.any(), name
        else:
            torch.testing.assert_close(weight.grad, gradients[name], atol=1e-5, rtol=1e-4, msg=name)
    assert sum(float(weight.grad.abs().sum()) for weight in vision_parameters(ours) if weight.grad is not None) > 0


def test_scores_and_gradients_in_groups_are_those_of_whole_sequences(seeing: Make, seeing_tokenizer: Any) -> None:
    """As PPO and GRPO score: prompts that are shared are read once. Equal texts under other pictures are others."""
    ours, theirs = seeing(), seeing()
    policy = VisionLanguagePolicy(ours, seeing_tokenizer(), LanguageOptions(), limit=8)
    prompts, completions = sequences(policy.model.pictures.tokens)
    wanted = expected(theirs, policy.model.pictures.parts)
    pad = torch.nn.utils.rnn.pad_sequence
    actions = pad([torch.tensor(one) for one in completions], batch_first=True)
    mask = pad([torch.ones(len(one), dtype=torch.bool) for one in completions], batch_first=True)
    observations = {
        "prompts": pad([torch.tensor(one) for one in prompts], batch_first=True),
        "prompt_lengths": torch.tensor([len(one) for one in prompts]),
    }
    steps = Steps(observations, actions, mask, torch.zeros_like(mask), torch.zeros(len(mask), 0))
    scores = policy.evaluate_actions(steps)
    for row, own in zip(scores.log_probs, wanted, strict=True):
        torch.testing.assert_close(row[: len(own)], own, atol=1e-5, rtol=0)
    assert float((wanted[0] - wanted[2]).detach().abs().max()) > 1e-4
    scores.log_probs.square().sum().backward()
    torch.cat(wanted).square().sum().backward()
    check_gradients(ours, theirs)


def test_scores_and_gradients_of_examples_are_those_of_whole_sequences(seeing: Make) -> None:
    ours, theirs = seeing(), seeing()
    causal = seeing_model(ours)
    prompts, completions = sequences(causal.pictures.tokens)
    examples = [
        Example(prompt + completion, [False] * len(prompt) + [True] * len(completion))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    scores = completion_scores(causal, examples, 0)
    wanted = torch.cat(expected(theirs, causal.pictures.parts))
    torch.testing.assert_close(scores.log_probs, wanted, atol=1e-5, rtol=0)
    scores.log_probs.square().sum().backward()
    wanted.square().sum().backward()
    check_gradients(ours, theirs)


def test_completions_are_the_whole_models_and_have_no_tokens_of_pictures(seeing: Make) -> None:
    ours, theirs = seeing(), seeing()
    token = ours.config.image_token_id
    for model in (ours, theirs):
        with torch.no_grad():  # what marks a picture would be drawn almost always
            head = model.get_output_embeddings()
            head.weight = torch.nn.Parameter(head.weight.clone())
            head.weight[token] *= 100
    causal = seeing_model(ours)
    prompts, _ = sequences(causal.pictures.tokens)
    prompts = prompts[1:4]
    found = generate(
        causal, prompts, 2, Sampling(greedy=True, max_tokens=5), end=[1], pad=0, rng=np.random.default_rng(0)
    )
    for number, (picture, text) in enumerate(PROMPTS[1:4]):
        written: list[int] = []
        with torch.no_grad():
            for _ in range(int(found.lengths[2 * number])):
                logits = logits_of(theirs, pictures()[picture], [20], causal.pictures.parts, text + written)
                written.append(int(logits[-1].argmax()))
        for copy in range(2):
            assert found.tokens[2 * number + copy, : len(written)].tolist() == written
    drawn = generate(causal, prompts, 20, Sampling(max_tokens=4), end=[1], pad=0, rng=np.random.default_rng(0))
    assert token not in drawn.tokens
    assert int(drawn.tokens.max()) < len(theirs.get_output_embeddings().weight)


def test_pictures_in_replies_are_read_as_in_whole_sequences(seeing: Make, seeing_tokenizer: Any) -> None:
    """The second picture comes after the model has written; another conversation begins alike and has only one."""
    ours, theirs = seeing(), seeing()
    policy = VisionLanguagePolicy(ours, seeing_tokenizer(), LanguageOptions(), limit=8)
    first, second = pictures()
    see = policy.pictures.tokens
    prompt, own, reply, rest = [20, *see(first), 30, 31], [40, 1], [21, *see(second), 22], [43, 44, 1]
    actions = torch.tensor([[*own, *reply, *rest], [*own, *[0] * (len(reply) + len(rest))]])
    mask = torch.tensor([[True] * 2 + [False] * len(reply) + [True] * 3, [True] * 2 + [False] * (len(reply) + 3)])
    observations = {"prompts": torch.tensor([prompt] * 2), "prompt_lengths": torch.tensor([len(prompt)] * 2)}
    steps = Steps(observations, actions, mask, torch.zeros_like(mask), torch.zeros(2, 0))
    marks = [theirs.config.image_token_id] * policy.pictures.parts
    tokens = [20, *marks, 30, 31, *own, 21, *marks, 22, *rest]
    logits = own_logits(theirs, [first, second], tokens).log_softmax(-1)
    wanted = torch.stack([logits[at - 1, tokens[at]] for at in (-len(reply) - 5, -len(reply) - 4, -3, -2, -1)])
    scores = policy.evaluate_actions(steps).log_probs
    torch.testing.assert_close(scores[0][mask[0]], wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores[1, :2], wanted[:2], atol=1e-5, rtol=0)
    scores[0].square().sum().backward()
    wanted.square().sum().backward()
    check_gradients(ours, theirs)
    sampling = Sampling(greedy=True, max_tokens=3)
    prompts = [[*prompt, *own, *reply], prompt]
    found = generate(policy.model, prompts, 1, sampling, end=[1], pad=0, rng=np.random.default_rng(0))
    for row, (shown, start) in enumerate((([first, second], tokens[:-3]), ([first], [20, *marks, 30, 31]))):
        written: list[int] = []
        for _ in range(int(found.lengths[row])):
            written.append(int(own_logits(theirs, shown, start + written)[-1].argmax()))
        assert found.tokens[row, : len(written)].tolist() == written


def test_a_text_that_has_a_models_own_mark_of_pictures_is_refused(seeing: Make) -> None:
    model = seeing()
    causal = seeing_model(model)
    prompt = [20, *causal.pictures.tokens(pictures()[0]), model.config.image_token_id]
    with pytest.raises(ValueError, match=r"marks pictures with token \d+, which a text cannot have"):
        generate(causal, [prompt], 1, Sampling(max_tokens=2), end=[1], pad=0, rng=np.random.default_rng(0))


def test_inputs_are_those_of_the_models_own_processor(seeing: Make) -> None:
    model, shown = seeing(), pictures()
    found = image_family(model).inputs(model, torch.from_numpy(shown))
    wanted = [own_inputs(model, picture) for picture in shown]
    for name, value in found.items():
        parts = [one[name].reshape(-1) for one in wanted]
        torch.testing.assert_close(value.reshape(-1), torch.cat(parts), atol=1e-6, rtol=0)


def test_pictures_for_lfm2_are_enlarged_by_its_formula() -> None:
    from gridzero.llm_rl.models.image_families import lfm2_inputs

    model = SimpleNamespace()
    small = lfm2_inputs(model, torch.zeros(1, 32, 32, 3, dtype=torch.uint8))  # to at least 64 tokens of 32 pixels
    assert small["spatial_shapes"].tolist() == [[16, 16]]
    large = lfm2_inputs(model, torch.full((1, 1024, 512, 3), 255, dtype=torch.uint8))  # to at most 256
    assert large["spatial_shapes"].tolist() == [[44, 22]]
    assert bool((large["pixel_values"] == 1).all())
    assert large["pixel_values"].shape == (1, 44 * 22, 16 * 16 * 3)


def test_models_of_other_families_are_refused_by_name() -> None:
    model = tiny_image_text_model(20, (16, 16, 3), width=16, layers=1, heads=2, positions=32, patch=4)
    model.config.model_type = "chameleon"
    with pytest.raises(ValueError, match=r"a chameleon takes pictures in a way .* known are kimi_k25, llava"):
        seeing_model(model)
