from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from torch import Tensor

from gridzero.llm_rl import rollout
from gridzero.llm_rl.rollout import Completions, Sampling, generate

VOCABULARY = 23
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
}
WINDOW = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS: dict[str, Any] = {
    "llama": lambda: tf.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama with all biases": lambda: tf.LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "llama, stretched positions": lambda: tf.LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "yarn", "rope_theta": 10.0, "factor": 4.0}
    ),
    "qwen2": lambda: tf.Qwen2Config(**SMALL),
    "qwen2, window": lambda: tf.Qwen2Config(**SMALL, use_sliding_window=True, **WINDOW),
    "qwen3": lambda: tf.Qwen3Config(**SMALL),
    "mistral": lambda: tf.MistralConfig(**SMALL, sliding_window=None),
    "mistral, window": lambda: tf.MistralConfig(**SMALL, sliding_window=5),
    "gpt2": lambda: tf.GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=24, n_layer=2, n_head=4, initializer_range=0.4
    ),
    "gemma2, window": lambda: tf.Gemma2Config(**SMALL, **WINDOW),
    "gemma3, window": lambda: tf.Gemma3TextConfig(**SMALL, **WINDOW),
    "opt": lambda: tf.OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        word_embed_proj_dim=24,
        ffn_dim=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        init_std=0.4,
    ),
    "bloom": lambda: tf.BloomConfig(vocab_size=VOCABULARY, hidden_size=24, n_layer=2, n_head=4, initializer_range=0.4),
}
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [3], [12, 4, 9]]
END, PAD = (1, 2, 13, 14), 0


def make(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = CONFIGS[name]()
    config.pad_token_id = PAD
    return tf.AutoModelForCausalLM.from_config(config).eval()


def complete(model: Any, prompts: list[list[int]] = PROMPTS, copies: int = 3, seed: int = 0, **options: Any) -> Any:
    sampling = {"max_tokens": 12, **{k: v for k, v in options.items() if k not in ("end", "on_token")}}
    rest = {"end": END, **{k: v for k, v in options.items() if k in ("end", "on_token")}}
    return generate(model, prompts, copies, Sampling(**sampling), pad=PAD, rng=np.random.default_rng(seed), **rest)


def plain_log_probs(model: Any, prompt: list[int], completion: list[int], temperature: float = 1.0) -> Tensor:
    """By one pass over one row, without padding or cache."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion]), use_cache=False).logits[0]
    log_probs = torch.log_softmax(logits[len(prompt) - 1 : -1] / temperature, -1)
    return log_probs.gather(-1, torch.tensor(completion).unsqueeze(-1)).squeeze(-1)


def check_log_probs(model: Any, completions: Completions, copies: int = 3, temperature: float = 1.0) -> None:
    for i, length in enumerate(completions.lengths.tolist()):
        expected = plain_log_probs(model, PROMPTS[i // copies], completions.tokens[i, :length].tolist(), temperature)
        torch.testing.assert_close(completions.log_probs[i, :length], expected, atol=1e-5, rtol=0)


@pytest.fixture(params=["fast", "general"])
def any_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the decoder chosen for the model, and with the one for all models."""
    if request.param == "general":
        monkeypatch.setattr(rollout, "fast_decoder", lambda *_: None, raising=False)
    return request.param


@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_are_those_of_a_plain_pass(name: str, any_decoder: str) -> None:
    model = make(name)
    completions = complete(model, temperature=1.3, top_k=9)
    assert completions.ended.any()  # some rows were dropped
    check_log_probs(model, completions, temperature=1.3)
