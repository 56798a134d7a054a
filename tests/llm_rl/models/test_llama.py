"""The Llama of this package against that of Hugging Face's transformers: the same numbers, from the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from transformers.integrations import sdpa_attention

from gridzero.__main__ import main
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.decoding.generate import Sampling, generate
from gridzero.llm_rl.models.causal import checkpoint_gradients, hidden_states, tiny_config, tiny_model
from gridzero.llm_rl.models.llama import WEIGHTS, Llama
from gridzero.llm_rl.models.llama_config import LlamaConfig
from gridzero.llm_rl.models.llama_files import as_transformers, read_llama
from gridzero.llm_rl.models.pretrained import load_model, read_weights, save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer

VOCABULARY = Vocabulary.of("0123456789+=\n")
SIZES: dict[str, Any] = {"width": 32, "layers": 2, "heads": 4, "positions": 64}


def pair(
    *, key_heads: int = 4, tied: bool = True, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Llama, Any]:
    """Our model and transformers', with the same random weights."""
    settings = tiny_config(len(VOCABULARY), tied=tied, **SIZES).to_dict() | {"num_key_value_heads": key_heads}
    config = LlamaConfig.of(settings)
    assert config is not None
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        ours = Llama(config).eval()
        torch.manual_seed(seed)
        theirs = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**settings)).eval()
    return ours.to(dtype), theirs.to(dtype)


def same_weights(ours: Any, theirs: Any) -> bool:
    one, two = ours.state_dict(), theirs.state_dict()
    return list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)


def same_with_a_cache(one: Tensor, two: Tensor) -> bool:
    """Bit for bit if transformers takes the queries of a key together, as ours; older ones add up in another order."""
    if hasattr(sdpa_attention, "pack_gqa"):
        return torch.equal(one, two)
    return torch.allclose(one, two, rtol=0, atol=2e-6)


