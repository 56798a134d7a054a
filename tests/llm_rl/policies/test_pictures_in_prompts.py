"""Pictures stand in prompts where the model's own processor puts them, marked as it marks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transformers as tf
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import ProcessorMixin

from gridzero.llm_rl.models.image_families import image_family
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.vision_language_policy import VisionLanguagePolicy

PICTURE = np.random.default_rng(0).integers(256, size=(16, 24, 3), dtype=np.uint8)
TEMPLATE = """{% for one in messages %}{{ one['role'] + ': ' }}{% if one['content'] is string %}{{ one['content'] }}
{%- else %}{% for part in one['content'] %}{{ 'PLACE' if part['type'] == 'image' else part['text'] }}{% endfor %}
{%- endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""
WITHOUT_PICTURES = """{% for one in messages %}{{ one['role'] + ': ' + one['content'] + '\n' }}{% endfor %}"""
MARKS: dict[str, dict[str, str]] = {
    "gemma3": {"image_token": "<image>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "qwen2_5_vl": {"image_token": "<|image_pad|>", "video_token": "<video>"},
    "qwen3_vl": {"image_token": "<|image_pad|>", "video_token": "<video>"},
}


def processor(model: Any, tokenizer: Any) -> Any:
    """Transformers' processor of texts and pictures; those of videos need torchvision, and are left out."""
    images, kind = model.image_processor, model.config.model_type
    if kind == "llava":
        clip = model.config.vision_config.model_type == "clip_vision_model"
        strategy = model.config.vision_feature_select_strategy
        extra = {"num_additional_image_tokens": int(clip), "vision_feature_select_strategy": strategy}
        return tf.LlavaProcessor(images, tokenizer, patch_size=4, **extra)
    if kind == "gemma3":
        return tf.Gemma3Processor(images, tokenizer, image_seq_length=4)
    if kind == "idefics3":
        return tf.Idefics3Processor(images, tokenizer, image_seq_len=4)
    if kind == "smolvlm":
        return tf.SmolVLMProcessor(images, tokenizer, None, image_seq_len=4)
    if kind == "internvl":
        return tf.InternVLProcessor(images, tokenizer, None, image_seq_length=4)
    return {"qwen2_5_vl": tf.Qwen2_5_VLProcessor, "qwen3_vl": tf.Qwen3VLProcessor}[kind](images, tokenizer, None)


def prompt(policy: VisionLanguagePolicy, text: str) -> list[int]:
    """The tokens of a prompt, those of a picture as the model has them."""
    first, own = policy.model.pictures.first, policy.whole.config.image_token_id
    return [own if token >= first else token for token in policy.renderer.prompt(text, PICTURE)]


def test_prompts_are_those_of_the_models_own_processor(
    seeing: Callable[[], Any], seeing_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeing()
    family, kind = image_family(model), model.config.model_type
    tokenizer = seeing_tokenizer(TEMPLATE.replace("PLACE", family.placeholder), **MARKS.get(kind, {}))
    found = prompt(VisionLanguagePolicy(model, tokenizer, LanguageOptions(chat="on"), limit=8), "go?\n")
    if kind == "lfm2_vl":  # whose processor needs torchvision, and writes this
        marked = "user: <|image_start|>" + "<image>" * 6 + "<|image_end|>go?\nassistant: "
        assert tokenizer.decode(found) == marked
        return
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)  # asks for torchvision
    monkeypatch.setattr(processing_smolvlm, "num2words", str)  # for videos
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "go?"}]}
    text = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    whole = {"internvl": {"crop_to_patches": False}}
    whole |= {name: {"do_image_splitting": False} for name in ("idefics3", "smolvlm")}
    wanted = processor(model, tokenizer)(
        text=text, images=[PICTURE], input_data_format="channels_last", **whole.get(kind, {})
    )
    assert found == list(wanted["input_ids"][0])


@pytest.mark.parametrize("seeing", ["qwen3-vl"], indirect=True)
def test_a_picture_has_a_place_without_a_templates_help(seeing: Callable[[], Any], seeing_tokenizer: Any) -> None:
    picture = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>"
    for template, text in ((None, f"{picture}go?"), (WITHOUT_PICTURES, f"user: {picture}go?\n")):
        tokenizer = seeing_tokenizer(template)
        chat = "off" if template is None else "on"
        policy = VisionLanguagePolicy(seeing(), tokenizer, LanguageOptions(chat=chat), limit=8)
        assert tokenizer.decode(prompt(policy, "go?")) == text
    reply = policy.renderer.reply("Now?", PICTURE)
    first = policy.model.pictures.first
    assert tokenizer.decode([token for token in reply if token < first]) == (
        "\nuser: <|vision_start|><|vision_end|>Now?\n"
    )
    assert len([token for token in reply if token >= first]) == 6
