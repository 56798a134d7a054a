"""The parts of language models against the whole, for many architectures; the critic's head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from gridzero.llm_rl.models.causal import (
    OutputHead,
    ValueHead,
    check_model,
    checkpoint_gradients,
    hidden_states,
    output_head,
    tiny_model,
)
from gridzero.llm_rl.scoring.packed_forward import packed_forward
from gridzero.llm_rl.scoring.packing import Packing
from gridzero.llm_rl.scoring.token_log_probs import token_log_probs

VOCABULARY = 61
_GROUPED = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_HEADS = {**_GROUPED, "head_dim": 8}
_WHOLE = {name: number for name, number in _GROUPED.items() if name != "num_key_value_heads"}

# What is special of each: a cap, a scale, a bias, positions of its own, a projection before the output layer.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**_HEADS, "tie_word_embeddings": False},
    "mistral": _HEADS,
    "qwen2": _GROUPED,
    "qwen3": {**_HEADS, "tie_word_embeddings": True},
    "gemma": _HEADS,
    "gemma2": {**_HEADS, "final_logit_softcapping": 3.0},
    "gemma3_text": _HEADS,
    "granite": {**_GROUPED, "logits_scaling": 5.0},
    "cohere": {**_GROUPED, "logit_scale": 0.25},
    "olmo2": _GROUPED,
    "smollm3": {**_GROUPED, "pad_token_id": 0},
    "phi": _GROUPED,
    "phi3": {**_GROUPED, "pad_token_id": 0},
    "stablelm": _GROUPED,
    "gpt_neox": _WHOLE,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "opt": {**_WHOLE, "ffn_dim": 48, "word_embed_proj_dim": 16},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": _WHOLE,
    "mixtral": {**_HEADS, "num_local_experts": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}


def build(architecture: str) -> Any:
    """A random model whose logits are large enough for caps and scales to matter."""
    config = transformers.AutoConfig.for_model(architecture, vocab_size=VOCABULARY, **ARCHITECTURES[architecture])
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for name, weight in model.named_parameters():
            if weight.ndim > 1 or name.endswith("bias"):
                nn.init.normal_(weight, std=0.3)
    return model


def some_tokens(rows: int = 3, length: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(2, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def log_probs_of(model: Any, tokens: Tensor, **inputs: Tensor) -> Tensor:
    """(B, T - 1), by way of the hidden states."""
    head = output_head(model)
    states = hidden_states(model, tokens, **inputs)[:, :-1]
    return token_log_probs(
        states, head.weight, tokens[:, 1:], bias=head.bias, scale=head.scale, soft_cap=head.soft_cap, slice_size=17
    )[0]


def plain_log_probs(model: Any, tokens: Tensor) -> Tensor:
    """(B, T - 1), by way of the model's own logits."""
    log_probs = torch.log_softmax(model(input_ids=tokens).logits[:, :-1].float(), dim=-1)
    return log_probs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_parts_make_the_logits(architecture: str) -> None:
    model, tokens = build(architecture), some_tokens()
    check_model(model)
    with torch.no_grad():
        expected = plain_log_probs(model, tokens)
        assert expected.std() > 0.1
        torch.testing.assert_close(log_probs_of(model, tokens), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "opt", "bloom", "phi", "granite"])
def test_padding_changes_nothing(architecture: str) -> None:
    """On the left with a mask, on the right without."""
    model, tokens = build(architecture), some_tokens()
    with torch.no_grad():
        expected = log_probs_of(model, tokens)
        left = nn.functional.pad(tokens, (4, 0))
        mask = torch.ones_like(left)
        mask[:, :4] = 0
        torch.testing.assert_close(
            log_probs_of(model, left, attention_mask=mask)[:, 4:], expected, rtol=1e-4, atol=1e-5
        )
        right = nn.functional.pad(tokens, (0, 4))
        torch.testing.assert_close(log_probs_of(model, right)[:, :6], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_gradients_reach_every_weight(architecture: str) -> None:
    """The same ones as by way of the logits: through a tied embedding, too."""
    model = tiny_model(VOCABULARY, width=32, layers=2, heads=4, positions=16, architecture=architecture, seed=2)  # type: ignore[arg-type]  # one of two
    tokens = some_tokens()
    gradients = []
    for function in (plain_log_probs, log_probs_of):
        model.zero_grad()
        function(model, tokens).mean().backward()
        gradients.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-7, msg=name)


