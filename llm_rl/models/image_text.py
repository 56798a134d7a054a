"""Image-text models: a tiny one, and the language model inside of any, to which pictures are further tokens.

The language model of an image-text model is trained, decoded and scored as any other: its embedding knows tokens from V
on, each a part of a picture that it has been shown, and gives them what the vision tower makes of that picture, with
gradients. What comes before the output layer is the model's own; the output layer has only the V tokens of text, so
pictures are never drawn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gridzero.llm_rl.models.causal import Architecture, seeded, tiny_config
from gridzero.llm_rl.models.vision_towers import VISION_TOWERS

Picture = NDArray[np.uint8]
_REMEMBERED = 1 << 14


class SeeingEmbedding(nn.Embedding):
    """An embedding to which tokens from V on are parts of pictures.

    Equal pictures have equal tokens. The pictures shown last are remembered, 16,384 of them.

    Args:
        table: the embedding (V, D) of the tokens of text, whose weights it shares.
        encode: embeddings (U, n, D) of pictures (U, H, W, 3) uint8, n depending on their shape alone.
        count: n, of pictures of a shape (H, W).
    """

    def __init__(
        self, table: nn.Embedding, encode: Callable[[Tensor], Tensor], count: Callable[[tuple[int, int]], int]
    ) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, table.padding_idx, _weight=table.weight)
        self.weight = table.weight
        self._encode, self._count = encode, count
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
            self._shape = picture.shape
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
        n = self._count((self._shape[0], self._shape[1]))
        first = self.num_embeddings + number * n
        return list(range(first, first + n))

    def knows(self, token: int) -> bool:
        """Whether a token is of text, or of a picture that is remembered."""
        return token < self.num_embeddings or self._place(torch.tensor([token]))[0].item() in self._pictures

    def _place(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures that tokens are of, and which part of these."""
        assert self._shape is not None
        n = self._count((self._shape[0], self._shape[1]))
        return (tokens - self.num_embeddings) // n, (tokens - self.num_embeddings) % n

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings (…, D) of tokens (…)."""
        seen = tokens >= self.num_embeddings
        if not bool(seen.any()):
            return super().forward(tokens)
        numbers, parts = self._place(tokens[seen])
        # In the order in which they come, not of their numbers, which an interrupted run would count anew.
        order = {number: row for row, number in enumerate(dict.fromkeys(numbers.tolist()))}
        rows = torch.tensor([order[number] for number in numbers.tolist()], device=tokens.device)
        pictures = np.stack([self._pictures[number] for number in order])
        features = self._encode(torch.from_numpy(pictures).to(tokens.device))[rows, parts]
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
        width: D, of the residual streams of both parts.
        layers: of the language model; the vision transformer has two.
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
    if width % (4 * heads):
        raise ValueError(f"width must be a multiple of 4 · heads, not {width} with {heads} heads")
    settings: dict[str, Any] = dict(  # noqa: C408
        text_config=tiny_config(
            vocabulary_size, width=width, layers=layers, heads=heads, positions=positions, architecture=text
        ),
        vision_config={
            "patch_size": patch,
            "pos_emb_height": shape[0] // patch,
            "pos_emb_width": shape[1] // patch,
            "num_attention_heads": heads,
            "num_hidden_layers": 2,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "initializer_range": width**-0.5,
        },
        projection_hidden_size=width,
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


def language_model(model: Any) -> Any:
    """The language model inside of an image-text model, as a causal model that shares its modules.

    Its embedding is a :class:`SeeingEmbedding`.

    Raises:
        ValueError: for a model that uses pictures in other ways than as embeddings among those of text.
    """
    import transformers

    auto: Any = transformers.AutoModelForCausalLM
    config = model.config.get_text_config(decoder=True)
    inner = getattr(model.model, "language_model", None)
    if model.config.model_type not in VISION_TOWERS or inner is None:
        raise ValueError(f"a {model.config.model_type} takes pictures in a way that is not known here")
    with torch.device("meta"):
        causal = auto.from_config(config)
    setattr(causal, causal.base_model_prefix, inner)
    causal.set_output_embeddings(model.get_output_embeddings())
    tower = VISION_TOWERS[model.config.model_type]
    inner.set_input_embeddings(
        SeeingEmbedding(inner.get_input_embeddings(), partial(tower.features, model), partial(tower.count, model))
    )
    causal.name_or_path = model.name_or_path
    return causal.train(False)


def vision_parameters(model: Any) -> list[nn.Parameter]:
    """The weights of an image-text model that its language model does not have."""
    text = {id(parameter) for parameter in model.model.language_model.parameters()}
    head = model.get_output_embeddings()
    text |= {id(parameter) for parameter in head.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in text]
