"""Image-text models: a tiny one, and the language model inside of any, to which pictures are further tokens.

The language model of an image-text model is trained, decoded and scored as any other: its embedding knows tokens from V
on, each a part of a picture that it has been shown, and gives them what the vision tower makes of that picture, with
gradients. What comes before the output layer is the model's own; the output layer has only the V tokens of text, so
pictures are never drawn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.llm_rl.models.causal import Architecture, seeded, tiny_config, vocabulary_size
from gridzero.llm_rl.models.image_families import image_family, image_features

Picture = NDArray[np.uint8]
_REMEMBERED = 1 << 14


class Pictures:
    """The pictures that a model has been shown, all of one shape, and the tokens beyond its vocabulary of their parts.

    Equal pictures have equal tokens. The pictures shown last are remembered, 16,384 of them.

    Args:
        first: V, the number of tokens of text.
        measure: of a picture (1, H, W, 3), the number of its parts, and how many positions they take.
        own: tokens of text with which the model itself marks the parts of pictures.

    Attributes:
        first: V.
        own: see above; they are never drawn.
        parts: n, of each picture.
        spared: how many positions fewer than parts a picture takes.
    """

    def __init__(self, first: int, measure: Callable[[Tensor], tuple[int, int]], own: Sequence[int] = ()) -> None:
        self.first, self.own = first, tuple(token for token in own if token < first)
        self.parts = self.spared = 0
        self._measure = measure
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        self._pictures: dict[int, Picture] = {}
        self._shown = 0
        self._shape: tuple[int, ...] | None = None

    def tokens(self, picture: Picture) -> list[int]:
        """The tokens of a picture (H, W, 3), by rows of its parts.

        Raises:
            ValueError: for a picture of another shape than those before.
        """
        if self._shape is None:
            self.parts, positions = self._measure(torch.from_numpy(picture[np.newaxis].copy()))
            self.spared, self._shape = self.parts - positions, picture.shape
        if picture.shape != self._shape:
            raise ValueError(f"pictures have one shape, {self._shape}, not {picture.shape}")
        name = picture.tobytes()
        number = self._numbers.get(name)
        if number is None:
            number, self._shown = self._shown, self._shown + 1
            self._numbers[name] = number
            self._pictures[number] = picture.copy()
            if len(self._numbers) > _REMEMBERED:
                del self._pictures[self._numbers.popitem(last=False)[1]]
        else:
            self._numbers.move_to_end(name)
        first = self.first + number * self.parts
        return list(range(first, first + self.parts))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's parts; a single row where they do not lie like the picture's pixels."""
        height, width = (self._shape or (1, 1))[:2]
        rows = round((self.parts * height / width) ** 0.5)
        return (rows, self.parts // rows) if rows and self.parts % rows == 0 else (1, self.parts)

    def knows(self, token: int) -> bool:
        """Whether a token is of a picture that is remembered."""
        return token >= self.first and (token - self.first) // max(1, self.parts) in self._pictures

    def among(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the pictures among tokens (…), S of which are parts of pictures.

        Returns:
            The U different pictures, (U, H, W, 3), in the order in which they come; and of the S tokens, in their
            order, the picture's number among these, and the part.
        """
        seen = tokens[tokens >= self.first] - self.first
        numbers, parts = seen // self.parts, seen % self.parts
        # Not in the order of their numbers, which an interrupted run would count anew.
        order = {number: row for row, number in enumerate(dict.fromkeys(numbers.tolist()))}
        rows = torch.tensor([order[number] for number in numbers.tolist()], device=tokens.device)
        pictures = torch.from_numpy(np.stack([self._pictures[number] for number in order])).to(tokens.device)
        return pictures, rows, parts


class SeeingEmbedding(nn.Embedding):
    """An embedding to which tokens from V on are parts of pictures.

    Args:
        table: the embedding (V, D) of the tokens of text, whose weights it shares.
        pictures: that the model has been shown.
        encode: embeddings (U, n, D) of pictures (U, H, W, 3) uint8.
    """

    def __init__(self, table: nn.Embedding, pictures: Pictures, encode: Callable[[Tensor], Tensor]) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, table.padding_idx, _weight=table.weight)
        self.weight = table.weight
        self.pictures, self._encode = pictures, encode

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings (…, D) of tokens (…)."""
        seen = tokens >= self.pictures.first
        if not bool(seen.any()):
            return super().forward(tokens)
        pictures, rows, parts = self.pictures.among(tokens)
        features = self._encode(pictures)[rows, parts]
        text = super().forward(tokens.masked_fill(seen, 0))
        return text.masked_scatter(seen.unsqueeze(-1), features.to(text.dtype))


def tiny_image_text_model(
    vocabulary_size: int,
    shape: tuple[int, int, int],
    *,
    width: int,
    layers: int,
    heads: int,
    positions: int,
    patch: int,
    text: Architecture = "llama",
    seed: int = 0,
) -> Any:
    """A small image-text model of the classes of Kimi-VL, with random weights, in single precision.

    A vision transformer with 2D rotary positions (MoonViT) reads patches at the picture's own resolution; four that lie
    together become one token of the language model, by a projector of two layers.

    Args:
        vocabulary_size: V.
        shape: (H, W, 3), of the pictures it is meant for.
        width: D, of the language model's residual stream; the vision transformer's is half as wide.
        layers: of the language model; the vision transformer has one, which small pictures take least examples with.
        heads: of attention, in each layer.
        positions: the longest sequence it is meant for, in tokens, pictures included.
        patch: pixels of a patch's side.
        text: the architecture of the language model.
        seed: decides the weights.

    Raises:
        ValueError: for sizes that do not fit.

    Source: Kimi Team (2025), Kimi-VL technical report, section 2.1.
    """
    from transformers.models.kimi_k25 import Kimi_K25Config, Kimi_K25ForConditionalGeneration

    if shape[0] % (2 * patch) or shape[1] % (2 * patch):
        raise ValueError(f"pictures of {shape[0]} by {shape[1]} pixels are not made of patches of {2 * patch}")
    if width % (8 * heads):
        raise ValueError(f"width must be a multiple of 8 · heads, not {width} with {heads} heads")
    settings: dict[str, Any] = dict(  # noqa: C408
        text_config=tiny_config(
            vocabulary_size, width=width, layers=layers, heads=heads, positions=positions, architecture=text
        ).to_dict(),
        vision_config={
            "patch_size": patch,
            "pos_emb_height": shape[0] // patch,
            "pos_emb_width": shape[1] // patch,
            "num_attention_heads": heads,
            "num_hidden_layers": 1,
            "hidden_size": width // 2,
            "intermediate_size": width,
            "initializer_range": (width // 2) ** -0.5,
        },
        projection_hidden_size=width // 2,
        image_token_id=vocabulary_size,  # beyond the tokens of text, where they cannot be drawn
        video_token_id=vocabulary_size + 1,
        vision_start_token_id=vocabulary_size + 2,
        vision_end_token_id=vocabulary_size + 3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with seeded(seed):
        model = Kimi_K25ForConditionalGeneration(Kimi_K25Config(**settings))
        table = model.model.vision_tower.patch_embed.pos_emb.position_embeddings
        nn.init.normal_(table, std=0.02)  # transformers' 1 drowns what small models see
    return model.train(False)


def seeing_model(model: Any) -> Any:
    """An image-text model as a causal model to which tokens beyond the vocabulary are parts of pictures.

    Where pictures are only embeddings among those of text, it is the language model inside, with a
    :class:`SeeingEmbedding`, which is decoded and scored as fast as any. Else it is the model itself, whose forward
    pass is given the inputs that it expects, in place of such tokens. Its ``pictures`` are those it has been shown.

    Raises:
        ValueError: for a model that takes pictures in a way that is not known here.
    """
    family = image_family(model)
    first = vocabulary_size(model)
    own = [getattr(model.config, name, None) for name in ("image_token_id", "video_token_id")]
    pictures = Pictures(first, partial(_measure, model), [token for token in own if token is not None])
    causal = _language_model(model, pictures) if family.types is None else _whole(model, pictures)
    causal.pictures = pictures
    return causal.train(False)


def text_model(model: Any) -> Any:
    """The decoder of text inside of an image-text model, without its output layer."""
    return model.model.text_model if hasattr(model.model, "text_model") else model.model.language_model


def vision_parameters(model: Any) -> list[nn.Parameter]:
    """The weights of an image-text model that its language model does not have."""
    text = {id(parameter) for parameter in text_model(model).parameters()}
    text |= {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in text]


@torch.no_grad()
def _measure(model: Any, picture: Tensor) -> tuple[int, int]:
    """How many parts a picture (1, H, W, 3) has, and how many positions they take."""
    picture = picture.to(model.device)
    parts = image_features(model, picture).shape[1]
    grid = image_family(model).inputs(model, picture).get("image_grid_thw") if image_family(model).types else None
    if grid is None:
        return parts, parts
    # Rows and columns have positions of their own; the text goes on after the larger of them (M-RoPE).
    return parts, int(grid[0, 1:].max()) // int(model.config.vision_config.spatial_merge_size)


def _language_model(model: Any, pictures: Pictures) -> Any:
    """The language model inside, which shares its modules."""
    import transformers

    auto: Any = transformers.AutoModelForCausalLM
    inner = text_model(model)
    with torch.device("meta"):
        causal = auto.from_config(model.config.get_text_config(decoder=True))
    setattr(causal, causal.base_model_prefix, inner)
    causal.set_output_embeddings(model.get_output_embeddings())
    inner.set_input_embeddings(SeeingEmbedding(inner.get_input_embeddings(), pictures, partial(image_features, model)))
    causal.name_or_path = model.name_or_path
    return causal


def _whole(model: Any, pictures: Pictures) -> Any:
    """The model itself; a hook gives its forward pass its own inputs."""
    family = image_family(model)

    def own_inputs(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        tokens = given.get("input_ids")
        if tokens is None or not bool((tokens >= pictures.first).any()):
            return args, given
        seen = tokens >= pictures.first
        shown, rows, parts = pictures.among(tokens)
        order = rows[parts == 0]  # pictures one after the other, as often as they come
        inputs = family.inputs(model, shown)
        given = {**given, "input_ids": tokens.masked_fill(seen, model.config.image_token_id)}
        given["mm_encoder_outputs"] = {
            "image": _repeated(model.model.get_image_features(**inputs, return_dict=True), order)
        }
        given[str(family.types)] = seen.long()
        if "image_grid_thw" in inputs:  # of which the model makes positions itself
            given["image_grid_thw"] = inputs["image_grid_thw"][order]
            given["position_ids"] = None
        return args, given

    model.model.register_forward_pre_hook(own_inputs, with_kwargs=True)
    return model


def _repeated(found: Any, order: Tensor) -> Any:
    """A vision tower's outputs for these pictures, in this order."""

    def chosen(features: Any) -> Any:
        return features[order] if isinstance(features, Tensor) else [features[i] for i in order.tolist()]

    found.pooler_output = chosen(found.pooler_output)
    if getattr(found, "deepstack_features", None) is not None:
        found.deepstack_features = [chosen(layer) for layer in found.deepstack_features]
    return found
