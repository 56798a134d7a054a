"""Families of image-text models: how pictures become the inputs of each, and how it marks them in a text.

Pixels are what the model's own image processor makes of a picture, without torchvision: the processors that need it are
written out here and in :mod:`~gridzero.llm_rl.models.vision_towers`. A picture is read whole, never as several crops.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gridzero.llm_rl.models.vision_towers import kimi_features

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class ImageFamily:
    """A family of image-text models, by the way in which it takes pictures.

    Attributes:
        inputs: of a model and pictures (U, H, W, 3) uint8, what the model's ``get_image_features`` takes.
        features: of a model and pictures, their embeddings (U, n, D), where there is a quicker way to them.
        placeholder: what the model's chat template writes in place of a picture.
        begin: what precedes the tokens of a picture, where the tokenizer knows it.
        end: what follows them.
        types: what the model calls the numbers that tell its picture's tokens from others, where positions or attention
            depend on them; None for models to which pictures are only embeddings.
    """

    inputs: Callable[[Any, Tensor], Inputs]
    features: Callable[[Any, Tensor], Tensor] | None = None
    placeholder: str = "<image>"
    begin: str = ""
    end: str = ""
    types: str | None = None


def image_family(model: Any) -> ImageFamily:
    """The family that an image-text model is of.

    Raises:
        ValueError: for a model of none that is known here.
    """
    kind = model.config.model_type
    if kind not in IMAGE_FAMILIES:
        known = ", ".join(IMAGE_FAMILIES)
        raise ValueError(f"a {kind} takes pictures in a way that is not known here; known are {known}")
    return IMAGE_FAMILIES[kind]


def takes_image_processor(model: Any) -> bool:
    """Whether pictures of such a model go through transformers' image processor."""
    inputs = image_family(model).inputs
    return getattr(inputs, "func", inputs) is processed and image_family(model).features is None


def image_features(model: Any, pictures: Tensor) -> Tensor:
    """Embeddings (U, n, D) of pictures (U, H, W, 3) uint8 among those of text, with gradients."""
    family = image_family(model)
    if family.features is not None:
        return family.features(model, pictures)
    found = model.model.get_image_features(**family.inputs(model, pictures), return_dict=True)
    return torch.stack(list(found.pooler_output))


def processed(model: Any, pictures: Tensor, *, nested: bool = False, **options: Any) -> Inputs:
    """What the model's own image processor makes of pictures.

    Args:
        model: with an ``image_processor``.
        pictures: (U, H, W, 3) uint8.
        nested: whether it takes a list of pictures for one text's.
        options: of the processor.

    Raises:
        ValueError: for a model without.
    """
    processor = getattr(model, "image_processor", None)
    if processor is None:
        raise ValueError("the model has no preprocessor_config.json, which says how it reads pictures")
    images: list[Any] = list(pictures.cpu().numpy())
    found = processor(
        images=[[image] for image in images] if nested else images,
        input_data_format="channels_last",
        return_tensors="pt",
        **options,
    )
    taken = inspect.signature(model.model.get_image_features).parameters
    return {name: value.to(pictures.device) for name, value in found.items() if name in taken}


def lfm2_inputs(model: Any, pictures: Tensor) -> Inputs:
    """Patches of pictures for LFM2-VL, whose processor needs torchvision.

    Pictures are resized, bilinearly, to sides that are multiples of two patches and to an allowed number of those.

    Args:
        model: whose ``image_settings`` are those of its processor.
        pictures: (U, H, W, 3) uint8.
    """
    settings = getattr(model, "image_settings", {})
    size = settings.get("encoder_patch_size", 16)
    side = size * settings.get("downsample_factor", 2)
    least, most = settings.get("min_image_tokens", 64) * side**2, settings.get("max_image_tokens", 256) * side**2
    _, height, width, _ = pictures.shape
    high, wide = (max(side, round(length / side) * side) for length in (height, width))
    if high * wide > most:
        scale = math.sqrt(height * width / most)
        high, wide = (max(side, math.floor(length / scale / side) * side) for length in (height, width))
    elif high * wide < least:
        scale = math.sqrt(least / (height * width))
        high, wide = (math.ceil(length * scale / side) * side for length in (height, width))
    images = pictures.permute(0, 3, 1, 2).float()
    images = functional.interpolate(images, (high, wide), mode="bilinear", antialias=True).round().clamp(0, 255)
    images = images / 127.5 - 1
    rows, columns = high // size, wide // size
    patches = images.view(len(images), 3, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": patches.reshape(len(images), rows * columns, -1),
        "pixel_attention_mask": torch.ones(len(images), rows * columns, dtype=torch.int32, device=images.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * len(images), device=images.device),
    }


def _qwen() -> ImageFamily:
    return ImageFamily(
        processed,
        placeholder="<|vision_start|><|image_pad|><|vision_end|>",
        begin="<|vision_start|>",
        end="<|vision_end|>",
        types="mm_token_type_ids",
    )


def _idefics() -> ImageFamily:
    return ImageFamily(
        partial(processed, nested=True, do_image_splitting=False),
        begin="<fake_token_around_image><global-img>",
        end="<fake_token_around_image>",
    )


IMAGE_FAMILIES: Mapping[str, ImageFamily] = {
    "kimi_k25": ImageFamily(
        processed,
        kimi_features,
        placeholder="<|media_begin|>image<|media_content|><|media_pad|><|media_end|>",
        begin="<|media_begin|>image<|media_content|>",
        end="<|media_end|>",
    ),
    "llava": ImageFamily(processed),
    "smolvlm": _idefics(),
    "idefics3": _idefics(),
    "internvl": ImageFamily(
        partial(processed, crop_to_patches=False), placeholder="<IMG_CONTEXT>", begin="<img>", end="</img>"
    ),
    "lfm2_vl": ImageFamily(lfm2_inputs, begin="<|image_start|>", end="<|image_end|>"),
    "qwen2_5_vl": _qwen(),
    "qwen3_vl": _qwen(),
    "gemma3": ImageFamily(
        processed,
        placeholder="<start_of_image>",
        begin="\n\n<start_of_image>",
        end="<end_of_image>\n\n",
        types="token_type_ids",
    ),
}
"""By the model's type."""
