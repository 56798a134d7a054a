"""Every learner takes two steps on tiny random models of the families that are used most."""

from __future__ import annotations

import itertools
import math
from typing import Any

import gymnasium as gym
import pytest
import torch
import transformers

import gridzero
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer

VOCABULARY = Vocabulary.for_task(make_task("addition", digits=1, template="plain", split="all"))
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": VOCABULARY.pad,
    "eos_token_id": VOCABULARY.end,
    "bos_token_id": None,
}
GPT2 = {"vocab_size": len(VOCABULARY), "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", SIZES),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", SIZES),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", SIZES),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {**GPT2, "eos_token_id": VOCABULARY.end, "bos_token_id": None}),
    "phi": ("PhiConfig", "PhiForCausalLM", {**SIZES, "num_key_value_heads": 2}),
}
SMALL: dict[str, Any] = {"minibatch_size": 4, "gradient_steps": 2, "episode_limit": 4, "learning_rate": 1e-2}
WRITTEN = {"groups": 2, "group_size": 4, "threshold": 0.0}
LEARNERS: dict[str, dict[str, Any]] = {
    "sft": {},
    "reward-model": {"labels": "drawn", "sampling_size": 4},
    "process-reward-model": {"labels": "rollouts", "rollouts": 2, "sampling_size": 4},
    "dpo": {"labels": "soft", "sampling_size": 4},
    "rejection-sampling": WRITTEN,
    "distillation": {**WRITTEN, "on_policy": True},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder of each family."""
    folder = tmp_path_factory.mktemp("models")
    for name, (config, kind, sizes) in FAMILIES.items():
        torch.manual_seed(0)
        model = getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()
        save_model(model, character_tokenizer(VOCABULARY), folder / name)
    return {name: str(folder / name) for name in FAMILIES}


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize(
    "family", [name if name == "gpt2" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_it_takes_two_steps(family: str, learner: str, models: dict[str, str]) -> None:
    torch.set_num_threads(1)
    env = gym.make("gridzero/TextGeneration-v0", task="addition", digits=1, template="plain")
    teacher = {"teacher": models[family]} if learner == "distillation" else {}
    settings = {**SMALL, **LEARNERS[learner], **teacher, "policy": {"model": models[family]}}
    agent: Any = gridzero.agents.make(learner, env, **settings)
    trained = getattr(agent, "scorer", agent.network)
    before = [parameter.detach().clone() for parameter in trained.trained()]
    for update in itertools.islice(agent.learn(), 2):
        assert math.isfinite(update.metrics["loss"])
    after = trained.trained()
    if learner != "distillation":  # the student is its teacher
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert len(agent.act(["1+2=\n"])) == 1
