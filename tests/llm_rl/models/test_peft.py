"""Adapters of every kind: sizes that papers print, one meaning in writing, scoring and a plain pass, merging, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers as tf
from torch import Tensor

from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.decoding import generate as rollout
from gridzero.llm_rl.decoding.sampling import Sampling
from gridzero.llm_rl.models.adapted_model import AdaptedModel, without_adapters
from gridzero.llm_rl.models.causal import check_model, hidden_states, seeded, tiny_model
from gridzero.llm_rl.models.llama_files import as_transformers
from gridzero.llm_rl.models.peft import (
    Reference,
    add_bottleneck,
    add_ia3,
    add_lora,
    add_prefix,
    add_prompt,
    as_peft,
    merge,
)
from gridzero.llm_rl.models.pretrained import load_model, read_weights, save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.scoring.packed_forward import packed_forward
from gridzero.llm_rl.scoring.packing import Packing

from ..tiny import GPT2, SIZES, WINDOW, graph_decoder

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "gpt2": lambda: tf.GPT2Config(**GPT2, bos_token_id=1, eos_token_id=1),
    "qwen3": lambda: tf.Qwen3Config(**SIZES),
    "gemma3": lambda: tf.Gemma3TextConfig(**SIZES, **WINDOW),
}
KINDS: dict[str, Callable[[Any], Any]] = {
    "lora": lambda model: add_lora(model, 3, 6),
    "prefix": lambda model: add_prefix(model, 3, seed=1),
    "prompt": lambda model: add_prompt(model, 3, seed=1),
    "ia3": add_ia3,
    "bottleneck": lambda model: add_bottleneck(model, 4),
}
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [3], [12, 4, 9]]
COPIES = 2


def build(name: str) -> Any:
    torch.manual_seed(0)
    return tf.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()


def scramble(adapted: Any) -> Any:
    """Give the adapters other weights, as training does."""
    generator = torch.Generator().manual_seed(0)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = weight + 0.2 * torch.randn(weight.shape, generator=generator)
    return adapted


def trained(model: Any) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 3, 8, 2, 11]])).logits[:, -5:]


def plain_log_probs(model: Any, prompt: list[int], completion: list[int]) -> Tensor:
    """By the model's own pass over one row, without padding or cache."""
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([prompt + completion])).logits[0, -len(completion) - 1 : -1]
    return log_probs.log_softmax(-1).gather(-1, torch.tensor(completion).unsqueeze(-1)).squeeze(-1)


