"""A policy that sees: it learns by the same agents, goes on exactly, and sees no other conversation's picture."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

import gridzero.agents
from gridzero.__main__ import main
from gridzero.agents.checkpoint import flatten, unflatten
from gridzero.envs.tasks import Vocabulary, make_task
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.image_text import tiny_image_text_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.policies.vision_language_policy import VisionLanguagePolicy

WORLD: dict[str, Any] = {"height": 2, "width": 3, "pixels": 4, "template": "plain"}
AGENTS: dict[str, dict[str, Any]] = {
    "sft": {"minibatch_size": 4, "gradient_steps": 2},
    "rejection-sampling": {"minibatch_size": 4, "groups": 4, "group_size": 4, "episode_limit": 8},
    "grpo": {
        "groups": 4,
        "group_size": 4,
        "episode_limit": 8,
        "kl_coefficient": 0.1,
        "learning_rate": 1e-2,
        "optimiser": "muon",
    },
    "ppo": {"num_envs": 8, "rollout_steps": 8, "learning_rate": 1e-2},
}
TASKS = ["grid-path", "grid-walk"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "seeing"
    task = make_task("grid-path", **WORLD)
    vocabulary = Vocabulary.of("".join(make_task(name, **WORLD).alphabet() for name in TASKS))
    assert task.picture_shape is not None
    seeing = tiny_image_text_model(
        len(vocabulary), task.picture_shape, width=16, layers=1, heads=2, positions=256, patch=2, seed=1
    )
    save_model(seeing, character_tokenizer(vocabulary), folder)
    return str(folder)


def make(name: str, model: str, task: str = "grid-path", seed: int = 0, **policy: Any) -> Any:
    env = gym.make("gridzero/TextGeneration-v0", task=task, rewards="correct,form=0.1,brevity=1", **WORLD)
    return gridzero.agents.make(name, env, seed=seed, policy={"model": model, **policy}, **AGENTS[name])


def learn(agent: Any, updates: int) -> list[Any]:
    return [
        (update.step, {n: v for n, v in update.metrics.items() if n != "tokens_per_second"})
        for update in itertools.islice(agent.learn(), updates)
    ]


@pytest.mark.parametrize("policy", [{}, {"peft": "lora", "peft_rank": 2}])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", AGENTS)
def test_it_learns_and_a_restored_one_goes_on_exactly(
    name: str, task: str, policy: dict[str, Any], model: str, tmp_path: Path
) -> None:
    original, restored = make(name, model, task, **policy), make(name, model, task, **policy)
    assert isinstance(original.network, VisionLanguagePolicy)
    before = {key: tensor.clone() for key, tensor in original.network.whole.named_parameters()}
    updates = learn(original, 2)
    assert all(math.isfinite(value) for _, metrics in updates for value in metrics.values())
    changed = {key for key, tensor in original.network.whole.named_parameters() if not torch.equal(tensor, before[key])}
    if name == "sft" or (task == "grid-path" and name != "rejection-sampling"):  # there is something to learn from
        assert changed
        assert any("vision" in key for key in changed) == (not policy)
    tree, arrays = flatten(original.state_dict())
    original.save_artifacts(tmp_path)
    restored.load_artifacts(tmp_path)
    restored.load_state_dict(unflatten(json.loads(json.dumps(tree)), arrays))
    assert learn(restored, 2) == learn(original, 2)


def test_each_conversation_sees_its_own_picture(model: str) -> None:
    """Equal texts under different pictures have other distributions; a batch acts as its rows do alone."""
    policy = make("grpo", model).network
    envs = gym.make_vec(
        "gridzero/TextGeneration-v0", 6, vectorization_mode="vector_entry_point", **WORLD, task="grid-walk"
    )
    observations, _ = envs.reset(seed=0)
    assert len(set(observations["text"])) == 1
    assert len({picture.tobytes() for picture in observations["image"]}) > 1
    for _ in range(3):
        actions, _ = policy.act(observations, None, None)
        rows = [{name: values[i] for name, values in observations.items()} for i in range(6)]
        alone = make("grpo", model).network
        if len(set(observations["text"])) == 1:
            assert actions == tuple(alone.act([row], None, None)[0][0] for row in rows)
        observations = envs.step(("R",) * 6)[0]


def test_a_walk_reads_the_new_picture_after_each_move(model: str) -> None:
    policy = make("grpo", model).network
    env: Any = gym.make("gridzero/TextGeneration-v0", task="grid-walk", **WORLD)
    observation, _ = env.reset(seed=1)
    pictures = [observation["image"]]
    (said,), _ = policy.act([observation], None, None)
    observation, _, over, _, _ = env.step(said)
    assert not over
    pictures.append(observation["image"])
    policy.act([observation], None, None)
    tokens = policy.histories.last[0][1].tokens
    see, size = policy.renderer.see, policy.model.config.vocab_size
    assert [token for token in tokens if token >= size] == [token for one in pictures for token in see(one)]


def test_attention_is_the_models_own(model: str) -> None:
    """Against the weights of one layer, computed from its queries and keys: the tiny model has no other."""
    policy = make("grpo", model).network
    picture = np.random.default_rng(0).integers(256, size=(8, 12, 3), dtype=np.uint8)
    tokens = [*policy.renderer.see(picture), *policy.encode("\n")]
    with torch.no_grad():
        causal = policy.model
        states = causal.model.embed_tokens(torch.tensor([tokens]))
        block = causal.model.layers[0]
        normed = block.input_layernorm(states)
        cosines, sines = causal.model.rotary_emb(states, torch.arange(len(tokens))[None])
        size = block.self_attn.head_dim
        q, k = (
            layer(normed)[0].view(len(tokens), -1, size).transpose(0, 1)
            for layer in (block.self_attn.q_proj, block.self_attn.k_proj)
        )
        q, k = (x * cosines + torch.cat([-x[..., size // 2 :], x[..., : size // 2]], dim=-1) * sines for x in (q, k))
        shares = (q[:, -1:] @ k.transpose(1, 2) / size**0.5).softmax(-1).mean(0)[0]
    found = policy.attention(tokens)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found.reshape(-1), shares[:6].numpy(), atol=1e-6)


def test_from_the_command_line(model: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    env = ["--env", "gridzero/TextGeneration-v0", "--env.task", "grid-path", "--evaluation-episodes", "4"]
    env += [word for name, value in WORLD.items() for word in (f"--env.{name}", str(value))]
    small = ["--minibatch-size", "8", "--policy.model", model]
    assert main(["train", "sft", *env, *small, "--steps", "80", "--run", "base"]) == 0
    groups = ["--groups", "4", "--group-size", "4", "--episode-limit", "8", "--policy.model", "base"]
    assert main(["train", "grpo", *env, *groups, "--steps", "32", "--run", "seen"]) == 0
    assert main(["train", "--run", "seen", "--resume", "--steps", "48"]) == 0
    assert main(["evaluate", "seen", "--episodes", "3"]) == 0
    assert main(["watch", "seen", "--record", "seen.png"]) == 0
    assert main(["watch", "seen", "--record", "looks.png", "--layer", "attention"]) == 0
    shown, looks = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("seen", "looks"))
    assert (shown != looks).any()
    walls = (58, 63, 75)
    assert (shown == walls).all(axis=-1).any() or (shown == (255, 255, 255)).all(axis=-1).any()
    capsys.readouterr()
    for name in ("distillation", "reward-model"):
        teacher = ["--teacher", "base"] if name == "distillation" else []
        assert main(["train", name, *env, *teacher, "--policy.model", "base", "--run", "no"]) == 2
        assert "reads text alone, and the task shows pictures" in capsys.readouterr().err
    assert main(["train", "grpo", *env[:-8], "--policy.model", "base", "--run", "no"]) == 2
    assert "a kimi_k25 is not a causal language model" in capsys.readouterr().err


def test_pictures_that_a_model_cannot_read_are_refused(tmp_path: Path) -> None:
    vocabulary = Vocabulary.for_task(make_task("grid-path"))
    plain = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=64)
    save_model(plain, character_tokenizer(vocabulary), tmp_path / "plain")
    with pytest.raises(ValueError, match="is not an image-text model"):
        make("grpo", str(tmp_path / "plain"))