def padded_on_the_left() -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and positions of sequences of 5, 11 and 8 tokens."""
    tokens = torch.randint(2, len(VOCABULARY), (3, 11), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(11) >= torch.tensor([[6], [0], [3]])).long()
    return tokens, mask, (mask.cumsum(-1) - 1).clamp(min=0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_a_seed_gives_the_weights_that_it_gives_transformers(tied: bool, key_heads: int) -> None:
    ours, theirs = pair(tied=tied, key_heads=key_heads, seed=3)
    assert same_weights(ours, theirs)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    tiny = tiny_model(len(VOCABULARY), tied=tied, seed=3, **SIZES)
    assert not tiny.training
    assert key_heads < 4 or same_weights(tiny, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_it_computes_the_same_numbers(tied: bool, key_heads: int, dtype: torch.dtype) -> None:
    ours, theirs = pair(tied=tied, key_heads=key_heads, dtype=dtype)
    tokens, mask, positions = padded_on_the_left()
    for inputs in (
        {"input_ids": tokens},
        {"inputs_embeds": ours.get_input_embeddings()(tokens).detach()},
        {"input_ids": tokens, "logits_to_keep": 2},
        {"input_ids": tokens[:, :1]},
        {"input_ids": tokens, "attention_mask": torch.ones_like(mask), "position_ids": positions[1:2]},
        {"input_ids": tokens, "attention_mask": mask, "position_ids": positions},
    ):
        results = [model(**inputs).logits for model in (ours, theirs)]
        assert torch.equal(torch.nan_to_num(results[0]), torch.nan_to_num(results[1])), list(inputs)
        for model, logits in zip((ours, theirs), results, strict=True):
            model.zero_grad()
            logits[mask[:, -logits.shape[1] :].bool()].float().logsumexp(-1).sum().backward()
        for (name, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert weight.grad is other.grad is None or torch.equal(weight.grad, other.grad), (name, list(inputs))
    assert torch.equal(hidden_states(ours, tokens, mask), hidden_states(theirs, tokens, mask))


@pytest.mark.parametrize("key_heads", [4, 2])
def test_it_goes_on_from_a_cache_as_theirs_does(key_heads: int) -> None:
    ours, theirs = pair(key_heads=key_heads)
    tokens, mask, positions = padded_on_the_left()
    with torch.no_grad():
        for padding in (None, mask):
            caches = [transformers.DynamicCache(config=model.config) for model in (ours, theirs)]
            for first, last in ((0, 6), (6, 9), (9, 10), (10, 11)):
                inputs: dict[str, Any] = {"input_ids": tokens[:, first:last], "use_cache": True}
                if padding is not None:
                    inputs |= {"attention_mask": padding[:, :last], "position_ids": positions[:, first:last]}
                one, two = (
                    model(**inputs, past_key_values=cache).logits
                    for model, cache in zip((ours, theirs), caches, strict=True)
                )
                assert same_with_a_cache(torch.nan_to_num(one), torch.nan_to_num(two))


@pytest.mark.parametrize("kernels", [True, False])
def test_it_writes_what_theirs_writes(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair(key_heads=2)
    prompts = [[4, 5, 6], [7], [8, 9]]
    options: dict[str, Any] = {"end": [1], "pad": 0}
    monkeypatch.setenv(cpu_kernels.VARIABLE, str(int(kernels)))
    for sampling in (Sampling(greedy=True, max_tokens=12), Sampling(max_tokens=12)):
        one, two = (
            generate(model, prompts, 3, sampling, rng=np.random.default_rng(0), **options) for model in (ours, theirs)
        )
        assert torch.equal(one.tokens, two.tokens)
        assert same_with_a_cache(one.log_probs, two.log_probs)
    greedy = theirs.generate(torch.tensor(prompts[:1]), max_new_tokens=12, do_sample=False)[0, 3:]
    written = generate(
        ours, prompts[:1], 1, Sampling(greedy=True, max_tokens=12), rng=np.random.default_rng(0), **options
    )
    assert written.tokens[0, : written.lengths[0]].tolist() == greedy.tolist()


def test_gradients_are_those_of_the_plain_pass_where_layers_are_computed_again() -> None:
    ours, theirs = pair()
    tokens, mask, _ = padded_on_the_left()
    checkpoint_gradients(ours)
    for model in (ours, theirs):
        hidden_states(model, tokens, mask)[mask.bool()].sum().backward()
    for weight, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(weight.grad, other.grad)


def test_as_transformers_shares_the_weights() -> None:
    ours, theirs = pair(key_heads=2)
    ours.generation_config.eos_token_id = [1, 3]
    ours.model.norm.weight.requires_grad_(False)
    found = as_transformers(ours)
    assert type(found) is transformers.LlamaForCausalLM
    assert not found.training
    assert found.generation_config.eos_token_id == [1, 3]
    assert not found.model.norm.weight.requires_grad
    weights = list(ours.parameters())
    assert all(weight is other for weight, other in zip(weights, found.parameters(), strict=True))
    tokens, mask, positions = padded_on_the_left()
    assert torch.equal(
        found(input_ids=tokens, attention_mask=mask, position_ids=positions).logits[mask.bool()],
        theirs(input_ids=tokens, attention_mask=mask, position_ids=positions).logits[mask.bool()],
    )
    assert as_transformers(theirs) is theirs


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_go_to_transformers_and_back(tmp_path: Path, tied: bool, dtype: torch.dtype) -> None:
    ours, _ = pair(tied=tied, key_heads=2, dtype=dtype)
    ours.generation_config.eos_token_id = [1, 3]
    save_model(ours, character_tokenizer(VOCABULARY), tmp_path / "ours")
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", dtype="auto", local_files_only=True, output_loading_info=True
    )
    assert not any(loading.values())
    assert theirs.dtype == dtype
    assert same_weights(ours, theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    character_tokenizer(VOCABULARY).save_pretrained(tmp_path / "theirs")
    back, tokenizer = load_model(tmp_path / "theirs")
    assert type(back) is Llama
    assert (back.dtype, back.config) == (dtype, ours.config)
    assert back.generation_config.eos_token_id == [1, 3]
    assert same_weights(back, ours)
    assert (back.lm_head.weight is back.model.embed_tokens.weight) == tied
    assert all(weight.requires_grad for weight in back.parameters())
    assert (tmp_path / "ours" / "model.safetensors").read_bytes() == (
        tmp_path / "theirs" / "model.safetensors"
    ).read_bytes()
    config, other = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs"))
    assert config == {name: value for name, value in other.items() if name != "transformers_version"}
    automatic = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs", local_files_only=True)
    assert type(tokenizer) is type(automatic)
    assert tokenizer.init_kwargs | {"local_files_only": True} == automatic.init_kwargs | {"local_files_only": True}


def test_configurations_say_the_same_by_older_names() -> None:
    settings = tiny_config(len(VOCABULARY), **SIZES).to_dict()
    older = {name: value for name, value in settings.items() if name not in ("rope_parameters", "head_dim")}
    found = LlamaConfig.of(older | {"rope_theta": 5000.0, "rope_scaling": None, "torch_dtype": "float32"})
    assert found is not None
    assert (found.rope_theta, found.head_dim) == (5000.0, 8)
    assert transformers.LlamaConfig(**older, rope_theta=5000.0).rope_parameters == found.to_dict()["rope_parameters"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "qwen2"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"attention_dropout": 0.1},
        {"pretraining_tp": 2},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"quantization_config": {"quant_method": "fp8"}},
        {"attn_implementation": "someone/kernels"},
        {"sliding_window": 8},
        {"num_hidden_layers": "2"},
        {"num_key_value_heads": 3},
        {"vocab_size": None},
        {"head_dim": 7},
    ],
)
def test_what_a_plain_llama_does_not_have_is_left_to_transformers(changes: dict[str, Any]) -> None:
    settings = tiny_config(len(VOCABULARY), **SIZES).to_dict()
    assert LlamaConfig.of(settings) is not None
    assert LlamaConfig.of(settings | changes) is None


def test_weights_beyond_those_of_a_plain_llama_are_left_to_transformers(tmp_path: Path) -> None:
    """A tied output layer that is in the file as well, which transformers may read as one of its own."""
    model = tiny_model(len(VOCABULARY), **SIZES)
    save_model(model, character_tokenizer(VOCABULARY), tmp_path / "model")
    save_file({name: weight.clone() for name, weight in model.state_dict().items()}, tmp_path / "model" / WEIGHTS)
    assert read_llama(tmp_path / "model") is None
    assert type(load_model(tmp_path / "model")[0]) is transformers.LlamaForCausalLM


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_model(tiny_model(len(VOCABULARY), **SIZES), character_tokenizer(VOCABULARY), tmp_path / "model")
    for other in ({"width": 64}, {"layers": 3}, {"tied": False}):
        config = tiny_config(len(VOCABULARY), **(SIZES | other))
        config.save_pretrained(tmp_path / "model")
        with pytest.raises(ValueError, match=r"do not fit: .* is \(|it lacks weights: "):
            read_llama(tmp_path / "model")
    model = tiny_model(len(VOCABULARY), architecture="qwen3", **SIZES)
    with pytest.raises(ValueError, match="cannot be read"):
        read_weights(model, tmp_path / "model")


def test_runs_are_evaluated_without_what_takes_long_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of models in transformers take twice as long to import as torch; scipy.stats takes a second."""
    monkeypatch.chdir(tmp_path)
    options = ["--env", "gridzero/TextGeneration-v0", "--steps", "8", "--groups", "2", "--group-size", "2"]
    options += ["--evaluate-every", "0", "--evaluation-episodes", "2"]
    for run, policy in (("lm", []), ("lora", ["--policy.peft", "lora"]), ("prefix", ["--policy.peft", "prefix"])):
        assert main(["train", "grpo", *options, "--run", run, *policy]) == 0
    script = """
import sys
import torch
from gridzero.__main__ import main
torch.empty(1, device="meta").uniform_()  # torch 2.6 imports sympy for it
before = set(sys.modules)
for run in ("lm", "lora", "prefix"):
    assert main(["evaluate", run, "--episodes", "4"]) == 0
heavy = ("peft", "transformers.modeling_utils", "torch._dynamo", "sympy", "scipy.stats")
print([name for name in heavy if name in sys.modules.keys() - before])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
