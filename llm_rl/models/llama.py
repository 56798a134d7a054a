"""The Llama language model: what each of its layers computes.

Tokens become vectors, the residual stream, which each layer adds to twice: by attention, which looks at the tokens
before, and by an MLP, which treats each token for itself. The last layer's vectors are turned into logits.

It computes what ``LlamaForCausalLM`` of Hugging Face's transformers does, bit for bit and under the same names; that
one takes twice as long to import as torch. :func:`~gridzero.llm_rl.models.llama_files.as_transformers` makes the one
of the other.

Source: Touvron et al. (2023), LLaMA: Open and efficient foundation language models, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from gridzero.llm_rl.models.llama_config import CONFIG, LlamaConfig, write_json

GENERATION, WEIGHTS = "generation_config.json", "model.safetensors"


class RMSNorm(nn.Module):
    """Vectors divided by their root mean square, times a learned factor for each component: w · x / √(mean x² + ε).

    Source: Zhang and Sennrich (2019), Root mean square layer normalization, equation 4.
    """

    def __init__(self, size: int, epsilon: float, device: torch.device | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size, device=device))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, D), divided in single precision whatever theirs is."""
        exact = x.to(torch.float32)
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return self.weight * exact.to(x.dtype)


class RotaryEmbedding(nn.Module):
    """Angles by which queries and keys are turned, so that their products depend on how far apart they are.

    Components i and i + d/2 of a token at position t are turned as a pair, by the angle t · θ^(-2i/d).

    Source: Su et al. (2021), RoFormer, section 3.2.2.
    """

    def __init__(self, size: int, theta: float) -> None:
        super().__init__()
        frequencies = 1.0 / (theta ** (torch.arange(0, size, 2, dtype=torch.float) / size))
        self.inv_freq = nn.Buffer(frequencies, persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (…, d) at positions (…), each number twice, in the precision of x."""
        angles = positions[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """The halves of queries or keys (…, d) turned by angles whose cosines and sines (…, d) are given."""
    first, second = x.chunk(2, -1)
    return (x * cosines) + (torch.cat((-second, first), dim=-1) * sines)


class Attention(nn.Module):
    """Attention in which several queries share a key and a value.

    Each query weighs the values of the tokens up to its own by softmax(q · k / √d).

    Source: Vaswani et al. (2017), Attention is all you need, section 3.2; Ainslie et al. (2023), GQA, section 2.2.
    """

    def __init__(self, config: LlamaConfig, number: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.number = number
        self.head_dim = config.head_dim
        self.scaling = config.head_dim**-0.5
        queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False, device=device)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False, device=device)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False, device=device)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False, device=device)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: Any) -> Tensor:
        """Attend from T tokens (B, T, D) to themselves and to those in the cache; (B, T, D)."""
        shape = (*x.shape[:-1], -1, self.head_dim)
        queries, keys, values = (
            project(x).view(shape).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        cosines, sines = (part.unsqueeze(1) for part in rotation)
        queries, keys = turned(queries, cosines, sines), turned(keys, cosines, sines)
        if cache is not None:
            keys, values = cache.update(keys, values, self.number)
        found = self._attend(queries, keys, values, mask).transpose(1, 2)
        result: Tensor = self.o_proj(found.reshape(*x.shape[:-1], -1))
        return result

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Means of values (B, K, S, d) for queries (B, H, T, d); without a mask each sees those before it."""
        (batch, heads, length, size), shared = queries.shape, queries.shape[1] // keys.shape[1]
        attend = functional.scaled_dot_product_attention
        if mask is None:
            causal = length > 1
            return attend(queries, keys, values, is_causal=causal, scale=self.scaling, enable_gqa=shared > 1)
        if length == 1:  # the queries of a key are as a sequence to it: all see the same
            queries = queries.reshape(batch, -1, shared, size)
        else:
            keys, values = (part.repeat_interleave(shared, 1) for part in (keys, values))
        return attend(queries, keys, values, attn_mask=mask, scale=self.scaling).reshape(batch, heads, length, size)


class MLP(nn.Module):
    """A layer whose outputs are opened and closed by another: W₂ (silu(W₁ x) · W₃ x).

    Source: Shazeer (2020), GLU variants improve transformer, equation 6.
    """

    def __init__(self, config: LlamaConfig, device: torch.device | None = None) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False, device=device)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False, device=device)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, D), each for itself."""
        result: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return result


class Layer(nn.Module):
    """Attention, then the MLP; each adds to what it was given."""

    def __init__(self, config: LlamaConfig, number: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.self_attn = Attention(config, number, device)
        self.mlp = MLP(config, device)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, device)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, device)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: Any) -> Tensor:
        """The residual stream (B, T, D) after this layer; see :class:`Attention`."""
        x = x + self.self_attn(self.input_layernorm(x), rotation, mask, cache)
        after: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return after


class States(NamedTuple):
    """Hidden states (B, T, D) before the output layer."""

    last_hidden_state: Tensor


class Logits(NamedTuple):
    """Logits (B, T, V) of the tokens that follow."""

    logits: Tensor


class LlamaModel(nn.Module):
    """Everything before the output layer; see :class:`Llama`.

    Attributes:
        recompute: calls a layer in a way that keeps nothing for the gradient but what the layer is given; None: all is
            kept.
    """

    def __init__(self, config: LlamaConfig, device: torch.device | None = None) -> None:
        super().__init__()
        self.config = config
        self.recompute: Callable[..., Tensor] | None = None
        table = torch.empty(config.vocab_size, config.hidden_size, device=device)
        if not table.is_meta:
            nn.init.normal_(table)  # is drawn again, but so the seed gives the weights that it gives transformers
        sizes = config.vocab_size, config.hidden_size
        self.embed_tokens = nn.Embedding(*sizes, config.pad_token_id, _weight=table)
        self.layers = nn.ModuleList([Layer(config, number, device) for number in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, device)
        self.rotary_emb = RotaryEmbedding(config.head_dim, config.rope_theta)
        _draw(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool = False,
    ) -> States:
        """Hidden states before the output layer; see :meth:`Llama.forward`."""
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        before = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            position_ids = (torch.arange(x.shape[1], device=x.device) + before).unsqueeze(0)
        mask = causal_mask(x.shape[1], before, attention_mask, x.device)
        rotation = self.rotary_emb(x, position_ids)
        for layer in self.layers:
            if self.recompute is None or not torch.is_grad_enabled():
                x = layer(x, rotation, mask, past_key_values)
            else:
                x = self.recompute(layer, x, rotation, mask, past_key_values)
        return States(self.norm(x))


def causal_mask(length: int, before: int, padding: Tensor | None, device: torch.device) -> Tensor | None:
    """Which tokens each token sees: those up to itself that are not padding.

    Args:
        length: T, of the tokens.
        before: so many tokens are in the cache.
        padding: (B, before + T), 0 where there is padding.
        device: where to.

    Returns:
        (B or 1, 1, T, before + T) bool; None where it needs no saying.
    """
    if padding is not None and bool((padding != 0).all()):
        padding = None
    if padding is None and (length == 1 or before == 0):
        return None
    places = torch.arange(before + length, device=device)
    mask = (places <= places[before:, None])[None, None]
    return mask if padding is None else mask & padding.to(device, torch.bool)[:, None, None]


class Llama(nn.Module):
    """A decoder-only transformer, with random weights at first.

    Args:
        config: its sizes.
        device: of the weights; on "meta" they are no numbers yet.

    Attributes:
        generation_config: what ``generation_config.json`` says: end tokens, above all.
        name_or_path: where it was read from.

    >>> sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    >>> heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}
    >>> model = Llama(LlamaConfig(**sizes, **heads))
    >>> model(torch.tensor([[3, 1, 4]])).logits.shape
    torch.Size([1, 3, 9])
    """

    base_model_prefix = "model"

    def __init__(self, config: LlamaConfig, device: torch.device | None = None) -> None:
        super().__init__()
        self.config = config
        self.model = LlamaModel(config, device)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False, device=device)
        _draw(self.lm_head, config.initializer_range)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        marks = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        self.generation_config = SimpleNamespace(_from_model_config=True, **marks)
        self.name_or_path = ""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> Logits:
        """Logits of the tokens that follow each token.

        Args:
            input_ids: (B, T) tokens.
            attention_mask: (B, T), with a cache (B, tokens in it + T); 0 where there is padding.
            position_ids: (B, T); by default they count from what is in the cache.
            past_key_values: one of transformers' caches, with keys and values of earlier tokens; these are added.
            inputs_embeds: (B, T, D), in place of tokens.
            use_cache: says nothing more than that there is a cache.
            logits_to_keep: only for so many tokens, the last; 0: for all.
        """
        states = self.model(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds)
        return Logits(self.lm_head(states.last_hidden_state[:, -logits_to_keep:]))

    @property
    def base_model(self) -> LlamaModel:
        """Everything before the output layer."""
        return self.model

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return self.lm_head.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        """The output layer."""
        return self.lm_head

    def save_pretrained(self, folder: str | Path) -> None:
        """Write configuration and weights into a folder, as ``AutoModelForCausalLM`` of transformers reads them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, self.config.to_dict() | {"dtype": str(self.dtype).removeprefix("torch.")})
        generation = {name: value for name, value in vars(self.generation_config).items() if value is not None}
        write_json(folder / GENERATION, generation)
        weights = {name: weight.contiguous() for name, weight in self.state_dict().items()}
        if self.config.tie_word_embeddings:
            del weights["lm_head.weight"]
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _draw(module: nn.Module, deviation: float) -> None:
    """Draw weights from a normal distribution around 0; the vector of padding is 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding) and not part.weight.is_meta:
            nn.init.normal_(part.weight, std=deviation)
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
