import functools
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from scipy import stats
from torch import Tensor

from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.decoding import generate as rollout
from gridzero.llm_rl.decoding import llama_cpu
from gridzero.llm_rl.decoding.decoder import ModelDecoder
from gridzero.llm_rl.decoding.generate import Completions, Sampling, generate
from gridzero.llm_rl.decoding.llama_cpu import FastDecoder
from gridzero.llm_rl.decoding.llama_cuda_graph import GraphDecoder

from ..tiny import GPT2, PAD, SIZES, VOCABULARY, WINDOW, graph_decoder

CONFIGS: dict[str, Any] = {
    "llama": lambda: tf.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama with all biases": lambda: tf.LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama, stretched positions": lambda: tf.LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "yarn", "rope_theta": 10.0, "factor": 4.0}
    ),
    "qwen2": lambda: tf.Qwen2Config(**SIZES),
    "qwen2, window": lambda: tf.Qwen2Config(**SIZES, use_sliding_window=True, **WINDOW),
    "qwen3": lambda: tf.Qwen3Config(**SIZES),
    "mistral": lambda: tf.MistralConfig(**SIZES, sliding_window=None),
    "mistral, window": lambda: tf.MistralConfig(**SIZES, sliding_window=5),
    "gpt2": lambda: tf.GPT2Config(**GPT2),
    "gemma2, window": lambda: tf.Gemma2Config(**SIZES, **WINDOW),
    "gemma3, window": lambda: tf.Gemma3TextConfig(**SIZES, **WINDOW),
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
END = 1, 2, 13, 14


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


@pytest.fixture(params=["fast", "general", "graph"])
def any_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The decoder chosen for the model, the one for all models without any compiled loops, and the one for GPUs."""
    if request.param == "general":
        monkeypatch.setenv(cpu_kernels.VARIABLE, "0")
        monkeypatch.setattr(rollout, "fast_decoder", lambda *_: None)
    elif request.param == "graph":
        monkeypatch.setattr(rollout, "fast_decoder", graph_decoder)
    return str(request.param)


def is_fast(model: Any, length: int = 20) -> bool:
    return rollout.fast_decoder(model, length, 5) is not None


FAST = [name for name in CONFIGS if name.startswith(("llama", "qwen", "mistral")) and "window" not in name]


def test_a_model_of_135_million_weights_is_small() -> None:
    """SmolLM2-135M's sizes; one of 360 million is not."""
    sizes = {"vocab_size": 49_152, "tie_word_embeddings": True}
    for small, widths in (
        (True, {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}),
        (False, {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15}),
    ):
        heads = widths["num_attention_heads"] // 3
        with torch.device("meta"):
            model = tf.LlamaForCausalLM(tf.LlamaConfig(**sizes, **widths, num_key_value_heads=heads))
        assert rollout.is_small(model) is small


@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_are_those_of_a_plain_pass(name: str, any_decoder: str) -> None:
    model = make(name)
    if any_decoder == "fast":
        assert is_fast(model) == (name in FAST)
    completions = complete(model, temperature=1.3, top_k=9)
    assert completions.ended.any()  # some rows were dropped
    check_log_probs(model, completions, temperature=1.3)


@pytest.mark.parametrize("name", FAST)
def test_the_fast_decoder_draws_what_the_general_one_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name).double()  # so that no draw hangs on the last digit
    fast = complete(model, copies=20)
    monkeypatch.setattr(rollout, "fast_decoder", lambda *_: None)
    general = complete(model, copies=20)
    assert torch.equal(fast.tokens, general.tokens)
    torch.testing.assert_close(fast.log_probs, general.log_probs)


