"""vLLM as a decoder, with a stand-in of its interface: what it is asked, and what becomes of its answers."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gridzero.__main__ import main
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.decoding.vllm_engine import plain_weights
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.peft import add_lora, merge
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy

VOCABULARY = Vocabulary.of("0123456789+=")


class Engine:
    """The part of vLLM's ``LLM`` that is used: greedy, with a model made of the folder's config."""

    def __init__(self, model: str, **settings: Any) -> None:
        self.settings = settings
        self.model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(model))
        runner = types.SimpleNamespace(model=self)
        worker = types.SimpleNamespace(model_runner=runner)
        self.llm_engine = types.SimpleNamespace(model_executor=types.SimpleNamespace(driver_worker=worker))

    def load_weights(self, weights: Any) -> None:
        self.model.load_state_dict(dict(weights))

    def reset_prefix_cache(self) -> None:
        pass

    @torch.no_grad()
    def generate(self, prompts: list[Any], settings: list[Any], use_tqdm: bool) -> list[Any]:
        return [self._complete(prompt["prompt_token_ids"], own) for prompt, own in zip(prompts, settings, strict=True)]

    def _complete(self, prompt: list[int], settings: Any) -> Any:
        tokens: list[int] = []
        scores: list[dict[int, Any]] = []
        while len(tokens) < settings.max_tokens and not (tokens and tokens[-1] in settings.stop_token_ids):
            log_probs = self.model(torch.tensor([prompt + tokens])).logits[0, -1].log_softmax(-1)
            tokens.append(int(log_probs.argmax()))
            scores.append({tokens[-1]: types.SimpleNamespace(logprob=float(log_probs[tokens[-1]]))})
        return types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=tokens, logprobs=scores)])


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the engine in the place of vLLM."""
    module: Any = types.ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    module.LLM = Engine
    module.SamplingParams = types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)


def policy(**options: Any) -> LanguagePolicy:
    model = tiny_model(len(VOCABULARY), width=16, layers=1, heads=2, positions=64, seed=1)
    return LanguagePolicy(model, character_tokenizer(VOCABULARY), LanguageOptions(**options), limit=6)


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("options", [{}, {"peft": "lora", "peft_rank": 2}])
def test_it_writes_what_the_model_writes_with_the_weights_of_the_moment(options: dict[str, Any]) -> None:
    ours, theirs = policy(**options), policy(decoder="vllm", **options)
    prompts, generator = [[5, 6, 7], [4]], torch.Generator().manual_seed(0)
    for _ in range(2):
        written = [
            one.generate(prompts, 2, one.sampling(6, greedy=True), np.random.default_rng(0), limits=[6, 6, 6, 2])
            for one in (ours, theirs)
        ]
        for name in ("tokens", "lengths", "ended"):
            assert torch.equal(getattr(written[0], name), getattr(written[1], name)), name
        torch.testing.assert_close(written[0].log_probs, written[1].log_probs)
        for mine, other in zip(ours.trained(), theirs.trained(), strict=True):
            mine.data += 0.3 * torch.randn(mine.shape, generator=generator)
            other.data = mine.data.clone()


def test_the_weights_of_lora_are_those_of_the_merged_model() -> None:
    model = add_lora(tiny_model(len(VOCABULARY), width=16, layers=1, heads=2, positions=64, seed=1), 2, 4)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1)
    found = {name: weight.clone() for name, weight in plain_weights(model)}
    expected = merge(model).state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight)


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peft": "prefix", "peft_tokens": 2}, "with whole models and with lora"),
        ({"peft": "ia3"}, "with whole models and with lora"),
        ({"temperature": 0.5, "top_k": 3}, "leave out one of them"),
    ],
)
def test_what_it_cannot_write_with_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        policy(decoder="vllm", **options)


def test_without_the_package_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, _find=importlib.util.find_spec: None if name == "vllm" else _find(name)
    )
    words = ["train", "grpo", "--env", "gridzero/TextGeneration-v0", "--env.task", "addition"]
    assert main([*words, "--policy.decoder", "vllm", "--run", "r"]) == 2
    error = capsys.readouterr().err
    assert "needs the package vllm, which is not installed" in error
    assert error.count("\n") == 1
