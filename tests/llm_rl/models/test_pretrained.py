"""Language models on disk: what is written is read back, and what must not be read is refused in a line."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.models.causal import seeded, tiny_model
from gridzero.llm_rl.models.llama_files import as_transformers
from gridzero.llm_rl.models.peft import add_lora
from gridzero.llm_rl.models.pretrained import load_model, read_weights, save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer

VOCABULARY = Vocabulary.of("0123456789+=\n")


def tiny(seed: int = 0, **options: Any) -> Any:
    sizes = {"width": 32, "layers": 2, "heads": 4, "positions": 32} | options
    return tiny_model(len(VOCABULARY), seed=seed, **sizes)


def scramble(adapted: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=generator)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(12).view(2, 6)).logits  # type: ignore[no-any-return]  # the models are Any


def same(model: Any, other: Any) -> bool:
    one, two = model.state_dict(), other.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tiny(), character_tokenizer(VOCABULARY), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_come_back_bit_for_bit(tmp_path: Path, architecture: str, tied: bool, dtype: torch.dtype) -> None:
    model = tiny(architecture=architecture, tied=tied).to(dtype)
    save_model(model, character_tokenizer(VOCABULARY), tmp_path / "model")
    found, tokenizer = load_model(tmp_path / "model")
    assert found.dtype == dtype
    assert same(found, model)
    assert not found.training
    assert tokenizer.encode("1+2=") == VOCABULARY.encode("1+2=")
    assert {file.suffix for file in (tmp_path / "model").iterdir()} == {".safetensors", ".json"}


def test_the_format_is_hugging_face_s_own(folder: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert torch.equal(logits(model), logits(tiny()))


def test_weights_can_be_asked_for_in_another_precision(folder: Path) -> None:
    assert load_model(str(folder), dtype=torch.bfloat16, device="cpu")[0].dtype == torch.bfloat16


def test_a_folder_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(ValueError, match="exists"):
        save_model(tiny(), character_tokenizer(VOCABULARY), folder)


def test_weights_are_read_into_a_model(folder: Path) -> None:
    model = tiny(seed=7)
    assert not same(model, tiny())
    read_weights(model, folder)
    assert same(model, tiny())
    for other in (tiny(width=64), tiny(layers=3), tiny(architecture="qwen3")):
        with pytest.raises(ValueError, match="cannot be read"):
            read_weights(other, folder)


@pytest.mark.parametrize("beside", [False, True])
def test_adapters_are_saved_alone_and_found_again_with_their_base(folder: Path, beside: bool) -> None:
    model, tokenizer = load_model(folder)
    adapted = add_lora(model, 2, 4, seed=1)
    scramble(adapted)
    save_model(adapted, tokenizer, folder.parent / "adapters")
    names = {file.name for file in (folder.parent / "adapters").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "model.safetensors" not in names
    if beside:
        config = json.loads((folder.parent / "adapters" / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "../model"
        (folder.parent / "adapters" / "adapter_config.json").write_text(json.dumps(config))
    found, _ = load_model(folder.parent / "adapters")
    assert torch.equal(logits(found), logits(adapted))
    trained = {name for name, weight in found.named_parameters() if weight.requires_grad}
    assert trained == {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    fresh = add_lora(load_model(folder)[0], 2, 4, seed=9)
    read_weights(fresh, folder.parent / "adapters")
    assert torch.equal(logits(fresh), logits(adapted))
    with pytest.raises(ValueError, match="its adapters are of other layers"):
        read_weights(add_lora(load_model(folder)[0], 2, 4, ["q_proj"]), folder.parent / "adapters")
    with pytest.raises(ValueError, match="cannot be read"):
        read_weights(add_lora(load_model(folder)[0], 3, 4), folder.parent / "adapters")


def test_adapters_to_a_base_model_of_ours_follow_it_where_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDZERO_CACHE", str(tmp_path / "cache"))
    save_model(tiny(), character_tokenizer(VOCABULARY), tmp_path / "cache" / "tiny")
    model, tokenizer = load_model(tmp_path / "cache" / "tiny")
    adapted = add_lora(model, 2, 4)
    scramble(adapted)
    save_model(adapted, tokenizer, tmp_path / "adapters")
    (tmp_path / "cache").rename(tmp_path / "moved")
    monkeypatch.setenv("GRIDZERO_CACHE", str(tmp_path / "moved"))
    assert torch.equal(logits(load_model(tmp_path / "adapters")[0]), logits(adapted))


def test_adapters_without_their_base_are_refused(folder: Path) -> None:
    model, tokenizer = load_model(folder)
    save_model(add_lora(model, 2, 4), tokenizer, folder.parent / "adapters")
    folder.rename(folder.parent / "moved")
    with pytest.raises(ValueError, match=r"holds adapters to .*model, which is not here"):
        load_model(folder.parent / "adapters")


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    """Where the library has the classes itself, it takes its own."""
    (folder / "own.py").write_text("raise SystemExit('code of the model was run')")
    for name, classes in (
        ("config.json", {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}),
    ):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"auto_map": classes}))
    model, tokenizer = load_model(folder)
    assert same(model, tiny())
    assert tokenizer.encode("1+2=") == VOCABULARY.encode("1+2=")


def _cut(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny().state_dict(), folder / "pytorch_model.bin")


def _configured(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


def _with_code(folder: Path) -> None:
    (folder / "modeling_own.py").write_text("raise SystemExit('code of the model was run')")
    names = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.Own"}
    _configured(model_type="own", architectures=["Own"], auto_map=names)(folder)


def _without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _not_a_number(folder: Path) -> None:
    model = tiny()
    model.model.norm.weight.data[3] = float("nan")
    model.save_pretrained(folder)


def _encoder(folder: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with seeded(0):
        model = transformers.BertLMHeadModel(transformers.BertConfig(vocab_size=30, **sizes))
    model.save_pretrained(folder)


def _sequence_to_sequence(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"it has no \*.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "cannot be read"),
        (_cut, "cannot be read"),
        (_pickled, "its weights are pickles, which are never read"),
        (_configured(num_hidden_layers=3), "it lacks weights: model.layers.2"),
        (_configured(hidden_size=64), "cannot be read"),
        (_configured(model_type="nonesuch"), "cannot be read"),
        (_with_code, "cannot be read"),
        (_configured(_attn_implementation="someone/kernels", attn_implementation="someone/kernels"), "code of its own"),
        (_without_tokenizer, "it has no tokenizer"),
        (lambda folder: (folder / "generation_config.json").write_text("[]"), "is not an object"),
        (_not_a_number, "its weights are not finite: model.norm.weight"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be read"),
        (_encoder, "BertLMHeadModel is not a causal language model"),
        (_sequence_to_sequence, "a t5 is not a causal language model"),
    ],
)
def test_what_is_no_model_is_refused_in_a_line(folder: Path, spoil: Any, words: str) -> None:
    spoil(folder)
    with pytest.raises(ValueError, match=words) as raised:
        load_model(folder)
    assert "\n" not in str(raised.value)


def test_what_is_no_folder_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no model at .*nowhere, and no such run: give a run, a folder"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"neither a folder nor a .gguf file"):
        load_model(tmp_path / "model.bin")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match=r"model.gguf"):
        load_model(tmp_path / "model.gguf")
    with pytest.raises(ValueError, match="there is no model at"):
        load_model("gpt2")


def test_several_files_of_weights_are_one_model(tmp_path: Path) -> None:
    model = tiny()
    as_transformers(model).save_pretrained(tmp_path / "model", max_shard_size="20KB")
    character_tokenizer(VOCABULARY).save_pretrained(tmp_path / "model")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    assert same(load_model(tmp_path / "model")[0], model)


def write_gguf(path: Path, model: Any, tokens: list[str], quantised: bool) -> None:
    """A Qwen2 model as llama.cpp has it."""
    import gguf

    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["1 2"])
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in state.items():
        theirs, array = names.get_name(name, (".weight", ".bias")), tensor.numpy()
        if quantised and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(theirs, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(theirs, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUF_TOKENS = ["<|end|>", *"0123456789+=abcdefghijk", "12"]


def gguf_model() -> Any:
    tokens = GGUF_TOKENS
    config = transformers.Qwen2Config(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = transformers.Qwen2ForCausalLM(config).eval()
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.mark.parametrize("quantised", [False, True])
def test_a_gguf_file_is_read(tmp_path: Path, quantised: bool, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("GRIDZERO_CACHE", str(tmp_path / "cache"))
    model = gguf_model()
    write_gguf(tmp_path / "model.gguf", model, GGUF_TOKENS, quantised)
    found, tokenizer = load_model(tmp_path / "model.gguf", dtype=torch.float32)
    for name, weight in model.state_dict().items():
        # Q8_0 keeps a whole number up to 127 and, in half precision, a scale for each 32 weights.
        step = weight.abs().max() / 127 if quantised and weight.ndim == 2 else 0.0
        assert (found.state_dict()[name] - weight).abs().max() <= 0.55 * step
    if not quantised:
        torch.testing.assert_close(logits(found), logits(model))
    assert tokenizer.encode("12+3=") == [24, 11, 4, 12]
    assert tokenizer.decode([24, 11]) == "12+"
    assert capfd.readouterr().err.count("\n") == 1  # where it is kept, and no bars


def test_a_gguf_file_is_dequantised_once_and_adapters_to_it_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("GRIDZERO_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "model.gguf", gguf_model(), GGUF_TOKENS, True)
    first, tokenizer = load_model(tmp_path / "model.gguf", dtype=torch.float32)
    capfd.readouterr()
    monkeypatch.setattr("gguf.dequantize", lambda *arguments: pytest.fail("dequantised again"), raising=False)
    second, again = load_model(tmp_path / "model.gguf", dtype=torch.float32)
    assert same(first, second)
    assert capfd.readouterr().err == ""
    assert again.encode("12+3=") == tokenizer.encode("12+3=")
    assert again.eos_token_id == tokenizer.eos_token_id
    adapted = add_lora(second, 2, 4)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    save_model(adapted, again, tmp_path / "adapters")
    loaded, _ = load_model(tmp_path / "adapters", dtype=torch.float32)
    torch.testing.assert_close(logits(loaded), logits(adapted))


def test_a_gguf_file_without_its_library_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import modeling_gguf_pytorch_utils

    monkeypatch.setattr(modeling_gguf_pytorch_utils, "is_gguf_available", lambda: False)

    def text(string: bytes) -> bytes:
        return struct.pack("<Q", len(string)) + string

    entry = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry)
    with pytest.raises(ValueError, match="needs the package gguf"):
        load_model(tmp_path / "model.gguf")
