"""A language model that sees, as a policy: it is shown pictures, and answers in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gridzero.llm_rl.models.causal import unwrapped
from gridzero.llm_rl.models.image_families import image_family
from gridzero.llm_rl.models.image_text import seeing_model, vision_parameters
from gridzero.llm_rl.models.peft import Reference, is_adapted
from gridzero.llm_rl.models.pretrained import load_image_text_model, with_adapters
from gridzero.llm_rl.models.tokenizer import known_tokens
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy


class VisionLanguagePolicy(LanguagePolicy):
    """An image-text model that converses with environments of images and text.

    It is a :class:`LanguagePolicy` of the language model inside, to which pictures are tokens like any others, but that
    they are never drawn. All weights learn, the vision tower's too; with adapters only those, of the language model.

    Args:
        model: an image-text model of Hugging Face's transformers.
        tokenizer: its tokenizer.
        options: see :class:`LanguageOptions`.
        rest: of :class:`LanguagePolicy`.

    Attributes:
        whole: the image-text model.
        pictures: those that it has been shown.

    Source: Kimi Team (2025), Kimi-VL technical report, section 2.
    """

    parallel = False

    def __init__(self, model: Any, tokenizer: Any, options: LanguageOptions, **rest: Any) -> None:
        if options.decoder == "vllm":
            raise ValueError("vllm is for models that read text alone; leave out --policy.decoder")
        family = image_family(model)
        if family.types is not None and options.peft in ("prefix", "prompt"):
            kind = model.config.model_type
            raise ValueError(f"a {kind} reads no learned {options.peft}; --policy.peft lora, ia3 or bottleneck")
        seeing = seeing_model(model)
        if getattr(model, "adapters", None) is not None:
            seeing = with_adapters(seeing, model.adapters)
        super().__init__(seeing, tokenizer, options, **rest)
        self.whole, self.pictures = model, seeing.pictures
        begin, end = (known_tokens(tokenizer, marks) for marks in (family.begin, family.end))
        self.renderer.see = lambda picture: [*begin, *seeing.pictures.tokens(picture), *end]
        self.renderer.placeholder = family.placeholder
        if is_adapted(self.model):
            for parameter in vision_parameters(model):
                parameter.requires_grad_(False)

    @staticmethod
    def read(path: str, *, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
        """The image-text model at a path, and its tokenizer."""
        return load_image_text_model(path, dtype=dtype, device=device)

    def trained(self) -> list[nn.Parameter]:
        """The parameters that learning changes, the vision tower's among them."""
        vision = [parameter for parameter in vision_parameters(self.whole) if parameter.requires_grad]
        return [*dict.fromkeys([*super().trained(), *vision])]  # they may be of one model

    @torch.no_grad()
    def attention(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """How much the last of some tokens looks at the parts of the last picture: a mean over layers and heads.

        Args:
            tokens: of a conversation, of which a picture is part.

        Returns:
            (rows, columns) of the picture's parts, shares of all that it looks at.
        """
        causal = unwrapped(self.model)
        before = causal.config.get_text_config(decoder=True)._attn_implementation
        causal.set_attn_implementation("eager")  # the others keep no weights
        try:
            given = torch.tensor([[*tokens]], device=self.device)
            found = self.model(input_ids=given, output_attentions=True, use_cache=False).attentions
        finally:
            causal.set_attn_implementation(before)
        seen = (given[0] >= self.pictures.first).nonzero().squeeze(-1)[-self.pictures.parts :].to(self.device)
        shares = torch.stack([layer[0, :, -1, -given.shape[1] :][:, seen].float().mean(0) for layer in found]).mean(0)
        rows, columns = self.pictures.grid
        return np.asarray(shares.cpu().double().numpy()).reshape(rows, columns)

    def as_reference(self) -> Reference:
        """The model as it is now: a copy of the weights that learn, the vision tower's among them."""
        return Reference(self.model, vision_parameters(self.whole))

    @property
    def saved(self) -> Any:
        """The image-text model; with adapters, the language model that has them."""
        return self.model if is_adapted(self.model) else self.whole
