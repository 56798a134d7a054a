import importlib
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.models.pretrained import save_model


@pytest.fixture(scope="module", params=["1", "0"], ids=["compiled", "not compiled"])
def with_and_without_kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of a module with the compiled loops and without; for a module, as Hypothesis wants it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cpu_kernels.VARIABLE, request.param)
        yield


# Tiny image-text models of the families that are known, with random weights, as folders in Hugging Face's format.

SPECIAL = ["<pad>", "<eos>", "<image>", "<video>", "<begin>", "<end>", "<global-img>", "<fake_token_around_image>"]
SPECIAL += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<start_of_image>", "<end_of_image>"]
SPECIAL += ["<img>", "</img>", "<IMG_CONTEXT>", "<|image_start|>", "<|image_end|>"]
NUMBERS = {token: number for number, token in enumerate([*SPECIAL, *string.printable])}
TEXT: dict[str, Any] = {
    "vocab_size": len(NUMBERS),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT: dict[str, Any] = {**VISION, "image_size": 16, "patch_size": 4}
QWEN: dict[str, Any] = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 4}
QWEN |= {"out_hidden_size": 32, "spatial_merge_size": 2, "temporal_patch_size": 2}
OF_QWEN = {"image_token_id": NUMBERS["<|image_pad|>"], "video_token_id": 3, "vision_start_token_id": 8}
OF_QWEN |= {"vision_end_token_id": 9}
SQUARE = {"height": 16, "width": 16}
IMAGE = {"image_token_id": NUMBERS["<image>"]}


def _llava(vision: Any, **settings: Any) -> Any:
    config = tf.LlavaConfig(vision_config=vision, text_config=tf.LlamaConfig(**TEXT, head_dim=8), **IMAGE, **settings)
    return tf.LlavaForConditionalGeneration(config)


def _gemma() -> Any:
    text = tf.Gemma3TextConfig(**TEXT, head_dim=8, sliding_window=12)
    vision = tf.SiglipVisionConfig(**VIT, vision_use_head=False)
    marks = {"boi_token_index": NUMBERS["<start_of_image>"], "eoi_token_index": NUMBERS["<end_of_image>"]}
    config = tf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **IMAGE, **marks)
    return tf.Gemma3ForConditionalGeneration(config)


def _intern() -> Any:
    vision = {**VISION, "image_size": (16, 16), "patch_size": (4, 4), "norm_type": "layer_norm"}
    config = tf.InternVLConfig(
        text_config=tf.Qwen2Config(**TEXT), vision_config=vision, image_token_id=NUMBERS["<IMG_CONTEXT>"]
    )
    return tf.InternVLForConditionalGeneration(config)


def _lfm() -> Any:
    text = tf.Lfm2Config(**TEXT, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
    vision = tf.Siglip2VisionConfig(**VISION, patch_size=4, num_patches=16, vision_use_head=False)
    sizes = {"downsample_factor": 2, "projector_hidden_size": 32}
    return tf.Lfm2VlForConditionalGeneration(tf.Lfm2VlConfig(text_config=text, vision_config=vision, **IMAGE, **sizes))


def _idefics(kind: str) -> Any:
    sizes = {"scale_factor": 2, "pad_token_id": 0}
    config = getattr(tf, f"{kind}Config")(
        text_config=tf.LlamaConfig(**TEXT, head_dim=8), vision_config=VIT, **IMAGE, **sizes
    )
    return getattr(tf, f"{kind}ForConditionalGeneration")(config)


def _processor(module: str, name: str, **settings: Any) -> Any:
    found = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(found, f"{name}ImageProcessorPil")(**settings)


def _qwen_processor() -> Any:
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    return _processor("qwen2_vl", "Qwen2VL", **sizes, size={"shortest_edge": 64, "longest_edge": 4096})


def _idefics_processor(module: str, name: str) -> Any:
    return _processor(module, name, size={"longest_edge": 16}, max_image_size={"longest_edge": 16})


SEEING: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "llava, clip": (
        lambda: _llava(tf.CLIPVisionConfig(**VIT, projection_dim=16)),
        lambda: _processor("clip", "CLIP", size={"shortest_edge": 16}, crop_size=SQUARE),
    ),
    "llava, siglip": (
        lambda: _llava(tf.SiglipVisionConfig(**VIT), vision_feature_layer=-1, vision_feature_select_strategy="full"),
        lambda: _processor("siglip", "Siglip", size=SQUARE),
    ),
    "smolvlm": (lambda: _idefics("SmolVLM"), lambda: _idefics_processor("smolvlm", "SmolVLM")),
    "idefics3": (lambda: _idefics("Idefics3"), lambda: _idefics_processor("idefics3", "Idefics3")),
    "internvl": (_intern, lambda: _processor("got_ocr2", "GotOcr2", size=SQUARE)),
    "lfm2-vl": (_lfm, lambda: None),
    "qwen2.5-vl": (
        lambda: tf.Qwen2_5_VLForConditionalGeneration(
            tf.Qwen2_5_VLConfig(
                text_config=TEXT | MROPE,
                vision_config={**QWEN, "window_size": 16, "fullatt_block_indexes": [1]},
                **OF_QWEN,
            )
        ),
        _qwen_processor,
    ),
    "qwen3-vl": (
        lambda: tf.Qwen3VLForConditionalGeneration(
            tf.Qwen3VLConfig(
                text_config=TEXT | MROPE | {"head_dim": 8},
                vision_config={**QWEN, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]},
                **OF_QWEN,
            )
        ),
        _qwen_processor,
    ),
    "gemma3": (_gemma, lambda: _processor("gemma3", "Gemma3", size=SQUARE)),
}
LFM_SETTINGS = {"encoder_patch_size": 4, "min_image_tokens": 2, "max_image_tokens": 16}


ALIKE = ("llava, siglip", "idefics3", "internvl")  # to others


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in SEEING])
def seeing(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes an image-text model of each family, always with the same weights, and with its image processor."""

    def make() -> Any:
        model, processor = SEEING[request.param]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = model().eval()
        for weight in made.parameters():
            if not weight.any():  # at first, which would hide what it does
                torch.nn.init.normal_(weight, std=0.02, generator=torch.Generator().manual_seed(1))
        made.image_processor = processor()
        made.image_settings = LFM_SETTINGS if made.image_processor is None else made.image_processor.to_dict()
        return made

    return make


def character_tokenizer(template: str | None = None, **marks: str) -> Any:
    """A tokenizer of characters and special tokens."""
    tokenizer = Tokenizer(models.WordLevel(NUMBERS))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    made = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", extra_special_tokens=marks
    )
    made.add_special_tokens({"additional_special_tokens": SPECIAL[2:]}, replace_extra_special_tokens=False)
    made.chat_template = template
    return made


@pytest.fixture
def seeing_tokenizer() -> Callable[..., Any]:
    """Makes a tokenizer of characters, with the special tokens of all families, and a chat template if it is given."""
    return character_tokenizer


@pytest.fixture
def seeing_folder(seeing: Callable[[], Any], tmp_path: Path) -> str:
    """A folder of a model of each family, in Hugging Face's format."""
    save_model(seeing(), character_tokenizer(), tmp_path / "seeing")
    return str(tmp_path / "seeing")