def test_a_model_that_is_not_causal_is_found_out() -> None:
    config = transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=16, **_WHOLE)
    model = transformers.BertLMHeadModel(config).eval()
    with pytest.raises(ValueError, match="BertLMHeadModel is not a causal language model"):
        check_model(model)


def test_logits_made_in_an_unknown_way_are_found_out() -> None:
    model = build("granite")
    model.config.model_type = "another"
    with pytest.raises(ValueError, match="in a way that is not known here"):
        check_model(model)


def test_an_output_layer_that_is_not_a_matrix_is_refused() -> None:
    model = build("llama")
    model.lm_head = nn.Sequential(model.lm_head)
    with pytest.raises(ValueError, match="must be a plain matrix; it is a Sequential"):
        output_head(model)


def test_tiny_models_depend_on_the_seed_alone() -> None:
    def make(seed: int) -> Tensor:
        model = tiny_model(30, width=32, layers=1, heads=2, positions=8, seed=seed)
        return torch.cat([weight.flatten() for weight in model.parameters()])

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = make(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(make(1), first)
    assert not torch.equal(make(2), first)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "gpt"}, "architecture must be one of llama, qwen3, deepseek_v3, not 'gpt'"),
        ({"width": 30}, "width must be an even multiple of heads, not 30 with 4 heads"),
        ({"layers": 0}, "layers must be at least 1, not 0"),
        ({"heads": 0}, "heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_model(10, **({"width": 32, "layers": 1, "heads": 4, "positions": 8} | changes))


def test_the_value_head_begins_at_zero_and_learns() -> None:
    model = build("opt")
    head = ValueHead(model)
    states = hidden_states(model, some_tokens()).detach()
    values = head(states)
    assert values.shape == (3, 7)
    assert values.dtype == torch.float32
    assert not values.any()
    head.linear.weight.data.fill_(1.0)
    torch.testing.assert_close(head(states), states.sum(-1))
    assert head(states.bfloat16()).dtype == torch.float32


def test_heads_are_what_models_say() -> None:
    assert isinstance(output_head(build("phi")).bias, Tensor)
    assert output_head(build("llama")).bias is None
    assert output_head(build("gemma2"))[2:] == (1.0, 3.0)
    head = output_head(build("granite"))
    assert head == OutputHead(head.weight, None, 0.2, None)


def saved_bytes(model: Any, tokens: Any) -> tuple[int, list[Tensor]]:
    """What a forward pass keeps for the gradient, and the gradients of all parameters."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        packing = Packing.of(tokens, torch.full((len(tokens),), 4), torch.full((len(tokens),), tokens.shape[1]))
        states = packed_forward(model, packing)
        states = hidden_states(model, tokens) if states is None else states
        loss = (states.reshape(-1, 16) * torch.randn(16, generator=torch.Generator().manual_seed(1))).sum()
    total = sum(kept.values())
    loss.backward()
    return total, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("family", ["Llama", "Gemma3Text", "GPT2", "OPT"])
def test_checkpointing_keeps_less_and_has_the_same_gradients(family: str) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "head_dim": 8}
    sizes |= {"intermediate_size": 64, "num_key_value_heads": 2, "ffn_dim": 64, "word_embed_proj_dim": 16}
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    tokens = torch.arange(8 * 24).view(8, 24) % 11
    plain, gradients = saved_bytes(model, tokens)
    checkpoint_gradients(model)
    less, found = saved_bytes(model, tokens)
    assert less < plain / 2
    torch.testing.assert_close(found, gradients)
    assert not any(module.training for module in model.modules())