def test_threads_share_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    alone = complete(model, copies=5)
    monkeypatch.setattr(llama_cpu, "_WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = complete(model, copies=5)
    assert torch.equal(alone.tokens, together.tokens)
    assert torch.equal(alone.log_probs, together.log_probs)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2, window"])
def test_greedy_completions_are_those_of_transformers(name: str, any_decoder: str) -> None:
    model = make(name)
    ours = complete(model, copies=1, greedy=True)
    width = max(map(len, PROMPTS))
    padded = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    theirs = model.generate(
        padded, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=list(END), pad_token_id=PAD
    )
    assert torch.equal(ours.tokens, theirs[:, width:])
    assert torch.equal(complete(model, copies=1, top_k=1).tokens, ours.tokens)


def test_pairs_of_tokens_come_as_often_as_the_model_says(any_decoder: str) -> None:
    model = make("qwen3", seed=2)
    with torch.no_grad():
        prompt = torch.tensor(PROMPTS[2])
        both = torch.stack([torch.cat([prompt, torch.tensor([first])]) for first in range(VOCABULARY)])
        log_probs = model(both, use_cache=False).logits[:, -2:].log_softmax(-1)
    joint = (log_probs[0, 0].unsqueeze(-1) + log_probs[:, 1]).exp().flatten().double().numpy()
    copies = 20_000
    completions = complete(model, prompts=[PROMPTS[0], PROMPTS[2]], copies=copies, max_tokens=2, end=())
    first, second = completions.tokens[copies:].T.numpy()
    counts = np.bincount(first * VOCABULARY + second, minlength=VOCABULARY**2)
    often = joint * copies >= 5  # the rest together, as the chi-squared test wants; at 0.1 %
    assert often.sum() > 20
    observed = [*counts[often], counts[~often].sum()]
    expected = np.array([*joint[often], joint[~often].sum()])
    assert stats.chisquare(observed, expected / expected.sum() * copies).pvalue > 1e-3


@pytest.mark.parametrize("name", ["qwen2", "mistral, window", "gpt2"])
def test_dropping_finished_rows_changes_nothing(name: str, any_decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name).double()
    results = []
    for drop in (0.0, 0.3, 2.0):  # at once, some time, never
        for decoder in (FastDecoder, ModelDecoder, GraphDecoder):
            monkeypatch.setattr(decoder, "drop", drop)
        results.append(complete(model, copies=30))
    assert 0 < results[0].ended.sum() < 90
    for other in results[1:]:
        assert torch.equal(results[0].tokens, other.tokens)
        assert torch.equal(results[0].lengths, other.lengths)
        torch.testing.assert_close(results[0].log_probs, other.log_probs)


def test_a_prompt_is_read_once_and_only_what_goes_on_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("gpt2")
    shapes: list[tuple[int, ...]] = []
    forward = model.forward

    @functools.wraps(forward)
    def counting(input_ids: Tensor, **kwargs: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return forward(input_ids, **kwargs)

    monkeypatch.setattr(model, "forward", counting)
    completions = complete(model, copies=20, max_tokens=30)
    assert shapes[0] == (3, 7)
    assert len(shapes) == completions.tokens.shape[1]
    for step, (rows, width) in enumerate(shapes[1:], 1):
        going_on = int((completions.lengths > step).sum())
        assert width == 1
        assert going_on <= rows <= going_on / (1 - ModelDecoder.drop) + 1


def test_what_a_completion_says(any_decoder: str) -> None:
    completions = complete(make("llama"), copies=40)
    size, longest = completions.tokens.shape
    assert size == 120
    assert longest == completions.lengths.max()
    assert 0 < completions.ended.sum() < size
    for tokens, log_probs, length, ended, mask in zip(
        completions.tokens.tolist(),
        completions.log_probs.tolist(),
        completions.lengths.tolist(),
        completions.ended.tolist(),
        completions.mask.tolist(),
        strict=True,
    ):
        assert tokens[length:] == [PAD] * (longest - length)
        assert log_probs[length:] == [0.0] * (longest - length)
        assert mask == [True] * length + [False] * (longest - length)
        assert all(log_prob < 0 for log_prob in log_probs[:length])
        assert not set(tokens[: length - 1]) & set(END)
        assert ended == (tokens[length - 1] in END)
        assert ended or length == 12


def test_each_row_has_random_numbers_of_its_own(any_decoder: str) -> None:
    model = make("llama").double()
    rng, other = np.random.default_rng(5), np.random.default_rng(5)
    sampling = Sampling(max_tokens=12)
    first = generate(model, [PROMPTS[0]] * 2, 3, sampling, end=END, pad=PAD, rng=rng)
    second = generate(model, [PROMPTS[0], PROMPTS[1]], 3, sampling, end=(), pad=PAD, rng=other)
    # The first three rows are alike up to their ends, whatever the other rows are and when they end.
    for i, length in enumerate(first.lengths.tolist()[:3]):
        assert torch.equal(first.tokens[i, :length], second.tokens[i, :length])
    assert len({tuple(row) for row in first.tokens.tolist()}) > 3
    assert rng.random() == other.random()  # the same number was taken


def test_watching_sees_every_token_as_it_comes(any_decoder: str) -> None:
    seen: list[list[tuple[int, float]]] = [[] for _ in range(60)]
    steps = []

    def watch(step: int, rows: Tensor, tokens: Tensor, log_probs: Tensor) -> None:
        steps.append(step)
        for row, token, log_prob in zip(rows.tolist(), tokens.tolist(), log_probs.tolist(), strict=True):
            assert len(seen[row]) == step
            seen[row].append((token, log_prob))

    completions = complete(make("llama"), copies=20, on_token=watch)
    assert steps == list(range(completions.tokens.shape[1]))
    for row, length in enumerate(completions.lengths.tolist()):
        tokens, log_probs = zip(*seen[row], strict=True)
        assert list(tokens) == completions.tokens[row, :length].tolist()
        assert list(log_probs) == completions.log_probs[row, :length].tolist()


def adapted(name: str, **options: Any) -> Any:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        make(name), peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=7, target_modules="all-linear", **options)
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(std=0.3)
    return model.eval()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_are_seen(any_decoder: str) -> None:
    model = adapted("qwen2")
    assert is_fast(model) == (any_decoder != "general")
    on = complete(model)
    check_log_probs(model, on)
    with model.disable_adapter():
        off = complete(model)
        check_log_probs(model, off)
    assert not torch.equal(on.log_probs[:, :1], off.log_probs[:, :1])
    model.merge_adapter()
    assert is_fast(model) == (any_decoder != "general")
    torch.testing.assert_close(complete(model).log_probs, on.log_probs, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_that_are_more_than_a_product_are_left_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted("llama", use_dora=True)
    assert not is_fast(model)
    check_log_probs(model, complete(model))
    assert not is_fast(adapted("llama").to(torch.bfloat16))
    monkeypatch.setattr(rollout, "fast_decoder", graph_decoder)  # it uses the model's own layers
    check_log_probs(model, complete(model))


def test_what_else_a_model_does_is_not_missed() -> None:
    model = make("llama")
    hook = model.model.layers[0].mlp.register_forward_hook(lambda _module, _inputs, output: output * 2)
    assert not is_fast(model)
    check_log_probs(model, complete(model))
    hook.remove()
    assert is_fast(model)
    windowed = make("mistral, window")
    assert not is_fast(windowed, length=6)
    assert is_fast(windowed, length=5)
    model.config.hidden_act = "gelu"
    assert not is_fast(model)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_half_precision(name: str) -> None:
    model = make(name).to(torch.bfloat16)
    completions = complete(model)
    assert completions.log_probs.dtype == torch.float32
    for i, length in enumerate(completions.lengths.tolist()):
        expected = plain_log_probs(model.float(), PROMPTS[i // 3], completions.tokens[i, :length].tolist())
        torch.testing.assert_close(completions.log_probs[i, :length], expected, atol=0.5, rtol=0.1)


def test_states_that_are_not_keys_and_values_are_kept_by_the_model() -> None:
    config = tf.Lfm2Config(**{**SIZES, "intermediate_size": 40}, layer_types=["conv", "full_attention"], conv_L_cache=3)
    torch.manual_seed(0)
    model = tf.Lfm2ForCausalLM(config).eval()
    completions = complete(model, copies=3)
    assert completions.ended.any()
    check_log_probs(model, completions)


def test_a_model_without_a_cache_is_refused() -> None:
    model = tf.MambaForCausalLM(tf.MambaConfig(vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=1, state_size=4))
    with pytest.raises(ValueError, match="MambaForCausalLM cannot go on"):
        complete(model)


def test_training_goes_on_after_it(any_decoder: str) -> None:
    config = CONFIGS["llama"]()
    config.attention_dropout = 0.9
    torch.manual_seed(0)
    model: Any = tf.LlamaForCausalLM(config)
    model.train()
    model.model.layers[0].eval()
    completions = complete(model, copies=2)
    assert model.training
    assert not model.model.layers[0].self_attn.training
    with torch.no_grad():
        model.eval()
        check_log_probs(model, completions, copies=2)  # without dropout
        model.train()
    loss = (model(completions.tokens).logits.sum(-1) * completions.log_probs)[completions.mask].sum()
    loss.backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0
    with torch.no_grad():  # and then the new weights count
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.eval()
    check_log_probs(model, complete(model, copies=2), copies=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": [[3], []]}, "prompt 1 is empty"),
        ({"prompts": [[3, 23]]}, "tokens are 0 to 22, not 23"),
        ({"prompts": [[-1]]}, "tokens are 0 to 22, not -1"),
        ({"end": (40,)}, "tokens are 0 to 22, not 40"),
        ({"copies": 0}, "copies must be at least 1, not 0"),
        ({"max_tokens": 60}, "7 tokens and 60 more exceed the model's 64 positions"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete(make("llama"), **changes)