# One meaning everywhere


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_writing_scoring_and_a_plain_pass_are_the_same(
    architecture: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scramble(KINDS[kind](build(architecture)))
    check_model(model)
    fast = rollout.fast_decoder(model, 32, 10)
    assert (fast is not None) == (architecture in ("llama", "qwen3") and kind != "bottleneck")
    for decoder in (rollout.fast_decoder, lambda *_: None, graph_decoder):
        monkeypatch.setattr(rollout, "fast_decoder", decoder)
        written = rollout.generate(
            model, PROMPTS, COPIES, Sampling(max_tokens=10), end=(1, 2), pad=0, rng=np.random.default_rng(0)
        )
        rows = [(PROMPTS[i // COPIES], written.tokens[i, :length].tolist()) for i, length in enumerate(written.lengths)]
        expected = [plain_log_probs(model, *row) for row in rows]
        for log_probs, one in zip(written.log_probs, expected, strict=True):
            torch.testing.assert_close(log_probs[: len(one)], one, atol=1e-5, rtol=0)

    lengths = torch.tensor([len(prompt) + len(completion) for prompt, completion in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for row, (prompt, completion) in zip(tokens, rows, strict=True):
        row[: len(prompt) + len(completion)] = torch.tensor(prompt + completion)
    packing = Packing.of(tokens, torch.tensor([len(prompt) for prompt, _ in rows]), lengths)
    passes = {"padded": hidden_states(model, tokens)}
    for switch in ("1", "0"):
        monkeypatch.setenv(cpu_kernels.VARIABLE, switch)
        packed = packed_forward(model, packing)
        assert (packed is not None) == (architecture in ("llama", "qwen3"))
        if packed is not None:
            passes[f"packed {switch}"] = packed[packing.places]
    for states in passes.values():
        scores = (model.get_base_model().lm_head(states)).log_softmax(-1).detach()
        for i, (prompt, completion) in enumerate(rows):
            own = scores[i, len(prompt) - 1 : len(prompt) + len(completion) - 1]
            own = own.gather(-1, torch.tensor(completion).unsqueeze(-1)).squeeze(-1)
            torch.testing.assert_close(own, expected[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_packed_and_of_the_padded_pass_are_the_same(kind: str) -> None:
    tokens = torch.tensor([[5, 6, 7, 3, 0, 0], [5, 6, 7, 4, 8, 9], [2, 3, 4, 5, 6, 0]])
    lengths = torch.tensor([4, 6, 5])
    there = torch.arange(6) < lengths.unsqueeze(1)
    packing = Packing.of(tokens, torch.tensor([3, 3, 1]), lengths)
    gradients = []
    for packed in (True, False):
        model = scramble(KINDS[kind](build("llama")))
        states = packed_forward(model, packing)[packing.places] if packed else hidden_states(model, tokens)
        states[there].square().sum().backward()
        gradients.append({name: weight.grad for name, weight in trained(model).items()})
        assert all(weight.grad is None for weight in model.parameters() if not weight.requires_grad)
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_padding_on_the_left_moves_virtual_tokens_along(architecture: str, kind: str) -> None:
    model = scramble(KINDS[kind](build(architecture)))
    tokens = torch.tensor([[5, 6, 7, 3, 8, 9, 4]])
    alone = hidden_states(model, tokens)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), tokens], 1)
    states = hidden_states(model, padded, (torch.arange(10) >= 3).long().unsqueeze(0))
    torch.testing.assert_close(states[:, 3:], alone, atol=1e-5, rtol=1e-5)


# Kinds of adapters


def test_a_prefix_begins_as_tokens_that_were_read() -> None:
    """Under a model that has read some tokens, the rest is what it would be after them."""
    model = build("qwen3")
    generator = torch.Generator().manual_seed(1)
    read = torch.randint(23, (3,), generator=generator)
    expected = model(torch.cat([read, torch.tensor([5, 3, 8, 2, 11])]).unsqueeze(0)).logits[:, -5:]
    for add in (add_prefix, add_prompt):
        torch.testing.assert_close(logits(add(build("qwen3"), 3, seed=1)), expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "ia3", "bottleneck"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_adapters_in_layers_come_and_go(architecture: str, kind: str) -> None:
    before = logits(build(architecture))
    adapted = KINDS[kind](build(architecture))
    # A bottleneck begins near the identity, the others at it.
    torch.testing.assert_close(logits(adapted), before, atol=0.05 if kind == "bottleneck" else 1e-6, rtol=0)
    scramble(adapted)
    assert (logits(adapted) - before).abs().max() > 0.1
    torch.testing.assert_close(logits(without_adapters(adapted.get_base_model())), before)


def test_an_adapter_is_alpha_over_rank_times_b_a() -> None:
    model = build("llama")
    weight = model.model.layers[0].self_attn.q_proj.weight.detach().clone()
    adapted = scramble(add_lora(model, 3, 12, ["q_proj"]))
    layer = model.model.layers[0].self_attn.q_proj
    expected = weight + 12 / 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merge(adapted)
    torch.testing.assert_close(model.model.layers[0].self_attn.q_proj.weight, expected)


def test_a_bottleneck_adds_an_mlp_after_attention_and_after_the_mlp() -> None:
    model = build("gpt2")
    adapted = scramble(add_bottleneck(model, 4))
    block = model.transformer.h[0]
    x = torch.randn(2, 24)
    for layer in (block.attn.c_proj, block.mlp.c_proj):
        down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
        inputs = x if layer is block.attn.c_proj else torch.randn(2, 96)
        y = layer.base_layer(inputs)
        expected = y + torch.nn.functional.gelu(y @ down.weight.T + down.bias) @ up.weight.T + up.bias
        torch.testing.assert_close(layer(inputs), expected)
    assert len(trained(adapted)) == 2 * 2 * 4


def test_ia3_rescales_keys_values_and_what_the_last_layer_reads() -> None:
    names = {name.split(".", 3)[-1] for name in trained(add_ia3(build("llama"))) if ".layers.0." in name}
    layers = {"self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"}
    assert names == {f"layers.0.{layer}.ia3_l.default" for layer in layers}


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_merging_keeps_what_the_model_says(architecture: str, kind: str) -> None:
    adapted = scramble(KINDS[kind](build(architecture)))
    if kind not in ("lora", "ia3"):
        with pytest.raises(ValueError, match="cannot be merged into a model's weights; lora and ia3 can"):
            merge(adapted)
        return
    expected = logits(adapted)
    merged = merge(adapted)
    assert type(merged) is type(build(architecture))
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)


def test_a_plain_model_has_nothing_to_merge() -> None:
    with pytest.raises(ValueError, match="no adapters"):
        merge(build("llama"))


@pytest.mark.parametrize("kind", ["lora", "prefix", "prompt", "bottleneck"])
def test_adapters_depend_on_the_seed_alone(kind: str) -> None:
    adders: dict[str, Callable[..., Any]] = {
        "lora": lambda model, rank, seed: add_lora(model, rank, 4, seed=seed),
        "prefix": add_prefix,
        "prompt": add_prompt,
        "bottleneck": add_bottleneck,
    }

    def make(seed: int) -> Tensor:
        model = build("llama")
        state = torch.get_rng_state()
        adapted = adders[kind](model, 2, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return torch.cat([weight.flatten() for weight in trained(adapted).values()])

    assert torch.equal(make(1), make(1))
    assert not torch.equal(make(2), make(1))


# peft's own


LINEAR = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"], "gemma3": ["q_proj", "down_proj"]}


def plain(architecture: str) -> Any:
    """A model of transformers, or a Llama of ours."""
    llama = architecture == "llama"
    return tiny_model(23, width=16, layers=2, heads=2, positions=64) if llama else build(architecture)


@pytest.mark.parametrize("architecture", LINEAR)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bottleneck"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_those_of_peft(dtype: torch.dtype, kind: str, architecture: str) -> None:
    model = scramble(KINDS[kind](plain(architecture).to(dtype)))
    theirs = as_peft(model)
    assert type(model) is AdaptedModel
    assert type(theirs) is peft.PeftModelForCausalLM
    assert trained(model).keys() == trained(theirs).keys()
    assert all(weight is trained(theirs)[name] for name, weight in trained(model).items())
    found = []
    for one in (model, theirs):
        result = one(input_ids=torch.tensor([[5, 3, 8, 2, 11], [1, 2, 3, 4, 5]])).logits
        result.float().square().sum().backward()
        found.append((result, {name: weight.grad for name, weight in trained(one).items()}))
        one.zero_grad()
    assert torch.equal(found[0][0], found[1][0])
    for name, gradient in found[0][1].items():
        assert torch.equal(gradient, found[1][1][name]), name


@pytest.mark.parametrize("architecture", LINEAR)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_rank_matrices_begin_as_those_of_peft(dtype: torch.dtype, architecture: str) -> None:
    ours = add_lora(plain(architecture).to(dtype), 3, 6, LINEAR[architecture], seed=5)
    options = {"target_modules": LINEAR[architecture], "fan_in_fan_out": architecture == "gpt2"}
    base = as_transformers(plain(architecture).to(dtype))
    with seeded(5):
        theirs = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, **options))
    assert [*trained(ours)] == [*trained(theirs)]
    for name, weight in trained(theirs).items():
        assert torch.equal(weight, trained(ours)[name])


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({}, True),
        ({"use_rslora": True, "lora_dropout": 0.1}, True),
        ({"use_dora": True}, False),
        ({"rank_pattern": {"q_proj": 2}}, False),
        ({"modules_to_save": ["norm"]}, False),
        ({"target_modules": r".*\.(q_proj|up_proj)"}, True),
        ({"exclude_modules": ["layers.0.self_attn.q_proj"]}, False),
    ],
)
def test_adapters_that_peft_made_are_read(options: dict[str, Any], own: bool, folder: Path) -> None:
    model, tokenizer = load_model(folder)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=3, **({"target_modules": ["q_proj", "up_proj"]} | options))
    theirs = scramble(peft.get_peft_model(as_transformers(model), config)).eval()
    theirs.save_pretrained(folder.parent / "adapters")
    found, _ = load_model(folder.parent / "adapters")
    assert isinstance(found, AdaptedModel) == own
    assert torch.equal(logits(found), logits(theirs))
    save_model(found, tokenizer, folder.parent / "again")
    assert torch.equal(logits(load_model(folder.parent / "again")[0]), logits(theirs))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bottleneck"])
def test_peft_reads_adapters(kind: str, folder: Path) -> None:
    model, tokenizer = load_model(folder)
    ours = scramble(KINDS[kind](model))
    save_model(ours, tokenizer, folder.parent / "adapters")
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(folder.parent / "adapters")
    assert torch.equal(logits(theirs), logits(ours))


def test_peft_has_no_bottlenecks() -> None:
    with pytest.raises(ValueError, match="peft has no bottlenecks"):
        as_peft(add_bottleneck(build("llama"), 2))


# Sizes


def on_paper(config: Any, add: Callable[[Any], Any]) -> int:
    """The number of trained weights of a model that has none in memory."""
    with torch.device("meta"):
        adapted = add(tf.AutoModelForCausalLM.from_config(config))
    return sum(weight.numel() for weight in trained(adapted).values())


def gpt_neo(width: int, layers: int) -> Any:
    """A GPT of this size whose queries and values have matrices of their own, as papers count them."""
    heads = {"attention_types": [[["global"], layers]], "num_heads": 16}
    return tf.GPTNeoConfig(hidden_size=width, num_layers=layers, **heads)


@pytest.mark.parametrize(
    ("config", "add", "published"),
    [
        # Hugging Face's GPT-2 has one matrix for queries, keys and values; an adapter of it happens to be as large.
        (tf.GPT2Config(n_embd=1024, n_layer=24, n_head=16), lambda m: add_lora(m, 4, 32, ["c_attn"]), 393_216),
        (gpt_neo(1024, 24), lambda m: add_lora(m, 4, 32, ["q_proj", "v_proj"]), 393_216),
        (tf.RobertaConfig(is_decoder=True), lambda m: add_lora(m, 8, 8, ["query", "value"]), 294_912),
        (gpt_neo(12_288, 96), lambda m: add_lora(m, 1, 1, ["q_proj", "v_proj"]), 4_718_592),
        (gpt_neo(12_288, 96), lambda m: add_bottleneck(m, 1), 7_078_080),
    ],
    ids=["GPT-2 M", "GPT-2 M, own matrices", "RoBERTa-base", "GPT-3", "GPT-3, bottleneck"],
)
def test_the_published_number_of_parameters(config: Any, add: Callable[[Any], Any], published: int) -> None:
    """Hu et al. (2021), tables 2, 3 and 4: 0.35 M, 0.3 M, 4.7 M and 7.1 M."""
    assert on_paper(config, add) == published


@pytest.mark.parametrize(
    ("add", "count"),
    [
        (lambda m: add_prefix(m, 5), 5 * 24 * 2 * 1024),  # n · layers · keys and values · D
        (lambda m: add_prompt(m, 5), 5 * 1024),
        (add_ia3, 24 * (3 * 1024 + 4 * 1024)),  # one matrix makes queries, keys and values
    ],
)
def test_the_number_of_parameters_of_the_others(add: Callable[[Any], Any], count: int) -> None:
    assert on_paper(tf.GPT2Config(n_embd=1024, n_layer=24, n_head=16), add) == count


# What does not fit


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (lambda m: add_lora(m, 0, 4.0), "rank must be at least 1, not 0"),
        (lambda m: add_lora(m, 2, 0.0), "alpha must be above 0"),
        (lambda m: add_lora(m, 2, 4, ["query"]), "targets must be among .*, or all-linear; not 'query'"),
        (lambda m: add_lora(m, 2, 4, ["lm_head"]), "not 'lm_head'"),
        (lambda m: add_lora(m, 2, 4, []), "not ''"),
        (lambda m: add_bottleneck(m, 0), "rank must be at least 1"),
        (lambda m: add_prompt(m, 0), "tokens must be at least 1"),
        (lambda m: add_prefix(m, 64), "64 learned tokens leave none of the model's 64 positions"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(add: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        add(build("llama"))


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_upon_adapters_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="has adapters already, which go on learning: leave out --policy"):
        KINDS[kind](add_lora(build("llama"), 2, 4))


def test_blocks_without_an_mlp_of_linear_layers_are_refused() -> None:
    config = tf.MixtralConfig(**{**SIZES, "head_dim": 6}, num_local_experts=4)
    model = tf.MixtralForCausalLM(config)
    for add in (lambda m: add_bottleneck(m, 2), add_ia3):
        with pytest.raises(ValueError, match="MixtralForCausalLM are not an attention and an MLP of linear layers"):
            add(model)


# The reference


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_reference_is_the_model_as_it_was_without_a_second_base(kind: str | None) -> None:
    model = build("llama") if kind is None else scramble(KINDS[kind](build("llama")))
    own = trained(model)
    before = logits(model)
    reference = Reference(model)
    assert sum(value.numel() for value in reference.values) == sum(weight.numel() for weight in own.values())
    base = {name: weight.data_ptr() for name, weight in model.named_parameters() if not weight.requires_grad}
    addresses = {name: weight.data_ptr() for name, weight in own.items()}
    with torch.no_grad():
        for weight in own.values():
            weight.add_(0.05)
    after = logits(model)
    assert (after - before).abs().max() > 0.01
    with reference.model() as past:
        assert torch.equal(logits(past), before)
        assert all(dict(past.named_parameters())[name].data_ptr() == address for name, address in base.items())
    assert torch.equal(logits(model), after)
    assert {name: weight.data_ptr() for name, weight in trained(model).items()} == addresses
    with pytest.raises(RuntimeError, match="stop"), reference.model():
        raise RuntimeError("stop")
    assert torch.equal(logits(model), after)


# On disk

VOCABULARY = Vocabulary.of("0123456789+=")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tiny model."""
    model = tiny_model(len(VOCABULARY), width=16, layers=2, heads=2, positions=64)
    save_model(model, character_tokenizer(VOCABULARY), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_saved_alone_and_are_a_model_again(kind: str, folder: Path) -> None:
    model, tokenizer = load_model(folder)
    adapted = scramble(KINDS[kind](model))
    save_model(adapted, tokenizer, folder.parent / "adapters")
    files = {file.name for file in (folder.parent / "adapters").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    assert "model.safetensors" not in files
    assert {Path(name).suffix for name in files} == {".json", ".safetensors"}
    found, _ = load_model(folder.parent / "adapters")
    assert torch.equal(logits(found), logits(adapted))
    assert trained(found).keys() == trained(adapted).keys()
    fresh = KINDS[kind](load_model(folder)[0])
    read_weights(fresh, folder.parent / "adapters")
    assert torch.equal(logits(fresh), logits(adapted))
    save_model(found, tokenizer, folder.parent / "again")
    assert torch.equal(logits(load_model(folder.parent / "again")[0]), logits(adapted))


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("lora", {"peft_type": "LOHA"}, "its adapters are LOHA, not among LORA"),
        ("lora", {"megatron_config": {"a": 1}, "megatron_core": "code"}, "which is not read"),
        ("prompt", {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "a"}, "which is not read"),
        ("prefix", {"prefix_projection": True}, "which is not read"),
    ],
)
def test_what_adapters_would_import_or_download_is_refused(
    kind: str, changes: dict[str, Any], words: str, folder: Path
) -> None:
    model, tokenizer = load_model(folder)
    save_model(KINDS[kind](model), tokenizer, folder.parent / "adapters")
    file = folder.parent / "adapters" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=words):
        load_model(folder.parent / "adapters")


@pytest.mark.parametrize(
    ("kind", "sizes", "words"),
    [
        ("lora", {"width": 32}, "its adapters are of other sizes: .* is .3, 16., not .3, 32."),
        ("lora", {"layers": 3}, "its adapters are of other layers"),
        ("prompt", {"width": 32}, "its adapters are of a model of other sizes: token_dim 16, not 32"),
        ("prompt", {"positions": 3}, "3 learned tokens leave none of the model's 3 positions"),
        ("prefix", {"width": 32}, "its adapters are of a model of other sizes: token_dim 16, not 32"),
        (
            "prefix",
            {"width": 32, "heads": 4},
            "its adapters are of a model of other sizes: num_attention_heads 2, not 4",
        ),
        ("prefix", {"layers": 1}, "its adapters are of a model of other sizes: num_layers 2, not 1"),
        ("prefix", {"layers": 3}, "its adapters are of a model of other sizes: num_layers 2, not 3"),
    ],
)
def test_adapters_to_a_model_of_other_sizes_are_refused(
    kind: str, sizes: dict[str, int], words: str, folder: Path
) -> None:
    model, tokenizer = load_model(folder)
    save_model(KINDS[kind](model), tokenizer, folder.parent / "adapters")
    other: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2, "positions": 64} | sizes
    save_model(tiny_model(len(VOCABULARY), **other), tokenizer, folder.parent / "other")
    file = folder.parent / "adapters" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "../other"}))
    with pytest.raises(ValueError, match=words):
        load_model(folder.parent / "adapters")


def test_adapters_to_adapters_are_refused(folder: Path) -> None:
    model, tokenizer = load_model(folder)
    save_model(add_lora(model, 2, 4), tokenizer, folder.parent / "adapters")
    save_model(load_model(folder.parent / "adapters")[0], tokenizer, folder.parent / "second")
    file = folder.parent / "second" / "adapter_config.json"
    nested = json.loads(file.read_text()) | {"base_model_name_or_path": str(folder.parent / "adapters")}
    file.write_text(json.dumps(nested))
    with pytest.raises(ValueError, match="which holds adapters itself"):
        load_model(folder.parent / "second")
